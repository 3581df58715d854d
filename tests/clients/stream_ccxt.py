"""The stand-in exchange's streams and listen keys: as ccxt.pro sees them, and frame by frame with the schema that
ccxt ships."""

import asyncio
import copy
import csv
import json
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from itertools import pairwise

import aiohttp
import ccxt.pro
from ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2 import PushDataV3ApiWrapper
from google.protobuf.unknown_fields import UnknownFieldSet

from rest_ccxt import BROCK, BTC, OPEN, TAKER, settings
from stand_in import ASK, BID, OPENING, ROOT, Checks, StandIn, among, equal, ms, name_of

PRINTS = ROOT / "examples/data/trades-BTCUSDT-2021-01-08.csv"
ROWS = list(csv.DictReader(PRINTS.read_text().splitlines()))

ORDERS, DEALS, ACCOUNT = (f"spot@private.{one}.v3.api.pb" for one in ("orders", "deals", "account"))
PUBLIC_DEALS = "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT"
TICKER = "spot@public.aggre.bookTicker.v3.api.pb@100ms@BTCUSDT"
BATCH = "spot@public.bookTicker.batch.v3.api.pb@BTCUSDT"
LEVELS = "spot@public.limit.depth.v3.api.pb@BTCUSDT@5"
BARS = "spot@public.kline.v3.api.pb@BTCUSDT@Min1"

# Balance changes (§11.3).
CAUSES = {"ENTRUST_PLACE", "ENTRUST", "ENTRUST_CANCEL", "ENTRUST_UNFROZEN", "TRADE_FEE", "DEPOSIT", "WITHDRAW"}

# Longest wait for one thing, and longest check, s.
WAIT, CHECK_MAX = 4, 20


class Log:
    """What came, in order; can be waited for."""

    def __init__(self):
        self.items = []
        self._came = asyncio.Event()
        self._error = None

    def add(self, item):
        self.items.append(item)
        self._came.set()

    def fail(self, error):
        """Nothing more comes."""
        self._error = error
        self._came.set()

    async def when(self, is_so, what):
        """Waits until something is so; looks again whenever something came."""
        try:
            async with asyncio.timeout(WAIT):
                while not is_so():
                    if self._error:
                        raise self._error
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            what = what if isinstance(what, str) else what()
            raise AssertionError(f"did not come: {what}; last came {self.items[-1:]}") from None

    async def until(self, is_wanted, what, start=0):
        """The first item that is wanted, from this one on."""
        found = []

        def look():
            nonlocal start
            fresh, start = self.items[start:], len(self.items)
            found.extend(item for item in fresh if is_wanted(item))
            return found

        await self.when(look, what)
        return found[0]


class Client(ccxt.pro.mexc):
    """ccxt.pro, remembering what came on its streams."""

    timeout_on_exit = 0

    def __init__(self, stand_in, markets=None):
        config = settings(stand_in.base)
        config["urls"]["api"]["ws"] = {"spot": stand_in.stream, "swap": stand_in.stream}
        super().__init__(config)
        self.said, self.frames = Log(), Log()
        self._timers = []
        if markets:
            self.set_markets(markets)

    def handle_subscription_status(self, client, message):
        self.said.add(message["msg"])
        super().handle_subscription_status(client, message)

    def handle_protobuf_message(self, client, message):
        self.frames.add(message)
        return super().handle_protobuf_message(client, message)

    def delay(self, *arguments):
        self._timers.append(super().delay(*arguments))

    def on_close(self, client, error):
        # ccxt reports the end of a connection twice; the second time it would forget the next one.
        if self.clients.get(client.url) is client:
            super().on_close(client, error)

    async def close(self):
        for timer in self._timers:
            timer.cancel()
        await super().close()

    def of(self, channel, **wanted):
        """The bodies of a channel's frames so far: those with these values."""
        body = {ORDERS: "privateOrders", DEALS: "privateDeals", ACCOUNT: "privateAccount"}[channel]
        bodies = [frame[body] for frame in self.frames.items if frame["channel"] == channel]
        return [one for one in bodies if all(one.get(field) == value for field, value in wanted.items())]


class Watch(Log):
    """Calls a watch method over and over, as its users do, and keeps what it gives."""

    def __init__(self, call):
        super().__init__()
        self.breaks = Log()
        self._task = asyncio.create_task(self._run(call))

    async def _run(self, call):
        while True:
            try:
                got = await call()
            except ccxt.NetworkError as error:
                self.breaks.add(error)
            except Exception as error:
                self.fail(error)
                return
            else:
                # A copy: ccxt changes what it gave.
                for one in copy.deepcopy(got if isinstance(got, list) else [got]):
                    self.add(one)

    def end(self):
        self._task.cancel()


async def watch(ex, channel, call):
    """Starts to watch; returns once the stand-in has repeated the channel's name."""
    before, watching = len(ex.said.items), Watch(call)
    await ex.said.until(lambda said: said == channel, f"subscription of {channel}", before)
    return watching


class Raw:
    """A connection of its own."""

    def __init__(self, socket):
        self.socket = socket
        self._kept = {aiohttp.WSMsgType.TEXT: deque(), aiohttp.WSMsgType.BINARY: deque()}

    async def _next(self, kind):
        async with asyncio.timeout(WAIT):
            while not self._kept[kind]:
                message = await self.socket.receive()
                assert message.type in self._kept, f"the connection ended: {message}"
                self._kept[message.type].append(message.data)
        return self._kept[kind].popleft()

    async def text(self):
        return await self._next(aiohttp.WSMsgType.TEXT)

    async def frame(self, channel=None):
        """The next frame, or the next of a channel, as it came and decoded."""
        while True:
            data = await self._next(aiohttp.WSMsgType.BINARY)
            frame = PushDataV3ApiWrapper.FromString(data)
            if channel in (None, frame.channel):
                return data, frame

    async def ask(self, method, *channels):
        """Sends a command; its answer."""
        await self.socket.send_json({"method": method, "params": channels} if channels else {"method": method})
        return json.loads(await self.text())

    async def subscribe(self, *channels):
        for channel in channels:
            equal(await self.ask("SUBSCRIPTION", channel), said(channel), "answer")

    async def ended(self):
        """Waits for the end of the connection."""
        async with asyncio.timeout(WAIT):
            while (await self.socket.receive()).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                pass


