"""The second half of scripts/quickstart: waits for the node, runs the demo through the API, and takes the node away again.

Runs in the environment that has the package. It speaks to the API server as any client does, with the administrator's kubeconfig, so that
it needs no kubectl; every step says what it took.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "minikube-py.internal/hello:1"
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/default/deployments",
    "Service": "/api/v1/namespaces/default/services",
    "Pod": "/api/v1/namespaces/default/pods",
}
CLIENT = "hello-client"


class Failed(Exception):
    """The demo cannot go on; the message says why."""


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Say what was done and what it took."""
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


def until(what: str, condition: Callable[[], Any], seconds: float, alive: Callable[[], None] = lambda: None) -> Any:
    """The first true result of a condition. Raises Failed when none comes in time; `alive` may raise earlier."""
    deadline, last = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        alive()
        try:
            if result := condition():
                return result
        except (OSError, Failed) as error:
            last = f": {error}"
        time.sleep(0.1)
    raise Failed(f"{what}: not within {seconds:.0f} seconds{last}")


class Api:
    """The API server, by the administrator's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self.url = cluster["server"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as file:  # ssl reads a client's certificate from files only
            file.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            file.flush()
            context.load_cert_chain(file.name)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json", timeout: float = 30) -> str:
        """One call; its answer's text. Raises Failed with the server's message, OSError when there is no answer in `timeout` seconds."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": content_type}, method=method)
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["message"]
            raise Failed(f"{method} {path}: {text}") from error

    def get(self, path: str) -> Any:
        """An object or a list."""
        return json.loads(self.request("GET", path))

    def apply(self, wanted: dict[str, Any]) -> None:
        """Create an object, or make the one that is there like it, but leave it at the size that somebody has given it."""
        path = PATHS[wanted["kind"]]
        try:
            self.request("POST", path, wanted)
        except Failed as error:
            if not isinstance(error.__cause__, urllib.error.HTTPError) or error.__cause__.code != 409:
                raise
            path += "/" + wanted["metadata"]["name"]
            if replicas := self.get(path)["spec"].get("replicas"):
                wanted = {**wanted, "spec": {**wanted["spec"], "replicas": replicas}}
            self.request("PATCH", path, wanted, "application/merge-patch+json")

    def delete(self, kind: str, name: str) -> None:
        """Delete an object at once; fine when it is not there."""
        with contextlib.suppress(Failed):
            self.request("DELETE", f"{PATHS[kind]}/{name}?gracePeriodSeconds=0")


# The demo.


def start(server_pid: int, server_log: Path) -> None:
    """From a starting server to a demo that answers."""

    def alive() -> None:
        if not Path(f"/proc/{server_pid}").exists() or "\nState:\tZ" in Path(f"/proc/{server_pid}/status").read_text():
            last = next((line for line in reversed(server_log.read_text(errors="replace").splitlines()) if line.strip()), "it said nothing")
            raise Failed(f"the server has ended: {last.removeprefix('Error: ')} (all that it said: {server_log})")

    kubeconfig = data_dir() / "server" / "cred" / "admin.kubeconfig"
    with step("the API server is ready"):
        until("kubeconfig", kubeconfig.exists, 30, alive)
        api = Api(kubeconfig)
        until("the API server", lambda: api.request("GET", "/readyz", timeout=3), 60, alive)
    with step("the node is Ready"):
        since = Path(f"/proc/{server_pid}").stat().st_mtime
        node = until("the node", lambda: ready_node(api, since), 60, alive)
    with step(f"the demo's image is made and imported as {IMAGE}"):
        asyncio.run(import_image())
    with step("examples/hello.yaml is applied and its pods are available"):
        for document in yaml.safe_load_all((ROOT / "examples" / "hello.yaml").read_text()):
            api.apply(document)
        try:
            until("the Deployment", lambda: available(api), 60, alive)
        except Failed as error:
            raise Failed(f"{error}\n{warnings(api)}") from error
    service = api.get(PATHS["Service"] + "/hello")
    cluster_ip, node_port = service["spec"]["clusterIP"], service["spec"]["ports"][0]["nodePort"]
    node_ip = next(entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP")
    for text, url in (("ClusterIP", f"http://{cluster_ip}/"), ("NodePort", f"http://{node_ip}:{node_port}/")):
        with step(f"{url} ({text}) answers"):
            print(f"          {greeting(until(url, lambda url=url: fetch(url), 20, alive))}")  # type: ignore[misc]
    with step("http://hello (its name, from inside a pod) answers"):
        print(f"          {greeting(from_inside(api, alive))}")
    farewell(cluster_ip)


def ready_node(api: Api, since: float) -> Any:
    """A Node that is Ready and has said so since the server started, not before."""
    for node in api.get("/api/v1/nodes")["items"]:
        name = node["metadata"]["name"]
        if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ())):
            renewed = api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")["spec"]["renewTime"]
            if datetime.fromisoformat(renewed).timestamp() >= since:
                return node
    return None


def available(api: Api) -> bool:
    """Whether the Deployment is complete."""
    deployment = api.get(PATHS["Deployment"] + "/hello")
    status = deployment.get("status", {})
    wanted = deployment["spec"]["replicas"]
    observed = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return bool(observed and status.get("availableReplicas") == status.get("updatedReplicas") == wanted)


def warnings(api: Api) -> str:
    """What went wrong in the demo's namespace lately, in the components' own words."""
    events = [event for event in api.get("/api/v1/namespaces/default/events")["items"] if event.get("type") == "Warning"]
    return "\n".join(f"  {event['involvedObject']['name']}: {event['reason']}: {event['message']}" for event in events[-5:])


