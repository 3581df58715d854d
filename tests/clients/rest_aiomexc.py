"""The stand-in exchange as aiomexc sees it, REST only. Its reply models are strict: a missing field or a wrong type
is an error. It has no call for test orders, batches, all orders, trades and exchange info; listen keys belong to the
stream."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

from aiomexc import Credentials, MexcClient, exceptions
from aiomexc.enums import OrderSide, OrderStatus, OrderType
from aiomexc.session.aiohttp import AiohttpSession

from stand_in import API_KEY, API_SECRET, ASK, BID, OPENING, Checks, StandIn, among, equal, name_of

BTC, BROCK = "BTCUSDT", "BROCKUSDT"
BUY, SELL = OrderSide.BUY, OrderSide.SELL
LIMIT, MARKET, MAKER = OrderType.LIMIT, OrderType.MARKET, OrderType.LIMIT_MAKER
IOC, FOK = OrderType.IMMEDIATE_OR_CANCEL, OrderType.FILL_OR_KILL
QTY = Decimal("0.001")


class Paced(AiohttpSession):
    """aiomexc keeps no pace of its own; this stays within 12 orders and 2 accounts per second."""

    async def request(self, method, *arguments, **options):
        await asyncio.sleep(0.6 if method.__api_method__ == "account" else 0.09)
        return await super().request(method, *arguments, **options)


class Bench:
    """What a check gets: the client, the stand-in, and names for orders."""

    def __init__(self, stand_in, session):
        self.stand_in = stand_in
        self.client = MexcClient(Credentials(API_KEY, API_SECRET), session)
        self._names = 0

    def name(self):
        self._names += 1
        return f"aiomexc-{self._names}"

    async def place(self, side, kind, qty, price, symbol=BTC, name=None):
        """Places an order; its id."""
        price = None if price is None else Decimal(price)
        made = await self.client.create_order(
            symbol, side, kind, quantity=Decimal(qty), price=price, new_client_order_id=name
        )
        equal((made.symbol, made.side, made.type, made.orig_qty), (symbol, side, kind, Decimal(qty)), "created order")
        near_now(made.transact_time)
        return made.order_id

    async def ended(self, order_id, status, executed, symbol=BTC):
        """Expects an order in a state, and what it executed."""
        order = await self.client.query_order(symbol, order_id)
        equal((order.status, order.executed_qty), (status, Decimal(executed)), "status and executedQty")
        return order

    async def balances(self):
        """Free and locked by asset."""
        account = await self.client.get_account_information()
        return {one.asset: (one.free, one.locked) for one in account.balances}

    @asynccontextmanager
    async def refused(self, kind, codes):
        """Expects a refusal of this class with one of these codes (§12)."""
        try:
            yield
        except exceptions.MexcAPIError as error:
            among(error.error_code, codes, "code")
            assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
        else:
            raise AssertionError("not refused")

    async def clean(self):
        """Nothing open, and the usual prices."""
        self.stand_in.calm()
        for order in self.stand_in.admin("/orders"):
            if order["status"] in ("NEW", "PARTIALLY_FILLED"):
                await self.client.cancel_order(order["symbol"], order["id"])


def near_now(moment):
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60, f"time {moment}"


# Market and account


async def ticker_price(bench):
    """last price"""
    got = await bench.client.get_ticker_price(BTC)
    equal((got.symbol, got.price), (BTC, BID), "symbol, price")


async def account(bench):
    """account: rights and opening balances"""
    got = await bench.client.get_account_information()
    equal((got.can_trade, got.account_type, got.permissions), (True, "SPOT", ["SPOT"]), "account")
    equal({one.asset: one.free for one in got.balances if one.free}, OPENING, "free")
    equal([one for one in got.balances if one.locked], [], "locked")


async def uid(bench):
    """user id (GET /uid, §9)"""
    got = await bench.client.get_uid()
    assert got.uid, got


# Placing


async def limit_resting(bench):
    """limit order that rests: NEW, every field of the model"""
    name = bench.name()
    order_id = await bench.place(BUY, LIMIT, QTY, "20000", name=name)
    order = await bench.ended(order_id, OrderStatus.NEW, 0)
    equal((order.order_id, order.client_order_id, order.order_list_id), (order_id, name, -1), "ids")
    equal((order.price, order.orig_qty, order.orig_quote_order_qty), (Decimal(20000), QTY, Decimal(20)), "amounts")
    equal((order.type, order.side, order.is_working), (LIMIT, BUY, True), "type, side, isWorking")
    equal((order.time_in_force, order.stop_price, order.update_time), (None, None, None), "nulls")
    near_now(order.time)


async def limit_marketable(bench):
    """limit order that crosses: FILLED at the book's price"""
    order = await bench.ended(await bench.place(BUY, LIMIT, QTY, "30500"), OrderStatus.FILLED, QTY)
    equal(order.cummulative_quote_qty, ASK * QTY, "cummulativeQuoteQty")
    near_now(order.update_time)


