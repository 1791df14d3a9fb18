// Connection state: connected, unreachable, or waiting for an API key.

import { knownKey, rememberKey } from "./api.js";
import { $, say } from "./dom.js";
import { clock } from "./format.js";
import { everyPoll } from "./poll.js";

let answeredAt = null;
let goneAt = null;
let isPaused = false;
let keyGiven = () => {};

const isAsking = () => !$("#key").hidden;

export const isAnswering = () => goneAt === null && !isAsking();

export const contact = {
  answered() {
    answeredAt = Date.now();
    const wasGone = goneAt !== null;
    goneAt = null;
    $("#gone").hidden = true;
    setStatus();
    // Polls that failed meanwhile run immediately.
    if (wasGone) everyPoll().filter((poll) => poll.isFailing).forEach((poll) => poll.now());
  },
  gone() {
    goneAt ??= answeredAt ?? Date.now();
    say($("#gone"), `The server has not responded since ${clock(goneAt)} UTC. The data shown is older; retrying automatically.`);
    $("#gone").hidden = false;
    setStatus();
  },
  refused(key) {
    // A late rejection does not concern a key that was entered meanwhile.
    if (key !== knownKey() || isAsking()) return;
    rememberKey(null);
    everyPoll().forEach((poll) => poll.stop());
    say($("#key-why"), key === null ? "Enter an API key." : "The server rejected the API key. Enter another one.");
    $("#key").hidden = false;
    $("#main").hidden = true;
    $("#view").hidden = true;
    $("#key-text").value = "";
    $("#key-text").focus();
    setStatus();
  },
};

export function onKey(take) {
  keyGiven = take;
}

export function showPaused(value) {
  isPaused = value;
  setStatus();
}

function setStatus() {
  const how = isAsking() ? "waiting for a key" : goneAt !== null ? "no response" : isPaused ? "paused" : "live";
  $("#pulse").dataset.how = how;
  say($("#pulse"), answeredAt === null || isAsking() ? how : `${how} · last response ${clock(answeredAt)} UTC`);
}

$("#key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  rememberKey($("#key-text").value.trim());
  $("#key").hidden = true;
  $("#main").hidden = false;
  $("#view").hidden = false;
  $("#main").focus();
  keyGiven();
});
