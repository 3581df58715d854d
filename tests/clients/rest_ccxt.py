"""The stand-in exchange as ccxt sees it, REST only."""

import json
import re
import time
from contextlib import contextmanager
from decimal import Decimal

import ccxt

from stand_in import (
    API_KEY, API_SECRET, ASK, BID, OPENING, Checks, StandIn, among, decimal, either, equal, flag, ms, name_of, null,
    number, shape, text, whole,
)

BTC, ETH, BROCK = "BTC/USDT", "ETH/USDT", "BROCK/USDT"
TAKER = Decimal("0.0005")

ACK = {
    "symbol": text, "orderId": text, "orderListId": -1, "price": decimal, "origQty": decimal, "type": text,
    "side": text, "transactTime": ms,
}
ORDER = {
    "symbol": text, "orderId": text, "orderListId": -1, "clientOrderId": either(text, null), "price": decimal,
    "origQty": decimal, "executedQty": decimal, "cummulativeQuoteQty": decimal, "status": text, "timeInForce": None,
    "type": text, "side": text, "stopPrice": None, "icebergQty": None, "time": ms, "updateTime": either(ms, null),
    "isWorking": True, "origQuoteOrderQty": decimal,
}
CANCELED = {
    "symbol": text, "orderId": text, "price": decimal, "origQty": decimal, "type": text, "side": text,
    "executedQty": decimal, "cummulativeQuoteQty": decimal, "status": text,
}
TRADE = {
    "symbol": text, "id": text, "orderId": text, "orderListId": -1, "price": decimal, "qty": decimal,
    "quoteQty": decimal, "commission": decimal, "commissionAsset": text, "time": ms, "isBuyer": flag, "isMaker": flag,
    "isBestMatch": flag, "isSelfTrade": flag, "clientOrderId": either(text, null),
}


class Client(ccxt.mexc):
    """ccxt, remembering the HTTP status of the last reply."""

    status = None
    _latest = 0

    def throttle(self, cost=None):
        """ccxt's own pace, but one for all clients here: to the exchange they are one address."""
        self.lastRestRequestTimestamp = max(self.lastRestRequestTimestamp, Client._latest)
        super().throttle(cost)
        Client._latest = self.milliseconds()

    def handle_errors(self, code, *arguments):
        self.status = code
        return super().handle_errors(code, *arguments)

    @property
    def raw(self):
        """The last reply as it was sent; ccxt's own `info` turns numbers into strings."""
        return json.loads(self.last_http_response)


def settings(base, key=API_KEY, secret=API_SECRET):
    """ccxt's configuration for the stand-in."""
    both = {"public": base, "private": base}
    return {
        "apiKey": key,
        "secret": secret,
        # Paced by ccxt: orders cost 1 (11 per second), the account 10 (1 per second).
        "enableRateLimit": True,
        "rateLimit": 90,
        "urls": {"api": {
            "spot": both,
            "spot2": both,
            "contract": {"public": f"{base}/api/v1/contract", "private": f"{base}/api/v1/private"},
            "broker": {"private": f"{base}/api/v3/broker"},
        }},
    }


def client(base, **keys):
    return Client(settings(base, **keys))