async def limit_part(bench):
    """limit order that is filled in part, then canceled: PARTIALLY_FILLED, PARTIALLY_CANCELED"""
    order_id = await bench.place(BUY, LIMIT, 5000, "0.01", BROCK)
    await bench.ended(order_id, OrderStatus.PARTIALLY_FILLED, 1000, BROCK)
    canceled = await bench.client.cancel_order(BROCK, order_id)
    equal((canceled.order_id, canceled.executed_qty), (order_id, Decimal(1000)), "reply to the cancel")
    await bench.ended(order_id, OrderStatus.PARTIALLY_CANCELED, 1000, BROCK)


async def market_by_cost(bench):
    """market buy by cost"""
    made = await bench.client.create_order(BTC, BUY, MARKET, quote_order_qty=Decimal(50))
    order = await bench.client.query_order(BTC, made.order_id)
    equal((order.status, order.type), (OrderStatus.FILLED, MARKET), "status, type")
    assert 50 - ASK * Decimal("0.000001") < order.cummulative_quote_qty <= 50, order


async def ioc(bench):
    """IOC: FILLED, PARTIALLY_CANCELED or CANCELED"""
    await bench.ended(await bench.place(BUY, IOC, QTY, "30500"), OrderStatus.FILLED, QTY)
    part = await bench.place(BUY, IOC, 5000, "0.01", BROCK)
    await bench.ended(part, OrderStatus.PARTIALLY_CANCELED, 1000, BROCK)
    await bench.ended(await bench.place(BUY, IOC, QTY, "20000"), OrderStatus.CANCELED, 0)


async def fok(bench):
    """FOK: FILLED or CANCELED"""
    await bench.ended(await bench.place(SELL, FOK, QTY, "29500"), OrderStatus.FILLED, QTY)
    await bench.ended(await bench.place(BUY, FOK, 5000, "0.01", BROCK), OrderStatus.CANCELED, 0, BROCK)


async def post_only(bench):
    """post-only: rests; crossing it is refused or CANCELED (§5 leaves it open)"""
    await bench.ended(await bench.place(BUY, MAKER, QTY, "20000"), OrderStatus.NEW, 0)
    try:
        crossing = await bench.place(BUY, MAKER, QTY, "30500")
    except exceptions.MexcAPIError as error:
        assert error.error_code, error
    else:
        await bench.ended(crossing, OrderStatus.CANCELED, 0)


# Looking up and canceling


async def query_by_client_id(bench):
    """query by client id: the same as by exchange id"""
    name = bench.name()
    order_id = await bench.place(SELL, LIMIT, QTY, "40000", name=name)
    by_name = await bench.client.query_order(BTC, orig_client_order_id=name)
    equal(by_name, await bench.client.query_order(BTC, order_id), "order")
    equal(by_name.order_id, order_id, "orderId")


async def query_unknown(bench):
    """query of an unknown order: -2013"""
    async with bench.refused(exceptions.MexcNotFound, {-2013}):
        await bench.client.query_order(BTC, "C02__999")


async def query_without_id(bench):
    """query with neither id: 700004"""
    async with bench.refused(exceptions.MexcBadRequest, {700004}):
        await bench.client.query_order(BTC)


async def open_orders(bench):
    """open orders of one symbol"""
    equal(await bench.client.get_open_orders(BTC), [], "open orders")
    ids = {await bench.place(BUY, LIMIT, QTY, "20000"), await bench.place(SELL, LIMIT, QTY, "40000")}
    await bench.place(BUY, LIMIT, QTY, "30500")
    await bench.place(BUY, LIMIT, 500, "0.005", BROCK)
    got = await bench.client.get_open_orders(BTC)
    equal({order.order_id for order in got}, ids, "open orders")
    equal({order.status for order in got}, {OrderStatus.NEW}, "states")
    equal({order.client_order_id or None for order in got}, {None}, "clientOrderId")


async def cancel_by_id(bench):
    """cancel by exchange id"""
    order_id = await bench.place(BUY, LIMIT, QTY, "20000")
    canceled = await bench.client.cancel_order(BTC, order_id)
    equal((canceled.symbol, canceled.order_id, canceled.orig_qty), (BTC, order_id, QTY), "reply")
    among(canceled.status, {OrderStatus.NEW, OrderStatus.CANCELED}, "status")
    await bench.ended(order_id, OrderStatus.CANCELED, 0)


