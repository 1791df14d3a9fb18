// Asking again and again: what is dear seldom, two of it at a time, none while nobody looks, and ever more seldom
// where there is no answer.

import { Gone, Problem } from "./api.js";

const DEAR_AT_A_TIME = 2;
const REST_FACTOR = 10; // An answer that took a second is asked for again after ten at the earliest.
const REST_SECONDS_MAX = 600;
const WAIT_SECONDS_MAX = 30;
const UNCHANGED_SECONDS_MAX = 600;

let isPaused = false;
const polls = [];

class Turns {
  #free = DEAR_AT_A_TIME;
  #waiting = [];

  async take() {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise((next) => this.#waiting.push(next));
  }

  giveBack() {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}

const turns = new Turns();

export class Poll {
  #timer;
  #running = null;
  #failures = 0;
  #shownAt = -Infinity;
  #shownVersion;
  #isAskedAgain = false;
  #isStopped = false;
  #last = null;

  // `ask(signal)` gives what `show(answer, time)` shows; `version()` tells whether the tables have changed since.
  constructor({ seconds, ask, show, tell, version = null, contact }) {
    Object.assign(this, { seconds, ask, show, tell, version, contact });
    polls.push(this);
  }

  // Ask at once; what is under way is for another question, and is stopped where the question has changed.
  now({ isChanged = false } = {}) {
    this.#isStopped = false;
    if (this.#running !== null) {
      this.#isAskedAgain = true;
      if (isChanged) this.#running.abort();
      return;
    }
    this.#run();
  }

  // Ask, where there is anybody to look and anything new to see.
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
    const isDear = this.version !== null;
    if (isDear) await turns.take();
    const begun = performance.now();
    let seconds = this.seconds;
    try {
      const version = this.version?.();
      const answer = await this.ask(running.signal);
      if (!running.signal.aborted) {
        this.contact.answered();
        this.#last = [answer, Date.now()];
        this.show(...this.#last);
        this.tell("");
        this.#failures = 0;
        this.#shownAt = performance.now();
        this.#shownVersion = version;
      }
      const rest = Math.min((REST_FACTOR * (performance.now() - begun)) / 1_000, REST_SECONDS_MAX);
      seconds = Math.max(seconds, rest);
    } catch (error) {
      if (!running.signal.aborted) seconds = this.#failed(error);
    } finally {
      if (isDear) turns.giveBack();
      this.#running = null;
    }
    if (this.#isAskedAgain) {
      this.#isAskedAgain = false;
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
      this.tell(error.sentence);
    } else if (error instanceof Gone) {
      this.contact.gone();
      this.tell("No answer; what is shown is from before.");
    } else {
      this.tell("The answer is not as expected; reload the page, which may be older than the server.");
      console.error(error);
    }
    // A server that says when to come again is taken at its word, and after that ever less so.
    const first = error.retrySeconds || this.seconds;
    return Math.min(first * 2 ** Math.min(this.#failures - 1, 6), Math.max(WAIT_SECONDS_MAX, first));
  }

  // The same answer again, where something next to it has changed.
  showAgain() {
    if (this.#last !== null) this.show(...this.#last);
  }

  get isFailing() {
    return this.#failures > 0;
  }

  // Until `now` is called.
  stop() {
    this.#isStopped = true;
    this.#isAskedAgain = false;
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
