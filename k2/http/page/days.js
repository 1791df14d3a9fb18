// The days that have trades, to choose from; the latest 24 hours are the default.

import { $, el } from "./dom.js";
import { plural } from "./format.js";

const select = $("#day");
let known = [];
let selected = null;

export function setDays(rows) {
  known = rows;
  offer();
}

export function selectDay(day) {
  selected = day;
  offer();
}

// A day that a link names is offered even if it has no trades.
function offer() {
  const days = [...known].reverse().map(({ day, trades }) => ({ day, words: plural(trades, "trade") }));
  if (selected !== null && !known.some((one) => one.day === selected)) days.unshift({ day: selected, words: "no trades" });
  const options = [{ value: "", text: "Latest 24 hours" }, ...days.map(({ day, words }) => ({ value: day, text: `${day} · ${words}` }))];
  const isSame = options.length === select.length && options.every(({ value, text }, at) => select[at].value === value && select[at].text === text);
  // An open list stays open if nothing has changed.
  if (!isSame) select.replaceChildren(...options.map(({ value, text }) => el("option", { value, text })));
  select.value = selected ?? "";
}