async def cancel_by_client_id(bench):
    """cancel by client id"""
    name = bench.name()
    order_id = await bench.place(BUY, LIMIT, QTY, "20000", name=name)
    equal((await bench.client.cancel_order(BTC, orig_client_order_id=name)).order_id, order_id, "orderId")
    await bench.ended(order_id, OrderStatus.CANCELED, 0)


async def cancel_closed(bench):
    """cancel of a closed order: -2011 or -2013"""
    order_id = await bench.place(BUY, LIMIT, QTY, "20000")
    await bench.client.cancel_order(BTC, order_id)
    try:
        await bench.client.cancel_order(BTC, order_id)
    except exceptions.MexcAPIError as error:
        among(error.error_code, {-2011, -2013}, "code")
    else:
        raise AssertionError("not refused")


# Money


async def balance_follows(bench):
    """balance: free and locked follow placing and canceling"""
    before = await bench.balances()
    order_id = await bench.place(BUY, LIMIT, "0.01", "20000")
    free, locked = before["USDT"]
    equal((await bench.balances())["USDT"], (free - 200, locked + 200), "while open: free, locked")
    await bench.client.cancel_order(BTC, order_id)
    equal(await bench.balances(), before, "after canceling")


# Refusals


async def wrong_secret(bench):
    """wrong signature: 700002"""
    wrong = Credentials(API_KEY, "wrong")
    async with bench.refused(exceptions.MexcApiSignatureInvalid, {700002}):
        await bench.client.get_account_information(credentials=wrong)
    async with bench.refused(exceptions.MexcApiSignatureInvalid, {700002}):
        await bench.client.create_order(BTC, BUY, LIMIT, QTY, price=Decimal(20000), credentials=wrong)


async def wrong_key(bench):
    """wrong key: 10072"""
    async with bench.refused(exceptions.MexcApiKeyInvalid, {10072}):
        await bench.client.get_account_information(credentials=Credentials("mx0nobodyskey", API_SECRET))


async def insufficient_balance(bench):
    """insufficient balance: 30004 buying, 30005 selling"""
    async with bench.refused(exceptions.MexcApiInsufficientBalance, {30004}):
        await bench.place(BUY, LIMIT, 1, "20000")
    async with bench.refused(exceptions.MexcApiOversold, {30005}):
        await bench.place(SELL, LIMIT, 5, "40000")


async def unknown_symbol(bench):
    """unknown symbol: -1121 or 10007"""
    for call in (bench.place(BUY, LIMIT, 1, "10", "NONEUSDT"), bench.client.get_ticker_price("NONEUSDT")):
        try:
            await call
        except exceptions.MexcAPIError as error:
            among(error.error_code, {-1121, 10007}, "code")
        else:
            raise AssertionError("not refused")


async def too_small(bench):
    """amount below the minimum: 30002"""
    async with bench.refused(exceptions.MexcAPIError, {30002}):
        await bench.place(BUY, LIMIT, "0.00004", "20000")
    async with bench.refused(exceptions.MexcAPIError, {30002}):
        await bench.client.create_order(BTC, BUY, MARKET, quote_order_qty=Decimal("0.5"))


async def scale(bench):
    """too many decimals of quantity or price: 400"""
    async with bench.refused(exceptions.MexcBadRequest, {400}):
        await bench.place(BUY, LIMIT, "0.0010001", "20000")
    async with bench.refused(exceptions.MexcBadRequest, {400}):
        await bench.place(BUY, LIMIT, QTY, "20000.001")


async def limits_kept(bench):
    """no rate limit was broken"""
    equal(bench.stand_in.breaches(), {}, "limits broken")


CHECKS = [
    account, ticker_price, uid, limit_resting, limit_marketable, limit_part, market_by_cost, ioc, fok, post_only,
    query_by_client_id, query_unknown, query_without_id, open_orders, cancel_by_id, cancel_by_client_id,
    cancel_closed, balance_follows, wrong_secret, wrong_key, insufficient_balance, unknown_symbol, too_small, scale,
    limits_kept,
]


async def main():
    checks = Checks("aiomexc")
    with StandIn() as stand_in:
        async with Paced(base_url=f"{stand_in.base}/api/v3/") as session:
            bench = Bench(stand_in, session)
            for check in CHECKS:
                try:
                    await bench.clean()
                    await check(bench)
                except Exception as error:
                    checks.failed(name_of(check), error)
                else:
                    checks.passed(name_of(check))
    checks.exit()


if __name__ == "__main__":
    asyncio.run(main())