class Bench:
    """What a check gets: the client, the stand-in, and names for orders."""

    def __init__(self, stand_in):
        self.stand_in = stand_in
        self.ex = client(stand_in.base)
        # Not load_markets(), which asks for more than spot; that is a check of its own.
        self.markets = self.ex.fetch_spot_markets()
        self.exchange_info = self.ex.raw
        self.ex.set_markets(self.markets)
        self._names = 0

    def other(self, **keys):
        """A client with other keys."""
        other = client(self.stand_in.base, **keys)
        other.set_markets(self.markets)
        return other

    def name(self):
        self._names += 1
        return f"ccxt-{self._names}"

    def place(self, symbol, side, amount, price, kind="limit", **params):
        """Places an order; its id."""
        return self.ex.create_order(symbol, kind, side, amount, price, params)["id"]

    def order(self, order_id, symbol=BTC):
        """The order as it was sent."""
        self.ex.fetch_order(order_id, symbol)
        shape(self.ex.raw, ORDER, "GET /order")
        return self.ex.raw

    def ended(self, order_id, status, executed, symbol=BTC):
        """Expects an order in a final state, and what it executed."""
        raw = self.order(order_id, symbol)
        equal((raw["status"], Decimal(raw["executedQty"])), (status, Decimal(executed)), "status and executedQty")
        return raw

    def trades(self, order_id, symbol=BTC):
        """The fills of an order, as they were sent."""
        self.ex.fetch_order_trades(order_id, symbol)
        for trade in self.ex.raw:
            shape(trade, TRADE, "GET /myTrades")
            equal(trade["orderId"], order_id, "orderId of a fill")
        return self.ex.raw

    def balances(self):
        """Free and locked by asset; an asset that is not listed is zero."""
        self.ex.fetch_balance()
        held = {one["asset"]: (Decimal(one["free"]), Decimal(one["locked"])) for one in self.ex.raw["balances"]}
        return {asset: held.get(asset, (Decimal(0), Decimal(0))) for asset in ("USDT", "BTC", "MX")}

    @contextmanager
    def refused(self, ex, kind, codes, http=400):
        """Expects a refusal of this class, with one of these codes and this HTTP status (§12)."""
        try:
            yield
        except ccxt.BaseError as error:
            got = re.search(r'"code"\s*:\s*"?(-?\d+)', str(error))
            assert got, f"no code in {error}"
            among(int(got[1]), codes, "code")
            equal(ex.status, http, "HTTP status")
            assert isinstance(error, kind), f"{type(error).__name__} instead of {kind.__name__}: {error}"
        else:
            raise AssertionError(f"not refused: {ex.last_http_response}")

    def clean(self):
        """Nothing open, and the usual prices."""
        self.stand_in.calm()
        for symbol in {order["symbol"] for order in self.stand_in.admin("/orders") if order["status"] in OPEN}:
            self.ex.spotPrivateDeleteOpenOrders({"symbol": symbol})


OPEN = ("NEW", "PARTIALLY_FILLED")


# Markets


def load_markets(bench):
    """load_markets with keys (also asks for capital/config/getall, §16)"""
    ex = client(bench.stand_in.base)
    assert BTC in ex.load_markets()


def load_markets_without_keys(bench):
    """load_markets without keys (also asks for the contract list, §16)"""
    ex = client(bench.stand_in.base, key=None, secret=None)
    assert BTC in ex.load_markets()


def spot_markets(bench):
    """spot markets: steps, minima, fees, activity"""
    market = bench.ex.market(BTC)
    equal((market["active"], market["spot"], market["id"]), (True, True, "BTCUSDT"), "market")
    equal(market["precision"], {"amount": 1e-6, "price": 0.01}, "precision")
    equal((market["limits"]["cost"]["min"], market["limits"]["amount"]["min"]), (1, 1e-6), "minima")
    equal((market["maker"], market["taker"]), (0, 0.0005), "fees")


def exchange_info_shape(bench):
    """exchangeInfo: field types of §6"""
    info = bench.exchange_info
    shape(info, {"timezone": "CST", "serverTime": ms, "rateLimits": [], "exchangeFilters": []}, "exchangeInfo")
    for symbol in info["symbols"]:
        shape(symbol, {
            "symbol": text, "status": "1", "baseAsset": text, "baseAssetPrecision": whole, "quoteAsset": text,
            "quotePrecision": whole, "quoteAssetPrecision": whole, "baseCommissionPrecision": whole,
            "quoteCommissionPrecision": whole, "isSpotTradingAllowed": flag, "isMarginTradingAllowed": flag,
            "quoteAmountPrecision": decimal, "baseSizePrecision": decimal, "maxQuoteAmount": decimal,
            "makerCommission": decimal, "takerCommission": decimal, "quoteAmountPrecisionMarket": decimal,
            "maxQuoteAmountMarket": decimal, "fullName": text, "tradeSideType": either(whole, text),
        }, "symbol")
        assert "SPOT" in symbol["permissions"] and "LIMIT" in symbol["orderTypes"], symbol
        for price_filter in symbol["filters"]:
            filter_fields = {"filterType": text, "bidMultiplierUp": decimal, "askMultiplierDown": decimal}
            shape(price_filter, filter_fields, "filter")


def status_and_time(bench):
    """ping and server time"""
    equal(bench.ex.fetch_status()["status"], "ok", "status")
    assert abs(bench.ex.fetch_time() - time.time() * 1000) < 1000
    shape(bench.ex.raw, {"serverTime": ms}, "GET /time")


def ticker(bench):
    """ticker of one symbol (ticker/24hr, §7)"""
    got = bench.ex.fetch_ticker(BTC)
    equal((got["bid"], got["ask"], got["last"]), (float(BID), float(ASK), float(BID)), "bid, ask, last")
    fields = dict.fromkeys(["lastPrice", "bidPrice", "askPrice", "openPrice", "highPrice", "lowPrice"], decimal)
    shape(bench.ex.raw, {"symbol": "BTCUSDT", **fields}, "GET /ticker/24hr")


