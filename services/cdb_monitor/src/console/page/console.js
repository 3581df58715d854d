// The operator's console. Every text from outside goes through textContent, never through HTML. Nothing is shown
// without the time it is from: figures that stop arriving become old, and then unknown.
"use strict";

const OLD_MS = 5000;
const FEED_MAX = 200;
const DAY_MS = 86400000;
const $ = (id) => document.getElementById(id);

// ---- small things -----------------------------------------------------------------------------------------------

/** Makes an element with a class and a text. */
function el(tag, className = "", text = null) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null && text !== undefined) element.textContent = String(text);
  return element;
}

const isKnown = (value) => value !== null && value !== undefined && value !== "";
const FIGURE = new Intl.NumberFormat("en", { maximumFractionDigits: 6 });
const MONEY = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const figure = (text) => (isKnown(text) ? FIGURE.format(Number(text)) : "-");
const money = (text) => (isKnown(text) ? MONEY.format(Number(text)) : "unknown");
const sign = (text) => (Number(text) < 0 ? "bad" : Number(text) > 0 ? "good" : "");
const clock = (ms) => (isKnown(ms) ? new Date(Number(ms)).toISOString().slice(11, 19) : "-");
const moment = (ms) => (isKnown(ms) ? new Date(Number(ms)).toISOString().replace("T", " ").slice(0, 19) : "unknown");

/** A span of time in words. */
function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

// ---- what is known, and since when ------------------------------------------------------------------------------

const known = { desk: null, at: 0, actor: null, csrf: null, mayStart: false, isPaused: false, balances: null };

/** Milliseconds since a moment on the desk's own clock; the browser's clock may be off. */
const ageOf = (ms) => known.desk.at - Number(ms) + (performance.now() - known.at);

/** Marks an element with the moment that its content is from; it then ages by itself. */
function asOf(element, ms) {
  if (isKnown(ms)) element.dataset.at = String(ms);
  else delete element.dataset.at;
}

function ageAll() {
  if (known.desk === null) return;
  for (const element of document.querySelectorAll("[data-at]")) {
    const age = ageOf(element.dataset.at);
    element.textContent = `as of ${span(age)} ago`;
    element.classList.toggle("old", age > OLD_MS);
  }
  if (performance.now() - known.at > OLD_MS) {
    const silence = span(performance.now() - known.at);
    banner("unknown", `no news from the desk for ${silence}; what is below is old`);
  }
}

// ---- talking to the desk ----------------------------------------------------------------------------------------

async function ask(path, body = null) {
  const options = { cache: "no-store", headers: {} };
  if (body !== null) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
    if (known.csrf) options.headers["x-csrf-token"] = known.csrf;
  }
  const answer = await fetch(path, options);
  const text = await answer.text();
  let json = {};
  try {
    json = JSON.parse(text);
  } catch {
    json = { error: text };
  }
  if (answer.status === 401 && path !== "api/login") loggedOut();
  if (!answer.ok) throw new Error(json.error || `${answer.status}`);
  return json;
}

let saidUntil = null;

/** Says what came of an action, with its time; it goes away by itself. */
function say(text, isGood) {
  const said = $("said");
  said.textContent = `${clock(Date.now())} ${text}`;
  said.className = isGood ? "good" : "bad";
  said.hidden = false;
  clearTimeout(saidUntil);
  saidUntil = setTimeout(() => {
    said.hidden = true;
  }, 20000);
}

let events = null;

function listen() {
  if (events) events.close();
  events = new EventSource("api/stream");
  events.addEventListener("recent", (event) => {
    $("feed").replaceChildren();
    known.balances = null;
    JSON.parse(event.data).forEach(feed);
  });
  events.addEventListener("entries", (event) => JSON.parse(event.data).forEach(feed));
  events.addEventListener("desk", (event) => show(JSON.parse(event.data)));
  events.onerror = () => {
    // The browser tries again by itself, unless the session has ended.
    if (events.readyState === EventSource.CLOSED) session().catch(() => setTimeout(listen, 2000));
  };
}

