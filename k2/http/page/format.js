// Formatting of numbers, times and names. Counts beyond 2^53 are BigInts.

const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cn}]/gu;

export const count = (value) => value.toLocaleString("en-US");

// Three digits are enough for a figure next to a chart.
export const rounded = (value) => value.toLocaleString("en-US", value >= 100 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 });

export const total = (values) => values.reduce((sum, value) => sum + BigInt(value), 0n);

export const plural = (value, one, many = `${one}s`) => `${count(value)} ${BigInt(value) === 1n ? one : many}`;

// Truncated, so that 100 % means complete.
export function percent(stored, expected) {
  if (BigInt(expected) === 0n) return "–";
  const hundredths = (10_000n * BigInt(stored)) / BigInt(expected);
  return `${hundredths / 100n}.${String(hundredths % 100n).padStart(2, "0")} %`;
}

// Names are untrusted text: invisible and text-direction characters are escaped.
export const name = (text) =>
  text.replace(UNSEEN, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);

// The start of a message as text: line breaks stay, invisible characters are escaped. Bytes that are not UTF-8 come in
// base64, and each that is not printable ASCII is written as \xNN.
export function excerpt(value, encoding, bytes) {
  if (value === null) return { text: "", isWhole: true };
  if (encoding === null) return { text: value.split("\n").map(name).join("\n"), isWhole: new TextEncoder().encode(value).length >= bytes };
  const found = atob(value);
  const text = found.replace(/[^\x20-\x7e]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`);
  return { text, isWhole: found.length >= bytes };
}

export const label = ({ exchange, symbol }) => [exchange, symbol].filter((one) => one !== null).map(name).join(" ");

// A decimal with all digits except trailing zeros.
export const decimal = (text) => (/^-?\d+\.\d+$/.test(text) ? text.replace(/\.?0+$/, "") : text);

export const day = (time) => new Date(time).toISOString().slice(0, 10);

export const clock = (time) => new Date(time).toISOString().slice(11, 19);

export const minute = (time) => new Date(time).toISOString().slice(0, 16).replace("T", " ");

export const second = (time) => new Date(time).toISOString().slice(0, 19).replace("T", " ");

// The time of day, with the date unless it is today.
export function moment(time, now = Date.now()) {
  return day(time) === day(now) ? clock(time) : `${day(time)} ${clock(time)}`;
}

export function duration(seconds) {
  const units = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  const place = units.findIndex(([length]) => seconds >= length);
  if (place < 0) return "0 s";
  const [length, unit] = units[place];
  const whole = `${count(Math.floor(seconds / length))} ${unit}`;
  const next = units[place + 1];
  const rest = next === undefined ? 0 : Math.floor((seconds % length) / next[0]);
  return rest > 0 && seconds < 10 * length ? `${whole} ${rest} ${next[1]}` : whole;
}
