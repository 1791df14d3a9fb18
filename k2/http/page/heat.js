// Completeness of each symbol by hour: a grid with keyboard navigation, whose cells show the missing share as a number
// and as a colour.

import { $, el, number, say } from "./dom.js";
import { doubtOf, doubtful } from "./doubts.js";
import { count, label, minute, name, percent, plural, total } from "./format.js";

export const WORST = 24;
export const HOURS = 24;
export const HOUR_MS = 3_600_000;
// As the missing trades of a symbol that is not numbered: it comes after those that are.
const NOT_NUMBERED = -1n;
// On a narrow screen the newest hours come first; the others are reached by scrolling the table.
export const narrow = matchMedia("(max-width: 40rem)");
const FIRST_CELL = 2; // After the symbol and its missing trades.
const KEY_OF = (row) => JSON.stringify([row.exchange, row.symbol]);

const panel = $("#completeness");
const grid = $("#heat");
let lines = [];
let selected = { row: 0, column: 0 };
let chosen = () => {};

export function onChosen(take) {
  chosen = take;
}

// `totals` are those of all symbols; `known` is the number of symbols that contain the filter: { symbols, isCut }.
export function showHeat({ rows, totals }, start, known) {
  const focused = grid.contains(document.activeElement);
  const held = lines[selected.row]?.key;
  lines = gather(rows, start);
  say($(".figure", panel), describeTotals(totals));
  grid.replaceChildren(head(start), el("tbody", {}, ...lines.map((line) => body(line, start))));
  const again = lines.findIndex((line) => line.key === held);
  go({ row: Math.max(0, again), column: selected.column }, focused);
  return lines.length === 0 ? "No trades expected in these hours" : `Counted from the rows; ${describeSelection(known)}`;
}

// Symbols that are not numbered do not count in the percentage.
function describeTotals({ symbols, symbols_not_numbered, expected, missing, accepted }) {
  const share = expected === null ? "" : `${percent(BigInt(expected) - BigInt(missing), expected)} of `;
  return [
    ...(symbols > 0 ? [`${share}${plural(symbols, "symbol")}`] : []),
    ...(symbols_not_numbered > 0 ? [`${count(symbols_not_numbered)} not numbered`] : []),
    ...(BigInt(accepted) > 0n ? [`${plural(accepted, "number")} accepted as missing`] : []),
    ...(doubtful() > 0 ? [`${count(doubtful())} in doubt`] : []),
  ].join(", ");
}

function describeSelection({ symbols, isCut }) {
  if (lines.length < WORST || symbols <= lines.length) return plural(lines.length, "symbol");
  return `the ${lines.length} symbols with the most missing trades, of ${count(symbols)}${isCut ? " or more" : ""}`;
}

function gather(rows, start) {
  const found = new Map();
  for (const row of rows) {
    const key = KEY_OF(row);
    if (!found.has(key)) found.set(key, { key, row, hours: Array(HOURS).fill(null) });
    const hour = Math.round((Date.parse(row.hour) - start) / HOUR_MS);
    if (hour >= 0 && hour < HOURS) found.get(key).hours[hour] = row;
  }
  const summed = [...found.values()].map((line) => {
    const there = line.hours.filter(Boolean);
    const numbered = there.filter((hour) => hour.expected !== null);
    return {
      ...line,
      stored: total(there.map((hour) => hour.stored)),
      expected: numbered.length > 0 ? total(numbered.map((hour) => hour.expected)) : null,
      missing: numbered.length > 0 ? total(numbered.map((hour) => hour.missing)) : NOT_NUMBERED,
    };
  });
  return summed.sort((one, other) => compare(other.missing, one.missing) || compare(other.stored, one.stored));
}

const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);

function columns() {
  const ascending = [...Array(HOURS).keys()];
  return narrow.matches ? ascending.reverse() : ascending;
}

function head(start) {
  const hours = columns().map((at) => new Date(start + at * HOUR_MS).getUTCHours());
  return el(
    "thead",
    {},
    el(
      "tr",
      {},
      el("th", { scope: "col", text: "Symbol" }),
      el("th", { scope: "col", class: "number", "aria-sort": "descending", text: "Missing" }),
      ...hours.map((hour) => el("th", { scope: "col", class: "hour" }, el("span", { text: String(hour).padStart(2, "0") }))),
      el("th", { scope: "col", class: "number", text: "Stored" }),
    ),
  );
}