async function session() {
  const mine = await ask("api/session");
  Object.assign(known, { actor: mine.actor, csrf: mine.csrf, mayStart: mine.may_start });
  $("actor").textContent = mine.actor;
  for (const id of ["who", "stop", "main"]) $(id).hidden = false;
  $("login").hidden = true;
  listen();
  curve();
}

function loggedOut() {
  if (events) events.close();
  events = null;
  Object.assign(known, { actor: null, csrf: null, desk: null });
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  for (const id of ["who", "stop", "main"]) $(id).hidden = true;
  $("login").hidden = false;
  $("age").textContent = "";
  banner("unknown", "log in to see the desk");
  $("login-actor").focus();
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("api/login", { actor: $("login-actor").value, token: $("login-token").value });
    $("login-token").value = "";
    $("said").hidden = true;
    await session();
    $("main").focus();
  } catch (error) {
    say(error.message, false);
    $("login-token").select();
  }
});

$("logout").addEventListener("click", async () => {
  await ask("api/logout", {}).catch((error) => say(error.message, false));
  loggedOut();
});

// ---- the desk ---------------------------------------------------------------------------------------------------

const STATES = {
  trading: "TRADING",
  stopped: "STOPPED",
  breaker_open: "BREAKER OPEN",
  breaker_half_open: "BREAKER HALF OPEN",
  no_permit: "NO PERMIT",
  unknown: "UNKNOWN",
};

function banner(state, why) {
  $("banner").dataset.state = state;
  $("state").textContent = STATES[state] ?? "UNKNOWN";
  $("why").textContent = why;
  document.title = `${STATES[state] ?? "UNKNOWN"} - cdb console`;
}

function show(desk) {
  known.desk = desk;
  known.at = performance.now();
  const isBreaker = desk.trading.state.startsWith("breaker_");
  banner(desk.trading.state, isBreaker ? `only exits pass; cause: ${desk.trading.why.replaceAll("_", " ")}` : desk.trading.why);
  asOf($("age"), desk.at);
  const isReachable = desk.breaker !== undefined;
  stops(isReachable ? desk.stops : []);
  facts(desk, isReachable);
  buttons(desk, isReachable);
  if (isReachable) {
    result(desk);
    limits(desk);
    positions(desk);
  }
  if (desk.ledger) {
    alerts(desk.ledger.alerts);
    openOrders(desk.ledger.open_orders);
    for (const id of ["alerts-age", "open-age"]) asOf($(id), desk.at);
  }
  ageAll();
}

function stops(all) {
  const notes = all.map((stop) => {
    const note = el("p", "note");
    const scope = stop.key === "emergency_stop" ? "Everything is stopped" : `Stopped: ${stop.key.split(":").slice(1).join(" ")}`;
    note.append(el("strong", "", scope), ` ${stop.reason || "(no reason given)"}`);
    if (stop.record) note.append(el("div", "dim", `by ${stop.record.actor}, ${moment(stop.record.at)}`));
    return note;
  });
  $("stops").replaceChildren(...notes);
}

/** One line of the safety list. */
function fact(list, name, text, kind = "") {
  list.push(el("dt", "", name), el("dd", kind, text));
}

function facts(desk, isReachable) {
  const list = [];
  if (isReachable) busFacts(list, desk);
  else fact(list, "Redis", "cannot be reached: state unknown", "bad");
  if (desk.ledger) ledgerFacts(list, desk.ledger);
  else fact(list, "Ledger", desk.ledger_problem ?? "unknown", "bad");
  $("facts").replaceChildren(...list);
}

