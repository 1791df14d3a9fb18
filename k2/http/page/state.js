// View state, stored in the URL fragment, so that a view can be shared. Without an interval, one is fitted to the data.

const INTERVALS = new Set(["1m", "5m", "15m", "1h", "1d"]);
const DAY = /^\d{4}-\d{2}-\d{2}$/;

const isDay = (text) => DAY.test(text ?? "") && !Number.isNaN(Date.parse(text));

export function readView() {
  const given = new URLSearchParams(location.hash.slice(1));
  return {
    exchange: given.get("exchange"),
    symbol: given.get("symbol"),
    interval: INTERVALS.has(given.get("interval")) ? given.get("interval") : null,
    day: isDay(given.get("day")) ? given.get("day") : null,
    filter: given.get("filter") ?? "",
  };
}

export function writeView(view) {
  const given = Object.entries(view).filter(([, value]) => value !== null && value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(given)}`);
}
