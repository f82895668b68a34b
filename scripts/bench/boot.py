"""Seconds from exec to /readyz answering 200: first boot (keys are made) and second boot, control plane only; medians.

Run: python scripts/bench/boot.py [--runs N]
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIMEOUT = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ready(port: int, context: ssl.SSLContext) -> bool:
    """One /readyz over TLS, without the cost of an HTTP client."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw) as tls:
            tls.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return tls.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def boot(directory: Path, port: int) -> tuple[float, subprocess.Popen[bytes]]:
    """Start a server; the seconds until it is ready, and its process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    flags = ["--data-dir", str(directory / "data"), "--write-kubeconfig", str(directory / "kubeconfig"), "--disable-agent"]
    command = [sys.executable, "-m", "minikube_py", "server", *flags, "--https-listen-port", str(port), "--log-level", "error"]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    while not ready(port, context):
        if process.poll() is not None or time.perf_counter() - start > TIMEOUT:
            raise SystemExit("the server did not start")
        time.sleep(0.005)
    return time.perf_counter() - start, process


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(TIMEOUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    firsts, seconds = [], []
    for _ in range(parser.parse_args().runs):
        directory = Path(tempfile.mkdtemp(prefix="minikube-py-bench-"))
        try:
            for times in (firsts, seconds):
                took, process = boot(directory, free_port())
                times.append(took)
                stop(process)
        finally:
            shutil.rmtree(directory)
    print("| exec → /readyz, control plane only | median | least | most |\n|---|---|---|---|")
    for name, times in (("first boot, keys made", firsts), ("second boot", seconds)):
        print(f"| {name} | {statistics.median(times):.2f} s | {min(times):.2f} s | {max(times):.2f} s |")


if __name__ == "__main__":
    main()