function body(line, start) {
  const doubt = doubtOf(line.row);
  const cells = columns().map((at) => {
    const hour = line.hours[at];
    const level = levelOf(hour);
    const spoken = [label(line.row), describeHour(hour, start + at * HOUR_MS), ...(doubt === null ? [] : [doubt])].join(", ");
    return el("td", { role: "gridcell", class: `cell-${level}`, tabindex: "-1", "aria-label": spoken, text: markOf(hour, level) });
  });
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("bdi", { text: name(line.row.symbol) }), " ", el("small", { text: name(line.row.exchange) }), ...mark(doubt)),
    number(line.expected === null ? "–" : count(line.missing)),
    ...cells,
    number(line.expected === null ? "not numbered" : percent(line.expected - line.missing, line.expected)),
  );
}

const mark = (doubt) => (doubt === null ? [] : [" ", el("b", { class: "doubtful", role: "img", "aria-label": doubt, title: doubt, text: "?" })]);

function levelOf(hour) {
  if (hour === null) return "quiet";
  if (hour.expected === null) return "unknown";
  if (BigInt(hour.expected) === 0n) return "quiet";
  if (BigInt(hour.missing) === 0n) return "full";
  if (BigInt(hour.missing) === BigInt(hour.expected)) return "none";
  const share = 1 - Number(hour.missing) / Number(hour.expected);
  return share >= 0.99 ? "most" : share >= 0.9 ? "some" : "few";
}

// Missing trades in percent, rounded up, so that any missing trade shows at least 1.
function markOf(hour, level) {
  if (level === "none") return "✕";
  if (level === "full" || level === "quiet" || level === "unknown") return "";
  const expected = BigInt(hour.expected);
  return String((100n * BigInt(hour.missing) + expected - 1n) / expected);
}

function describeHour(hour, time) {
  const when = `${minute(time)} UTC`;
  if (hour === null) return `${when}: none expected`;
  if (hour.expected === null) return `${when}: ${count(hour.stored)} stored, not numbered`;
  const rest = BigInt(hour.missing) === 0n ? "complete" : `${count(hour.missing)} missing`;
  const accepted = BigInt(hour.accepted) === 0n ? "" : `, ${count(hour.accepted)} accepted as missing`;
  const others = `${accepted}${BigInt(hour.not_numbered) === 0n ? "" : `, and ${count(hour.not_numbered)} not numbered`}`;
  return `${when}: ${count(BigInt(hour.expected) - BigInt(hour.missing))} of ${count(hour.expected)} stored, ${rest}${others}`;
}

const cellAt = ({ row, column }) => grid.tBodies[0]?.rows[row]?.cells[column + FIRST_CELL];

function go(next, withFocus) {
  cellAt(selected)?.setAttribute("tabindex", "-1");
  selected = { row: Math.min(next.row, Math.max(0, lines.length - 1)), column: next.column };
  const cell = cellAt(selected);
  if (cell === undefined) {
    say($("#cell"), "");
    return;
  }
  cell.setAttribute("tabindex", "0");
  if (withFocus) cell.focus();
  say($("#cell"), cell.getAttribute("aria-label"));
}

const MOVES = {
  ArrowUp: ({ row, column }) => ({ row: row - 1, column }),
  ArrowDown: ({ row, column }) => ({ row: row + 1, column }),
  ArrowLeft: ({ row, column }) => ({ row, column: column - 1 }),
  ArrowRight: ({ row, column }) => ({ row, column: column + 1 }),
  Home: ({ row }) => ({ row, column: 0 }),
  End: ({ row }) => ({ row, column: HOURS - 1 }),
  PageUp: ({ column }) => ({ row: 0, column }),
  PageDown: ({ column }) => ({ row: lines.length - 1, column }),
};

grid.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Enter" && lines[selected.row]) chosen(lines[selected.row].row);
  else if (!(event.key in MOVES)) return;
  else {
    const next = MOVES[event.key](selected);
    go({ row: Math.max(0, next.row), column: Math.min(HOURS - 1, Math.max(0, next.column)) }, true);
  }
  event.preventDefault();
});

function placeOf(target) {
  const cell = target.closest?.("td[role=gridcell]");
  return cell ? { row: cell.parentElement.sectionRowIndex, column: cell.cellIndex - FIRST_CELL } : null;
}

for (const kind of ["focusin", "mouseover"]) {
  grid.addEventListener(kind, (event) => {
    const under = placeOf(event.target);
    if (under !== null) say($("#cell"), cellAt(under).getAttribute("aria-label"));
  });
}

grid.addEventListener("click", (event) => {
  const under = placeOf(event.target);
  if (under === null) return;
  go(under, true);
  chosen(lines[under.row].row);
});
