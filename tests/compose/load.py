"""Orders at a steady pace, over every outage, and at the end: who lost one, who sent one twice."""

import json
import threading
import time
from collections import Counter

from bus import Bus, BusError
from project import until

# Below the default budget of new orders, so that none waits for long.
PACE = 0.25
FINAL = {"Filled", "Canceled", "Rejected", "Expired"}


class Load(threading.Thread):
    """A strategy that buys a little every quarter of a second and goes on when Redis does."""

    def __init__(self, project):
        super().__init__(daemon=True)
        self.project = project
        self.password = project.secret("redis_strategy")
        self.put = []
        self.unclear = []
        self._end = threading.Event()
        self._bus = None

    def run(self):
        number = 0
        while not self._end.wait(PACE):
            number += 1
            self._send(f"load-{number}")

    def _send(self, order_id):
        order = {
            "v": 1, "type": "new", "cl_ord_id": order_id, "strategy": "load", "symbol": "BTCUSDT", "side": "BUY",
            "ord_type": "MARKET", "qty": "0.0005", "ts": int(time.time() * 1000),
        }
        is_written = False
        try:
            if self._bus is None:
                self._bus = Bus((self.project.address("redis", "strategy_network"), 6379), "strategy", self.password)
            is_written = True
            self._bus("XADD", "cdb:orders", "*", "json", json.dumps(order))
            self.put.append(order_id)
        except (OSError, BusError, KeyError, IndexError, AssertionError, ValueError):
            # Redis is away. Whether it took the last order is not known, and the order is not repeated.
            if is_written:
                self.unclear.append(order_id)
            if self._bus is not None:
                self._bus.close()
                self._bus = None

    def stop(self):
        self._end.set()
        self.join(30)
        assert not self.is_alive(), "the load does not end"


def filled(project, count):
    """Waits until so many more orders than now are filled at the exchange."""
    before = len(project.at_exchange("/orders"))
    until(f"{count} more orders at the exchange", lambda: len(project.at_exchange("/orders")) >= before + count)


class Books:
    """What became of each order, by the streams and by the exchange itself."""

    def __init__(self, project):
        bus = Bus((project.address("redis"), 6379), "cdb_monitor", project.secret("redis_cdb_monitor"))
        verdicts = [json.loads(entry["json"]) for entry in bus.entries("cdb:verdicts")]
        reports = [json.loads(entry["json"]) for entry in bus.entries("cdb:executions")]
        self.dead = bus.entries("cdb:dead")
        bus.close()
        self.verdicts = Counter(verdict["cl_ord_id"] for verdict in verdicts)
        self.approved = {verdict["cl_ord_id"] for verdict in verdicts if verdict["decision"] == "approved"}
        self.refused = Counter(verdict["reason"] for verdict in verdicts if verdict["decision"] == "rejected")
        self.reports = {r["cl_ord_id"]: r for r in reports if r.get("type") == "execution_report"}
        at_exchange = project.at_exchange("/orders")
        self.at_exchange = Counter(order["client_id"] for order in at_exchange)
        requests = project.at_exchange("/requests?endpoint=POST%20order")
        self.requests = Counter(request["client_id"] for request in requests)

    def faults(self, load):
        for order_id in load.put:
            if self.verdicts[order_id] != 1:
                yield f"{order_id} has {self.verdicts[order_id]} verdicts"
        for order_id in sorted(self.approved):
            report = self.reports.get(order_id)
            if report is None or report["ord_status"] not in FINAL or report["in_doubt"]:
                yield f"{order_id} was approved and has not ended: {report}"
            elif report["ord_status"] == "Rejected" and self.at_exchange[order_id]:
                yield f"{order_id} is told as rejected and stands at the exchange"
            elif report["ord_status"] != "Rejected" and not self.at_exchange[order_id]:
                yield f"{order_id} is told as {report['ord_status']} and is not at the exchange"
        for order_id, count in self.at_exchange.items():
            if order_id not in self.approved:
                yield f"{order_id} stands at the exchange and was not approved"
            if count > 1:
                yield f"{order_id} stands at the exchange {count} times"
        for order_id, count in self.requests.items():
            if count > 1:
                yield f"{order_id} was sent {count} times"
        for letter in self.dead:
            yield f"a dead letter: {letter}"


def compare(project, load):
    """Zero lost, zero doubled: each order put has one verdict, each approved one ended, once, as the exchange has it."""

    def is_settled():
        books = Books(project)
        return not any("has not ended" in fault or "verdicts" in fault for fault in books.faults(load))

    try:
        until("every order has ended", is_settled, 60)
    except AssertionError as problem:
        faults = list(Books(project).faults(load))
        raise AssertionError(f"{problem}\n" + "\n".join(faults[:20])) from None
    books = Books(project)
    faults = list(books.faults(load))
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20])
    done = sum(1 for report in books.reports.values() if report["ord_status"] == "Filled")
    assert done > 0, "nothing was filled: this comparison shows nothing"
    gate = Counter(report["reason"] for report in books.reports.values() if report["ord_status"] == "Rejected")
    return (
        f"{len(load.put)} orders put, {len(books.approved)} approved, {sum(books.at_exchange.values())} at the exchange, "
        f"{done} filled, refused by risk {dict(books.refused)}, at the gate {dict(gate)}; none lost, none twice"
    )
