"""What blkid says of a device, and what that means: only what it knows nothing of may be formatted."""

from __future__ import annotations

import pytest

from minikube_py.kubelet.volumes.blockdevices import PARTITIONS, found_by


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        (2, "", ""),
        (0, "DEVNAME=/dev/sdb\nTYPE=xfs\n", "xfs"),
        (0, "DEVNAME=/dev/sdb\nPTTYPE=gpt\n", PARTITIONS),
        (0, "DEVNAME=/dev/sdb\nTYPE=ext4\nPTTYPE=dos\n", PARTITIONS),
    ],
)
def test_what_is_on_a_device(code: int, text: str, found: str) -> None:
    assert found_by(code, text) == found


@pytest.mark.parametrize(("code", "text"), [(4, "usage"), (8, "ambivalent result"), (0, "nonsense"), (0, "TYPE=a=b")])
def test_a_device_of_which_nothing_is_known_for_sure_is_left_alone(code: int, text: str) -> None:
    with pytest.raises(ValueError):
        found_by(code, text)
