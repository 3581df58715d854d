"""Crashes, kills and a host that goes down, all under load. What became of the orders is counted at the end."""

import json
import os
import signal

import load
from project import OWN, until

CRASHED = ["cdb_execution", "cdb_risk", "cdb_monitor", "redis", "mexc-sim", "postgres"]


def crash(project, is_long):
    """The first process of each is killed from the host, which the engine takes for a crash: it starts it again."""
    for service in CRASHED * (3 if is_long else 1):
        before = project.inspect(service)
        os.kill(before["State"]["Pid"], signal.SIGKILL)

        def is_back(service=service, before=before):
            seen = project.inspect(service)
            return seen["RestartCount"] > before["RestartCount"] and project.is_healthy(service)

        until(f"{service} is started again and healthy", is_back)
        project.wait_healthy(*OWN)
        load.filled(project, 2)


def kill(project):
    """docker kill counts as an operator's wish: nothing is started until somebody says so."""
    for service in CRASHED:
        project.compose("kill", service)
        project.compose("up", "-d", "--no-deps", "--wait", service)
        project.wait_healthy(*OWN)
        load.filled(project, 2)


def down_and_up(project, running):
    """Every container is removed and made anew: what was known is known again."""
    project.cdb("stop", "the host goes down")
    load_put = len(running.put)
    before = state(project)
    orders = {order["client_id"] for order in project.at_exchange("/orders")}
    project.compose("down", "--timeout", "30")
    left = project.compose("ps", "-aq").split()
    assert not left, f"containers are left: {left}"
    project.compose("up", "-d")
    until("orders are put again", lambda: len(running.put) > load_put + 5)
    books = load.Books(project)
    refused = books.refused["emergency_stop"]
    until("the stop stands after the host came back", lambda: load.Books(project).refused["emergency_stop"] > refused)
    now = {order["client_id"] for order in project.at_exchange("/orders")}
    assert now == orders, f"the exchange's orders changed while stopped: {sorted(now ^ orders)}"
    after = state(project)
    assert after == before, f"positions changed:\n{before}\n{after}"
    project.cdb("resume", "--reason", "the host is back")
    project.wait_healthy()
    load.filled(project, 3)


def state(project):
    """Positions as the monitor has them, once it is level with the exchange."""
    held = sum(float(order["executed"]) for order in project.at_exchange("/orders"))

    def positions():
        rows = json.loads(project.cdb("positions", "--json"))
        rows = {row["symbol"]: row["qty"] for row in rows}
        return rows if abs(float(rows.get("BTCUSDT", 0)) - held) < 1e-9 else None

    return until(f"the monitor has the position {held}", positions, 30)
