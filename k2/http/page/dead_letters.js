// Dead letters by reason and error, and on request the newest of one error. What they contain is shown as text only.

import { $, el, number, say } from "./dom.js";
import { count, excerpt, minute, moment, name, plural, total } from "./format.js";

export const LETTERS_MAX = 20;
const ERRORS_MAX = 30;
const MEANINGS = {
  malformed: "cannot be read",
  invalid: "a field is wrong",
  unsupported: "unknown kind of message",
  conflict: "a stored number with other content",
  too_large: "too large to store",
};

const panel = $("#dead-letters");
const list = $("#letters");
let chosen = () => {};
let selected = null;

// `take` is called with the reason and error whose letters are wanted, or with null.
export function onErrorChosen(take) {
  chosen = take;
}

export function showDeadLetters({ dead_letters: all, errors, newest, replays }) {
  const focused = document.activeElement?.closest?.("#dead-letters tbody") ? document.activeElement.dataset.key : undefined;
  const shown = errors.slice(0, ERRORS_MAX);
  const reasons = Map.groupBy(shown, (one) => one.reason);
  const sums = new Map([...Map.groupBy(errors, (one) => one.reason)].map(([reason, ones]) => [reason, total(ones.map((one) => one.dead_letters))]));
  say($(".figure", panel), all === 0 ? "none" : plural(all, "message"));
  $("tbody", panel).replaceChildren(
    ...[...reasons].flatMap(([reason, ones]) => [reasonRow(reason, sums.get(reason), all), ...ones.map((one) => errorRow(one, all))]),
  );
  if (focused !== undefined) buttons().find((one) => one.dataset.key === focused)?.focus();
  const rest = errors.length - shown.length;
  say(
    $(".rest", panel),
    [
      newest === null ? "" : `The newest was set aside ${minute(newest)}.`,
      rest > 0 ? ` The ${ERRORS_MAX} commonest errors; ${plural(rest, "error")} more.` : "",
      replays?.replayed > 0 ? ` ${replayed(replays)}` : "",
    ].join(""),
  );
  return "Counted in the files";
}

function replayed({ waiting, replayed: all, stored, rejected_again: rejected, unread }) {
  const outcomes = [
    [stored, "stored since"],
    [rejected, "rejected again"],
    [unread, "not read yet"],
  ];
  const said = outcomes.filter(([some]) => some > 0).map(([some, outcome]) => `${count(some)} ${outcome}`);
  return `${count(waiting)} waiting, ${count(all)} replayed${said.length > 0 ? `: ${said.join(", ")}` : ""}.`;
}

function row(kind, head, messages, all, words) {
  return el(
    "tr",
    { class: kind },
    head,
    number(count(messages)),
    el("td", { class: "share" }, el("meter", { max: all, value: messages, "aria-label": `share of ${words}` })),
  );
}

function reasonRow(reason, messages, all) {
  const head = el("th", { scope: "row" }, el("bdi", { text: name(reason) }), el("small", { text: ` ${MEANINGS[reason] ?? ""}` }));
  return row("reason", head, messages, all, name(reason));
}

function errorRow({ reason, error, dead_letters: messages }, all) {
  const key = JSON.stringify([reason, error]);
  const button = el("button", { type: "button", class: "link", "aria-expanded": String(key === selected), "aria-controls": "letters", "data-key": key });
  button.append(el("bdi", { text: name(error) }));
  button.addEventListener("click", () => choose(key === selected ? null : { key, reason, error }));
  return row("error", el("th", { scope: "row" }, button), messages, all, name(error));
}

const buttons = () => [...panel.querySelectorAll("tbody button")];

function choose(error) {
  selected = error?.key ?? null;
  for (const button of buttons()) button.setAttribute("aria-expanded", String(button.dataset.key === selected));
  list.hidden = error === null;
  $("ol", list).replaceChildren();
  say($(".what", list), error === null ? "" : `Loading the newest of: ${name(error.error)}`);
  chosen(error);
}

$("button", list).addEventListener("click", () => {
  const button = buttons().find((one) => one.dataset.key === selected);
  choose(null);
  button?.focus();
});

export function showLetters(rows, { error }) {
  say($(".what", list), `The newest ${rows.length === 1 ? "" : `${count(rows.length)} `}of: ${name(error)}`);
  $("ol", list).replaceChildren(...rows.map(letter));
}

export function showNoLetters(sentence) {
  if (sentence !== "") say($(".what", list), sentence);
}

function letter(row) {
  const where = `${name(row.topic)}:${row.partition} offset ${row.offset}${row.index > 0 ? `, trade ${row.index}` : ""}`;
  const when = row.dead_lettered_at === null ? "" : `, set aside ${moment(row.dead_lettered_at)}`;
  const { text, isWhole } = excerpt(row.value, row.value_encoding, row.value_bytes);
  return el(
    "li",
    {},
    el("p", {}, el("b", { text: where }), el("small", { text: `${when}, venue ${name(row.venue)}` })),
    el("p", { class: "why", text: name(row.error) }),
    el("pre", { text: row.value === null ? "null" : text, tabindex: "0", "aria-label": `Message at offset ${row.offset}` }),
    el("p", {
      class: "note",
      text: `${plural(row.value_bytes ?? 0, "byte")}${isWhole ? "" : "; only the start is shown"}: k2 dlq show ${shellWord(row.topic)} ${row.partition} ${row.offset} --value`,
    }),
  );
}

// A command to copy must not run anything that a topic's name contains.
const shellWord = (text) => (/^[\w.-]+$/.test(text) ? text : `'${name(text).replaceAll("'", "'\\''")}'`);