function busFacts(list, desk) {
  fact(list, "Emergency stop", desk.stops.length ? `${desk.stops.length} in force` : "none", desk.stops.length ? "bad" : "good");
  const { state, cause, opened_at: opened, retry_at: retry, latched } = desk.breaker;
  if (state === "closed") fact(list, "Breaker", "closed", "good");
  else if (!state) fact(list, "Breaker", "unknown", "bad");
  else {
    const end = latched === "1" ? "until an operator resets it" : `a probe from ${moment(retry)} on`;
    fact(list, "Breaker", `${state.replace("_", " ")}: ${cause}, since ${moment(opened)}, ${end}`, "bad");
  }
  const permit = desk.permit.permit;
  fact(list, "Permit", permit ? `issued ${span(ageOf(permit.issued_at))} ago, ends in ${span(desk.permit.ttl_ms)}` : "none", permit ? "good" : "bad");
  for (const { role, lease, ttl_ms: ttl } of desk.leases) {
    fact(list, `Lease ${role}`, lease ? `token ${lease.token.split(":").pop()}, ends in ${span(ttl)}` : "nobody leads", lease ? "good" : "bad");
  }
  for (const { service, beat } of desk.heartbeats) {
    const role = beat && beat.leads !== undefined ? (beat.leads ? ", leads" : ", stands by") : "";
    fact(list, service, beat ? `heartbeat ${span(ageOf(beat.ts))} ago${role}, build ${beat.build}` : "no heartbeat", beat ? "good" : "bad");
  }
  if (desk.ban_until) fact(list, "Exchange ban", `until ${moment(desk.ban_until)}`, Number(desk.ban_until) > desk.at ? "bad" : "dim");
  fact(list, "Orders not final", desk.orders_not_final);
}

function ledgerFacts(list, ledger) {
  const key = ledger.keys[0];
  if (key) {
    const age = ageOf(key.first_seen);
    const kind = age > 90 * DAY_MS ? "bad" : age > 30 * DAY_MS ? "warn" : "good";
    fact(list, "Exchange key", `${key.fingerprint}, ${span(age)} old`, kind);
  } else fact(list, "Exchange key", "unknown: no key was announced", "warn");
  const point = ledger.checkpoint;
  if (point) fact(list, "Audit checkpoint", `${span(ageOf(point.at))} ago: ${point.reason}`, "good");
  else fact(list, "Audit checkpoint", "unknown: none signed yet", "warn");
  const anchored = point && point.detail && Array.isArray(point.detail.anchored) ? point.detail.anchored : null;
  if (anchored === null) fact(list, "Audit anchor", "unknown", "warn");
  else if (anchored.length === 0) fact(list, "Audit anchor", "nowhere outside this host", "warn");
  else fact(list, "Audit anchor", `${span(ageOf(point.at))} ago: ${anchored.join(", ")}`, "good");
  const trouble = ledger.audit_trouble;
  fact(list, "Audit trouble", trouble ? `${span(ageOf(trouble.at))} ago: ${trouble.reason}` : "none on record", trouble ? "bad" : "good");
}

function buttons(desk, isReachable) {
  const breaker = isReachable ? desk.breaker.state : "";
  $("resume").hidden = !isReachable || (desk.stops.length === 0 && !(desk.usage && desk.usage.state_lost));
  $("trip").hidden = breaker !== "closed";
  $("reset").hidden = breaker !== "open" && breaker !== "half_open";
  for (const id of ["resume", "trip", "reset"]) $(id).disabled = !known.mayStart;
}

function result(desk) {
  const usage = desk.usage;
  asOf($("result-age"), usage && usage.ts);
  if (!usage) $("result-age").textContent = "unknown";
  const unrealised = desk.positions.reduce((sum, row) => sum + Number(row.unrealised ?? 0), 0);
  const isMarked = desk.positions.every((row) => isKnown(row.unrealised));
  $("equity").textContent = money(usage && usage.equity);
  $("today").textContent = money(usage && usage.today);
  $("today").className = usage ? sign(usage.today) : "";
  $("unrealised").textContent = isMarked ? money(String(unrealised)) : "unknown";
  $("unrealised").className = isMarked ? sign(unrealised) : "";
}