def said(text):
    """An answer to a command (§11.1)."""
    return {"id": 0, "code": 0, "msg": text}


def blocked(answer, channel):
    """Expects the answer to a subscription that failed (§11.1)."""
    equal((answer["id"], answer["code"]), (0, 0), "id and code")
    wanted = f"Not Subscribed successfully! [{channel}].  Reason： Blocked!"
    equal(answer["msg"].strip(), wanted, "msg")


class Bench:
    """What a check gets: the stand-in, a client that watches the account, and names for orders."""

    def __init__(self, stand_in):
        self.stand_in = stand_in
        self._names = 0

    async def __aenter__(self):
        self.ex = Client(self.stand_in)
        # Not load_markets(), which asks for more than spot.
        self._markets = await self.ex.fetch_spot_markets()
        self.ex.set_markets(self._markets)
        self.session = aiohttp.ClientSession()
        self.orders, self.trades, self.balances = await asyncio.gather(
            watch(self.ex, ORDERS, self.ex.watch_orders),
            watch(self.ex, DEALS, self.ex.watch_my_trades),
            watch(self.ex, ACCOUNT, self.ex.watch_balance),
        )
        return self

    async def __aexit__(self, *_):
        for watching in (self.orders, self.trades, self.balances):
            watching.end()
        await self.session.close()
        await self.ex.close()

    @asynccontextmanager
    async def other(self):
        """Another client."""
        ex = Client(self.stand_in, self._markets)
        try:
            yield ex
        finally:
            await ex.close()

    @asynccontextmanager
    async def raw(self, listen_key=None):
        """A connection without ccxt, public or with a listen key."""
        address = self.stand_in.stream + (f"?listenKey={listen_key}" if listen_key else "")
        async with self.session.ws_connect(address) as socket:
            yield Raw(socket)

    async def new_key(self):
        """A listen key."""
        return (await self.ex.spotPrivatePostUserDataStream())["listenKey"]

    def name(self):
        self._names += 1
        return f"stream-{self._names}"

    async def place(self, symbol, side, amount, price=None, kind="limit", **params):
        """Places an order; its id."""
        return (await self.ex.create_order(symbol, kind, side, amount, price, params))["id"]

    async def order(self, order_id, status, filled, **wanted):
        """Waits for the order in this state, and expects these values of it."""
        filled = float(filled)
        got = await self.orders.until(
            lambda order: (order["id"], order["status"], order["filled"]) == (order_id, status, filled),
            f"order {status} with {filled} filled",
        )
        equal({field: got[field] for field in wanted}, wanted, "order")
        return got

    async def fills(self, order_id, *wanted):
        """Expects these fills of an ended order, each once: amount and price."""
        await self.ex.frames.when(lambda: len(self.ex.of(DEALS, orderId=order_id)) >= len(wanted), "fills")
        frames = self.ex.of(DEALS, orderId=order_id)
        equal([(one["quantity"], one["price"]) for one in frames], [*wanted], "fills: amount, price")
        await self.trades.until(lambda trade: trade["id"] == frames[-1]["tradeId"], "the last fill")
        trades = [trade for trade in self.trades.items if trade["order"] == order_id]
        equal([trade["id"] for trade in trades], [one["tradeId"] for one in frames], "ids of the fills")
        equal(len({trade["id"] for trade in trades}), len(trades), "different ids of fills")
        return trades

    def held(self):
        """Free and locked by asset, as the stand-in's books have it."""
        account = self.stand_in.admin("/account")
        return {asset: (Decimal(one["free"]), Decimal(one["locked"])) for asset, one in account.items()}

    async def balance(self, start, **wanted):
        """Waits for a balance from this one on: free and used by asset."""
        wanted = {asset: (float(free), float(used)) for asset, (free, used) in wanted.items()}
        return await self.balances.until(
            lambda got: {asset: (got[asset]["free"], got[asset]["used"]) for asset in wanted if asset in got} == wanted,
            f"balance {wanted}",
            start,
        )

    async def clean(self):
        """Nothing open, no switches, and the usual prices."""
        self.stand_in.admin("/switches", {})
        self.stand_in.calm()
        for symbol in {order["symbol"] for order in self.stand_in.admin("/orders") if order["status"] in OPEN}:
            await self.ex.spotPrivateDeleteOpenOrders({"symbol": symbol})


async def eventually(is_so, what):
    """Waits for something that only asking again shows."""
    try:
        async with asyncio.timeout(WAIT):
            while not is_so():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: not so") from None


# Orders


async def order_resting(bench):
    """watch_orders: a limit order that rests is open, with its client id"""
    name = bench.name()
    order = await bench.place(BTC, "buy", 0.001, 20000, clientOrderId=name)
    got = await bench.order(
        order, "open", 0, symbol=BTC, side="buy", type="limit", timeInForce="GTC", clientOrderId=name, price=20000,
        amount=0.001, remaining=0.001, average=None,
    )
    assert ms(got["timestamp"]), got["timestamp"]


async def order_without_client_id(bench):
    """watch_orders: an order without a client id has none; proto3 leaves it out (§11.2)"""
    order = await bench.place(BTC, "sell", 0.001, 40000)
    got = await bench.order(order, "open", 0, side="sell", clientOrderId=None)
    assert "clientId" not in got["info"], got["info"]


async def order_filled_in_parts(bench):
    """watch_orders: filled in part on arrival, in full later: open, then closed, with the average of the fills"""
    bench.stand_in.price("BROCKUSDT", "0.00990", "0.00999")
    name = bench.name()
    order = await bench.place(BROCK, "buy", 5000, 0.01, clientOrderId=name)
    await bench.order(
        order, "open", 2000, symbol=BROCK, amount=5000, remaining=3000, average=0.009995, price=0.01,
        clientOrderId=name,
    )
    bench.stand_in.price("BROCKUSDT", "0.00990", "0.01000")
    await bench.order(order, "closed", 5000, remaining=0, average=0.009998, price=0.01, clientOrderId=name)


