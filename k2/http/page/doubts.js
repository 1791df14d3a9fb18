// Symbols whose numbering is in doubt: they have conflicts, or sessions that start too often.

import { $, say } from "./dom.js";
import { day, label, plural, total } from "./format.js";

const NAMED_MAX = 5;
const KEY_OF = (row) => JSON.stringify([row.exchange, row.symbol]);

// Null until the server has answered.
let found = null;

// `rows` are the days of symbols in doubt only.
export function setDoubts(rows, start, end) {
  found = new Map();
  for (const row of rows) {
    const key = KEY_OF(row);
    if (!found.has(key)) found.set(key, { row, conflicts: [], sessions: [] });
    found.get(key).conflicts.push(row.conflicts);
    found.get(key).sessions.push(row.sessions);
  }
  say($("#doubt"), found.size === 0 ? "" : sentence(start, end));
}

export function showUnknownDoubts() {
  found = null;
  say($("#doubt"), "It is unknown whether a numbering is in doubt.");
}

export const doubtful = () => found?.size ?? 0;

// Description of the doubt about a row's symbol; null if there is none.
export function doubtOf(row) {
  const doubt = found?.get(KEY_OF(row));
  if (doubt === undefined) return null;
  return `numbering in doubt: ${plural(total(doubt.conflicts), "conflict")}, ${plural(total(doubt.sessions), "session")}`;
}

function sentence(start, end) {
  const last = day(end - 1);
  const when = day(start) === last ? `on ${last}` : `from ${day(start)} to ${last}`;
  const names = [...found.values()].slice(0, NAMED_MAX).map(({ row }) => label(row));
  if (found.size > NAMED_MAX) names.push(`${found.size - NAMED_MAX} more`);
  return (
    `The numbering of ${plural(found.size, "symbol")} is in doubt ${when}: ${names.join(", ")}. Trades may be dead letters ` +
    "or stored twice although no number is missing: see k2 dlq list --reason conflict and k2 gaps --all."
  );
}