// ---- limits -----------------------------------------------------------------------------------------------------

function limits(desk) {
  const usage = desk.usage;
  asOf($("limits-age"), usage && usage.ts);
  if (!usage) {
    $("limits-age").textContent = "unknown";
    $("limits").replaceChildren(el("li", "bad", "unknown: cdb_risk does not say"));
    return;
  }
  $("limits").replaceChildren(...usage.limits.map(limit));
}

/** What a person calls a limit; the setting's own name stands in its title. */
const LIMITS = {
  MAX_TOTAL_EXPOSURE: "Exposure",
  MAX_OPEN_ORDERS: "Open orders",
  MAX_DAILY_ORDERS: "Orders today",
  MAX_DAILY_NOTIONAL_USD: "Notional today, USD",
  MAX_NOTIONAL_PER_MINUTE_USD: "Notional in a minute, USD",
  MAX_DAILY_LOSS_PCT: "Loss today",
  MAX_DRAWDOWN_PCT: "Fall from the peak",
  MAX_CONSECUTIVE_FAILURES: "Failures in a row",
  MAX_FAILURES_PER_HOUR: "Failures in an hour",
  MAX_POSITION_SIZE_USD: "position, USD",
  MAX_POSITION_PCT: "position, share",
};

function limit({ limit: name, symbol, used, max }) {
  const isShare = name.endsWith("_PCT") || name.endsWith("_EXPOSURE");
  const amount = (value) => (name.endsWith("_USD") ? money(value) : figure(value));
  const text = (value) => (isShare ? `${figure(Math.round(Number(value) * 10000) / 100)} %` : amount(value));
  const share = isKnown(used) ? (Number(max) === 0 ? 1 : Number(used) / Number(max)) : null;
  const item = el("li");
  const row = el("div", "row");
  item.title = name;
  row.append(
    el("span", "name", (symbol ? `${symbol} ` : "") + (LIMITS[name] ?? name.toLowerCase().replaceAll("_", " "))),
    el("span", "value", `${isKnown(used) ? text(used) : "unknown"} of ${text(max)}`),
  );
  const track = el("div", share === null ? "track unknown" : "track");
  if (share !== null) {
    const fill = el("div", `fill ${share >= 0.8 ? "bad" : share >= 0.6 ? "warn" : ""}`);
    fill.style.setProperty("--used", `${Math.min(100, Math.max(0, share * 100))}%`);
    track.append(fill);
    track.setAttribute("role", "meter");
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", "100");
    track.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    track.setAttribute("aria-label", `${LIMITS[name] ?? name}${symbol ? ` ${symbol}` : ""}, used in per cent`);
  }
  item.append(row, track);
  return item;
}

// ---- tables -----------------------------------------------------------------------------------------------------

/** Fills a table: columns are {title, value(row) -> text or element, kind?(row), isNumber?}. */
function fill(id, columns, rows, nothing) {
  const head = el("thead");
  const titles = el("tr");
  titles.append(...columns.map((column) => el("th", column.isNumber ? "number" : "", column.title)));
  head.append(titles);
  const body = el("tbody");
  for (const row of rows) {
    const line = el("tr");
    for (const column of columns) {
      const value = column.value(row);
      const cell = el("td", [column.isNumber ? "number" : "", column.kind ? column.kind(row) : ""].join(" ").trim());
      cell.dataset.title = column.title;
      if (value instanceof Node) cell.append(value);
      else cell.textContent = isKnown(value) ? String(value) : "-";
      line.append(cell);
    }
    body.append(line);
  }
  if (rows.length === 0) {
    const line = el("tr");
    const cell = el("td", "none", nothing);
    cell.colSpan = columns.length;
    line.append(cell);
    body.append(line);
  }
  $(id).replaceChildren(head, body);
}

/** A button that opens an order's story. */
function orderButton(id) {
  const button = el("button", "link", id);
  button.type = "button";
  button.dataset.order = id;
  return button;
}

