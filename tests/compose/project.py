"""One compose project of the test's own: name, addresses, ports, secrets and images that nobody else uses, and its end."""

import contextlib
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Everything that runs in paper mode; Grafana has no package to make an image of.
SERVICES = [
    "redis", "postgres", "cdb_risk", "cdb_execution", "cdb_monitor", "mexc-sim",
    "redis_exporter", "postgres_exporter", "prometheus", "alertmanager",
]
OWN = ["cdb_risk", "cdb_execution", "cdb_monitor"]
# Longest wait for a container to be healthy again.
HEALTHY = 90.0

# Limits wide enough that only what is tested binds; the rate budgets keep their defaults.
SETTINGS = """\
COMPOSE_PROFILES=paper
TRADING_MODE=paper
PAPER_BALANCE=USDT=10000000
MAX_POSITION_SIZE_USD=5000000
MAX_POSITION_PCT=0.95
MAX_TOTAL_EXPOSURE=0.97
MAX_ORDER_SIZE_USD=10000
MAX_DAILY_ORDERS=1000000
MAX_DAILY_NOTIONAL_USD=1000000000
MAX_NOTIONAL_PER_MINUTE_USD=1000000000
MAX_REPEATED_ORDERS=1000000
MAX_OPEN_ORDERS=500
MAX_ORDERS_PER_SECOND=1000
MAX_STRATEGY_ORDERS_PER_SECOND=1000
DUPLICATE_WINDOW_MS=0
MAX_CONSECUTIVE_FAILURES=1000
MAX_FAILURES_PER_HOUR=10000
MAX_ORDER_AGE_MS=120000
VERDICT_TTL_MS=60000
"""


def run(*command, check=True, **options):
    """A command's standard output; a failure says what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=options.pop("timeout", 300), **options)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} failed ({result.returncode}):\n{result.stdout}{result.stderr}")
    return result.stdout


def until(what, condition, seconds=HEALTHY):
    """Waits for a condition; its last answer is returned, and missing it is a failure that says so."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for: {what}"
        time.sleep(0.1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_subnet():
    """The default of docker-compose.yml, or a network of ten that nothing on this host uses."""
    taken = []
    for line in run("ip", "-4", "route", "show").splitlines():
        with contextlib.suppress(ValueError):
            taken.append(ipaddress.ip_network(line.split()[0]))
    for network in run("docker", "network", "ls", "-q").split():
        for config in json.loads(run("docker", "network", "inspect", network))[0]["IPAM"]["Config"] or []:
            taken.append(ipaddress.ip_network(config["Subnet"]))
    for text in ["172.28.0.0/16", *(f"10.213.{i}.0/24" for i in range(10))]:
        subnet = ipaddress.ip_network(text)
        if not any(subnet.version == other.version and subnet.overlaps(other) for other in taken):
            return text
    raise AssertionError("no free subnet")


class Project:
    def __init__(self, programs):
        self.programs = programs
        self.name = f"cdbtest{os.getpid()}"
        self.images = f"{self.name}-images"
        self.dir = ROOT / "target/compose-test" / self.name
        self.secrets_dir = self.dir / "secrets"
        self.env_file = self.dir / "cell.env"
        self.console_port = free_port()
        self.subnet = free_subnet()
        self.settings = {}
        self.environment = {**os.environ, "CDB_ENV_FILE": str(self.env_file), "COMPOSE_PROGRESS": "quiet"}
        for name in ("COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_FILE", "SECRETS_DIR"):
            self.environment.pop(name, None)

    def build(self, build_id, from_host=True):
        """Images out of programs that are built already and of the host's packages."""
        command = ["scripts/build-images", "--prebuilt", str(self.programs), "--prefix", self.images, "--tag", "one"]
        environment = {**self.environment, "CDB_BUILD_ID": build_id}
        run(*command, *(["--from-host"] if from_host else []), cwd=ROOT, env=environment)

    def configure(self, **changes):
        """Writes the cell's settings."""
        self.settings.update(changes)
        own = {
            "COMPOSE_PROJECT_NAME": self.name,
            "SECRETS_DIR": self.secrets_dir,
            "CDB_SUBNET": self.subnet,
            "CDB_BRIDGE": f"ct{os.getpid() % 1_000_000}",
            "CONSOLE_PORT": self.console_port,
            "CDB_IMAGES": self.images,
            "CDB_TAG": "one",
            **{
                f"{name.upper()}_IMAGE": f"{self.images}/{name}:one"
                for name in ("redis", "postgres", "prometheus", "alertmanager", "redis_exporter", "postgres_exporter")
            },
            **self.settings,
        }
        self.dir.mkdir(parents=True, exist_ok=True)
        self.env_file.write_text(SETTINGS + "".join(f"{name}={value}\n" for name, value in own.items()))

    def make_secrets(self):
        run("scripts/compose-init", "--paper", cwd=ROOT, env=self.environment)

    def compose(self, *words, check=True, **options):
        return run("scripts/compose", *words, check=check, cwd=ROOT, env=self.environment, **options)

    def script(self, *words, check=True, **options):
        """One of the operator's scripts, on this cell."""
        return run(*words, check=check, cwd=ROOT, env=self.environment, **options)

    def cdb(self, *words, check=True):
        """The operator's command, in a container of the cell."""
        return self.compose("run", "--rm", "-T", "cdb", *words, check=check)

    def container(self, service):
        return self.compose("ps", "-aq", service).strip()

    def inspect(self, service):
        return json.loads(run("docker", "inspect", self.container(service)))[0]

    def is_healthy(self, service):
        state = self.inspect(service)["State"]
        return state["Running"] and state["Health"]["Status"] == "healthy"

    def wait_healthy(self, *services):
        for service in services or SERVICES:
            until(f"{service} is healthy", lambda service=service: self.is_healthy(service))

    def pid(self, service):
        return self.inspect(service)["State"]["Pid"]

    def address(self, service, network="cdb_network"):
        return self.inspect(service)["NetworkSettings"]["Networks"][f"{self.name}_{network}"]["IPAddress"]

    def secret(self, name):
        return (self.secrets_dir / name).read_text().strip()

    def inside(self, service, *command, check=True):
        """A program of the host in the network of a container."""
        return run("nsenter", "-t", str(self.pid(service)), "-n", *command, check=check)

    def http(self, service, url):
        """An HTTP answer as a container gets it from itself."""
        ask = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
        return self.inside(service, sys.executable, "-c", ask, url)

    def at_exchange(self, path):
        """One of the stand-in's own lists."""
        return json.loads(self.http("mexc-sim", f"http://127.0.0.1:8091{path}"))

    def end(self):
        """Nothing stays: containers, networks, volumes, images, files. Each step is tried whatever the others do."""
        if self.env_file.exists():
            self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "3", check=False)
        images = run("docker", "images", "--filter", f"reference={self.images}/*", "--format", "{{.Repository}}:{{.Tag}}")
        if images.split():
            run("docker", "rmi", "--force", *images.split(), check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
