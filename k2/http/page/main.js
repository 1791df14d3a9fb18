// The page: polls of the API and what they update.

import { ask, askSql } from "./api.js";
import { BARS_MAX, DAYS, askFitted, showCandles } from "./candles.js";
import { selectDay, setDays } from "./days.js";
import { $, say } from "./dom.js";
import { clock, label, minute } from "./format.js";
import { contact, isAnswering, onKey, showPaused } from "./connection.js";
import { setDoubts, showUnknownDoubts } from "./doubts.js";
import { showFeeds } from "./feeds.js";
import { GAPS_MAX, showGaps } from "./gaps.js";
import { HOURS, HOUR_MS, WORST, narrow, onChosen, showHeat } from "./heat.js";
import { INTERVAL, INTERVALS, showHistory } from "./history.js";
import { LETTERS_MAX, onErrorChosen, showDeadLetters, showLetters, showNoLetters } from "./dead_letters.js";
import { newestOf, showPartitions, versionOf } from "./partitions.js";
import { Poll, everyPoll, setPaused } from "./poll.js";
import { readView, writeView } from "./state.js";
import { showStatus } from "./status.js";
import { SYMBOLS_MAX, busiest, howMany, setSymbols, named, offer } from "./symbols.js";
import { showVerdict, titleVerdict } from "./verdict.js";

const FILTER_WAIT_MS = 400;
const DAY_MS = 24 * HOUR_MS;

let view = readView();
let version;
let newest = null;
let isPaused = false;
let isBack = false;

function hours() {
  const start = view.day === null ? Math.floor((newest ?? Date.now()) / HOUR_MS) * HOUR_MS - (HOURS - 1) * HOUR_MS : Date.parse(view.day);
  return { start, end: start + HOURS * HOUR_MS };
}

function showHours() {
  const { start, end } = hours();
  say($("#hours"), `From ${minute(start)} to ${minute(end)} UTC`);
}

const iso = (time) => new Date(time).toISOString();

async function findNewest(rows) {
  let found = newestOf(rows);
  // If the metadata does not record the last commits, the rows are queried, once.
  if (found === -Infinity && newest === null && rows.length > 0) {
    const [row] = (await askSql('SELECT max("timestamp") AS newest FROM trades')).found;
    found = row.newest === null ? -Infinity : Date.parse(row.newest);
  }
  // A trade dated far in the future must not move the page's hours.
  if (found > -Infinity) newest = Math.min(Math.max(found, newest ?? found), Date.now() + DAY_MS);
}

function panelPoll(id, { seconds, ask: request, show, isHeavy = true, afterStatus = () => {} }) {
  const panel = $(id);
  return new Poll({
    seconds,
    contact,
    ask: request,
    version: isHeavy ? () => version : null,
    setStatus: (sentence) => {
      say($(".state", panel), sentence);
      panel.toggleAttribute("data-stale", sentence !== "");
      afterStatus();
    },
    show: (answer, time) => {
      panel.toggleAttribute("data-shown", true);
      say($(".asof", panel), `${show(answer)}, ${clock(time)} UTC.`);
    },
  });
}

const progress = panelPoll("#partitions", {
  seconds: 5,
  isHeavy: false,
  ask: async (signal) => {
    const { found } = await ask("v1/progress", {}, signal);
    await findNewest(found);
    return found;
  },
  show: (rows) => {
    version = versionOf(rows);
    showHours();
    if (isBack) everyPoll().forEach((poll) => poll.tick());
    isBack = false;
    return showPartitions(rows);
  },
  // The other polls need the hours of the newest trades; without any trades they use today's.
  afterStatus: () => {
    if (isAnswering()) begin();
  },
});

panelPoll("#status", {
  seconds: 5,
  isHeavy: false,
  ask: (signal) => ask("v1/status", {}, signal),
  show: ({ found }) => {
    const shown = showStatus(found);
    progress.showAgain();
    return shown;
  },
});

panelPoll("#verdict", {
  seconds: 60,
  ask: (signal) => ask("v1/reconcile", {}, signal),
  show: ({ found }) => showVerdict(found),
});

// By the job's clock: trades of other days may have been committed in the last 24 hours.
const history = panelPoll("#history", {
  seconds: 60,
  ask: (signal) => {
    const span = view.day === null ? {} : { start: iso(hours().start), end: iso(hours().end) };
    return ask("v1/history", { interval: INTERVAL, limit: INTERVALS, ...span }, signal);
  },
  show: ({ found }) => showHistory(found),
});

const heat = panelPoll("#completeness", {
  seconds: 60,
  ask: async (signal) => {
    const { start, end } = hours();
    const fields = { by: "hour", start: iso(start), end: iso(end), worst: WORST, containing: view.filter };
    return { start, summary: (await ask("v1/completeness/summary", fields, signal)).found };
  },
  show: ({ start, summary }) => showHeat(summary, start, howMany(view.filter)),
});

// A second session puts a whole day in doubt, so whole days are queried.
const doubts = new Poll({
  seconds: 60,
  contact,
  version: () => version,
  ask: async (signal) => {
    const start = Math.floor(hours().start / DAY_MS) * DAY_MS;
    const end = Math.ceil(hours().end / DAY_MS) * DAY_MS;
    return { start, end, rows: (await ask("v1/completeness", { in_doubt: true, start: iso(start), end: iso(end) }, signal)).found };
  },
  setStatus: (sentence) => {
    if (sentence === "") return;
    showUnknownDoubts();
    titleVerdict();
  },
  show: ({ start, end, rows }) => {
    setDoubts(rows, start, end);
    titleVerdict();
    heat.showAgain();
  },
});

