// The verdict on the capture: its reasons with their next steps, and how old the newest data is.

import { $, el, say } from "./dom.js";
import { count, duration, moment, name } from "./format.js";

const WORDS = {
  complete: "Complete",
  behind: "Behind",
  missing: "Missing",
  rejecting: "Rejecting",
  "in doubt": "In doubt",
  stopped: "Stopped",
  unknown: "Unknown",
};
const SOUND = "All messages are accounted for, and no sequence number is missing.";

const panel = $("#status");
let partitions = new Map();

export function showStatus(found) {
  partitions = new Map(found.partitions.map((one) => [keyOf(one), one]));
  panel.dataset.verdict = found.verdict;
  document.title = `${WORDS[found.verdict]} · K2 trades`;
  say($("h2", panel), WORDS[found.verdict]);
  $(".reasons", panel).replaceChildren(
    ...(found.reasons.length > 0 ? found.reasons.map(reason) : [el("li", { text: SOUND })]),
  );
  say($(".ages", panel), ages(found));
  say($("#place"), `Catalog ${name(found.catalog)} at ${name(found.location)}, namespace ${name(found.namespace)}`);
  return "From the tables, the dead-letter files and the broker";
}

// What the broker says of a partition; undefined if it is not known yet.
export const statusOf = (row) => partitions.get(keyOf(row));

const keyOf = ({ topic, partition }) => `${topic}:${partition}`;

// Both are shown as they are: they quote names from messages, and commands to copy.
function reason(one) {
  return el(
    "li",
    {},
    el("b", { text: `${WORDS[one.verdict]}:` }),
    " ",
    el("span", { text: name(one.sentence) }),
    " ",
    el("span", { class: "next", text: name(one.next_step) }),
  );
}

function ages(found) {
  const facts = [`Last commit ${age(found, found.last_commit_at)}`];
  facts.push(`newest trade ${age(found, found.kafka_timestamp)} by Kafka, ${age(found, found.timestamp)} by the venue`);
  facts.push(found.unread === null ? "unread messages unknown" : `${count(found.unread)} unread`);
  return `${facts.join("; ")}. Last hour: ${found.activity.last_hour.sentence}. Yesterday: ${found.yesterday.sentence}.`;
}

function age(found, time) {
  if (time === null) return "unknown";
  const seconds = (Date.parse(found.checked_at) - Date.parse(time)) / 1_000;
  return `${seconds < 0 ? `${duration(-seconds)} ahead` : `${duration(seconds)} ago`} (${moment(time)})`;
}
