"""kubectl's streaming commands on a real cluster: logs, exec, attach, cp, port-forward."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.objects import Object, pod, service, web
from tests.support.command import Kubectl
from tests.support.images import BUSYBOX

pytestmark = pytest.mark.cluster

COUNT = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done"


def test_logs(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    script = "echo one; sleep 0.2; echo two >&2; sleep 2; echo three; sleep 1000"
    kubectl.apply(pod("web", "sh", "-c", script))
    kubectl.wait("condition=Ready", "pod/web")
    with kubectl.running("logs", "-f", "web") as follow:
        follow.shows("three\n")
    assert kubectl("logs", "web") == "one\ntwo\nthree\n"
    assert kubectl("logs", "web", "--tail=1") == "three\n"
    assert kubectl("logs", "web", "--tail=0") == ""
    stamped = kubectl("logs", "web", "--timestamps").splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z (one|two|three)", line) for line in stamped) and len(stamped) == 3
    assert kubectl("logs", "web", f"--since-time={stamped[2].split()[0]}") == "three\n"
    assert kubectl("logs", "web", "--since=1h") == "one\ntwo\nthree\n"
    assert kubectl("logs", "web", "--limit-bytes=5") == "one\nt"
    assert "previous terminated container" in kubectl.fails("logs", "web", "--previous")
    assert "container none is not valid for pod web" in kubectl.fails("logs", "web", "-c", "none")
    assert 'pods "none" not found' in kubectl.fails("logs", "none")


def test_logs_since_a_short_time(kubectl: Kubectl) -> None:
    kubectl.apply(pod("web", "sh", "-c", "echo old; sleep 3; echo new; sleep 1000"))
    kubectl.wait("condition=Ready", "pod/web")
    with kubectl.running("logs", "-f", "web") as follow:
        follow.shows("new\n")
    assert kubectl("logs", "web", "--since=2s") == "new\n"


def test_logs_follow_to_the_end_of_the_container(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(pod("job", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done", restartPolicy="Never"))
    kubectl.until("Running", ".status.phase", "pod/job")
    with kubectl.running("logs", "-f", "job") as follow:
        assert follow.ends() == 0
        assert follow.output == "".join(f"line {i}\n" for i in range(1, 6))
    assert kubectl("logs", "job", "-f") == kubectl("logs", "job")


def test_logs_of_the_previous_container(kubectl: Kubectl) -> None:
    marker: Object = {"volumes": [{"name": "s", "emptyDir": {}}], "volumeMounts": [{"name": "s", "mountPath": "/s"}]}
    kubectl.apply(pod("web", "sh", "-c", "if [ -e /s/x ]; then echo second; sleep 1000; fi; touch /s/x; echo first; exit 3", **marker))
    kubectl.until("1", ".status.containerStatuses[0].restartCount", "pod/web")
    kubectl.until("true", ".status.containerStatuses[0].ready", "pod/web")
    assert kubectl("logs", "web", "--previous") == "first\n"
    assert kubectl("logs", "web") == "second\n"


def test_logs_of_several_containers_and_pods(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    both = pod("both", "sh", "-c", "echo from main; sleep 1000")
    both["spec"]["containers"].append({"name": "side", "image": BUSYBOX, "command": ["sh", "-c", "echo from side; sleep 1000"]})
    kubectl.apply(both, pod("other", "sh", "-c", "echo from other; sleep 1000", labels={"app": "both"}))
    kubectl.wait("condition=Ready", "pod/both", "pod/other")
    assert kubectl("logs", "both", "-c", "side") == "from side\n"
    assert sorted(kubectl("logs", "both", "--all-containers").splitlines()) == ["from main", "from side"]
    shown = kubectl("logs", "-l", "app=both", "--all-containers", "--prefix")
    assert set(shown.splitlines()) == {"[pod/both/main] from main", "[pod/both/side] from side", "[pod/other/main] from other"}
    done = kubectl.result("logs", "both")
    assert done.stdout == "from main\n" and "Defaulted container" in done.stderr


def test_logs_of_a_deployment(kubectl: Kubectl) -> None:
    kubectl.apply(web("site"))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    done = kubectl.result("logs", "deployment/site")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def busy(each_kubectl: Kubectl) -> Kubectl:
    each_kubectl.apply(pod("web", "sh", "-c", "echo started; exec sleep 100000"))
    each_kubectl.wait("condition=Ready", "pod/web")
    return each_kubectl


def test_exec(busy: Kubectl) -> None:
    assert busy("exec", "web", "--", "hostname") == "web\n"
    done = busy.result("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.startswith("err\n") and "command terminated with exit code 7" in done.stderr
    assert "no such file or directory" in busy.fails("exec", "web", "--", "/none")
    assert "container none is not valid for pod web" in busy.fails("exec", "web", "-c", "none", "--", "true")


def test_exec_takes_input_to_its_end(busy: Kubectl) -> None:
    assert busy("exec", "-i", "web", "--", "cat", stdin="a\nb\n") == "a\nb\n"
    assert busy("exec", "-i", "web", "--", "wc", "-c", stdin="x" * 3_000_000).strip() == "3000000"
    assert len(busy("exec", "web", "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x")) == 3_000_000


def test_exec_loses_no_input_of_a_command_that_closes_its_output(busy: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(6_000_000))
    wanted = hashlib.sha256((tmp_path / "data").read_bytes()).hexdigest()
    for script in ("cat > /tmp/f", "exec cat > /tmp/f", "exec > /tmp/f 2>&1; cat"):
        with (tmp_path / "data").open("rb") as file:
            command = busy.command("exec", "-i", "web", "--", "sh", "-c", script)
            subprocess.run(command, stdin=file, env=busy.variables(), check=True, timeout=30)
        assert busy("exec", "web", "--", "sha256sum", "/tmp/f").split()[0] == wanted, script


def test_exec_ends_when_the_command_ends(busy: Kubectl) -> None:
    start = time.monotonic()
    assert busy("exec", "-i", "web", "--", "head", "-c", "10", stdin="0123456789" * 2_000_000) == "0123456789"
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:  # input without an end
        done = subprocess.run(busy.command("exec", "-i", "web", "--", "true"), stdin=yes.stdout, env=busy.variables(), timeout=30)
        yes.kill()
    assert done.returncode == 0
    assert busy.result("exec", "-i", "web", "--", "sh", "-c", "cat; sleep 1; echo after; exit 3", stdin="half\n").stdout == "half\nafter\n"
    assert time.monotonic() - start < 30


def test_exec_on_a_terminal(busy: Kubectl) -> None:
    typed = [("# ", "tty; stty size\r"), ("31 77", "exit 5\r")]
    code, shown = busy.on_terminal(typed, "exec", "-it", "web", "--", "sh", rows=31, columns=77)
    assert "/dev/pts/" in shown, shown
    assert code == 5, shown


def test_attach(kubectl: Kubectl) -> None:
    kubectl.apply(pod("counter", "sh", "-c", COUNT))
    kubectl.wait("condition=Ready", "pod/counter")
    with kubectl.running("attach", "counter") as attached:
        attached.shows("line ")
    talker = pod("talker", "sh", "-c", "while read line; do echo you said $line; done; echo bye", restartPolicy="Never")
    talker["spec"]["containers"][0] |= {"stdin": True, "stdinOnce": True}
    kubectl.apply(talker)
    kubectl.until("Running", ".status.phase", "pod/talker")
    assert "you said hello" in kubectl("attach", "-i", "talker", stdin="hello\n") + kubectl("logs", "talker")
    kubectl.until("Succeeded", ".status.phase", "pod/talker")
    assert kubectl("logs", "talker") == "you said hello\nbye\n"


def test_cp(busy: Kubectl, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "one").write_bytes(os.urandom(700_000))
    (tree / "below" / "two").write_text("two\n")
    busy("cp", str(tree), "web:/tmp/tree")
    assert busy("exec", "web", "--", "cat", "/tmp/tree/below/two") == "two\n"
    busy("cp", "web:/tmp/tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "one").read_bytes() == (tree / "one").read_bytes()
    assert (tmp_path / "back" / "below" / "two").read_text() == "two\n"


def test_port_forward(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl.apply(web("site"), service("site"))
    kubectl("rollout", "status", "deployment/site", "--timeout=30s")
    name = kubectl.field(".items[0].metadata.name", "pods", "-l", "app=site")
    for what, port in ((f"pod/{name}", 8080), ("service/site", 80)):
        with kubectl.running("port-forward", what, f":{port}") as forward:
            found = re.search(r"127\.0\.0\.1:(\d+) ->", forward.shows("Forwarding from 127.0.0.1"))
            assert found is not None
            for _ in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=10) as answer:
                    assert answer.read().decode() == f"{name}\n"


def test_port_forward_to_a_port_where_nobody_listens(kubectl: Kubectl) -> None:
    kubectl.apply(pod("web"))
    kubectl.wait("condition=Ready", "pod/web")
    with kubectl.running("port-forward", "pod/web", ":9") as forward:
        found = re.search(r"127\.0\.0\.1:(\d+) ->", forward.shows("Forwarding from 127.0.0.1"))
        assert found is not None
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=10)
        forward.shows("onnection refused")