def tickers(bench):
    """tickers of all symbols (ticker/24hr, §7)"""
    assert {BTC, ETH} <= set(bench.ex.fetch_tickers())


def best_prices(bench):
    """best bid and ask of all symbols (ticker/bookTicker)"""
    got = bench.ex.fetch_bids_asks()
    equal((got[BTC]["bid"], got[BTC]["ask"]), (float(BID), float(ASK)), "bid, ask")
    kinds = {"symbol": text, "bidPrice": decimal, "bidQty": decimal, "askPrice": decimal, "askQty": decimal}
    for one in bench.ex.raw:
        shape(one, kinds, "GET /ticker/bookTicker")


def last_price(bench):
    """last price of one symbol and of all (ticker/price)"""
    bench.ex.spotPublicGetTickerPrice({"symbol": "BTCUSDT"})
    shape(bench.ex.raw, {"symbol": "BTCUSDT", "price": decimal}, "GET /ticker/price")
    bench.ex.spotPublicGetTickerPrice()
    assert {"BTCUSDT", "ETHUSDT"} <= {one["symbol"] for one in bench.ex.raw}


def order_book(bench):
    """order book: best first, as many levels as asked for"""
    got = bench.ex.fetch_order_book(BTC, 5)
    equal((got["bids"][0][0], got["asks"][0][0]), (float(BID), float(ASK)), "best")
    equal((len(got["bids"]), len(got["asks"])), (5, 5), "levels")
    raw = bench.ex.raw
    shape(raw, {"lastUpdateId": whole}, "GET /depth")
    for side, is_down in (("bids", True), ("asks", False)):
        assert all(decimal(price) and decimal(qty) for price, qty in raw[side]), raw
        prices = [Decimal(price) for price, _ in raw[side]]
        equal(prices, sorted(prices, reverse=is_down), f"{side} in order")


# Placing


def limit_resting(bench):
    """limit order that rests: acknowledgement, then NEW"""
    name = bench.name()
    made = bench.ex.create_order(BTC, "limit", "buy", 0.001, 20000, {"clientOrderId": name})
    ack = bench.ex.raw
    shape(ack, {**ACK, "type": "LIMIT", "side": "BUY", "stpMode": ""}, "POST /order")
    assert not {"status", "clientOrderId", "executedQty"} & set(ack), f"more than an acknowledgement: {ack}"
    raw = bench.ended(made["id"], "NEW", 0)
    equal((raw["clientOrderId"], raw["updateTime"]), (name, None), "clientOrderId and updateTime")
    equal((Decimal(raw["price"]), Decimal(raw["origQty"])), (Decimal(20000), Decimal("0.001")), "price, origQty")
    equal(Decimal(raw["origQuoteOrderQty"]), Decimal(20), "origQuoteOrderQty")
    equal(bench.ex.fetch_order(made["id"], BTC)["status"], "open", "unified status")


def limit_without_client_id(bench):
    """limit order without a client id: clientOrderId is null or empty"""
    raw = bench.order(bench.place(BTC, "buy", 0.001, 20000))
    among(raw["clientOrderId"], {None, ""}, "clientOrderId")


def limit_marketable(bench):
    """limit order that crosses: FILLED at the book's price"""
    raw = bench.ended(bench.place(BTC, "buy", 0.001, 30500), "FILLED", "0.001")
    equal(Decimal(raw["cummulativeQuoteQty"]), ASK * Decimal("0.001"), "cummulativeQuoteQty")
    unified = bench.ex.fetch_order(raw["orderId"], BTC)
    equal((unified["status"], unified["average"], unified["remaining"]), ("closed", float(ASK), 0), "unified order")


def limit_filled_later(bench):
    """limit order that rests and is reached: FILLED at its own price"""
    order = bench.place(BTC, "sell", 0.001, 31000)
    bench.stand_in.price("BTCUSDT", "31000", "31000.10")
    raw = bench.ended(order, "FILLED", "0.001")
    equal(Decimal(raw["cummulativeQuoteQty"]), Decimal(31), "cummulativeQuoteQty")
    assert ms(raw["updateTime"]), raw


def market_buy_by_quantity(bench):
    """market buy by quantity"""
    raw = bench.ended(bench.place(BTC, "buy", 0.001, None, "market"), "FILLED", "0.001")
    equal((raw["type"], Decimal(raw["cummulativeQuoteQty"])), ("MARKET", ASK * Decimal("0.001")), "type, amount")