async def order_canceled(bench):
    """watch_orders: canceled without a fill"""
    order = await bench.place(BTC, "buy", 0.001, 20000)
    await bench.order(order, "open", 0)
    await bench.ex.cancel_order(order, BTC)
    await bench.order(order, "canceled", 0, amount=0.001, remaining=0.001, average=None)


async def order_canceled_in_part(bench):
    """watch_orders: canceled after a fill: status 5, which ccxt calls closed"""
    order = await bench.place(BROCK, "buy", 5000, 0.01)
    await bench.order(order, "open", 1000, remaining=4000)
    await bench.ex.cancel_order(order, BROCK)
    got = await bench.order(order, "closed", 1000, remaining=4000, average=0.01)
    equal(got["info"]["status"], 5, "status")


async def order_market(bench):
    """watch_orders: market by quantity, both sides: closed at the market, priced about 5 % beyond (§5)"""
    for side, price, beyond in (("buy", ASK, Decimal("1.05")), ("sell", BID, Decimal("0.95"))):
        order = await bench.place(BTC, side, 0.001, None, "market")
        got = await bench.order(order, "closed", "0.001", type="market", side=side, remaining=0, average=float(price))
        info = got["info"]
        assert abs(Decimal(info["price"]) / price - beyond) < Decimal("0.001"), f"price {info['price']}"
        equal(info["amount"], "0", "amount (§11.3)")
        equal(Decimal(info["cumulativeAmount"]), price * Decimal("0.001"), "cumulativeAmount")


async def order_market_by_cost(bench):
    """watch_orders: market buy by cost spends it but for less than a step"""
    order = (await bench.ex.create_market_buy_order_with_cost(BTC, 50))["id"]
    filled = (50 / ASK).quantize(Decimal("0.000001"), "ROUND_DOWN")
    got = await bench.order(order, "closed", filled, type="market", average=float(ASK))
    equal(Decimal(got["info"]["cumulativeAmount"]), ASK * filled, "cumulativeAmount")


async def order_ioc(bench):
    """watch_orders: IOC that finds a part, everything, nothing"""
    part = await bench.place(BROCK, "buy", 5000, 0.01, timeInForce="IOC")
    got = await bench.order(part, "closed", 1000, remaining=4000, average=0.01, timeInForce="IOC", side="buy")
    equal(got["info"]["status"], 5, "status")
    whole = await bench.place(BTC, "buy", 0.001, 30500, timeInForce="IOC")
    await bench.order(whole, "closed", "0.001", remaining=0, average=float(ASK), timeInForce="IOC")
    nothing = await bench.place(BTC, "buy", 0.001, 29000, timeInForce="IOC")
    await bench.order(nothing, "canceled", 0, remaining=0.001, timeInForce="IOC")


async def order_fok(bench):
    """watch_orders: FOK that finds everything, a part only"""
    whole = await bench.place(BTC, "sell", 0.001, 29500, timeInForce="FOK")
    await bench.order(whole, "closed", "0.001", remaining=0, average=float(BID), timeInForce="FOK", side="sell")
    part = await bench.place(BROCK, "buy", 5000, 0.01, timeInForce="FOK")
    await bench.order(part, "canceled", 0, remaining=5000, timeInForce="FOK")
    equal(bench.ex.of(DEALS, orderId=part), [], "fills")


async def order_post_only(bench):
    """watch_orders: post-only that rests, and is filled later"""
    order = await bench.place(BTC, "sell", 0.001, 31000, postOnly=True)
    await bench.order(order, "open", 0, timeInForce="PO", type="limit")
    bench.stand_in.price("BTCUSDT", "31000", "31000.10")
    await bench.order(order, "closed", "0.001", timeInForce="PO", remaining=0, average=31000)


async def order_foreign(bench):
    """watch_orders: an order that somebody else placed on the account"""
    foreign = {"symbol": "BTCUSDT", "side": "BUY", "qty": "0.002", "price": "21000", "client_id": "by-hand"}
    order = bench.stand_in.admin("/foreign-order", foreign)["order_id"]
    await bench.order(order, "open", 0, amount=0.002, price=21000, clientOrderId="by-hand")


async def order_changes(bench):
    """orders: every change once and in order; lastDealQuantity on fills only, adding up (§11.3)"""
    bench.stand_in.price("BROCKUSDT", "0.00990", "0.00999")
    parts = await bench.place(BROCK, "buy", 5000, 0.01)
    await bench.order(parts, "open", 2000)
    bench.stand_in.price("BROCKUSDT", "0.00990", "0.01000")
    await bench.order(parts, "closed", 5000)
    canceled = await bench.place(BTC, "buy", 0.001, 20000)
    await bench.ex.cancel_order(canceled, BTC)
    await bench.order(canceled, "canceled", 0)
    for order, wanted in (
        (parts, [(1, "0", None), (3, "1000", "1000"), (3, "2000", "1000"), (2, "5000", "3000")]),
        (canceled, [(1, "0", None), (4, "0", None)]),
    ):
        frames = bench.ex.of(ORDERS, id=order)
        got = [(one["status"], one["cumulativeQuantity"], one.get("lastDealQuantity")) for one in frames]
        equal(got, wanted, "status, cumulativeQuantity, lastDealQuantity")
        for one in frames:
            left = Decimal(one["quantity"]) - Decimal(one["cumulativeQuantity"])
            equal(Decimal(one["remainQuantity"]), left, "remainQuantity")


# Trades


