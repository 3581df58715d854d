"""The emergency stop in the running project, by the very lines of docs/operations.md."""

import time

import load
from project import OWN, until

SET = """IFS= read -r REDISCLI_AUTH; export REDISCLI_AUTH; redis-cli --user operator SET emergency_stop "$1" """


def sent_us(project):
    """When the stand-in saw each request for a new order, epoch microseconds."""
    return [request["at_us"] for request in project.at_exchange("/requests?endpoint=POST%20order")]


def by_redis_cli(project, _):
    password = project.secret("redis_operator") + "\n"
    output = project.compose("exec", "-T", "redis", "sh", "-c", SET, "sh", "drill", input=password)
    at_us = time.time_ns() // 1000
    assert output.strip() == "OK", f"redis-cli answered {output!r}"
    # The load goes on: it must be seen to be refused before silence means anything.
    until("an order is refused for the stop", lambda: load.Books(project).refused.get("emergency_stop"), 20)
    refused = load.Books(project).refused["emergency_stop"]
    until("twenty more are", lambda: load.Books(project).refused["emergency_stop"] >= refused + 20, 30)
    assert sent_us(project), "the stand-in saw no order at all: its silence shows nothing"
    late = [us - at_us for us in sent_us(project) if us > at_us + 1_000_000]
    assert not late, f"{len(late)} orders left more than a second after the stop, the last after {max(late) / 1e6:.1f} s"
    last = max([us - at_us for us in sent_us(project)])
    orders = len(project.at_exchange("/orders"))
    project.compose("restart", *OWN, "redis")
    project.wait_healthy("redis", "cdb_risk", "cdb_monitor")
    refused = load.Books(project).refused["emergency_stop"]
    until("orders are refused after the restart", lambda: load.Books(project).refused["emergency_stop"] > refused, 30)
    assert len(project.at_exchange("/orders")) == orders, "an order left during the stop"
    project.cdb("resume", "--reason", "drill over")
    project.wait_healthy()
    load.filled(project, 3)
    return f"the last order reached the exchange {last / 1e6:+.3f} s from the stop; none after the restart"


def by_script(project, _):
    project.script("scripts/emergency-stop", "drill two")
    status = project.cdb("status", check=False)
    assert "drill two" in status, f"cdb status does not name the stop:\n{status}"
    orders = len(project.at_exchange("/orders"))
    refused = load.Books(project).refused["emergency_stop"]
    until("orders are refused", lambda: load.Books(project).refused["emergency_stop"] > refused + 3, 20)
    assert len(project.at_exchange("/orders")) <= orders + 1, "orders went on after the stop was read back"
    project.cdb("resume", "--reason", "drill over")
    load.filled(project, 3)
    # Redis does not answer: the executor is stopped by a signal.
    project.compose("pause", "redis")
    try:
        project.script("scripts/emergency-stop", "drill three")
    finally:
        project.compose("unpause", "redis")
    project.wait_healthy("redis", "cdb_risk", "cdb_monitor")
    orders = len(project.at_exchange("/orders"))
    put = load.Books(project).verdicts.total()
    until("risk answers again", lambda: load.Books(project).verdicts.total() > put + 10, 60)
    assert len(project.at_exchange("/orders")) == orders, "the executor sends although it was stopped by itself"
    project.script("scripts/emergency-stop", "--end-local")
    project.wait_healthy()
    load.filled(project, 3)