def fetch(url: str) -> str:
    """A page, without any proxy."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
        return str(response.read().decode().strip())


def greeting(answer: str) -> str:
    """The answer, if it is what the demo's pods say. Raises Failed."""
    if not answer.startswith("hello from hello-"):
        raise Failed(f"unexpected answer: {answer[:200]}")
    return answer


def from_inside(api: Api, alive: Callable[[], None]) -> str:
    """What a pod gets that asks for the Service by its name: run one, read its log, delete it."""
    api.delete("Pod", CLIENT)
    until("an earlier client", lambda: not exists(api, PATHS["Pod"] + "/" + CLIENT), 30, alive)
    container = {"name": "client", "image": IMAGE, "command": ["wget", "-q", "-O", "-", "http://hello"]}
    api.apply(
        {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": CLIENT}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    )
    try:

        def ended() -> bool:
            phase = api.get(f"{PATHS['Pod']}/{CLIENT}").get("status", {}).get("phase")
            if phase == "Failed":
                raise RuntimeError(api.request("GET", f"{PATHS['Pod']}/{CLIENT}/log"))
            return bool(phase == "Succeeded")

        try:
            until("the client pod", ended, 30, alive)
        except RuntimeError as error:
            raise Failed(f"the client pod failed: {error}") from error
        return api.request("GET", f"{PATHS['Pod']}/{CLIENT}/log").strip()
    finally:
        api.delete("Pod", CLIENT)


def exists(api: Api, path: str) -> bool:
    """Whether an object is there."""
    try:
        api.get(path)
    except Failed as error:
        if isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == 404:
            return False
        raise
    return True


async def import_image() -> None:
    """Make the demo's image from the machine's static busybox, unless the runtime has it."""
    from minikube_py.cri.client import CriClient
    from minikube_py.cri.images import import_archive

    async with CriClient(runtime_socket()) as client:
        await client.wait_until_serving(30)
        if await client.image_status(IMAGE) is not None:
            return
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            file.write(await asyncio.to_thread(make_image))
            file.flush()
            await import_archive(client, Path(file.name))


def make_image() -> bytes:
    """The image's archive: busybox with its applets as links, and a page that says who answers."""
    from minikube_py.cri.archive import ImageConfig, Layer, image_archive

    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    if busybox is None:
        raise Failed("busybox is not installed: apt-get install busybox-static")
    layer = Layer()
    layer.directory("tmp", 0o1777)
    layer.file("bin/busybox", Path(busybox).read_bytes(), 0o755)
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            layer.symlink(f"bin/{applet}", "busybox")
    serve = b'#!/bin/sh\necho "hello from $(hostname)" >/tmp/index.html\nexec httpd -f -p 8080 -h /tmp\n'
    layer.file("bin/hello", serve, 0o755)
    return image_archive(IMAGE, layer.finish(), ImageConfig(entrypoint=("/bin/hello",), env={"PATH": "/bin"}))


def farewell(cluster_ip: str) -> None:
    """What a user types next."""
    kubeconfig = setting("write-kubeconfig", "/etc/minikube-py/kubeconfig.yaml")
    print("\nThe cluster is up. Next:\n")
    print(f"  export KUBECONFIG={kubeconfig}")
    for command in ("get nodes -o wide", "get pods,services -o wide", "logs deployment/hello", "scale deployment/hello --replicas=3"):
        print(f"  kubectl {command}")
    print(f"  curl http://{cluster_ip}/")
    print("  scripts/quickstart --stop")
    if shutil.which("kubectl") is None:
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        print(
            "\nkubectl is not on this machine. Any version from 1.35 to 1.37 fits (https://kubernetes.io/docs/tasks/tools/), for example:\n"
        )
        print(f"  curl -Lo /usr/local/bin/kubectl https://dl.k8s.io/release/v1.36.0/bin/linux/{machine}/kubectl")
        print("  chmod +x /usr/local/bin/kubectl")


# The end.


async def stop() -> None:
    """End the pods and containerd, and take away what the node put into the kernel."""
    from minikube_py.cri.errors import CriError
    from minikube_py.netfilter import NetfilterError
    from minikube_py.removal import remove_node

    with step("pods, containerd, mounts, cgroups, links and rules are gone"):
        try:
            await remove_node(data_dir() / "agent", setting("cgroup-root"), setting("container-runtime-endpoint"))
        except (CriError, NetfilterError, TimeoutError) as error:
            raise Failed(f"not all is gone: {error or 'the pods took too long'}") from error


# Where things are.


def setting(flag: str, default: str = "") -> str:
    """A setting of the server, as the server finds it: a variable weighs more than the configuration file."""
    if value := os.environ.get("MINIKUBE_PY_" + flag.replace("-", "_").upper()):
        return value
    file = Path(os.environ.get("MINIKUBE_PY_CONFIG") or "/etc/minikube-py/config.yaml")
    content = (yaml.safe_load(file.read_text()) if file.exists() else None) or {}
    return str(content.get(flag) or content.get(flag.replace("-", "_")) or default)


def data_dir() -> Path:
    """The server's data directory."""
    return Path(os.environ.get("MINIKUBE_PY_DATA_DIR", "/var/lib/minikube-py"))


def runtime_socket() -> Path:
    """The containerd that the node uses: the user's, or the server's own."""
    given = setting("container-runtime-endpoint").removeprefix("unix://")
    if given:
        return Path(given)
    from minikube_py.cri.containerd import ContainerdOptions

    return ContainerdOptions(data_dir=data_dir() / "agent").layout().socket


def main() -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start")
    starting.add_argument("--server-pid", type=int, required=True)
    starting.add_argument("--server-log", type=Path, required=True)
    commands.add_parser("stop")
    options = parser.parse_args()
    socket.setdefaulttimeout(30)
    try:
        if options.command == "start":
            start(options.server_pid, options.server_log)
        else:
            asyncio.run(stop())
    except Failed as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
