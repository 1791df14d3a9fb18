// Progress, lag and freshness of each partition; the stalest first if there are many.

import { $, el, number, say } from "./dom.js";
import { count, duration, moment, name, plural } from "./format.js";
import { statusOf } from "./status.js";

const ROWS_MAX = 24;

const panel = $("#partitions");
const seen = new Map();

export function showPartitions(rows) {
  const ages = rows.map((row) => row.age_seconds).filter((age) => age !== null);
  say($(".figure", panel), ages.length > 0 ? `newest trade ${duration(Math.min(...ages))} ago` : "");
  const shown = rows.length > ROWS_MAX ? [...rows].sort(byAge).slice(0, ROWS_MAX) : rows;
  $("tbody", panel).replaceChildren(...shown.map(line));
  const rest = rows.length - shown.length;
  say($(".rest", panel), rest > 0 ? `The ${ROWS_MAX} stalest; ${plural(rest, "partition")} more.` : "");
  return "From the table’s metadata";
}

const byAge = (one, other) => (other.age_seconds ?? Infinity) - (one.age_seconds ?? Infinity);

function line(row) {
  const status = statusOf(row);
  return el(
    "tr",
    { "data-verdict": status?.verdict },
    el("th", { scope: "row" }, el("bdi", { text: `${name(row.topic)}:${row.partition}` })),
    number(count(row.offset)),
    number(known(status?.end_offset)),
    number(status?.verdict === "stopped" ? `${known(status.unread)} stopped` : known(status?.unread), { class: "unread" }),
    number(rate(row)),
    number(row.kafka_timestamp === null ? "–" : moment(row.kafka_timestamp), { class: "when" }),
    number(row.age_seconds === null ? "–" : duration(row.age_seconds)),
    number(row.committed_at === null ? "earlier" : moment(row.committed_at), { class: "when" }),
  );
}

const known = (value) => (value === undefined || value === null ? "–" : count(value));

// Messages per second between the partition's last two commits seen by this page.
function rate(row) {
  const key = `${row.topic}:${row.partition}`;
  const before = seen.get(key);
  if (row.committed_at === null) return "–";
  if (before?.committed_at === row.committed_at) return before.rate;
  const seconds = before ? (Date.parse(row.committed_at) - Date.parse(before.committed_at)) / 1_000 : 0;
  const found = seconds > 0 ? count(Math.round(Number(row.received - before.received) / seconds)) : "–";
  seen.set(key, { committed_at: row.committed_at, received: row.received, rate: found });
  return found;
}

// Changes if and only if a commit has advanced a partition.
export const versionOf = (rows) =>
  rows.map((row) => [row.topic, row.partition, row.offset, row.received, row.committed_at].join(" ")).join("\n");

export const newestOf = (rows) =>
  rows.reduce((newest, row) => Math.max(newest, row.timestamp === null ? -Infinity : Date.parse(row.timestamp)), -Infinity);