def market_sell_by_quantity(bench):
    """market sell by quantity: executed at the market, priced about 5 % beyond (§5)"""
    raw = bench.ended(bench.place(BTC, "sell", 0.001, None, "market"), "FILLED", "0.001")
    equal(Decimal(raw["cummulativeQuoteQty"]), BID * Decimal("0.001"), "cummulativeQuoteQty")
    price, amount = Decimal(raw["price"]), Decimal(raw["origQuoteOrderQty"])
    assert BID * Decimal("0.94") <= price <= BID * Decimal("0.96"), f"price {price}"
    equal(amount, price * Decimal(raw["origQty"]), "origQuoteOrderQty")


def market_buy_by_cost(bench):
    """market buy by cost: spends no more than the cost and less than a step too little"""
    made = bench.ex.create_market_buy_order_with_cost(BTC, 50)
    raw = bench.order(made["id"])
    equal((raw["status"], raw["type"], raw["side"]), ("FILLED", "MARKET", "BUY"), "status, type, side")
    spent = Decimal(raw["cummulativeQuoteQty"])
    assert 50 - ASK * Decimal("0.000001") < spent <= 50, f"spent {spent}"
    equal(spent, ASK * Decimal(raw["executedQty"]), "cummulativeQuoteQty")


def ioc_filled(bench):
    """IOC that finds everything: FILLED"""
    raw = bench.ended(bench.place(BTC, "buy", 0.001, 30500, timeInForce="IOC"), "FILLED", "0.001")
    equal(raw["type"], "IMMEDIATE_OR_CANCEL", "type")


def ioc_nothing(bench):
    """IOC that finds nothing: CANCELED"""
    bench.ended(bench.place(BTC, "buy", 0.001, 29000, timeInForce="IOC"), "CANCELED", 0)


def ioc_part(bench):
    """IOC that finds a part: PARTIALLY_CANCELED with its fill"""
    order = bench.place(BROCK, "buy", 5000, 0.01, timeInForce="IOC")
    bench.ended(order, "PARTIALLY_CANCELED", 1000, BROCK)
    unified = bench.ex.fetch_order(order, BROCK)
    equal((unified["status"], unified["filled"]), ("canceled", 1000), "unified order")


def fok_filled(bench):
    """FOK that finds everything: FILLED"""
    raw = bench.ended(bench.place(BTC, "buy", 0.001, 30500, timeInForce="FOK"), "FILLED", "0.001")
    equal(raw["type"], "FILL_OR_KILL", "type")


def fok_part(bench):
    """FOK that finds a part only: CANCELED without a fill"""
    bench.ended(bench.place(BROCK, "buy", 5000, 0.01, timeInForce="FOK"), "CANCELED", 0, BROCK)


def post_only_resting(bench):
    """post-only that rests: NEW"""
    raw = bench.ended(bench.place(BTC, "buy", 0.001, 20000, postOnly=True), "NEW", 0)
    equal(raw["type"], "LIMIT_MAKER", "type")


def post_only_crossing(bench):
    """post-only that would cross: refused, or accepted and CANCELED (§5 leaves it open); never a fill"""
    try:
        order = bench.place(BTC, "buy", 0.001, 30500, postOnly=True)
    except ccxt.BaseError:
        equal(bench.ex.status, 400, "HTTP status")
    else:
        bench.ended(order, "CANCELED", 0)


def part_filled(bench):
    """limit order that is filled in part: PARTIALLY_FILLED, and PARTIALLY_CANCELED once canceled"""
    order = bench.place(BROCK, "buy", 5000, 0.01)
    bench.ended(order, "PARTIALLY_FILLED", 1000, BROCK)
    equal(bench.ex.fetch_order(order, BROCK)["status"], "open", "unified status")
    bench.ex.cancel_order(order, BROCK)
    shape(bench.ex.raw, {**CANCELED, "orderId": order}, "DELETE /order")
    bench.ended(order, "PARTIALLY_CANCELED", 1000, BROCK)


def batch(bench):
    """createOrders: an answer for each, in order, a refused one among them"""
    names = [bench.name() for _ in range(2)]
    limit = {"symbol": BTC, "type": "limit", "side": "buy"}
    made = bench.ex.create_orders([
        {**limit, "amount": 0.001, "price": 20000, "params": {"clientOrderId": names[0]}},
        {**limit, "amount": 0.00001, "price": 20000, "params": {"clientOrderId": names[1]}},
        {**limit, "amount": 0.002, "price": 20001},
    ])
    raw = bench.ex.raw
    equal((bench.ex.status, len(raw)), (200, 3), "HTTP status, answers")
    accepted = {"symbol": "BTCUSDT", "orderId": text, "orderListId": -1}
    shape(raw[0], {**accepted, "newClientOrderId": names[0]}, "first")
    shape(raw[1], {"newClientOrderId": names[1], "code": 30002, "msg": text}, "refused")
    shape(raw[2], accepted, "third")
    assert "orderId" not in raw[1] and "newClientOrderId" not in raw[2], raw
    equal(made[1]["status"], "rejected", "unified status")
    first = bench.ended(made[0]["id"], "NEW", 0)
    equal((first["clientOrderId"], Decimal(first["price"])), (names[0], Decimal(20000)), "first order")
    third = bench.ended(made[2]["id"], "NEW", 0)
    equal((Decimal(third["origQty"]), Decimal(third["price"])), (Decimal("0.002"), Decimal(20001)), "third order")