const gaps = panelPoll("#gaps", {
  seconds: 60,
  ask: (signal) => ask("v1/gaps", { limit: GAPS_MAX }, signal),
  show: ({ found }) => showGaps(found),
});

const feeds = panelPoll("#feeds", {
  seconds: 60,
  ask: (signal) => ask("v1/feeds", { by: "exchange", start: iso(hours().start), end: iso(hours().end) }, signal),
  show: ({ found }) => showFeeds(found),
});

const deadLetters = panelPoll("#dead-letters", {
  seconds: 60,
  ask: (signal) => ask("v1/dead-letters", { by: "error" }, signal),
  show: ({ found }) => showDeadLetters(found),
});

let error = null;

const letters = new Poll({
  seconds: 60,
  contact,
  version: () => version,
  ask: async (signal) => {
    const of = error;
    if (of === null) return { of };
    return { ...(await ask("v1/dead-letters/list", { reason: of.reason, error: of.error, limit: LETTERS_MAX }, signal)), of };
  },
  setStatus: (sentence) => {
    if (error !== null) showNoLetters(sentence);
  },
  show: ({ found, of }) => {
    if (of !== null && of === error) showLetters(found, of);
  },
});

onErrorChosen((one) => {
  error = one;
  if (error === null) letters.stop();
  else letters.now({ isChanged: true });
});

const candles = panelPoll("#candles", {
  seconds: 60,
  ask: async (signal) => {
    const { exchange, symbol, day } = view;
    const end = hours().end;
    const askBars = async (interval) => {
      const fields = { exchange: exchange ?? undefined, symbol, interval, limit: BARS_MAX };
      return (await ask("v1/ohlcv", { ...fields, start: iso(end - DAYS[interval] * DAY_MS), end: iso(end) }, signal)).found;
    };
    const { rows, interval } =
      view.interval === null ? await askFitted(askBars) : { rows: await askBars(view.interval), interval: view.interval };
    return { rows, what: { one: { exchange, symbol }, interval, key: JSON.stringify([exchange, symbol, interval, day]) } };
  },
  show: ({ rows, what }) => showCandles(rows, what),
});

const symbols = new Poll({
  seconds: 300,
  contact,
  ask: (signal) => ask("v1/symbols", { limit: SYMBOLS_MAX }, signal),
  version: () => version,
  setStatus: (sentence) => {
    if (view.symbol === null && sentence !== "") candles.setStatus(sentence);
  },
  show: (answer) => {
    setSymbols(answer);
    const best = busiest();
    if (view.symbol === null && best !== null) choose(best, { isOwn: false });
    if (view.symbol === null) candles.setStatus("There are no trades yet.");
    showChoice();
    heat.showAgain();
  },
});

new Poll({
  seconds: 300,
  contact,
  ask: (signal) => ask("v1/days", {}, signal),
  version: () => version,
  // Without the days, the latest hours can still be chosen.
  setStatus: () => {},
  show: ({ found }) => setDays(found),
});

function change(changes, ...polls) {
  view = { ...view, ...changes };
  writeView(view);
  selectDay(view.day);
  showHours();
  polls.filter(isWanted).forEach((poll) => poll.now({ isChanged: true }));
}

function choose({ exchange, symbol }, { isOwn = true } = {}) {
  if (isOwn) change({ exchange, symbol }, candles);
  else {
    view = { ...view, exchange, symbol };
    candles.now({ isChanged: true });
  }
  showChoice();
}

function showChoice() {
  const isTyping = document.activeElement === $("#symbol");
  if (view.symbol !== null && !isTyping) $("#symbol").value = label(view);
  $("#interval").value = view.interval ?? "";
  $("#filter").value = view.filter;
  offer();
}

$("#choice").addEventListener("submit", (event) => {
  event.preventDefault();
  const { one, why } = named($("#symbol").value);
  say($("#choice-why"), why ?? "");
  if (one !== undefined) {
    choose(one);
    $("#symbol").value = one.label;
  }
});

$("#interval").addEventListener("change", () => change({ interval: $("#interval").value || null }, candles));
$("#view").addEventListener("submit", (event) => event.preventDefault());
$("#day").addEventListener("change", () => change({ day: $("#day").value || null }, history, heat, doubts, feeds, candles));
narrow.addEventListener("change", () => heat.showAgain());

let filtering;
$("#filter").addEventListener("input", () => {
  clearTimeout(filtering);
  filtering = setTimeout(() => change({ filter: $("#filter").value.trim() }, heat), FILTER_WAIT_MS);
});

addEventListener("hashchange", () => {
  view = readView();
  selectDay(view.day);
  showHours();
  showChoice();
  [history, heat, doubts, feeds, candles].filter(isWanted).forEach((poll) => poll.now({ isChanged: true }));
});

onChosen((row) => {
  choose(row);
  say($("#choice-why"), "");
});

let hasBegun = false;

function begin() {
  if (hasBegun) return;
  hasBegun = true;
  everyPoll().filter(isWanted).forEach((poll) => poll.now());
}

// Candles need a symbol, and letters an error; nothing is queried until one is selected.
const isWanted = (poll) => poll !== progress && (poll !== candles || view.symbol !== null) && (poll !== letters || error !== null);

function updateAll() {
  progress.now();
  if (hasBegun) everyPoll().filter(isWanted).forEach((poll) => poll.now());
}

$("#update").addEventListener("click", updateAll);
$("#pause").addEventListener("click", () => {
  isPaused = !isPaused;
  setPaused(isPaused);
  $("#pause").setAttribute("aria-pressed", String(isPaused));
  showPaused(isPaused);
  if (!isPaused) updateAll();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden || isPaused) return;
  isBack = true;
  progress.tick();
});

onKey(updateAll);
selectDay(view.day);
showChoice();
updateAll();
