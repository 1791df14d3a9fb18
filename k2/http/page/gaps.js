// Open gaps, largest first.

import { $, el, number, say } from "./dom.js";
import { count, day, duration, label, minute, plural, total } from "./format.js";

export const GAPS_MAX = 500;

const panel = $("#gaps");

export function showGaps(rows) {
  const isCut = rows.length >= GAPS_MAX;
  const missing = total(rows.map((row) => row.missing));
  const more = isCut ? " or more" : "";
  say(
    $(".figure", panel),
    rows.length === 0 ? "none" : `${plural(rows.length, "gap")}${more}, ${plural(missing, "number")}${more}`,
  );
  $("tbody", panel).replaceChildren(...rows.map(line));
  say($(".rest", panel), isCut ? `The ${count(GAPS_MAX)} largest; there may be more.` : "");
  return rows.length === 0 ? "No number is missing" : "From the ledger";
}

// A venue has its trades until a time, or while they are among the newest ones of their symbol.
function deadline({ fillable_until: until, fillable_numbers: numbers }) {
  if (numbers !== null) return numbers > 0 ? plural(numbers, "number") : "no more";
  if (until === null) return "";
  return Date.parse(until) > Date.now() ? `until ${day(until)}` : "no more";
}

function line(row) {
  const { first_sequence: first, last_sequence: last } = row;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("bdi", { text: label(row) })),
    number(count(row.missing)),
    number(first === last ? `${first}` : `${first} – ${last}`),
    el("td", { class: "number when" }, minute(row.opened_at), el("small", { text: ` ${duration(row.open_seconds)}` })),
    el("td", { text: row.cause ?? "", title: row.incident ?? "" }),
    number(deadline(row), { title: row.fillable_until === null ? "" : `${minute(row.fillable_until)} UTC` }),
  );
}