def order_test(bench):
    """test order: {} and no order; the balance is not looked at (§8.1)"""
    before, money = bench.stand_in.admin("/orders"), bench.balances()
    bench.ex.create_order(BTC, "limit", "buy", 1, 20000, {"test": True})
    equal(bench.ex.raw, {}, "reply")
    bench.ex.create_order(BTC, "market", "sell", 2, None, {"test": True})
    equal(bench.ex.raw, {}, "reply")
    equal((bench.stand_in.admin("/orders"), bench.balances()), (before, money), "orders and balances")


def order_test_signed(bench):
    """test order: a wrong signature is refused"""
    ex = bench.other(secret="wrong")
    with bench.refused(ex, ccxt.AuthenticationError, {700002}):
        ex.create_order(BTC, "limit", "buy", 0.001, 20000, {"test": True})


# Looking up


def query_by_both_ids(bench):
    """query by exchange id and by client id: the same order"""
    name = bench.name()
    order = bench.place(BTC, "sell", 0.001, 40000, clientOrderId=name)
    by_id = bench.order(order)
    bench.ex.fetch_order("", BTC, {"clientOrderId": name})
    equal(bench.ex.raw, by_id, "order by client id")
    equal((by_id["orderId"], by_id["clientOrderId"]), (order, name), "ids")


def query_unknown(bench):
    """query of an unknown order: -2013"""
    with bench.refused(bench.ex, ccxt.ExchangeError, {-2013}):
        bench.ex.fetch_order("C02__999", BTC)
    with bench.refused(bench.ex, ccxt.ExchangeError, {-2013}):
        bench.ex.fetch_order("", BTC, {"clientOrderId": "never-sent"})


def query_without_id(bench):
    """query with neither id: 700004"""
    with bench.refused(bench.ex, ccxt.BadRequest, {700004}):
        bench.ex.spotPrivateGetOrder({"symbol": "BTCUSDT"})


def open_orders(bench):
    """open orders: of one symbol, and of all"""
    btc, eth = bench.place(BTC, "buy", 0.001, 20000), bench.place(ETH, "buy", 0.01, 1500)
    done = bench.place(BTC, "buy", 0.001, 30500)
    of_btc = {order["id"] for order in bench.ex.fetch_open_orders(BTC)}
    for order in bench.ex.raw:
        shape(order, ORDER, "GET /openOrders")
        among(order["status"], OPEN, "status")
    equal(of_btc, {btc}, "open orders of one symbol")
    bench.ex.options["warnOnFetchOpenOrdersWithoutSymbol"] = False
    equal({order["id"] for order in bench.ex.fetch_open_orders()}, {btc, eth}, "all open orders")
    assert done not in of_btc


def all_orders(bench):
    """all orders: open and closed ones of the symbol, and only those"""
    closed, canceled = bench.place(BTC, "buy", 0.001, 30500), bench.place(BTC, "buy", 0.001, 20000)
    bench.ex.cancel_order(canceled, BTC)
    is_open, elsewhere = bench.place(BTC, "buy", 0.001, 20000), bench.place(ETH, "buy", 0.01, 1500)
    got = {order["id"]: order["status"] for order in bench.ex.fetch_orders(BTC)}
    for order in bench.ex.raw:
        shape(order, ORDER, "GET /allOrders")
        equal(order["symbol"], "BTCUSDT", "symbol")
    wanted = {closed: "closed", canceled: "canceled", is_open: "open"}
    equal({order: got.get(order) for order in wanted}, wanted, "states")
    assert elsewhere not in got


def all_orders_limited(bench):
    """all orders: as many as asked for"""
    for _ in range(3):
        bench.place(BTC, "buy", 0.001, 20000)
    equal(len(bench.ex.fetch_orders(BTC, None, 2)), 2, "orders")


