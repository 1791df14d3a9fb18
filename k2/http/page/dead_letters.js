// Dead letters by reason, and what each reason means.

import { $, el, say } from "./dom.js";
import { count, minute, name, plural } from "./format.js";

const MEANINGS = {
  malformed: "cannot be read",
  invalid: "a field is wrong",
  unsupported: "unknown kind of message",
  conflict: "a stored number with other content",
  too_large: "too large to store",
};

const panel = $("#dead-letters");

export function showDeadLetters({ dead_letters: total, reasons, newest }) {
  const rows = Object.entries(reasons).sort(([, one], [, other]) => other - one);
  say($(".figure", panel), total === 0 ? "none" : plural(total, "message"));
  $("tbody", panel).replaceChildren(...rows.map(([reason, messages]) => row(reason, messages, total)));
  say($(".rest", panel), newest === null ? "" : `The newest was set aside ${minute(newest)}.`);
  return "Counted in the files";
}

function row(reason, messages, total) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("bdi", { text: name(reason) }), el("small", { text: ` ${MEANINGS[reason] ?? ""}` })),
    el("td", { class: "number", text: count(messages) }),
    el("td", { class: "share" }, el("meter", { max: total, value: messages, "aria-label": `share of ${name(reason)}` })),
  );
}