async def trade_taker(bench):
    """watch_my_trades: a taker's fill, both sides, once, with its fee"""
    for side, price, book in (("buy", 30500, ASK), ("sell", 29500, BID)):
        name = bench.name()
        order = await bench.place(BTC, side, 0.001, price, clientOrderId=name)
        await bench.order(order, "closed", "0.001")
        (trade,) = await bench.fills(order, ("0.001", f"{book.normalize():f}"))
        cost = book * Decimal("0.001")
        wanted = {
            "symbol": BTC, "side": side, "takerOrMaker": "taker", "price": float(book), "amount": 0.001,
            "cost": float(cost), "order": order,
        }
        equal({field: trade[field] for field in wanted}, wanted, "trade")
        equal(trade["fee"], {"cost": float(cost * TAKER), "currency": "USDT"}, "fee")
        equal(trade["info"]["clientOrderId"], name, "clientOrderId")
        assert ms(trade["timestamp"]), trade["timestamp"]


async def trade_levels(bench):
    """watch_my_trades: one fill for each level that a taker took"""
    bench.stand_in.price("BROCKUSDT", "0.00990", "0.00999")
    order = await bench.place(BROCK, "buy", 1500, 0.01, timeInForce="IOC")
    await bench.order(order, "closed", 1500)
    first, second = await bench.fills(order, ("1000", "0.00999"), ("500", "0.01"))
    equal((first["cost"], second["cost"]), (9.99, 5), "cost")
    # 0.05 %, to 5 decimals: 0.004995 may be rounded either way.
    among(first["fee"]["cost"], {0.00499, 0.005}, "fee of the first")
    equal(second["fee"], {"cost": 0.0025, "currency": "USDT"}, "fee of the second")


async def trade_maker(bench):
    """watch_my_trades: a maker's fill at the order's price, free of a fee"""
    order = await bench.place(BTC, "sell", 0.001, 31000)
    bench.stand_in.price("BTCUSDT", "31000", "31000.10")
    await bench.order(order, "closed", "0.001")
    (trade,) = await bench.fills(order, ("0.001", "31000"))
    equal((trade["price"], trade["cost"], trade["side"]), (31000, 31, "sell"), "price, cost, side")
    equal(trade["fee"], {"cost": 0, "currency": "USDT"}, "fee")
    # ccxt looks for this under the name of the former stream, and so takes every fill for a taker's.
    equal(trade["info"]["isMaker"], True, "isMaker")


async def trade_fee_in_mx(bench):
    """watch_my_trades: a fee taken in MX"""
    bench.stand_in.admin("/transfer", {"asset": "MX", "amount": "5"})
    bench.stand_in.admin("/uncertain", {"fee_in": "MX"})
    try:
        order = await bench.place(BTC, "buy", 0.001, 30500)
        await bench.order(order, "closed", "0.001")
    finally:
        bench.stand_in.admin("/uncertain", {})
    (trade,) = await bench.fills(order, ("0.001", "30000.1"))
    equal(trade["fee"]["currency"], "MX", "fee currency")
    assert trade["fee"]["cost"] > 0, trade["fee"]


# Money


async def balance_placed_and_canceled(bench):
    """watch_balance: free and used after placing and after canceling"""
    before, start = bench.held(), len(bench.balances.items)
    (usdt, no_usdt), (btc, no_btc) = before["USDT"], before["BTC"]
    equal((no_usdt, no_btc), (0, 0), "locked before")
    buy = await bench.place(BTC, "buy", 0.01, 20000)
    await bench.balance(start, USDT=(usdt - 200, 200))
    sell = await bench.place(BTC, "sell", 0.02, 40000)
    await bench.balance(start, USDT=(usdt - 200, 200), BTC=(btc - Decimal("0.02"), Decimal("0.02")))
    held = len(bench.balances.items)
    await bench.ex.cancel_order(buy, BTC)
    await bench.balance(held, USDT=(usdt, 0))
    await bench.ex.cancel_order(sell, BTC)
    await bench.balance(held, USDT=(usdt, 0), BTC=(btc, 0))


async def balance_filled(bench):
    """watch_balance: a fill moves both assets and takes the fee"""
    before, start = bench.held(), len(bench.balances.items)
    order = await bench.place(BTC, "buy", 0.01, 20000)
    await bench.balance(start, USDT=(before["USDT"][0] - 200, 200))
    bench.stand_in.price("BTCUSDT", "19999.90", "20000")
    await bench.order(order, "closed", "0.01")
    maker = {"USDT": (before["USDT"][0] - 200, 0), "BTC": (before["BTC"][0] + Decimal("0.01"), 0)}
    await bench.balance(start, **maker)
    start = len(bench.balances.items)
    await bench.place(BTC, "sell", 0.01, None, "market")
    income = Decimal("199.999") * (1 - TAKER)
    await bench.balance(start, USDT=(maker["USDT"][0] + income, 0), BTC=(before["BTC"][0], 0))


async def balance_better_price(bench):
    """watch_balance: what a better price saved becomes free"""
    before, start = bench.held(), len(bench.balances.items)
    await bench.place(BTC, "buy", 0.01, 30500)
    spent = ASK * Decimal("0.01") * (1 + TAKER)
    await bench.balance(start, USDT=(before["USDT"][0] - spent, 0), BTC=(before["BTC"][0] + Decimal("0.01"), 0))


async def balance_transfer(bench):
    """watch_balance: a deposit and a withdrawal"""
    free = bench.held()["USDT"][0]
    for amount, cause in ((25, "DEPOSIT"), (-25, "WITHDRAW")):
        start, frames = len(bench.balances.items), len(bench.ex.of(ACCOUNT))
        bench.stand_in.admin("/transfer", {"asset": "USDT", "amount": str(amount)})
        free += amount
        await bench.balance(start, USDT=(free, 0))
        (frame,) = bench.ex.of(ACCOUNT)[frames:]
        equal((frame["type"], Decimal(frame["balanceAmountChange"])), (cause, amount), "type, change")