def all_orders_since_and_until(bench):
    """all orders: from startTime to endTime (§8.7)"""
    early = bench.order(bench.place(BTC, "buy", 0.001, 20000))
    time.sleep(0.05)
    late = bench.order(bench.place(BTC, "buy", 0.001, 20000))
    since = {order["id"] for order in bench.ex.fetch_orders(BTC, late["time"])}
    equal((early["orderId"] in since, late["orderId"] in since), (False, True), "startTime: early, late")
    # The raw call: ccxt would filter once more.
    bench.ex.spotPrivateGetAllOrders({"symbol": "BTCUSDT", "startTime": early["time"], "endTime": late["time"] - 1})
    until = {order["orderId"] for order in bench.ex.raw}
    equal((early["orderId"] in until, late["orderId"] in until), (True, False), "endTime: early, late")


def taker_trade(bench):
    """my trades: a taker's fill and its fee"""
    for side, price, book in (("buy", 30500, ASK), ("sell", 29500, BID)):
        order = bench.place(BTC, side, 0.001, price)
        (trade,) = bench.trades(order)
        qty, amount = Decimal("0.001"), book * Decimal("0.001")
        equal((Decimal(trade["price"]), Decimal(trade["qty"])), (book, qty), "price, qty")
        equal(Decimal(trade["quoteQty"]), amount, "quoteQty")
        equal((trade["isBuyer"], trade["isMaker"]), (side == "buy", False), "isBuyer, isMaker")
        # In which asset is not documented (§9).
        wanted = {"USDT": amount * TAKER, "BTC": (qty * TAKER).quantize(Decimal("0.000001"))}
        equal(Decimal(trade["commission"]), wanted[trade["commissionAsset"]], "commission")
        unified = bench.ex.fetch_order_trades(order, BTC)[0]
        equal((unified["side"], unified["takerOrMaker"]), (side, "taker"), "unified trade")
        equal(unified["fee"]["currency"], trade["commissionAsset"], "unified fee")


def maker_trade(bench):
    """my trades: a maker's fill and its fee"""
    order = bench.place(BTC, "sell", 0.001, 31000)
    bench.stand_in.price("BTCUSDT", "31000", "31000.10")
    (trade,) = bench.trades(order)
    equal((trade["isMaker"], trade["isBuyer"]), (True, False), "isMaker, isBuyer")
    equal((Decimal(trade["price"]), Decimal(trade["commission"])), (Decimal(31000), Decimal(0)), "price, commission")


def trades_of_symbol(bench):
    """my trades: of one symbol, as many as asked for, from startTime on"""
    for _ in range(2):
        bench.place(BTC, "buy", 0.001, 30500)
    equal(len(bench.ex.fetch_my_trades(BTC, None, 1)), 1, "trades")
    shape(bench.ex.raw[0], {**TRADE, "symbol": "BTCUSDT"}, "GET /myTrades")
    latest = int(time.time() * 1000) + 60_000
    bench.ex.spotPrivateGetMyTrades({"symbol": "BTCUSDT", "startTime": latest})
    equal(bench.ex.raw, [], "trades of the future")
    bench.ex.spotPrivateGetMyTrades({"symbol": "ETHUSDT"})
    assert all(trade["symbol"] == "ETHUSDT" for trade in bench.ex.raw), bench.ex.raw


# Money


def opening_balance(bench):
    """balance at the start"""
    got = bench.ex.fetch_balance()
    raw = bench.ex.raw
    fields = {"canTrade": True, "canWithdraw": flag, "canDeposit": flag, "updateTime": None, "accountType": "SPOT"}
    shape(raw, {**fields, "permissions": ["SPOT"]}, "GET /account")
    for one in raw["balances"]:
        shape(one, {"asset": text, "free": decimal, "locked": decimal}, "balance")
    for asset, amount in OPENING.items():
        equal((got[asset]["free"], got[asset]["used"]), (float(amount), 0), asset)


def balance_follows(bench):
    """balance: free and used follow placing and canceling"""
    before = bench.balances()
    buy, sell = bench.place(BTC, "buy", 0.01, 20000), bench.place(BTC, "sell", 0.02, 40000)
    held = bench.balances()
    for asset, amount in (("USDT", Decimal(200)), ("BTC", Decimal("0.02"))):
        free, locked = before[asset]
        equal(held[asset], (free - amount, locked + amount), f"{asset} while open: free, locked")
    bench.ex.cancel_order(buy, BTC)
    bench.ex.cancel_order(sell, BTC)
    equal(bench.balances(), before, "after canceling")