const POSITIONS = [
  { title: "Symbol", value: (p) => p.symbol },
  { title: "Quantity", value: (p) => figure(p.qty), isNumber: true },
  { title: "Average price", value: (p) => figure(p.avg_px), isNumber: true },
  { title: "Mark", value: (p) => figure(p.mark), isNumber: true },
  { title: "Marked", value: (p) => (isKnown(p.marked_at) ? `${span(ageOf(p.marked_at))} ago` : "unknown"), isNumber: true },
  { title: "Realised", value: (p) => figure(p.realised), kind: (p) => sign(p.realised), isNumber: true },
  { title: "Unrealised", value: (p) => figure(p.unrealised), kind: (p) => sign(p.unrealised), isNumber: true },
  { title: "Fees", value: (p) => Object.entries(p.fees).map(([asset, fee]) => `${figure(fee)} ${asset}`).join(", "), isNumber: true },
];

function positions(desk) {
  fill("positions", POSITIONS, desk.positions, "no positions");
  asOf($("positions-age"), desk.at);
}

const OPEN = [
  { title: "Order", value: (o) => orderButton(o.cl_ord_id) },
  { title: "Strategy", value: (o) => o.strategy },
  { title: "Symbol", value: (o) => o.symbol },
  { title: "Side", value: (o) => o.side },
  { title: "State", value: (o) => (o.in_doubt ? "in doubt" : o.ord_status ?? "approved"), kind: (o) => (o.in_doubt ? "bad" : "") },
  { title: "Filled", value: (o) => figure(o.cum_qty ?? 0), isNumber: true },
  { title: "Age", value: (o) => span(ageOf(o.at)), isNumber: true },
];

function openOrders(rows) {
  // A person may be about to press a button in it.
  if ($("open").contains(document.activeElement)) return;
  fill("open", OPEN, rows, "no open orders");
}

function alerts(rows) {
  if ($("alerts").contains(document.activeElement)) return;
  const items = rows.map((alert) => {
    const item = el("li");
    item.append(el("strong", alert.level === "critical" ? "bad" : "warn", alert.level ?? "alert"), ` ${alert.alert}: ${alert.reason} `);
    item.append(el("span", "dim", `${alert.service}, ${span(ageOf(alert.at))} ago `));
    if (alert.acknowledged_by) item.append(el("span", "good", `acknowledged by ${alert.acknowledged_by}`));
    else {
      const button = el("button", "", "Acknowledge");
      button.type = "button";
      button.dataset.ack = alert.alert;
      item.append(button);
    }
    return item;
  });
  $("alerts").replaceChildren(...(items.length ? items : [el("li", "dim", "none")]));
}

// ---- equity curve -----------------------------------------------------------------------------------------------

async function curve() {
  try {
    const points = await ask("api/equity?hours=24");
    draw(points);
  } catch (error) {
    $("curve-text").textContent = `the curve is unknown: ${error.message}`;
  }
}

function draw(points) {
  const svg = $("curve");
  if (points.length < 2) {
    svg.replaceChildren();
    $("curve-text").textContent = "equity curve: fewer than two samples so far";
    return;
  }
  const values = points.map((point) => Number(point.equity));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [from, to] = [points[0].at, points[points.length - 1].at];
  const x = (at) => (to === from ? 0 : ((at - from) / (to - from)) * 600);
  const y = (value) => (high === low ? 70 : 132 - ((value - low) / (high - low)) * 124);
  const shape = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const line = points.map((point, index) => `${x(point.at).toFixed(1)},${y(values[index]).toFixed(1)}`).join(" ");
  svg.replaceChildren(
    shape("line", { x1: 0, x2: 600, y1: y(values[0]), y2: y(values[0]), "stroke-dasharray": "4 4" }),
    shape("polyline", { points: line }),
  );
  $("curve-text").textContent =
    `equity ${moment(from)} to ${clock(to)}: lowest ${money(low)}, highest ${money(high)}, last ${money(values[values.length - 1])}`;
}