async def balance_changes(bench):
    """account: placing is one frame; every frame of this run leads from one balance to the next, by a known cause"""
    frames, start, free = len(bench.ex.of(ACCOUNT)), len(bench.balances.items), bench.held()["USDT"][0]
    await bench.place(BTC, "buy", 0.01, 20000)
    await bench.balance(start, USDT=(free - 200, 200))
    (placing,) = bench.ex.of(ACCOUNT)[frames:]
    got = [placing[field] for field in ("type", "balanceAmountChange", "frozenAmountChange")]
    equal(got, ["ENTRUST_PLACE", "-200", "200"], "placing")
    held = {asset: (amount, Decimal(0)) for asset, amount in OPENING.items()}
    for frame in bench.ex.of(ACCOUNT):
        among(frame["type"], CAUSES, "type")
        free, locked = held.get(frame["vcoinName"], (Decimal(0), Decimal(0)))
        free += Decimal(frame["balanceAmountChange"])
        locked += Decimal(frame["frozenAmountChange"])
        held[frame["vcoinName"]] = free, locked
        equal((Decimal(frame["balanceAmount"]), Decimal(frame["frozenAmount"])), (free, locked), f"{frame}")
    equal(held, bench.held(), "balances in the end")


async def told_is_booked(bench):
    """orders and deals: what they told in this run is what the books hold: every fill once, every order's last state"""
    booked = bench.stand_in.admin("/trades")
    await bench.ex.frames.when(lambda: len(bench.ex.of(DEALS)) >= len(booked), "as many fills")
    wanted = [(one["order_id"], *(Decimal(one[field]) for field in ("price", "qty", "fee"))) for one in booked]
    fields = ("price", "quantity", "feeAmount")
    got = [(one["orderId"], *(Decimal(one[field]) for field in fields)) for one in bench.ex.of(DEALS)]
    equal(got, wanted, "fills")
    numbers = {"NEW": 1, "FILLED": 2, "PARTIALLY_FILLED": 3, "CANCELED": 4, "PARTIALLY_CANCELED": 5}
    fields = ("executed", "executed_quote")
    wanted = {
        one["id"]: (numbers[one["status"]], *(Decimal(one[field]) for field in fields))
        for one in bench.stand_in.admin("/orders")
    }
    fields = ("cumulativeQuantity", "cumulativeAmount")

    def last():
        frames = bench.ex.of(ORDERS)
        return {one["id"]: (one["status"], *(Decimal(one[field]) for field in fields)) for one in frames}

    def apart():
        return set(wanted.items()) ^ set(last().items())

    await bench.ex.frames.when(lambda: not apart(), lambda: f"orders as booked, not {apart()}")


# Market


async def ticker(bench):
    """watch_ticker: best prices and their quantities after each price"""
    async with bench.other() as ex:
        watching = await watch(ex, TICKER, lambda: ex.watch_ticker(BTC))
        for bid, ask in ((30001, 30001.1), (29999.5, 30002)):
            start = len(watching.items)
            bench.stand_in.price("BTCUSDT", bid, ask)
            got = await watching.until(lambda _: True, "ticker", start)
            equal((got["symbol"], got["bid"], got["ask"]), (BTC, bid, ask), "symbol, bid, ask")
            equal((got["bidVolume"], got["askVolume"]), (1000, 1000), "quantities")
            assert ms(got["timestamp"]), got["timestamp"]
        watching.end()


async def refused_channels(bench):
    """watch_order_book and candles of 8 h: channels that the stand-in does not offer; it says so"""
    for channel, call in (
        ("spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT", lambda: ex.watch_order_book(BTC)),
        ("spot@public.kline.v3.api.pb@BTCUSDT@Hour8", lambda: ex.watch_ohlcv(BTC, "8h")),
    ):
        async with bench.other() as ex:
            watching = Watch(call)
            answer = await ex.said.until(lambda answer: channel in answer, f"answer for {channel}")
            blocked(said(answer), channel)
            watching.end()


async def market_trades(bench):
    """watch_trades: a run of the recorded trades, and what /trades lists"""
    async with bench.other() as ex:
        watching = await watch(ex, PUBLIC_DEALS, lambda: ex.watch_trades(BTC))
        await watching.when(lambda: len(watching.items) >= 40, "40 trades")
        watching.end()
        seen = watching.items
    run = [(trade["price"], trade["amount"], trade["side"]) for trade in seen]
    recorded = [(float(row["price"]), float(row["qty"]), row["side"].lower()) for row in ROWS]
    # The file is played over and over.
    twice = recorded + recorded
    assert any(twice[start:start + len(run)] == run for start in range(len(recorded))), f"not in the file: {run}"
    for trade in seen:
        cost = Decimal(str(trade["price"])) * Decimal(str(trade["amount"]))
        equal((trade["symbol"], trade["cost"]), (BTC, float(cost)), "symbol, cost")
        assert ms(trade["timestamp"]), trade["timestamp"]
    key = ("timestamp", "price", "amount", "side")
    listed = [tuple(trade[field] for field in key) for trade in await bench.ex.fetch_trades(BTC, None, 1000)]
    streamed = [tuple(trade[field] for field in key) for trade in seen]
    equal([trade for trade in streamed if trade not in listed], [], "not in /trades")


async def market_candles(bench):
    """watch_ohlcv: the frame's values; consistent with /klines"""
    async with bench.other() as ex:
        watching = await watch(ex, BARS, lambda: ex.watch_ohlcv(BTC, "1m"))
        await watching.when(lambda: len(watching.items) >= 10, "10 candles")
        watching.end()
        candle = watching.items[-1]
        sent = [frame["publicSpotKline"] for frame in ex.frames.items]
    start, *rest = candle
    equal(start % 60_000, 0, "start in the minute")
    fields = ("openingPrice", "highestPrice", "lowestPrice", "closingPrice", "volume")
    rows = [(int(bar["windowStart"]) * 1000, *(float(bar[field]) for field in fields)) for bar in sent]
    assert tuple(candle) in rows, f"{candle} was not sent"
    listed = {row[0]: row for row in await bench.ex.fetch_ohlcv(BTC, "1m")}
    _, opened, high, low, _, volume = listed[start]
    equal(opened, rest[0], "open")
    assert high >= rest[1] and low <= rest[2] and volume >= rest[4], f"{listed[start]} after {candle}"


