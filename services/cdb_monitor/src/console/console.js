// Shows the desk. Every text from outside goes through textContent, never through HTML.
"use strict";

const EVERY_MS = 2000;
const SHORT = new Intl.NumberFormat("en", { maximumFractionDigits: 6, useGrouping: false });

const number = (text) => (text === null || text === undefined ? "-" : SHORT.format(Number(text)));
const sign = (text) => (Number(text) < 0 ? "bad" : Number(text) > 0 ? "good" : "");

/** Fills a table: columns are {title, value(row), kind?(row), isNumber?}. */
function fill(id, columns, rows, nothing) {
  const table = document.getElementById(id);
  const head = document.createElement("tr");
  for (const column of columns) {
    const cell = document.createElement("th");
    cell.textContent = column.title;
    cell.className = column.isNumber ? "number" : "";
    head.append(cell);
  }
  const lines = rows.map((row) => {
    const line = document.createElement("tr");
    for (const column of columns) {
      const cell = document.createElement("td");
      cell.textContent = column.value(row) ?? "-";
      cell.className = [column.isNumber ? "number" : "", column.kind ? column.kind(row) : ""].join(" ");
      line.append(cell);
    }
    return line;
  });
  if (lines.length === 0) {
    const line = document.createElement("tr");
    const cell = document.createElement("td");
    cell.colSpan = columns.length;
    cell.className = "none";
    cell.textContent = nothing;
    line.append(cell);
    lines.push(line);
  }
  table.replaceChildren(head, ...lines);
}

const POSITIONS = [
  { title: "symbol", value: (p) => p.symbol },
  { title: "qty", value: (p) => number(p.qty), isNumber: true },
  { title: "avg price", value: (p) => number(p.avg_px), isNumber: true },
  { title: "mark", value: (p) => number(p.mark), isNumber: true },
  { title: "realised", value: (p) => number(p.realised), kind: (p) => sign(p.realised), isNumber: true },
  { title: "unrealised", value: (p) => number(p.unrealised), kind: (p) => sign(p.unrealised), isNumber: true },
];
const REFUSALS = [
  { title: "reason", value: (r) => r.reason },
  { title: "orders", value: (r) => r.count, isNumber: true },
];
const ORDERS = [
  { title: "time (UTC)", value: (o) => new Date(o.decided_at).toISOString().slice(11, 19) },
  { title: "order", value: (o) => o.cl_ord_id },
  { title: "strategy", value: (o) => o.strategy },
  { title: "symbol", value: (o) => o.symbol },
  { title: "side", value: (o) => o.side },
  {
    title: "state",
    value: (o) => (o.in_doubt ? "in doubt" : o.ord_status ?? o.decision),
    kind: (o) => (o.in_doubt || o.decision === "rejected" || o.ord_status === "Rejected" ? "bad" : "good"),
  },
  { title: "filled", value: (o) => number(o.cum_qty), isNumber: true },
  { title: "avg price", value: (o) => number(o.avg_px), isNumber: true },
  { title: "reason", value: (o) => o.reason },
];

let shownAt = 0;

function banner(desk) {
  const state = desk.may_trade
    ? "trading"
    : desk.stop !== null
      ? `STOPPED: ${desk.stop}`
      : desk.breaker !== "closed"
        ? `circuit breaker ${desk.breaker} (${desk.cause ?? "-"})`
        : "no permit: risk does not approve";
  document.getElementById("mode").textContent = desk.mode;
  document.getElementById("state").textContent = state;
  document.getElementById("banner").className = desk.may_trade ? "good" : "bad";
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function show() {
  try {
    const [desk, positions, refusals, orders] = await Promise.all(
      ["api/desk", "api/positions", "api/refusals", "api/orders?limit=40"].map(get),
    );
    banner(desk);
    fill("positions", POSITIONS, positions, "no positions");
    fill("refusals", REFUSALS, refusals, "nothing refused");
    fill("orders", ORDERS, orders, "no orders yet");
    shownAt = Date.now();
  } catch (error) {
    document.getElementById("banner").className = "";
    document.getElementById("state").textContent = `unknown: ${error.message}`;
  }
  setTimeout(show, EVERY_MS);
}

setInterval(() => {
  const seconds = Math.round((Date.now() - shownAt) / 1000);
  document.getElementById("age").textContent = shownAt === 0 ? "" : `as of ${seconds} s ago`;
}, 1000);
show();
