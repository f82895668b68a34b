"""Further processes in a container: what they are made from. What they do is in tests/kubelet/test_exec_live.py."""

from __future__ import annotations

from minikube_py.cri.tasks import process_spec

TEMPLATE = {
    "args": ["sleep", "1"],
    "commandLine": "sleep 1",
    "cwd": "/home",
    "env": ["A=1", "TERM=dumb", "TERMINFO=x"],
    "user": {"uid": 7, "additionalGids": [8]},
    "capabilities": {"bounding": ["CAP_CHOWN"]},
    "noNewPrivileges": True,
}


def test_a_process_is_like_the_containers_own_but_for_what_it_runs() -> None:
    made = process_spec(TEMPLATE, ["id", "-u"], terminal=False)
    same = {key: value for key, value in TEMPLATE.items() if key not in ("args", "commandLine")}
    assert made == {**same, "args": ["id", "-u"], "terminal": False}
    assert TEMPLATE["args"] == ["sleep", "1"]


def test_a_terminal_is_an_xterm() -> None:
    made = process_spec(TEMPLATE, ["sh"], terminal=True)
    assert (made["terminal"], made["env"]) == (True, ["A=1", "TERM=xterm", "TERMINFO=x"])
    assert process_spec({"env": ["A=1"]}, ["sh"], terminal=True)["env"] == ["A=1", "TERM=xterm"]
    assert process_spec({}, ["sh"], terminal=True)["env"] == ["TERM=xterm"]
