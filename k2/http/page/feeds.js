// What each of several feeds brought and lost; without feeds the panel is not shown.

import { $, el, number, say } from "./dom.js";
import { count, name, plural, total } from "./format.js";

const panel = $("#feeds");

// `rows` are the sums of exchanges, by day and feed.
export function showFeeds(rows) {
  panel.hidden = rows.length === 0;
  const lost = total(rows.map((row) => row.lost_alone));
  say($(".figure", panel), lost === 0n ? "none lost alone" : `${plural(lost, "trade")} that only others have`);
  $("tbody", panel).replaceChildren(...rows.map(line));
  return "By venue time";
}

const milliseconds = (seconds) => (seconds === null ? "–" : `${(1_000 * seconds).toFixed(seconds < 0.1 ? 1 : 0)} ms`);

function line(row) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("bdi", { text: `${name(row.exchange)} ${name(row.feed)}` }), el("small", { text: ` ${row.day}` })),
    number(count(row.brought)),
    number(count(row.lost_alone)),
    number(count(row.lost_by_all)),
    number(`${count(row.first)} of ${count(row.compared)}`),
    number(`${milliseconds(row.lag_p50_seconds)}, ${milliseconds(row.lag_p99_seconds)}`),
  );
}
