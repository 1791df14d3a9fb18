// Candles and volumes of one symbol. The chart draws in floats; the text above it has all digits.

import { $, el, number, say } from "./dom.js";
import { count, decimal, label, minute, plural, second } from "./format.js";
import { CandlestickSeries, HistogramSeries, createChart } from "./vendor/lightweight-charts.js";

const SECONDS = { "1s": 1, "10s": 10, "1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "1d": 86_400 };
export const DAYS = { "1s": 1, "10s": 1, "1m": 1, "5m": 1, "15m": 1, "1h": 7, "1d": 90 };
const FITTED = ["1s", "10s", "1m", "5m", "15m"];
const FITTED_MAX = 120;
export const BARS_MAX = 2_000;
const DIGITS_MAX = 12;
const TABLE_MAX = 100;

const panel = $("#candles");
const box = $("#chart");
const dark = matchMedia("(prefers-color-scheme: dark)");
let bars = [];
let drawn = null;
let selected = -1;
let shown = "";
let timeOf = minute;

// Resolves to the bars of the finest interval that has at most 120 of them, for trades within one day. `ask(interval)`
// resolves to bars; a coarse interval shows roughly how long the trades last, a finer one more exactly.
export async function askFitted(ask) {
  for (let interval = FITTED.at(-1); ; ) {
    const rows = await ask(interval);
    const finer = rows.length === 0 ? interval : fitted(rows, SECONDS[interval]) ?? interval;
    if (SECONDS[finer] >= SECONDS[interval]) return { rows, interval };
    interval = finer;
  }
}

function fitted(rows, seconds) {
  const span = (Date.parse(rows.at(-1).start) - Date.parse(rows[0].start)) / 1_000 + seconds;
  return FITTED.find((interval) => span / SECONDS[interval] <= FITTED_MAX);
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function make() {
  const chart = createChart(box, {
    autoSize: true,
    layout: { attributionLogo: false, fontFamily: getComputedStyle(document.body).fontFamily },
    // The wheel and touch gestures scroll the page, not the chart.
    handleScroll: { mouseWheel: false, vertTouchDrag: false },
    handleScale: { mouseWheel: false },
    kineticScroll: { touch: false, mouse: false },
    timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 2 },
    localization: { locale: "en-US", timeFormatter: (time) => `${timeOf(time * 1_000)} UTC` },
  });
  const candles = chart.addSeries(CandlestickSeries, { borderVisible: false, priceLineVisible: false });
  const volumes = chart.addSeries(HistogramSeries, {
    priceScaleId: "", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
  });
  volumes.priceScale().applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
  candles.priceScale().applyOptions({ scaleMargins: { top: 0.06, bottom: 0.22 } });
  chart.subscribeCrosshairMove((event) => {
    if (event.time !== undefined) showBar(bars.findIndex((bar) => bar.time === event.time));
  });
  return { chart, candles, volumes };
}

function paint() {
  if (drawn === null) return;
  const [line, muted, up, down] = ["--line", "--muted", "--up", "--down"].map(colour);
  drawn.chart.applyOptions({
    layout: { background: { color: colour("--panel") }, textColor: muted },
    grid: { vertLines: { color: line }, horzLines: { color: line } },
    rightPriceScale: { borderColor: line },
    timeScale: { borderColor: line },
    crosshair: { vertLine: { color: muted }, horzLine: { color: muted } },
  });
  drawn.candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
  drawn.volumes.setData(bars.filter((bar) => bar.row).map((bar) => ({ ...bar.volume, color: bar.isUp ? colour("--up-faint") : colour("--down-faint") })));
}

dark.addEventListener("change", paint);

export function showCandles(rows, { one, interval, key }) {
  drawn ??= make();
  const wasLast = selected === bars.length - 1;
  const held = bars[selected]?.time;
  bars = spaced(rows, SECONDS[interval]);
  timeOf = SECONDS[interval] < 60 ? second : minute;
  drawn.chart.timeScale().applyOptions({ secondsVisible: SECONDS[interval] < 60 });
  const digits = Math.min(DIGITS_MAX, Math.max(0, ...rows.map((row) => fraction(row.close))));
  drawn.candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 1 / 10 ** digits } });
  drawn.candles.setData(bars.map((bar) => bar.candle));
  paint();
  if (key !== shown) drawn.chart.timeScale().fitContent();
  const again = key === shown && !wasLast ? bars.findIndex((bar) => bar.time === held) : -1;
  shown = key;
  showBar(again >= 0 ? again : bars.length - 1);
  say($(".figure", panel), label(one));
  box.setAttribute("aria-label", `Bar of ${label(one)}`);
  box.setAttribute("aria-valuemax", String(Math.max(0, bars.length - 1)));
  fillTable();
  return rows.length === 0 ? "No trades in these hours" : `${plural(rows.length, "bar")} of ${interval}${rows.length >= BARS_MAX ? ", as many as are shown" : ""}`;
}

const fraction = (text) => decimal(text).split(".")[1]?.length ?? 0;

// Adds empty bars for intervals without trades, so that time is drawn to scale.
function spaced(rows, seconds) {
  const found = [];
  for (const row of rows) {
    const time = Math.floor(Date.parse(row.start) / 1_000);
    for (let next = (found.at(-1)?.time ?? time) + seconds; next < time && found.length < 2 * BARS_MAX; next += seconds) {
      found.push({ time: next, row: null, candle: { time: next } });
    }
    const [open, high, low, close] = [row.open, row.high, row.low, row.close].map(Number);
    found.push({
      time, row, isUp: close >= open, candle: { time, open, high, low, close }, volume: { time, value: Number(row.volume) },
    });
  }
  return found;
}

function showBar(at) {
  selected = at;
  const bar = bars[at];
  const spoken = bar === undefined ? "" : `${timeOf(bar.time * 1_000)}${bar.row ? "" : " no trades"}`;
  const fields = bar?.row ? PRICES.map(([field, mark]) => [mark, decimal(bar.row[field])]) : [];
  $("#bar").replaceChildren(
    el("span", { text: spoken }),
    ...fields.map(([mark, text]) => el("span", {}, el("b", { text: mark }), ` ${text}`)),
    ...(bar?.row ? [el("span", { text: ` ${plural(bar.row.trades, "trade")}` })] : []),
  );
  box.setAttribute("aria-valuenow", String(Math.max(0, at)));
  box.setAttribute("aria-valuetext", $("#bar").textContent || "no bars");
}

const PRICES = [["open", "O"], ["high", "H"], ["low", "L"], ["close", "C"], ["volume", "V"]];

function fillTable() {
  if (!$("#bars").open) return;
  const rows = bars.filter((bar) => bar.row).slice(-TABLE_MAX).reverse();
  $("#bars tbody").replaceChildren(
    ...rows.map(({ time, row }) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", text: timeOf(time * 1_000) }),
        ...["open", "high", "low", "close", "volume"].map((field) => number(decimal(row[field]))),
        number(count(row.trades)),
      ),
    ),
  );
}

$("#bars").addEventListener("toggle", fillTable);

const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };

box.addEventListener("keydown", (event) => {
  if (!(event.key in STEPS) || event.altKey || event.ctrlKey || event.metaKey || bars.length === 0) return;
  event.preventDefault();
  const next = Math.min(bars.length - 1, Math.max(0, selected + STEPS[event.key]));
  const { candle, time } = bars[next];
  if (candle.close === undefined) drawn.chart.clearCrosshairPosition();
  else drawn.chart.setCrosshairPosition(candle.close, time, drawn.candles);
  showBar(next);
});

box.addEventListener("blur", () => drawn?.chart.clearCrosshairPosition());
