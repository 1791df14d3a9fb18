// Polling: expensive requests are less frequent and at most two at a time, none run while the page is hidden, and
// failures back off exponentially.

import { Unreachable, Problem } from "./api.js";

const HEAVY_CONCURRENCY = 2;
const REST_FACTOR = 10; // A request that took a second is repeated after ten at the earliest.
const REST_SECONDS_MAX = 600;
const WAIT_SECONDS_MAX = 30;
const UNCHANGED_SECONDS_MAX = 600;

let isPaused = false;
const polls = [];

class FifoSemaphore {
  #free = HEAVY_CONCURRENCY;
  #waiting = [];

  async acquire() {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise((next) => this.#waiting.push(next));
  }

  release() {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}

const heavySlots = new FifoSemaphore();

export class Poll {
  #timer;
  #running = null;
  #failures = 0;
  #shownAt = -Infinity;
  #shownVersion;
  #isRequestedAgain = false;
  #isStopped = false;
  #last = null;

  // `ask(signal)` returns what `show(answer, time)` renders; `version()` changes when the tables have changed.
  constructor({ seconds, ask, show, setStatus, version = null, contact }) {
    Object.assign(this, { seconds, ask, show, setStatus, version, contact });
    polls.push(this);
  }

  // Run immediately; a request in progress is aborted if its parameters have changed, and repeated otherwise.
  now({ isChanged = false } = {}) {
    this.#isStopped = false;
    if (this.#running !== null) {
      this.#isRequestedAgain = true;
      if (isChanged) this.#running.abort();
      return;
    }
    this.#run();
  }

  // Run if the page is visible and the tables have changed.
  tick() {
    if (this.#running !== null || this.#isStopped) return;
    if (isPaused || document.hidden || this.#isUnchanged()) this.#wait(this.seconds);
    else this.#run();
  }

  #isUnchanged() {
    const isNew = (performance.now() - this.#shownAt) / 1_000 < UNCHANGED_SECONDS_MAX;
    return this.version !== null && this.#failures === 0 && isNew && this.version() === this.#shownVersion;
  }

  async #run() {
    clearTimeout(this.#timer);
    const running = new AbortController();
    this.#running = running;
    const isHeavy = this.version !== null;
    if (isHeavy) await heavySlots.acquire();
    const begun = performance.now();
    let seconds = this.seconds;
    try {
      const version = this.version?.();
      const answer = await this.ask(running.signal);
      if (!running.signal.aborted) {
        this.contact.answered();
        this.#last = [answer, Date.now()];
        this.show(...this.#last);
        this.setStatus("");
        this.#failures = 0;
        this.#shownAt = performance.now();
        this.#shownVersion = version;
      }
      const rest = Math.min((REST_FACTOR * (performance.now() - begun)) / 1_000, REST_SECONDS_MAX);
      seconds = Math.max(seconds, rest);
    } catch (error) {
      if (!running.signal.aborted) seconds = this.#failed(error);
    } finally {
      if (isHeavy) heavySlots.release();
      this.#running = null;
    }
    if (this.#isRequestedAgain) {
      this.#isRequestedAgain = false;
      this.#run();
    } else {
      this.#wait(seconds);
    }
  }

  #failed(error) {
    this.#failures += 1;
    if (error instanceof Problem) {
      this.contact.answered();
      if (error.isNoKey) this.contact.refused(error.key);
      this.setStatus(error.sentence);
    } else if (error instanceof Unreachable) {
      this.contact.gone();
      this.setStatus("The server does not respond; the data shown is older.");
    } else {
      this.setStatus("Unexpected response; reload the page, which may be older than the server.");
      console.error(error);
    }
    // The first retry follows Retry-After if present; further failures back off.
    const first = error.retrySeconds || this.seconds;
    return Math.min(first * 2 ** Math.min(this.#failures - 1, 6), Math.max(WAIT_SECONDS_MAX, first));
  }

  // Render the last result again after other state has changed.
  showAgain() {
    if (this.#last !== null) this.show(...this.#last);
  }

  get isFailing() {
    return this.#failures > 0;
  }

  // Stop until `now` is called.
  stop() {
    this.#isStopped = true;
    this.#isRequestedAgain = false;
    clearTimeout(this.#timer);
    this.#running?.abort();
  }

  #wait(seconds) {
    clearTimeout(this.#timer);
    if (!this.#isStopped) this.#timer = setTimeout(() => this.tick(), 1_000 * seconds);
  }
}

export const everyPoll = () => polls;

export function setPaused(value) {
  isPaused = value;
}