// ---- live feed --------------------------------------------------------------------------------------------------

const KIND = {
  "cdb:orders": "order",
  "cdb:verdicts": "verdict",
  "cdb:executions": "execution",
  "cdb:events": "event",
  "cdb:dead": "dead letter",
};

/** What a person reads of an entry, with its colour. */
function told(item) {
  const m = item.message;
  if (!m || typeof m !== "object") return [item.raw ?? JSON.stringify(m), "bad"];
  const words = (...parts) => parts.filter(isKnown).map(String).join(" ");
  if (item.stream === "cdb:orders") {
    if (m.type === "cancel") return [words("cancel", m.orig_cl_ord_id), ""];
    if (m.type === "cancel_all") return [words("cancel all", m.symbol), ""];
    const size = isKnown(m.quote_qty) ? `${m.quote_qty} quote` : m.qty;
    return [words(m.side, size, m.symbol, m.ord_type, m.price, m.tif, isKnown(m.strategy) ? `by ${m.strategy}` : ""), ""];
  }
  if (item.stream === "cdb:verdicts") {
    return m.decision === "approved" ? [words("approved", m.detail), "good"] : [words("refused", m.reason, m.detail), "bad"];
  }
  if (item.stream === "cdb:executions") {
    if (m.type === "account_snapshot") return [words("balances", m.balances.map((b) => `${b.free} ${b.asset}`).join(", ")), "dim"];
    if (m.type === "finding") return [words(m.kind, m.symbol, m.text), "bad"];
    const fill = isKnown(m.last_qty) ? `${m.last_qty} at ${m.last_px}` : "";
    const kind = m.in_doubt || m.ord_status === "Rejected" ? "bad" : m.ord_status === "Filled" ? "good" : "";
    return [words(m.in_doubt ? "IN DOUBT" : m.ord_status, m.side, m.symbol, fill, m.reason, m.text), kind];
  }
  if (item.stream === "cdb:dead") return [words(m.stream, m.reason, m.text), "bad"];
  const isBad = ["stop_seen", "breaker_opened", "security", "banned", "audit_trouble", "state_lost", "alert_raised"].includes(m.type);
  return [words(m.type, m.reason, m.actor && m.actor !== "service" ? `by ${m.actor}` : "", m.service), isBad ? "bad" : "dim"];
}

const waiting = [];

function feed(item) {
  if (known.isPaused) {
    waiting.push(item);
    if (waiting.length > FEED_MAX) waiting.shift();
    $("pause").textContent = `Go on (${waiting.length} new)`;
    return;
  }
  const [text, kind] = told(item);
  // The account is read again and again; only a change of it is news.
  if (item.message && item.message.type === "account_snapshot") {
    if (text === known.balances) return;
    known.balances = text;
  }
  const id = item.message && typeof item.message === "object" ? item.message.cl_ord_id : null;
  const line = el("li");
  const who = el("span", "id");
  if (isKnown(id)) who.append(orderButton(String(id)));
  line.append(el("span", "dim", clock(item.at)), el("span", "kind", KIND[item.stream] ?? item.stream), who, el("span", `text ${kind}`, text));
  line.dataset.search = `${KIND[item.stream]} ${id ?? ""} ${text}`.toLowerCase();
  line.hidden = !line.dataset.search.includes($("filter").value.toLowerCase());
  $("feed").prepend(line);
  while ($("feed").childElementCount > FEED_MAX) $("feed").lastElementChild.remove();
}

$("filter").addEventListener("input", () => {
  const wanted = $("filter").value.toLowerCase();
  for (const line of $("feed").children) line.hidden = !line.dataset.search.includes(wanted);
});

$("pause").addEventListener("click", () => {
  known.isPaused = !known.isPaused;
  $("pause").setAttribute("aria-pressed", String(known.isPaused));
  $("pause").textContent = known.isPaused ? "Go on" : "Pause";
  if (!known.isPaused) waiting.splice(0).forEach(feed);
});

