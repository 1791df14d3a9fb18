// Dead letters by reason, and what each reason means.

import { $, el, say } from "./dom.js";
import { count, minute, name, plural } from "./format.js";

const MEANINGS = {
  malformed: "cannot be read",
  invalid: "a field is wrong",
  unsupported: "of a kind not known",
  conflict: "a number again, with other content",
  too_large: "too large to store",
};

const panel = $("#letters");

export function showLetters({ dead_letters: every, reasons, newest }) {
  const rows = Object.entries(reasons).sort(([, one], [, other]) => other - one);
  say($(".figure", panel), every === 0 ? "none" : plural(every, "message"));
  $("tbody", panel).replaceChildren(...rows.map(([reason, messages]) => line(reason, messages, every)));
  say($(".rest", panel), newest === null ? "" : `The newest was set aside ${minute(newest)}.`);
  return "Counted in the files";
}

function line(reason, messages, every) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("bdi", { text: name(reason) }), el("small", { text: ` ${MEANINGS[reason] ?? ""}` })),
    el("td", { class: "number", text: count(messages) }),
    el("td", { class: "share" }, el("meter", { max: every, value: messages, "aria-label": `share of ${name(reason)}` })),
  );
}
