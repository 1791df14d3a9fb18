// Requests to the API, and their errors.

const KEY = "k2.key";
const WAIT_MS_MAX = 90_000;
const NO_TABLES = 404;
const NO_KEY = 401;

let heldKey = null;

export class Problem extends Error {
  // `key` is the API key that was sent; null if none was.
  constructor(status, detail, retrySeconds, key) {
    super(detail);
    Object.assign(this, { status, retrySeconds, key });
  }

  get isNoKey() {
    return this.status === NO_KEY;
  }

  get sentence() {
    if (this.status === NO_TABLES) return "No data yet: the job has not run here.";
    if (this.status === 503) return "The server is busy; the data shown is older.";
    return `Request failed (${this.status}): ${this.message}`;
  }
}

// The server cannot be reached.
export class Unreachable extends Error {}

export function rememberKey(key) {
  heldKey = key;
  try {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  } catch {
    // If storage is disabled, the key lasts as long as the page.
  }
}

export function knownKey() {
  try {
    return sessionStorage.getItem(KEY) ?? heldKey;
  } catch {
    return heldKey;
  }
}

// Header values are bytes; the server decodes keys as UTF-8.
const bytesOf = (text) => String.fromCharCode(...new TextEncoder().encode(text));

export async function ask(path, fields = {}, signal = undefined) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== "");
  return send(`${path}?${new URLSearchParams(given)}`, {}, signal);
}

export async function askSql(sql) {
  return send("v1/sql", { method: "POST", body: JSON.stringify({ sql }), type: "application/json" });
}

async function send(target, { method = "GET", body, type }, signal) {
  const headers = { Accept: "application/json" };
  const key = knownKey();
  if (key !== null) headers.Authorization = `Bearer ${bytesOf(key)}`;
  if (type !== undefined) headers["Content-Type"] = type;
  const until = AbortSignal.timeout(WAIT_MS_MAX);
  const stop = signal === undefined ? until : AbortSignal.any([signal, until]);
  let response, text;
  try {
    response = await fetch(target, { method, body, headers, signal: stop, cache: "no-store", redirect: "error" });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
  if (!response.ok) throw problemOf(response, text, key);
  return { found: read(text), limit: Number(response.headers.get("K2-Limit")) };
}

function problemOf(response, text, key) {
  let detail = response.statusText || "unknown reason";
  try {
    detail = JSON.parse(text).detail ?? detail;
  } catch {
    // The response may come from a proxy, in any format.
  }
  return new Problem(response.status, detail, Number(response.headers.get("Retry-After")) || 0, key);
}

// Integers beyond 2^53 become BigInts if the browser provides the source text of numbers.
function read(text) {
  return JSON.parse(text, (_name, value, context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
      ? BigInt(context.source)
      : value,
  );
}