// ---- one order's story ------------------------------------------------------------------------------------------

async function story(id) {
  try {
    const { steps } = await ask(`api/orders/${encodeURIComponent(id)}`);
    $("story-title").textContent = id;
    const first = steps.find((step) => step.kind === "verdict" && step.of === id);
    const last = steps.filter((step) => step.kind === "report").pop();
    const command = first && first.command;
    const what = command ? [command.side, command.qty ?? command.quote_qty, command.symbol, command.ord_type, command.price].filter(isKnown).join(" ") : "";
    $("story-summary").textContent = [what, command && command.strategy ? `by ${command.strategy}` : "", last ? last.ord_status : first && first.decision].filter(isKnown).join(", ");
    $("story-steps").replaceChildren(...steps.map(step));
    const isOpen = last ? !["Filled", "Canceled", "Rejected", "Expired"].includes(last.ord_status) : Boolean(first && first.decision === "approved");
    $("story-cancel").hidden = !isOpen;
    $("story-cancel").dataset.id = id;
    if (!$("story").open) $("story").showModal();
  } catch (error) {
    say(`${id}: ${error.message}`, false);
  }
}

function step(one) {
  const isBad = one.decision === "rejected" || one.in_doubt || one.ord_status === "Rejected";
  const item = el("li", isBad ? "bad" : one.kind === "fill" || one.decision === "approved" ? "good" : "");
  item.append(el("div", "when", `${moment(one.at)} UTC, ${one.kind}${one.source ? ` from ${one.source}` : ""}`));
  item.append(el("div", "", title(one)));
  if (Array.isArray(one.checks) && one.checks.length) item.append(checks(one.checks));
  const raw = el("details");
  raw.append(el("summary", "", "everything recorded"), el("pre", "", JSON.stringify(one, null, 2)));
  item.append(raw);
  return item;
}

function title(one) {
  if (one.kind === "verdict") return [one.decision, one.reason, one.text].filter(isKnown).join(": ");
  if (one.kind === "fill") return `${figure(one.qty)} at ${figure(one.price)}, fee ${figure(one.commission)} ${one.commission_asset}, trade ${one.trade_id}`;
  const parts = [one.in_doubt ? "IN DOUBT" : one.exec_type, `state ${one.ord_status}`, `filled ${figure(one.cum_qty)}`, one.reason, one.text];
  return parts.filter(isKnown).join(", ");
}

function checks(all) {
  const made = el("details");
  const refused = all.filter((check) => check.refused);
  const text = refused.length ? `refused by: ${refused.map((check) => check.check).join(", ")}` : "all hold";
  made.append(el("summary", "", `${all.length} checks, ${text}`));
  const table = el("table");
  const body = el("tbody");
  for (const check of all) {
    const line = el("tr", check.refused ? "bad" : "");
    for (const [name, value] of [["Check", check.check], ["Value", check.value], ["Limit", check.limit]]) {
      const cell = el("td", "", isKnown(value) ? value : "-");
      cell.dataset.title = name;
      line.append(cell);
    }
    body.append(line);
  }
  table.append(body);
  made.append(table);
  return made;
}

$("story-close").addEventListener("click", () => $("story").close());
$("story-cancel").addEventListener("click", () => {
  $("story").close();
  confirmAction("cancel", { cl_ord_id: $("story-cancel").dataset.id });
});

// ---- actions ----------------------------------------------------------------------------------------------------