async def market_bars(bench):
    """frames: each recorded trade makes one bar out of the one before (§11.4)"""
    async with bench.raw() as raw:
        await raw.subscribe(PUBLIC_DEALS, BARS)
        deals, bars = [], []
        while min(len(deals), len(bars)) < 25:
            _, frame = await raw.frame()
            deals.extend(frame.publicAggreDeals.deals)
            if frame.channel == BARS:
                bars.append(frame.publicSpotKline)
    by_amount = {Decimal(deal.price) * Decimal(deal.quantity): deal for deal in deals}
    for before, after in pairwise(bars):
        equal((after.interval, after.windowStart % 60, after.windowEnd - after.windowStart), ("Min1", 0, 60), "window")
        base = Decimal(0) if after.windowStart != before.windowStart else Decimal(before.amount)
        deal = by_amount.get(Decimal(after.amount) - base)
        assert deal, f"no trade makes {after} of {before}"
        price = Decimal(deal.price)
        equal(Decimal(after.closingPrice), price, "closingPrice")
        if base:
            equal(after.openingPrice, before.openingPrice, "openingPrice")
            equal(Decimal(after.volume), Decimal(before.volume) + Decimal(deal.quantity), "volume")
            equal(Decimal(after.highestPrice), max(Decimal(before.highestPrice), price), "highestPrice")
            equal(Decimal(after.lowestPrice), min(Decimal(before.lowestPrice), price), "lowestPrice")


async def replayed_fills(bench):
    """watch_orders and watch_my_trades: recorded trades fill an order in parts; the parts add up"""
    amount = 40
    bench.stand_in.admin("/transfer", {"asset": "BTC", "amount": str(amount)})
    # Below every recorded price: each trade fills a part.
    price = int(min(Decimal(row["price"]) for row in ROWS))
    order = await bench.place(BTC, "sell", amount, price)

    def parts():
        return bench.ex.of(ORDERS, id=order, status=3, isMaker=True)

    await bench.ex.frames.when(lambda: len(parts()) >= 3, "three parts filled by recorded trades")
    part = await bench.orders.until(lambda got: got["id"] == order and got["filled"], "a part")
    left = amount - Decimal(str(part["filled"]))
    equal((part["status"], part["remaining"]), ("open", float(left)), "status, remaining")
    bench.stand_in.price("BTCUSDT", price + 1, price + 2)
    got = await bench.order(order, "closed", amount, remaining=0)
    deals = bench.ex.of(DEALS, orderId=order)
    equal(len({deal["tradeId"] for deal in deals}), len(deals), "different ids of fills")
    equal(sum(Decimal(deal["quantity"]) for deal in deals), amount, "filled by the fills")
    spent = sum(Decimal(deal["price"]) * Decimal(deal["quantity"]) for deal in deals)
    equal(sum(Decimal(deal["amount"]) for deal in deals), spent, "amount of the fills")
    equal(Decimal(got["info"]["cumulativeAmount"]), spent, "cumulativeAmount")
    equal(got["average"], float(spent / amount), "average")
    assert all(Decimal(deal["price"]) == price for deal in deals if deal.get("isMaker")), "a maker's price"
    await bench.fills(order, *((deal["quantity"], deal["price"]) for deal in deals))


# Listen keys


async def keys_by_rest(bench):
    """listen keys: created, listed, extended, deleted (§10)"""
    key = await bench.new_key()
    equal((len(key), key.isalnum()), (64, True), "length, letters and digits")
    assert key in (await bench.ex.spotPrivateGetUserDataStream())["listenKey"]
    for call in (bench.ex.spotPrivatePutUserDataStream, bench.ex.spotPrivateDeleteUserDataStream):
        equal(await call({"listenKey": key}), {"listenKey": key}, "reply")
    assert key not in (await bench.ex.spotPrivateGetUserDataStream())["listenKey"]


async def keys_unknown(bench):
    """listen keys: extending or deleting an unknown or deleted one: code "730708", a string (§10)"""
    deleted = await bench.new_key()
    await bench.ex.spotPrivateDeleteUserDataStream({"listenKey": deleted})
    for key in ("nobody", deleted):
        for call in (bench.ex.spotPrivatePutUserDataStream, bench.ex.spotPrivateDeleteUserDataStream):
            try:
                await call({"listenKey": key})
            except ccxt.ExchangeError:
                wanted = {"code": "730708", "msg": "listen key information error"}
                equal(json.loads(bench.ex.last_http_response), wanted, "reply")
            else:
                raise AssertionError("not refused")


async def keys_unsigned(bench):
    """listen keys: without a signature 700004 (§10)"""
    address = f"{bench.stand_in.base}/api/v3/userDataStream"
    headers = {"X-MEXC-APIKEY": bench.ex.apiKey, "Content-Type": "application/json"}
    async with bench.session.post(address, headers=headers) as reply:
        equal((reply.status, int(json.loads(await reply.text())["code"])), (400, 700004), "status, code")


async def connect_with_unknown_key(bench):
    """a connection with an unknown listen key: the text "Invalid listen key" (§10), an error for ccxt"""
    async with bench.raw("nobody") as raw:
        equal(await raw.text(), "Invalid listen key", "text")
        await raw.ended()
    async with bench.other() as ex:
        ex.options["listenKey"] = "nobody"
        watching = Watch(ex.watch_orders)
        try:
            await watching.until(lambda _: True, "an error")
        except ccxt.AuthenticationError:
            pass
        else:
            raise AssertionError("not refused")


async def connect_too_often(bench):
    """a listen key opens 5 connections (§10)"""
    key = await bench.new_key()
    async with AsyncExitStack() as opened:
        for _ in range(5):
            await (await opened.enter_async_context(bench.raw(key))).subscribe(ORDERS)
        await (await opened.enter_async_context(bench.raw(key))).ended()


