// History of the job in intervals of 15 minutes: its rate, rejections, gaps and pauses, each as a small bar chart that
// is also described in words, and all of it as a table.

import { $, el, number, say } from "./dom.js";
import { count, duration, minute, plural, rounded, total } from "./format.js";

export const INTERVAL = "15m";
export const INTERVALS = 96;
const SECONDS = 900;
const RATE_SECONDS_MIN = 60; // Of an interval that has only begun.
const HEIGHT = 40;
const HEIGHT_MIN = 1.5; // Anything above zero is visible.
const SVG = "http://www.w3.org/2000/svg";

const panel = $("#history");
let rows = [];

// `words` writes a value with its unit.
const CHARTS = [
  {
    title: "Received",
    value: (all) => plural(sum(all, "received"), "message"),
    words: (value) => `${rounded(value)} messages/s`,
    series: [{ of: rate }],
    latest: true,
  },
  {
    title: "Dead letters",
    value: (all) => plural(sum(all, "dead_letters"), "message"),
    words: (value) => plural(value, "message"),
    series: [{ class: "bad", of: (row) => Number(row.dead_letters) }],
  },
  {
    title: "Gaps",
    value: (all) => `${plural(sum(all, "missing_opened"), "number")} missing, ${count(sum(all, "missing_filled"))} filled`,
    words: (value) => plural(value, "number"),
    series: [
      { class: "bad", of: (row) => Number(row.missing_opened) },
      { class: "good", of: (row) => Number(row.missing_filled) },
    ],
  },
  {
    title: "Lag",
    value: (all) => {
      const known = all.map((row) => row.lag_max).filter((lag) => lag !== null);
      return known.length === 0 ? "unknown" : plural(known.at(-1), "message");
    },
    words: (value) => plural(value, "message"),
    series: [{ class: "warn", of: (row) => Number(row.lag_max ?? 0) }],
  },
  {
    title: "Longest time between commits",
    value: (all) => {
      const longest = Math.max(...all.map((row) => row.between_commits_seconds_max ?? -1));
      return longest < 0 ? "unknown" : duration(longest);
    },
    words: duration,
    series: [{ class: "warn", of: (row) => row.between_commits_seconds_max ?? 0 }],
  },
];

function sum(all, field) {
  return total(all.map((row) => row[field]));
}

function rate({ received, start }) {
  const elapsed = Math.max(RATE_SECONDS_MIN, (Date.now() - Date.parse(start)) / 1_000);
  return Number(received) / Math.min(SECONDS, elapsed);
}

export function showHistory(found) {
  rows = found;
  const commits = sum(rows, "commits");
  say($(".figure", panel), rows.length === 0 ? "" : plural(commits, "commit"));
  $(".charts", panel).replaceChildren(...(rows.length === 0 ? [] : CHARTS.map(chart)));
  fillTable();
  return commits === 0n ? "The commit log has no commit in these hours" : `From the commit log and the ledger, by the job’s clock, every ${SECONDS / 60} minutes`;
}

function chart({ title, value, words, series, latest }) {
  const values = series.map(({ of }) => rows.map(of));
  const highest = Math.max(...values.flat());
  const at = Math.max(...values.map((all) => all.indexOf(highest)));
  const most = highest > 0 ? `highest ${words(highest)}, ${minute(rows[at].start)}` : "none";
  // The newest interval has only begun, unless the capture has.
  const note = latest && highest > 0 ? `${most}; latest ${words(values[0].at(-2) || values[0].at(-1))}` : most;
  const span = `${minute(rows[0].start)} to ${minute(Date.parse(rows.at(-1).start) + 1_000 * SECONDS)} UTC`;
  return el(
    "li",
    {},
    el("h3", { text: title }),
    el("p", { class: "value", text: value(rows) }),
    drawing(`${title} every ${SECONDS / 60} minutes from ${span}: ${note}`, series, values, highest),
    el("p", { class: "note", text: note }),
  );
}

function drawing(words, series, values, highest) {
  const image = svg("svg", { role: "img", "aria-label": words, viewBox: `0 0 ${rows.length} ${HEIGHT}`, preserveAspectRatio: "none" });
  image.append(
    svg("path", { class: "base", d: `M0 ${HEIGHT}H${rows.length}` }),
    ...series.map((one, at) => svg("path", { class: one.class ?? "plain", d: bars(values[at], highest, at / series.length, 0.85 / series.length) })),
  );
  return image;
}

const bars = (values, highest, shift, width) =>
  values
    .map((value, at) => (value > 0 ? `M${at + shift} ${HEIGHT}v${-Math.max(HEIGHT_MIN, (HEIGHT * value) / highest)}h${width}V${HEIGHT}z` : ""))
    .join("");

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const COUNTS = ["received", "stored", "duplicates", "dead_letters", "skipped", "commits"];

function fillTable() {
  const details = $("details", panel);
  if (!details.open) return;
  $("tbody", details).replaceChildren(
    ...[...rows].reverse().map((row) => {
      const pause = row.between_commits_seconds_max;
      const texts = [
        ...COUNTS.map((field) => count(row[field])),
        row.lag_max === null ? "–" : count(row.lag_max),
        pause === null ? "–" : duration(pause),
        count(row.missing_opened),
        count(row.missing_filled),
        count(row.starts),
      ];
      return el("tr", {}, el("th", { scope: "row", text: minute(row.start) }), ...texts.map((text) => number(text)));
    }),
  );
}

$("details", panel).addEventListener("toggle", fillTable);