def balance_after_fill(bench):
    """balance: a fill moves both assets and takes the fee where the trade says so"""
    before = bench.balances()
    (trade,) = bench.trades(bench.place(BTC, "buy", 0.01, 30500))
    wanted = {asset: list(amounts) for asset, amounts in before.items()}
    wanted["USDT"][0] -= Decimal(trade["quoteQty"])
    wanted["BTC"][0] += Decimal(trade["qty"])
    wanted[trade["commissionAsset"]][0] -= Decimal(trade["commission"])
    equal(bench.balances(), {asset: tuple(amounts) for asset, amounts in wanted.items()}, "balances")


def trading_fee(bench):
    """trading fee: JSON numbers (§9)"""
    got = bench.ex.fetch_trading_fee(BTC)
    equal((got["maker"], got["taker"]), (0, 0.0005), "fees")
    shape(bench.ex.raw, {"code": either(whole, text), "msg": "success", "timestamp": ms}, "GET /tradeFee")
    shape(bench.ex.raw["data"], {"makerCommission": number, "takerCommission": number}, "data")


# Canceling


def cancel_by_id(bench):
    """cancel by exchange id"""
    order = bench.place(BTC, "buy", 0.001, 20000)
    bench.ex.cancel_order(order, BTC)
    shape(bench.ex.raw, {**CANCELED, "orderId": order, "symbol": "BTCUSDT"}, "DELETE /order")
    among(bench.ex.raw["status"], {"NEW", "CANCELED"}, "status")
    bench.ended(order, "CANCELED", 0)


def cancel_by_client_id(bench):
    """cancel by client id"""
    name = bench.name()
    order = bench.place(BTC, "buy", 0.001, 20000, clientOrderId=name)
    bench.ex.cancel_order("", BTC, {"clientOrderId": name})
    shape(bench.ex.raw, {**CANCELED, "orderId": order}, "DELETE /order")
    bench.ended(order, "CANCELED", 0)


def cancel_closed(bench):
    """cancel of a closed or unknown order: -2011 or -2013"""
    order = bench.place(BTC, "buy", 0.001, 30500)
    with bench.refused(bench.ex, ccxt.ExchangeError, {-2011, -2013}):
        bench.ex.cancel_order(order, BTC)
    bench.ended(order, "FILLED", "0.001")
    with bench.refused(bench.ex, ccxt.ExchangeError, {-2011, -2013}):
        bench.ex.cancel_order("C02__999", BTC)


def cancel_without_id(bench):
    """cancel with neither id: 700004"""
    with bench.refused(bench.ex, ccxt.BadRequest, {700004}):
        bench.ex.spotPrivateDeleteOrder({"symbol": "BTCUSDT"})


def cancel_all(bench):
    """cancel all of one symbol; none left gives an empty list"""
    ids = {bench.place(BTC, "buy", 0.001, 20000), bench.place(BTC, "sell", 0.001, 40000)}
    elsewhere = bench.place(ETH, "buy", 0.01, 1500)
    bench.ex.cancel_all_orders(BTC)
    for one in bench.ex.raw:
        shape(one, CANCELED, "DELETE /openOrders")
    equal({one["orderId"] for one in bench.ex.raw}, ids, "canceled orders")
    for order in ids:
        bench.ended(order, "CANCELED", 0)
    bench.ended(elsewhere, "NEW", 0, ETH)
    bench.ex.cancel_all_orders(BTC)
    equal(bench.ex.raw, [], "nothing to cancel")


def cancel_all_symbols(bench):
    """cancel all of all symbols (DELETE /order/all, §8.5)"""
    btc, eth = bench.place(BTC, "buy", 0.001, 20000), bench.place(ETH, "buy", 0.01, 1500)
    bench.ex.cancel_all_orders()
    shape(bench.ex.raw, {"code": either(whole, text), "msg": "success", "timestamp": ms}, "DELETE /order/all")
    among(int(bench.ex.raw["code"]), {0, 200}, "code")
    bench.ended(btc, "CANCELED", 0)
    bench.ended(eth, "CANCELED", 0, ETH)


# Refusals


def wrong_secret(bench):
    """wrong signature: 700002, for reading and for trading"""
    ex = bench.other(secret="wrong")
    with bench.refused(ex, ccxt.AuthenticationError, {700002}):
        ex.fetch_balance()
    with bench.refused(ex, ccxt.AuthenticationError, {700002}):
        ex.create_order(BTC, "limit", "buy", 0.001, 20000)


def wrong_key(bench):
    """wrong key: 10072"""
    ex = bench.other(key="mx0nobodyskey")
    with bench.refused(ex, ccxt.BaseError, {10072}):
        ex.fetch_balance()


