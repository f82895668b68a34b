"""`minikube-py token`, against a server that runs."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server, running

ROOT = Path(__file__).parents[2]
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    flags = ("--disable-agent", "--bind-address", "127.0.0.1", "--token", "shared-secret")
    with running(Server(tmp_path_factory.mktemp("token"), flags=flags)) as made:
        yield made


def token(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minikube_py", "token", *arguments[:1], "--data-dir", str(server.data), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)


def user(server: Server, bearer: str) -> dict[str, object] | int:
    answer = server.request("POST", WHOAMI, REVIEW, token=bearer)
    return answer.body["status"]["userInfo"] if answer.status == 201 else answer.status


def test_a_created_token_names_the_authority_and_is_good_until_it_is_deleted(server: Server) -> None:
    done = token(server, "create", "--description", "the shed", "--group", "system:bootstrappers:shed")
    assert done.returncode == 0, done.stderr
    match = re.fullmatch(r"K10([0-9a-f]{64})::(([a-z0-9]{6})\.[a-z0-9]{16})\n", done.stdout)
    assert match is not None, done.stdout
    assert match[1] == hashlib.sha256((server.data / "server" / "tls" / "server-ca.crt").read_bytes()).hexdigest()
    assert user(server, match[2]) == {
        "username": f"system:bootstrap:{match[3]}",
        "groups": ["system:bootstrappers", "system:bootstrappers:shed", "system:authenticated"],
    }
    listed = token(server, "list").stdout
    assert match[3] in listed and "the shed" in listed and match[2] not in listed
    assert token(server, "delete", match[3]).stdout == f"token {match[3]} deleted\n"
    assert user(server, match[2]) == 401
    assert match[3] not in token(server, "list").stdout


def test_a_token_of_ones_own_ends_when_its_time_is_over_and_is_cleaned_away(server: Server) -> None:
    began = time.time()
    assert token(server, "create", "--ttl", "1h", "abcdef.0123456789abcdef").returncode == 0
    assert user(server, "abcdef.0123456789abcdef") != 401
    assert user(server, "abcdef.0123456789abcdee") == 401
    secret = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef"
    end = datetime.datetime.fromisoformat(base64.b64decode(server.get(secret)["data"]["expiration"]).decode())
    assert began + 3598 < end.timestamp() < time.time() + 3602
    soon = datetime.datetime.fromtimestamp(time.time() + 2, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch = {"stringData": {"expiration": soon}}
    assert server.request("PATCH", secret, patch, content_type="application/merge-patch+json").status == 200
    deadline = time.monotonic() + 30
    while user(server, "abcdef.0123456789abcdef") != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while server.request("GET", secret).status != 404:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_wrong_use_is_told_in_one_line(server: Server, tmp_path: Path) -> None:
    for arguments, words in (
        (("create", "Not.a-token"), "TOKEN must be of the form"),
        (("create", "--ttl", "soon"), "--ttl must be a duration like 24h"),
        (("create", "--group", "system:masters"), "bootstrap group 'system:masters' is invalid"),
    ):
        done = token(server, *arguments)
        assert done.returncode == 2 and words in done.stderr, done.stderr
    done = token(server, "delete", "nobody")
    assert done.returncode == 1 and 'secrets "bootstrap-token-nobody" not found' in done.stderr
    done = token(Server(tmp_path), "list")
    assert done.returncode == 1 and "there is no server in" in done.stderr and "Traceback" not in done.stderr


def test_the_servers_own_token_is_written_down_ready_for_agents(server: Server) -> None:
    written = server.data / "server" / "token"
    authority = hashlib.sha256((server.data / "server" / "tls" / "server-ca.crt").read_bytes()).hexdigest()
    assert written.read_text() == f"K10{authority}::shared-secret\n"
    assert written.stat().st_mode & 0o777 == 0o600
