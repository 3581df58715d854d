"""The steps of scripts/compose-test, in their order. A step is a function that raises, or yields faults, or returns what
it saw."""

import argparse
import inspect
import signal
import sys
import time
from pathlib import Path

import bus_and_ledger
import hardening
import load
import outages
import reach
import rolling
import secrecy
import stop
import watch
from project import OWN, ROOT, Project

# Steps after whose failure nothing that follows means anything.
MOVING = {"start", "stop", "rolling", "outages"}


def start(project, _):
    project.compose("up", "-d", "--wait", "--wait-timeout", "120")
    project.wait_healthy()


def steps(is_long):
    yield "start: every container is healthy", start
    yield "hardening: users, read-only roots, capabilities, limits", lambda project, _: hardening.faults(project)
    yield "reach: exactly the allowed connections", lambda project, _: reach.faults(project)
    yield "bus: each user its own", lambda project, _: bus_and_ledger.bus_faults(project)
    yield "ledger: each role its own", lambda project, _: bus_and_ledger.ledger_faults(project)
    yield "watch: Prometheus reads every target, the console is on this host alone", watch.faults
    yield "load: orders are filled", lambda project, _: load.filled(project, 5)
    yield "stop: redis-cli, within a second, over a restart", stop.by_redis_cli
    yield "stop: scripts/emergency-stop, with and without Redis", stop.by_script
    yield "rolling: restart, upgrade and rollback under load", lambda project, _: rolling.restart(project, is_long)
    yield "outages: each container crashes under load", lambda project, _: outages.crash(project, is_long)
    if is_long:
        yield "outages: each container is killed by the engine", lambda project, _: outages.kill(project)
    yield "outages: the host goes down and comes back", outages.down_and_up
    yield "secrets: in no inspect, configuration, environment, image or log", lambda project, _: secrecy.faults(project)
    yield "books: none lost, none twice", lambda project, running: finish(project, running)


def finish(project, running):
    running.stop()
    seen = load.compare(project, running)
    project.cdb("audit", "verify")
    project.cdb("reconcile")
    return seen


def do(project, running, name, step):
    began = time.monotonic()
    print(f"{name} ...", flush=True)
    outcome = step(project, running)
    if inspect.isgenerator(outcome):
        faults = list(outcome)
        assert not faults, f"{name}:\n" + "\n".join(faults)
        outcome = None
    print(f"    {time.monotonic() - began:.1f} s{'' if not outcome else ': ' + str(outcome)}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--prebuilt", type=Path, default=ROOT / "target/debug")
    parser.add_argument("--only", help="names before the colon, separated by commas")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    wanted = None if options.only is None else {"start", *options.only.split(",")}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    project = Project(options.prebuilt)
    running = None
    try:
        began = time.monotonic()
        project.configure()
        project.make_secrets()
        project.build("first")
        print(f"images made in {time.monotonic() - began:.1f} s", flush=True)
        failed = []
        for name, step in steps(options.long):
            if wanted is not None and name.split(":")[0] not in wanted:
                continue
            try:
                do(project, running, name, step)
            except AssertionError as fault:
                print(f"FAILED: {fault}", flush=True)
                failed.append(name)
                # Looks go on after a fault; what moves the project does not.
                if name.split(":")[0] in MOVING:
                    break
            if running is None:
                running = load.Load(project)
                running.start()
        if failed:
            for service in OWN:
                tail = project.compose("logs", "--no-color", "--tail", "12", service, check=False)
                print(f"--- {service}\n{tail}")
        print(f"compose-test: {len(failed)} steps failed: {'; '.join(failed)}" if failed else "compose-test: all held")
        return 1 if failed else 0
    finally:
        if options.keep:
            print(f"kept: CDB_ENV_FILE={project.env_file}; end it with scripts/compose down -v")
        else:
            project.end()


sys.exit(main())
