"""What the client tests share: a running stand-in exchange, and the counting of checks.

The facts checked are those of the exchange dossier; "§" in the tests refers to its sections.
"""

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
import urllib.request
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Made up; opens nothing but the stand-in.
API_KEY = "mx0clienttestskey0"
API_SECRET = "00112233445566778899aabbccddeeff"

OPENING = {"USDT": Decimal(10000), "BTC": Decimal(1)}
BID, ASK = Decimal("30000.00"), Decimal("30000.10")

# Local calls never go through a proxy.
_local = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StandIn:
    """A stand-in exchange of its own on free loopback ports; use as a context manager. With a file of recorded trades
    it replays them, and has their prices instead of the usual ones."""

    def __init__(self, replay=None):
        self._replay = replay

    def __enter__(self):
        binary = Path(os.environ.get("MEXC_SIM", ROOT / "target/debug/mexc-sim"))
        arguments = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        arguments += ["--api-key", API_KEY, "--api-secret", API_SECRET]
        for asset, amount in OPENING.items():
            arguments += ["--balance", f"{asset}={amount}"]
        if self._replay:
            arguments += ["--replay", str(self._replay)]
        self._log = tempfile.TemporaryFile()
        self._process = _start([str(binary), *arguments], self._log)
        try:
            ready, _, _ = select.select([self._process.stdout], [], [], 30)
            line = self._process.stdout.readline() if ready else b""
            if not line:
                self._log.seek(0)
                raise RuntimeError(f"the stand-in did not start: {self._log.read().decode(errors='replace')}")
            addresses = json.loads(line)
            self.base = f"http://{addresses['listen']}"
            self.stream = f"ws://{addresses['listen']}/ws"
            self._admin = f"http://{addresses['admin']}"
            self.calm()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def calm(self):
        """The usual prices, with deep liquidity again: 1000 base units per level."""
        if self._replay:
            return
        self.price("BTCUSDT", BID, ASK)
        self.price("ETHUSDT", "2000.00", "2000.10")
        self.price("BROCKUSDT", "0.00990", "0.01000")

    def price(self, symbol, bid, ask):
        """Sets a price; resting orders that it crosses fill."""
        self.admin("/price", {"symbol": symbol, "bid": str(bid), "ask": str(ask)})

    def admin(self, path, body=None):
        """Calls the admin interface: GET, or POST with a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._admin + path, data, {"Content-Type": "application/json"})
        with _local.open(request, timeout=10) as reply:
            return json.load(reply)

    def breaches(self):
        """Rate limits that were broken, with their peaks."""
        windows = self.admin("/budget")["windows"]
        return {window["window"]: window["peak"] for window in windows if window["breaches"]}


def _start(command, log):
    """Starts a binary; one that is just being rebuilt is waited for."""
    patience_ends = time.monotonic() + 120
    while True:
        try:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        except OSError:
            if time.monotonic() > patience_ends:
                raise
            time.sleep(1)


class Checks:
    """Runs checks one after another and prints a line for each."""

    def __init__(self, client):
        self._client = client
        self._failed = 0

    def passed(self, name):
        print(f"ok   {self._client}: {name}", flush=True)

    def failed(self, name, error):
        self._failed += 1
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"FAIL {self._client}: {name}: {text[:400]}", flush=True)

    def exit(self):
        sys.exit(1 if self._failed else 0)


def name_of(check):
    """The name of a check: its docstring."""
    return " ".join(check.__doc__.split())


def equal(got, wanted, what):
    assert got == wanted, f"{what}: got {got!r}, expected {wanted!r}"


def among(got, wanted, what):
    assert got in wanted, f"{what}: got {got!r}, expected one of {sorted(wanted, key=str)}"


# Shapes of replies.


def decimal(value):
    """Money: a plain decimal string (§1)."""
    return isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) is not None


def number(value):
    """A JSON number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def whole(value):
    """A whole JSON number."""
    return isinstance(value, int) and not isinstance(value, bool)


def ms(value):
    """A time: ms since the epoch as JSON number, near now."""
    return whole(value) and abs(value / 1000 - time.time()) < 86_400


def text(value):
    return isinstance(value, str) and value != ""


def flag(value):
    return isinstance(value, bool)


def null(value):
    return value is None


def either(*kinds):
    """One of several kinds."""

    def is_one(value):
        return any(kind(value) for kind in kinds)

    is_one.__name__ = " or ".join(kind.__name__ for kind in kinds)
    return is_one


def shape(reply, wanted, what):
    """Every wanted field is there and of its kind (a function) or value; further fields are fine (§1)."""
    assert isinstance(reply, dict), f"{what}: not an object: {reply!r}"
    for field, kind in wanted.items():
        assert field in reply, f"{what}: no field {field!r} in {reply!r}"
        value = reply[field]
        if callable(kind):
            assert kind(value), f"{what}: {field} is {value!r}, expected {kind.__name__}"
        else:
            equal(value, kind, f"{what}: {field}")