const ACTIONS = {
  stop: { title: "Stop trading", text: "No further order is sent, and open orders are cancelled. Cancels still pass.", yes: "Stop now", isDanger: true, hasScope: true, path: "api/stop" },
  resume: { title: "Resume trading", text: "Orders are looked at again.", yes: "Resume", sure: "I know why it stopped, and that is over.", hasStops: true, path: "api/resume" },
  trip: { title: "Open the circuit breaker", text: "Only orders that reduce a position pass until it is reset.", yes: "Open it", isDanger: true, path: "api/breaker", body: { command: "trip" } },
  reset: { title: "Reset the circuit breaker", text: "Trading goes on. Losses are measured anew from this moment.", yes: "Reset", sure: "I know why it opened, and that is over.", path: "api/breaker", body: { command: "reset" } },
  cancel: { title: "Cancel one order", text: "The exchange is asked to cancel it. What was filled stays.", yes: "Cancel the order", needsNoReason: true, path: "api/cancel" },
  "cancel-all": { title: "Cancel all open orders", text: "The exchange is asked to cancel every open order. Trading goes on.", yes: "Cancel all", needsNoReason: true, path: "api/cancel-all" },
};

let pending = null;

function confirmAction(name, body = {}) {
  const action = ACTIONS[name];
  pending = { action, body: { ...(action.body ?? {}), ...body } };
  $("ask-title").textContent = action.title;
  $("ask-text").textContent = body.cl_ord_id ? `${body.cl_ord_id}: ${action.text}` : action.text;
  $("ask-yes").textContent = action.yes;
  $("ask-yes").className = action.isDanger ? "danger" : "primary";
  $("ask-reason").value = "";
  $("ask-reason-label").hidden = Boolean(action.needsNoReason);
  $("ask-sure").checked = false;
  $("ask-sure-label").hidden = !action.sure;
  $("ask-sure-text").textContent = action.sure ?? "";
  $("ask-problem").hidden = true;
  scopes(action);
  $("ask").showModal();
  (action.needsNoReason ? $("ask-yes") : $("ask-reason")).focus();
}

/** What a stop covers, or which stop ends. */
function scopes(action) {
  const desk = known.desk ?? {};
  const name = (key) => (key === "emergency_stop" ? "everything" : key.split(":").slice(1).join(" "));
  let all = [];
  if (action.hasScope) {
    const symbols = (desk.usage ? desk.usage.limits : []).map((one) => one.symbol).filter(isKnown);
    all = ["emergency_stop", ...new Set(symbols.map((symbol) => `emergency_stop:symbol:${symbol}`))];
  } else if (action.hasStops) {
    all = (desk.stops ?? []).map((stop) => stop.key);
  }
  $("ask-scope").replaceChildren(
    ...all.map((key) => {
      const option = el("option", "", name(key));
      option.value = key;
      return option;
    }),
  );
  $("ask-scope-label").hidden = all.length < 2;
}

function askProblem(text) {
  $("ask-problem").textContent = text;
  $("ask-problem").hidden = false;
}

$("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { action, body } = pending;
  const reason = $("ask-reason").value.trim();
  if (!action.needsNoReason && !reason) return askProblem("A reason is needed for the record.");
  if (action.sure && !$("ask-sure").checked) return askProblem("Confirm it first.");
  const wish = action.needsNoReason ? { ...body } : { ...body, reason };
  const [, kind, name] = ($("ask-scope").value || "").split(/:(symbol|strategy):/);
  if (kind) wish[kind] = name;
  $("ask-yes").disabled = true;
  try {
    const answer = await ask(action.path, wish);
    $("ask").close();
    say(answer.done, true);
  } catch (error) {
    askProblem(error.message);
  } finally {
    $("ask-yes").disabled = false;
  }
  return undefined;
});

$("ask-no").addEventListener("click", () => $("ask").close());

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.action) confirmAction(button.dataset.action);
  if (button.dataset.order) story(button.dataset.order);
  if (button.dataset.ack) {
    ask("api/alerts/ack", { alert: button.dataset.ack }).then((answer) => say(answer.done, true), (error) => say(error.message, false));
    button.blur();
  }
});

setInterval(ageAll, 500);
setInterval(() => known.actor !== null && curve(), 10000);
session().catch(loggedOut);
