// The known symbols: those offered for selection, and the number that match a filter.

import { $, el } from "./dom.js";
import { label } from "./format.js";

export const SYMBOLS_MAX = 10_000;
const OFFERED_MAX = 100;

const input = $("#symbol");
let known = [];
let isCut = false;

export function setSymbols({ found, limit }) {
  known = found.map((row) => ({ ...row, label: label(row), words: `${row.exchange} ${row.symbol}`.toLowerCase() }));
  isCut = known.length >= limit;
  offer();
}

export const howMany = (filter) => ({
  symbols: known.filter((one) => one.words.includes(filter.toLowerCase())).length,
  isCut,
});

export const busiest = () => known.reduce((best, one) => (best && best.trades >= one.trades ? best : one), null);

// Resolves a text to a symbol: an exact match, or the only one that contains it.
export function named(text) {
  const wanted = text.trim().toLowerCase();
  if (wanted === "") return { why: "Enter a symbol." };
  const exact = known.filter((one) => one.label.toLowerCase() === wanted);
  const fitting = exact.length > 0 ? exact : known.filter((one) => one.label.toLowerCase().includes(wanted));
  if (fitting.length === 1) return { one: fitting[0] };
  const bySymbol = fitting.filter((one) => one.symbol.toLowerCase() === wanted);
  if (bySymbol.length === 1) return { one: bySymbol[0] };
  if (fitting.length === 0) return { why: isCut ? "None of the symbols loaded has that name." : "No symbol has that name." };
  return { why: `${fitting.length} symbols contain that text; enter more of the name.` };
}

// A browser renders all options of a datalist, so only matching ones are listed, up to a maximum.
export function offer() {
  const wanted = input.value.trim().toLowerCase();
  const fitting = known.filter((one) => one.label.toLowerCase().includes(wanted)).slice(0, OFFERED_MAX);
  $("#symbols").replaceChildren(...fitting.map((one) => el("option", { value: one.label })));
}

input.addEventListener("input", offer);
