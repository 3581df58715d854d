"""From each container, exactly these connections succeed: every address of every other one is tried, on every port that
anything in the project listens on, and an address beyond the host."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from project import ROOT, SERVICES, run

RISK, EXECUTION, MONITOR = "cdb_risk:8101", "cdb_execution:8102", "cdb_monitor:8103"
CONSOLE = "cdb_monitor:8080"
REDIS, POSTGRES, EXCHANGE = "redis:6379", "postgres:5432", "mexc-sim:8090"
REDIS_FIGURES, POSTGRES_FIGURES = "redis_exporter:9121", "postgres_exporter:9187"
PROMETHEUS, ALERTMANAGER = "prometheus:9090", "alertmanager:9093"
OUTSIDE = "outside:8443"

# Who reaches what. A service reaches every port of those that share a network with it.
ALLOWED = {
    "redis": {RISK, EXECUTION, MONITOR, CONSOLE, REDIS_FIGURES},
    "postgres": {MONITOR, CONSOLE, POSTGRES_FIGURES},
    "cdb_risk": {REDIS, EXECUTION, MONITOR, CONSOLE, REDIS_FIGURES, POSTGRES_FIGURES, PROMETHEUS},
    "cdb_execution": {
        REDIS, RISK, MONITOR, CONSOLE, REDIS_FIGURES, POSTGRES_FIGURES, PROMETHEUS, EXCHANGE, OUTSIDE,
    },
    "cdb_monitor": {
        REDIS, POSTGRES, RISK, EXECUTION, REDIS_FIGURES, POSTGRES_FIGURES, PROMETHEUS, ALERTMANAGER, OUTSIDE,
    },
    "mexc-sim": {EXECUTION},
    "redis_exporter": {REDIS, RISK, EXECUTION, MONITOR, CONSOLE, POSTGRES_FIGURES, PROMETHEUS},
    "postgres_exporter": {POSTGRES, MONITOR, CONSOLE, RISK, EXECUTION, REDIS_FIGURES, PROMETHEUS},
    "prometheus": {RISK, EXECUTION, MONITOR, CONSOLE, REDIS_FIGURES, POSTGRES_FIGURES, ALERTMANAGER},
    "alertmanager": {MONITOR, CONSOLE, PROMETHEUS},
}


def listening(pid):
    """Ports on which something in a container's network listens for others than itself."""
    ports = set()
    for line in run("nsenter", "-t", str(pid), "-n", "ss", "-Htln").splitlines():
        address, port = line.split()[3].rsplit(":", 1)
        if not address.strip("[]").startswith("127.") and address.strip("[]") != "::1":
            ports.add(int(port))
    return ports


@contextlib.contextmanager
def outside_world(project):
    """A host beyond this one: a network namespace behind a pair of interfaces, with something that listens."""
    name, port = f"out{os.getpid()}", 8443
    here, there = f"o{os.getpid() % 10_000_000}a", f"o{os.getpid() % 10_000_000}b"
    listener = None
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        run("ip", "address", "add", "198.51.100.1/30", "dev", here)
        run("ip", "link", "set", here, "up")
        run("ip", "netns", "exec", name, "ip", "address", "add", "198.51.100.2/30", "dev", there)
        run("ip", "netns", "exec", name, "ip", "link", "set", there, "up")
        run("ip", "netns", "exec", name, "ip", "route", "add", "default", "via", "198.51.100.1")
        listener = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, str(ROOT / "tests/compose/reach.py"), "--listen", str(port)],
            stdout=subprocess.PIPE,
        )
        listener.stdout.readline()
        yield ("198.51.100.2", port)
    finally:
        if listener is not None:
            listener.kill()
            listener.wait()
        run("ip", "link", "delete", here, check=False)
        run("ip", "netns", "delete", name, check=False)


def faults(project):
    targets = {}
    for service in SERVICES:
        seen = project.inspect(service)
        addresses = [network["IPAddress"] for network in seen["NetworkSettings"]["Networks"].values()]
        for port in listening(seen["State"]["Pid"]):
            for address in addresses:
                targets[f"{address} {port}"] = f"{service}:{port}"
    with outside_world(project) as (address, port):
        targets[f"{address} {port}"] = OUTSIDE
        tries = {}
        for service in SERVICES:
            others = [target for target, name in targets.items() if name.split(":")[0] != service]
            tries[service] = subprocess.Popen(
                ["nsenter", "-t", str(project.pid(service)), "-n", sys.executable,
                 str(ROOT / "tests/compose/reach.py"), *others],
                stdout=subprocess.PIPE, text=True,
            )
        for service, attempt in tries.items():
            output, _ = attempt.communicate(timeout=60)
            reached = {targets[target] for target in json.loads(output)}
            for name in sorted(reached - ALLOWED[service]):
                yield f"{service} reaches {name}"
            for name in sorted(ALLOWED[service] - reached):
                yield f"{service} does not reach {name}"


def try_all(targets):
    """Those of `address port` that accept a connection, tried at once, each for at most two seconds."""
    import select
    import socket

    waiting, reached = {}, []
    for target in targets:
        address, port = target.split()
        probe = socket.socket()
        probe.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            try:
                probe.connect((address, int(port)))
            except BlockingIOError:
                raise
            except OSError:
                continue
        waiting[probe.fileno()] = (probe, target)
    poll = select.poll()
    for number in waiting:
        poll.register(number, select.POLLOUT)
    end = time.monotonic() + 2
    while waiting and time.monotonic() < end:
        for number, _ in poll.poll(100):
            probe, target = waiting.pop(number)
            poll.unregister(number)
            if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                reached.append(target)
    return reached


def listen(port):
    import socketserver

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer(("0.0.0.0", port), socketserver.BaseRequestHandler) as server:
        print("listening", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "--listen":
        listen(int(sys.argv[2]))
    else:
        print(json.dumps(try_all(sys.argv[1:])))
