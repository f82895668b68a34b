"""Protobuf bodies as clients make them: bytes written out by hand from the encoding's rules, so that the decoder is not checked by itself.

kubectl's own bodies go through it in the tests of the real cluster, and scripts/protobuf_table --check compares it with upstream's golden
files.
"""

import pytest

from minikube_py.schema.errors import DecodeError
from minikube_py.schema.protobuf import MAGIC, decode


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


def test_a_config_map() -> None:
    entry = field(1, "key") + field(2, "value")
    raw = field(1, field(1, "name") + field(3, "ns") + field(8, b"")) + field(2, entry) + field(3, field(1, "b") + field(2, b"\x00\xff"))
    assert decode(body("v1", "ConfigMap", raw)) == (
        "v1",
        "ConfigMap",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "name", "namespace": "ns"},
            "data": {"key": "value"},
            "binaryData": {"b": "AP8="},
        },
    )


def test_a_pointer_to_zero_is_kept_and_a_zero_is_not() -> None:
    spec = field(1, 0) + field(5, 0)  # replicas: *int32, minReadySeconds: int32
    _, _, obj = decode(body("apps/v1", "Deployment", field(2, spec)))
    assert obj["spec"] == {"replicas": 0}


def test_inlined_messages_join_the_object_around_them() -> None:
    source = field(2, field(1, "/data"))  # VolumeSource.hostPath… is 1; emptyDir is 2 with medium 1
    volume = field(1, "v") + field(2, source)
    _, _, obj = decode(body("v1", "Pod", field(2, field(1, volume))))
    assert obj["spec"]["volumes"] == [{"name": "v", "emptyDir": {"medium": "/data"}}]


def test_int_or_string_quantity_and_time() -> None:
    probe = field(1, field(2, field(1, "/") + field(2, field(1, 1) + field(3, "http"))))
    resources = field(1, field(1, "cpu") + field(2, field(1, "250m")))
    container = field(1, "c") + field(8, resources) + field(10, probe)
    meta = field(8, field(1, 1_700_000_000))
    _, _, obj = decode(body("v1", "Pod", field(1, meta) + field(2, field(2, container))))
    assert obj["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    read = obj["spec"]["containers"][0]
    assert read["livenessProbe"] == {"httpGet": {"path": "/", "port": "http"}}
    assert read["resources"] == {"limits": {"cpu": "250m"}}


def test_unknown_fields_are_passed_over() -> None:
    _, _, obj = decode(body("v1", "ConfigMap", field(15, "?") + field(2, field(1, "a") + field(2, "b"))))
    assert obj["data"] == {"a": "b"}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        MAGIC + b"\x0a\xff",
        body("v1", "Nonsense", b""),
        body("v1", "ConfigMap", b"\x0a\x7f"),
        body("v1", "ConfigMap", b"\x0f"),
        body("v1", "ConfigMap", b"\xff" * 20),
        body("v1", "ConfigMap", field(2, field(1, b"\xff") + field(2, b"x"))),
        body("v1", "ConfigMap", bytes([1 << 3, 1])),
    ],
    ids=["empty", "json", "torn-envelope", "unknown-kind", "torn", "bad-wire-type", "endless-varint", "not-utf8", "number-for-message"],
)
def test_malformed_bodies_are_decode_errors(bad: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(bad)


def test_deep_nesting_is_refused() -> None:
    schema = b""
    for _ in range(300):
        schema = field(28, schema)
    crd = field(2, field(7, field(1, "v1") + field(4, field(1, schema))))
    with pytest.raises(DecodeError, match="depth"):
        decode(body("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd))


def test_a_time_of_long_ago_has_four_digits_of_a_year() -> None:
    year_one = field(1, (1 << 64) - 62_135_596_800 + 2)  # Go's zero time and two seconds, as int64
    _, _, obj = decode(body("coordination.k8s.io/v1", "Lease", field(2, field(3, year_one))))
    assert obj["spec"]["acquireTime"] == "0001-01-01T00:00:02.000000Z"