def insufficient_balance(bench):
    """insufficient balance, buying and selling: 30004, 30005 or 10101; nothing is placed or locked"""
    before, money = bench.stand_in.admin("/orders"), bench.balances()
    with bench.refused(bench.ex, ccxt.InsufficientFunds, {30004, 30005, 10101}):
        bench.ex.create_order(BTC, "limit", "buy", 1, 20000)
    with bench.refused(bench.ex, ccxt.InsufficientFunds, {30004, 30005, 10101}):
        bench.ex.create_order(BTC, "limit", "sell", 5, 40000)
    with bench.refused(bench.ex, ccxt.InsufficientFunds, {30004, 30005, 10101}):
        bench.ex.create_order(BTC, "market", "sell", 2)
    equal((bench.stand_in.admin("/orders"), bench.balances()), (before, money), "orders and balances")


def unknown_symbol(bench):
    """unknown symbol: -1121 or 10007, for an order and for a price"""
    order = {"symbol": "NONEUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "10"}
    with bench.refused(bench.ex, ccxt.BadSymbol, {-1121, 10007}):
        bench.ex.spotPrivatePostOrder(order)
    with bench.refused(bench.ex, ccxt.BadSymbol, {-1121, 10007}):
        bench.ex.spotPublicGetDepth({"symbol": "NONEUSDT"})
    with bench.refused(bench.ex, ccxt.BadSymbol, {-1121, 10007}):
        bench.ex.spotPublicGetExchangeInfo({"symbol": "NONEUSDT"})


def too_small(bench):
    """amount below the minimum: 30002, limit and market"""
    with bench.refused(bench.ex, ccxt.InvalidOrder, {30002}):
        bench.ex.create_order(BTC, "limit", "buy", 0.00004, 20000)
    with bench.refused(bench.ex, ccxt.InvalidOrder, {30002}):
        bench.ex.create_market_buy_order_with_cost(BTC, 0.5)
    with bench.refused(bench.ex, ccxt.InvalidOrder, {30002}):
        bench.ex.create_order(BTC, "market", "sell", 0.00003)


def too_large(bench):
    """amount above the maximum: 30003"""
    with bench.refused(bench.ex, ccxt.InvalidOrder, {30003}):
        bench.ex.create_order(BTC, "limit", "buy", 101, 20000)


def scale(bench):
    """too many decimals of quantity or price: 400 "... scale is invalid" """
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.001", "price": "20000"}
    for change in ({"quantity": "0.0010001"}, {"price": "20000.001"}):
        # The raw call: ccxt would round first.
        with bench.refused(bench.ex, ccxt.BadRequest, {400}):
            bench.ex.spotPrivatePostOrder({**order, **change})
        assert "scale is invalid" in bench.ex.raw["msg"], bench.ex.raw


def price_range(bench):
    """price outside the allowed range: 30087"""
    with bench.refused(bench.ex, ccxt.InvalidOrder, {30087}):
        bench.ex.create_order(BTC, "limit", "buy", 0.001, 160000)
    with bench.refused(bench.ex, ccxt.InvalidOrder, {30087}):
        bench.ex.create_order(BTC, "limit", "sell", 0.001, 5000)


def limits_kept(bench):
    """ccxt's own pace keeps the stand-in's rate limits"""
    equal(bench.stand_in.breaches(), {}, "limits broken")


CHECKS = [
    opening_balance, load_markets, load_markets_without_keys, spot_markets, exchange_info_shape, status_and_time,
    ticker, tickers, best_prices, last_price, order_book, limit_resting, limit_without_client_id, limit_marketable,
    limit_filled_later, market_buy_by_quantity, market_sell_by_quantity, market_buy_by_cost, ioc_filled, ioc_nothing,
    ioc_part, fok_filled, fok_part, post_only_resting, post_only_crossing, part_filled, batch, order_test,
    order_test_signed, query_by_both_ids, query_unknown, query_without_id, open_orders, all_orders,
    all_orders_limited, all_orders_since_and_until, taker_trade, maker_trade, trades_of_symbol, balance_follows,
    balance_after_fill, trading_fee, cancel_by_id, cancel_by_client_id, cancel_closed, cancel_without_id, cancel_all,
    cancel_all_symbols, wrong_secret, wrong_key, insufficient_balance, unknown_symbol, too_small, too_large, scale,
    price_range, limits_kept,
]


def main():
    checks = Checks("ccxt")
    with StandIn() as stand_in:
        bench = Bench(stand_in)
        for check in CHECKS:
            try:
                bench.clean()
                check(bench)
            except Exception as error:
                checks.failed(name_of(check), error)
            else:
                checks.passed(name_of(check))
    checks.exit()


if __name__ == "__main__":
    main()
