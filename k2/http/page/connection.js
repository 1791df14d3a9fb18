// The server: there, gone, or asking for a key.

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
    tell();
    // What failed meanwhile does not wait for its turn.
    if (wasGone) everyPoll().filter((poll) => poll.isFailing).forEach((poll) => poll.now());
  },
  gone() {
    goneAt ??= answeredAt ?? Date.now();
    say($("#gone"), `No answer since ${clock(goneAt)} UTC. What is shown is from before; the server is asked again and again.`);
    $("#gone").hidden = false;
    tell();
  },
  refused(key) {
    // A late refusal says nothing of a key that was given meanwhile.
    if (key !== knownKey() || isAsking()) return;
    rememberKey(null);
    everyPoll().forEach((poll) => poll.stop());
    say($("#key-why"), key === null ? "Give one to see the figures." : "The server does not take the key that it was given. Give another.");
    $("#key").hidden = false;
    $("#main").hidden = true;
    $("#view").hidden = true;
    $("#key-text").value = "";
    $("#key-text").focus();
    tell();
  },
};

export function onKey(take) {
  keyGiven = take;
}

export function tellPaused(value) {
  isPaused = value;
  tell();
}

function tell() {
  const how = isAsking() ? "waiting for a key" : goneAt !== null ? "no answer" : isPaused ? "paused" : "live";
  $("#pulse").dataset.how = how;
  say($("#pulse"), answeredAt === null || isAsking() ? how : `${how} · last answer ${clock(answeredAt)} UTC`);
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
