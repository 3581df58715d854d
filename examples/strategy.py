#!/usr/bin/env python3
"""A strategy in a few lines: puts one small limit order, reads its verdict and its reports.

    pip install redis
    python3 examples/strategy.py .cdb/cell.json
"""
import json
import sys
import time
import uuid

import redis

cell = json.load(open(sys.argv[1] if len(sys.argv) > 1 else ".cdb/cell.json"))
bus = redis.Redis(
    host=cell["redis"]["host"],
    port=cell["redis"]["port"],
    username="strategy",
    password=open(cell["redis"]["password_files"]["strategy"]).read().strip(),
    decode_responses=True,
)
price = json.loads(bus.hget("cdb:price", "BTCUSDT"))
order = {
    "v": 1, "type": "new", "cl_ord_id": uuid.uuid4().hex, "strategy": "example", "symbol": "BTCUSDT", "side": "BUY",
    "ord_type": "LIMIT", "tif": "IOC", "qty": "0.001", "price": price["ask"], "ts": int(time.time() * 1000),
}
# Where the streams end now, taken before the order is sent, so that nothing is missed.
last = {s: (bus.xrevrange(s, count=1) or [("0", {})])[0][0] for s in ("cdb:verdicts", "cdb:executions")}
bus.xadd("cdb:orders", {"json": json.dumps(order)})
deadline = time.time() + 15
while time.time() < deadline:
    for stream, entries in bus.xread(last, block=1000) or []:
        for entry, fields in entries:
            last[stream] = entry
            message = json.loads(fields["json"])
            if message.get("cl_ord_id") != order["cl_ord_id"]:
                continue
            if stream == "cdb:verdicts":
                print(message["decision"], message.get("reason", ""), message["detail"])
                if message["decision"] == "rejected":
                    sys.exit(5)
            else:
                print(message["exec_type"], message["ord_status"], message["cum_qty"], message.get("avg_px", ""))
                if message["ord_status"] in ("Filled", "Canceled", "Rejected"):
                    sys.exit(0)
sys.exit("nothing came of it in time")