async def delete_closes(bench):
    """deleting a listen key closes its stream (§10)"""
    key = await bench.new_key()
    async with bench.raw(key) as raw:
        await raw.subscribe(ORDERS)
        await bench.ex.spotPrivateDeleteUserDataStream({"listenKey": key})
        await raw.ended()


# Frames


async def envelope(bench):
    """frames: channel, symbol, times and body of each private channel (§11.2)"""
    for channel, body, symbol in (
        (ORDERS, "privateOrders", "BTCUSDT"), (DEALS, "privateDeals", "BTCUSDT"), (ACCOUNT, "privateAccount", None),
    ):
        # One connection each: the order of the three channels is not documented.
        async with bench.raw(await bench.new_key()) as raw:
            await raw.subscribe(channel)
            order = await bench.place(BTC, "buy", 0.001, 30500)
            _, frame = await raw.frame()
        equal((frame.channel, frame.WhichOneof("body")), (channel, body), "channel, body")
        equal(frame.symbol if frame.HasField("symbol") else None, symbol, "symbol")
        assert ms(frame.createTime) and ms(frame.sendTime), frame
        if channel != ACCOUNT:
            equal(frame.privateOrders.id or frame.privateDeals.orderId, order, "order id")


async def defaults_left_out(bench):
    """frames: default values are not on the wire (§11.2)"""
    async with bench.raw(await bench.new_key()) as raw:
        await raw.subscribe(ORDERS, DEALS, ACCOUNT)
        await bench.place(BTC, "buy", 0.001, 30500)
        seen = set()
        while seen != {ORDERS, DEALS, ACCOUNT}:
            data, frame = await raw.frame()
            # protobuf writes no defaults: the same bytes, or fewer if any had been written.
            equal(frame.SerializeToString(), data, f"bytes of {frame.channel}")
            seen.add(frame.channel)
            if frame.channel == DEALS:
                deal = frame.privateDeals
                equal((deal.isMaker, deal.isSelfTrade, deal.clientOrderId), (False, False, ""), "left out")


async def unknown_field(bench):
    """frames: a field that no schema names does no harm, here and in ccxt"""
    bench.stand_in.admin("/switches", {"extra_fields": True})
    async with bench.raw(await bench.new_key()) as raw:
        await raw.subscribe(ORDERS)
        name = bench.name()
        order = await bench.place(BTC, "buy", 0.001, 20000, clientOrderId=name)
        data, frame = await raw.frame()
    assert [field.field_number for field in UnknownFieldSet(frame)], f"no unknown field in {data}"
    got = frame.privateOrders
    equal((got.id, got.clientId, got.price, got.status), (order, name, "20000", 1), "order")
    await bench.order(order, "open", 0, clientOrderId=name)


async def answers(bench):
    """commands: answers {"id":0,"code":0,"msg":"<channel>"}, PONG to PING in either case (§11.1)"""
    async with bench.raw() as raw:
        for channel in (PUBLIC_DEALS, TICKER, BATCH, LEVELS, BARS):
            for method in ("SUBSCRIPTION", "UNSUBSCRIPTION"):
                equal(await raw.ask(method, channel), said(channel), method)
        both = (await raw.ask("SUBSCRIPTION", TICKER, BARS))["msg"]
        assert TICKER in both and BARS in both and "Not" not in both, both
        for ping in ("PING", "ping"):
            equal(await raw.ask(ping), said("PONG"), ping)
        await raw.socket.send_str("no JSON")
        equal(json.loads(await raw.text()), said("msg format invalid"), "answer to no JSON")


async def unsubscribed(bench):
    """commands: nothing comes from a channel after its UNSUBSCRIPTION"""
    async with bench.raw() as raw:
        await raw.subscribe(TICKER, LEVELS)
        equal(await raw.ask("UNSUBSCRIPTION", TICKER), said(TICKER), "answer")
        for bid in (30001, 30002):
            bench.stand_in.price("BTCUSDT", bid, 30010)
            _, frame = await raw.frame()
            equal(frame.channel, LEVELS, "channel")


async def blocked_channel(bench):
    """a blocked channel: failure with code 0 (§11.1); the connection goes on"""
    bench.stand_in.admin("/switches", {"blocked_channels": ["spot@public.aggre.deals"]})
    async with bench.raw() as raw:
        blocked(await raw.ask("SUBSCRIPTION", PUBLIC_DEALS), PUBLIC_DEALS)
        await raw.subscribe(TICKER)
        bench.stand_in.admin("/switches", {})
        await raw.subscribe(PUBLIC_DEALS)


async def not_to_be_had(bench):
    """not subscribed: retired names, lower case, unknown symbols, private channels without a listen key (§11.1)"""
    async with bench.raw() as raw:
        for channel in (
            "spot@public.deals.v3.api@BTCUSDT", PUBLIC_DEALS.replace("BTCUSDT", "btcusdt"),
            PUBLIC_DEALS.replace("BTCUSDT", "NONEUSDT"), ORDERS, DEALS, ACCOUNT,
        ):
            answer = await raw.ask("SUBSCRIPTION", channel)
            equal(answer["code"], 0, "code")
            assert answer["msg"] != channel, f"{channel} was subscribed to"


async def thirty_subscriptions(bench):
    """a connection has 30 subscriptions; one more brings nothing until another ends (§11.1)"""
    channels = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for pace in ("10ms", "100ms"):
            channels += [f"spot@public.aggre.{kind}.v3.api.pb@{pace}@{symbol}" for kind in ("deals", "bookTicker")]
        for length in ("Min1", "Min5", "Min15", "Min30", "Min60", "Hour4", "Day1"):
            channels.append(f"spot@public.kline.v3.api.pb@{symbol}@{length}")
        channels += [f"spot@public.limit.depth.v3.api.pb@{symbol}@{levels}" for levels in (5, 10, 20)]
        channels.append(f"spot@public.bookTicker.batch.v3.api.pb@{symbol}")
    equal(len(channels), 30, "channels")
    more = "spot@public.bookTicker.batch.v3.api.pb@BROCKUSDT"
    async with bench.raw() as raw:
        await raw.subscribe(*channels)
        answer = await raw.ask("SUBSCRIPTION", more)
        assert answer["code"] == 0 and answer["msg"] != more, f"subscribed to one more: {answer}"
        bench.stand_in.price("BROCKUSDT", "0.00980", "0.00981")
        bench.stand_in.price("ETHUSDT", "1999.00", "1999.10")
        _, frame = await raw.frame()
        equal(frame.symbol, "ETHUSDT", "symbol of the next frame")
        equal(await raw.ask("UNSUBSCRIPTION", channels[0]), said(channels[0]), "answer")
        await raw.subscribe(more)
        bench.stand_in.price("BROCKUSDT", "0.00982", "0.00983")
        _, frame = await raw.frame(more)
        equal(frame.publicBookTickerBatch.items[0].bidPrice, "0.00982", "bidPrice")


