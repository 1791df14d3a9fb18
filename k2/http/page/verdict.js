// Reconciliation: the sums over all partitions, and the partitions whose counts do not add up.

import { $, el, say } from "./dom.js";
import { doubtful } from "./doubts.js";
import { count, name, plural, total } from "./format.js";

const FATES = [
  ["stored", "stored"],
  ["duplicates", "duplicates"],
  ["dead_letters", "dead letters"],
  ["skipped", "skipped"],
  ["corrections", "corrections"],
];
// Most captures have none, and need no term that is 0.
const RARE = ["corrections"];
const FAULTS_MAX = 20;

const panel = $("#verdict");
let outcome = null;

export function showVerdict(rows) {
  const failing = rows.filter((row) => !row.holds);
  const received = total(rows.map((row) => row.received));
  const found = total(FATES.flatMap(([field]) => rows.map((row) => row[field])));
  outcome = rows.length === 0 ? "unknown" : failing.length > 0 ? "fails" : "holds";
  titleVerdict();
  const fates = FATES.map(([field, words]) => [total(rows.map((row) => row[field])), words]).filter(
    ([value, words]) => value > 0n || !RARE.includes(words),
  );
  $(".equation", panel).replaceChildren(
    ...term(received, "received"),
    sign(received === found ? "=" : "≠"),
    ...fates.flatMap(([value, words], at) => [...(at > 0 ? [sign("+")] : []), ...term(value, words)]),
  );
  $(".faults", panel).replaceChildren(...failing.slice(0, FAULTS_MAX).map((row) => el("li", { text: fault(row) })));
  if (failing.length > FAULTS_MAX) {
    $(".faults", panel).append(el("li", { text: `and ${count(failing.length - FAULTS_MAX)} more partitions` }));
  }
  return rows.length === 0
    ? "The job has read nothing yet"
    : `Counted from the table’s rows and the dead-letter files of ${plural(rows.length, "partition")}`;
}

// Sums that add up do not make a numbering right: contradictory trades are accounted for as well.
export function titleVerdict() {
  if (outcome === null) return;
  const symbols = doubtful();
  panel.dataset.verdict = outcome === "holds" && symbols > 0 ? "doubt" : outcome;
  say($("h2", panel), symbols > 0 ? `${TITLES[outcome]}, numbering in doubt` : TITLES[outcome]);
}

const TITLES = { unknown: "Nothing received yet", holds: "Accounted for", fails: "Not accounted for" };

const term = (value, words) => [
  el("span", { class: "term" }, el("b", { text: count(value) }), " ", el("span", { text: words })),
];

const sign = (text) => el("span", { class: "sign", text: ` ${text} ` });

function fault(row) {
  const found = total(FATES.map(([field]) => row[field]));
  const off = BigInt(row.received) - found;
  const where = `${name(row.topic)} partition ${row.partition}`;
  if (off > 0n) return `${where}: ${count(off)} of ${count(row.received)} received messages are missing`;
  if (off < 0n) return `${where}: ${count(-off)} more outcomes than the ${count(row.received)} received`;
  return `${where}: the counts differ from the table’s progress, or a trade occurs twice`;
}
