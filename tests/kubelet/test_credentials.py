"""Pull secrets: which of them fits an image, and who may use an image that is already there."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from minikube_py.kubelet.keyring import Credential, Source, lookup, repository_of
from minikube_py.kubelet.pullrecords import PullRecords
from minikube_py.types.core import Secret
from minikube_py.types.meta import ObjectMeta

IMAGE = "sha256:1"


def secret(entries: dict[str, Any], *, name: str = "s", kind: str = "dockerconfigjson") -> Secret:
    content = {"auths": entries} if kind == "dockerconfigjson" else entries
    data = {f".{kind}": base64.b64encode(json.dumps(content).encode()).decode()}
    return Secret(metadata=ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}"), type=f"kubernetes.io/{kind}", data=data)


def users(image: str, *secrets: Secret) -> list[str]:
    return [credential.username for credential in lookup(secrets, image)]


@pytest.mark.parametrize(
    ("location", "image", "fits"),
    [
        ("registry.example:5000", "registry.example:5000/a/b:1", True),
        ("registry.example", "registry.example:5000/a/b:1", False),
        ("https://registry.example:5000/v2/", "registry.example:5000/a", True),
        ("registry.example/team", "registry.example/team/app", True),
        ("registry.example/team", "registry.example/other/app", False),
        ("*.example", "registry.example/app", True),
        ("*.example", "a.registry.example/app", False),
        ("*.registry.example/team", "eu.registry.example/team/x@sha256:" + "0" * 64, True),
        ("https://index.docker.io/v1/", "busybox", True),
        ("https://index.docker.io/v1/", "team/app:2", True),
        ("docker.io", "busybox", True),
        ("https://index.docker.io/v1/", "quay.io/x", False),
    ],
)
def test_an_entry_fits_by_host_port_and_path(location: str, image: str, fits: bool) -> None:
    assert users(image, secret({location: {"username": "u", "password": "p"}})) == (["u"] if fits else [])


def test_the_more_specific_entry_comes_first_and_both_forms_of_secrets_count() -> None:
    wide = secret({"r.example": {"username": "wide"}}, name="a")
    narrow = secret({"r.example/team": {"auth": base64.b64encode(b"narrow:pass:word").decode()}}, name="b", kind="dockercfg")
    assert users("r.example/team/app", wide, narrow) == ["narrow", "wide"] and users("r.example/x", wide, narrow) == ["wide"]
    assert lookup([narrow], "r.example/team/app")[0].password == "pass:word"


def test_what_is_no_pull_secret_has_no_credentials() -> None:
    good = secret({"r.example": {"username": "u"}})
    broken = Secret(metadata=good.metadata, type=good.type, data={".dockerconfigjson": base64.b64encode(b"{").decode()})
    opaque = Secret(metadata=good.metadata, type="Opaque", data=good.data)
    assert lookup([broken, opaque], "r.example/x") == []
    assert lookup([secret({"r.example": {"auth": "no base64!"}, "r.example/x": 5})], "r.example/x") == []


def test_a_repository_is_the_name_without_tag_and_digest() -> None:
    assert repository_of("r:5000/a/b:1@sha256:00") == "r:5000/a/b" == repository_of("r:5000/a/b")


def credential(name: str, digest: str = "d") -> Credential:
    return Credential("u", "p", "", Source(f"uid-{name}", "ns", name), digest)


def test_an_image_that_was_there_before_is_everybodys_unless_told_otherwise(tmp_path: Path) -> None:
    assert not PullRecords(tmp_path, "NeverVerifyPreloadedImages").must_pull("r/a:1", IMAGE, ())
    assert PullRecords(tmp_path, "AlwaysVerify").must_pull("r/a:1", IMAGE, ())


def test_an_image_that_a_secret_opened_is_for_those_who_have_it_also_after_a_restart(tmp_path: Path) -> None:
    records = PullRecords(tmp_path, "NeverVerifyPreloadedImages")
    records.pulled("r/a:1", IMAGE, credential("one"))
    for each in (records, PullRecords(tmp_path, "NeverVerifyPreloadedImages")):
        assert each.must_pull("r/a:1", IMAGE, ())
        assert each.must_pull("r/a:1", IMAGE, [credential("two", "other")])
        assert each.must_pull("r/b:1", IMAGE, [credential("one")])
        assert not each.must_pull("r/a:2", IMAGE, [credential("one")])
    # the same password in another secret, and another password in the same secret
    assert not records.must_pull("r/a:1", IMAGE, [credential("two")])
    assert not records.must_pull("r/a:1", IMAGE, [credential("one", "rotated")])
    assert not records.must_pull("r/a:1", IMAGE, [credential("three", "rotated")])
    assert not PullRecords(tmp_path, "NeverVerify").must_pull("r/a:1", IMAGE, ())


def test_an_image_that_was_pulled_without_credentials_is_everybodys(tmp_path: Path) -> None:
    records = PullRecords(tmp_path, "NeverVerifyPreloadedImages")
    records.pulled("r/a:1", IMAGE, credential("one"))
    records.pulled("r/a:1", IMAGE, None)
    records.pulled("r/a:1", IMAGE, credential("two"))
    assert not records.must_pull("r/a:1", IMAGE, ())
    records.forget(IMAGE)
    assert not list(tmp_path.glob("*.json"))


def test_a_pull_that_was_cut_short_opens_nothing(tmp_path: Path) -> None:
    PullRecords(tmp_path, "NeverVerifyPreloadedImages").begin("r/a:1")
    again = PullRecords(tmp_path, "NeverVerifyPreloadedImages")
    assert again.must_pull("r/a:1", IMAGE, ())
    again.end("r/a:1")
    assert not again.must_pull("r/a:1", IMAGE, ())
    (tmp_path / "broken").mkdir()
    again.pulled("r/a:1", IMAGE, credential("one"))
    next(tmp_path.glob("*.json")).write_bytes(b"{")
    assert PullRecords(tmp_path, "NeverVerifyPreloadedImages").must_pull("r/a:1", IMAGE, [credential("one")])