async def too_many_messages(bench):
    """more than 100 messages in a second end the connection (§11.1)"""
    async with bench.raw() as raw:
        try:
            for _ in range(150):
                await raw.socket.send_json({"method": "PING"})
        except ConnectionError:
            # Closed while still sending.
            return
        await raw.ended()


async def book_frames(bench):
    """frames: best prices, their batch, and 5 levels best first (§11.4)"""
    async with bench.raw() as raw:
        await raw.subscribe(TICKER, BATCH, LEVELS)
        bench.stand_in.price("BTCUSDT", "30001.00", "30001.10")
        frames = {}
        while len(frames) < 3:
            _, frame = await raw.frame()
            frames[frame.channel] = frame
    for frame in frames.values():
        equal(frame.symbol, "BTCUSDT", "symbol")
    (batched,) = frames[BATCH].publicBookTickerBatch.items
    for best in (frames[TICKER].publicAggreBookTicker, batched):
        got = [Decimal(value) for value in (best.bidPrice, best.askPrice, best.bidQuantity, best.askQuantity)]
        equal(got, [Decimal("30001.00"), Decimal("30001.10"), 1000, 1000], "bid, ask and quantities")
    depths = frames[LEVELS].publicLimitDepths
    for levels, best, is_down in ((depths.bids, "30001.00", True), (depths.asks, "30001.10", False)):
        prices = [Decimal(level.price) for level in levels]
        equal((len(prices), prices[0]), (5, Decimal(best)), "levels, best")
        equal(prices, sorted(prices, reverse=is_down), "levels in order")


# Interruptions


async def cut(bench):
    """streams cut: ccxt reports it, and goes on when watched again, on all three channels"""
    watching = (bench.orders, bench.trades, bench.balances)
    before, breaks = len(bench.ex.said.items), [len(one.breaks.items) for one in watching]
    bench.stand_in.admin("/streams/cut", {})
    for one, start in zip(watching, breaks, strict=True):
        await one.breaks.until(lambda _: True, "report of the cut", start)
    for channel in (ORDERS, DEALS, ACCOUNT):
        await bench.ex.said.until(lambda said, channel=channel: said == channel, f"{channel} again", before)
    held, start = bench.held(), len(bench.balances.items)
    order = await bench.place(BTC, "buy", 0.001, 30500)
    await bench.order(order, "closed", "0.001", average=float(ASK))
    await bench.fills(order, ("0.001", "30000.1"))
    cost = ASK * Decimal("0.001") * (1 + TAKER)
    await bench.balance(start, USDT=(held["USDT"][0] - cost, 0))


async def lapsed(bench):
    """a listen key that lapsed: ccxt learns it when it extends the key, and goes on with a new one"""
    # Last, because it silences every user stream.

    def extended(status):
        requests = bench.stand_in.admin("/requests?endpoint=PUT%20userDataStream")
        return sum(one["status"] == status for one in requests)

    async with bench.other() as ex:
        ex.options["listenKeyRefreshRate"] = 300
        watching = await watch(ex, ORDERS, ex.watch_orders)
        before = extended(200)
        await eventually(lambda: extended(200) > before, "the key is extended")
        before = len(ex.said.items)
        bench.stand_in.admin("/listen-keys/lapse", {})
        try:
            await watching.until(lambda _: False, "report of the lapsed key")
        except ccxt.ExchangeError as error:
            assert "730708" in str(error), error
        again = await watch(ex, ORDERS, ex.watch_orders)
        order = await bench.place(BTC, "buy", 0.001, 20000)
        await again.until(lambda got: got["id"] == order and got["status"] == "open", "an order on the new key")
        again.end()


async def limits_kept(bench):
    """ccxt's own pace keeps the stand-in's rate limits"""
    equal(bench.stand_in.breaches(), {}, "limits broken")


SCRIPTED = [
    order_resting, order_without_client_id, order_filled_in_parts, order_canceled, order_canceled_in_part,
    order_market, order_market_by_cost, order_ioc, order_fok, order_post_only, order_foreign, order_changes,
    trade_taker, trade_levels, trade_maker, trade_fee_in_mx, balance_placed_and_canceled, balance_filled,
    balance_better_price, balance_transfer, balance_changes, told_is_booked, ticker, refused_channels, keys_by_rest,
    keys_unknown, keys_unsigned, connect_with_unknown_key, connect_too_often, delete_closes, envelope,
    defaults_left_out, unknown_field, answers, unsubscribed, blocked_channel, not_to_be_had, thirty_subscriptions,
    too_many_messages, book_frames, cut, lapsed, limits_kept,
]
REPLAYED = [market_trades, market_candles, market_bars, replayed_fills, limits_kept]


async def main():
    checks = Checks("ccxt.pro")
    for replay, listed in ((None, SCRIPTED), (PRINTS, REPLAYED)):
        with StandIn(replay) as stand_in:
            async with Bench(stand_in) as bench:
                for check in listed:
                    try:
                        async with asyncio.timeout(CHECK_MAX):
                            await bench.clean()
                            await check(bench)
                    except Exception as error:
                        checks.failed(name_of(check), error)
                    else:
                        checks.passed(name_of(check))
    checks.exit()


if __name__ == "__main__":
    asyncio.run(main())
