// SPDX-License-Identifier: Apache-2.0
// The newest log entries: a first page, older ones on demand, new ones as they come.

import { administer, follow } from "./api.js";
import { byId, debounce, h, notify, time } from "./dom.js";
import { journey } from "./trace.js";

const shownAtMost = 1000;
const burst = 100;
const pollMs = 3000;

let entries = new Map();  // by id, newest first
let next = "";
let run = 0;  // each filter or restart is a new run; answers to an older one are dropped
let stopFollowing = () => {};
let pending = [];

const filters = () => {
  const query = new URLSearchParams();
  if (byId("log-name").value.trim()) query.set("name", byId("log-name").value.trim());
  if (byId("log-q").value.trim()) query.set("q", byId("log-q").value.trim());
  return query;
};

function row(entry, fresh) {
  return h("li", { className: fresh ? "fresh" : "", "data-id": entry.id },
    h("div", { className: "entry-head" }, h("span", { className: "tag" }, String(entry.name ?? "")), time(entry.created_at)),
    h("p", { className: "entry-data", title: `id ${entry.id}` }, String(entry.data ?? "")),
    journey(entry));
}

function showEmptiness() {
  byId("log-more").hidden = !next;
  const list = byId("log-list");
  if (entries.size) list.querySelector(".empty")?.remove();
  else list.replaceChildren(h("li", { className: "empty" }, filters().size ? "No entry matches." : "No entries yet. Send a log and watch it arrive."));
}

/** Puts entries that are newer than all shown ones on top. */
function addNew(fresh) {
  const unknown = fresh.filter((entry) => !entries.has(entry.id));
  if (!unknown.length) return;
  entries = new Map([...unknown.map((entry) => [entry.id, entry]), ...entries]);
  byId("log-list").prepend(...unknown.map((entry) => row(entry, true)));
  showEmptiness();
  if (entries.size > shownAtMost) load();
}

/** The first page from scratch, or what is new on it. */
async function load({ merge = false } = {}) {
  const mine = run;
  const answer = await administer("GET", `/logs?${filters()}`);
  if (mine !== run) return false;
  notify(byId("log-notice"), answer.ok ? "" : `The log can’t be read: ${answer.message}`);
  if (!answer.ok) return false;
  const page = answer.data ?? [];
  // A full page of unknown entries leaves a gap below it: then the list starts anew.
  if (merge && entries.size && page.some((entry) => entries.has(entry.id))) {
    addNew(page);
    return true;
  }
  entries = new Map(page.map((entry) => [entry.id, entry]));
  next = answer.next ?? "";
  byId("log-list").replaceChildren(...page.map((entry) => row(entry, false)));
  showEmptiness();
  return true;
}

async function loadMore() {
  const mine = run;
  const button = byId("log-more");
  button.disabled = true;
  const query = filters();
  query.set("cursor", next);
  const answer = await administer("GET", `/logs?${query}`);
  button.disabled = false;
  if (mine !== run) return;
  notify(byId("log-notice"), answer.ok ? "" : `Older entries can’t be read: ${answer.message}`);
  if (!answer.ok) return;
  const older = (answer.data ?? []).filter((entry) => !entries.has(entry.id));
  for (const entry of older) entries.set(entry.id, entry);
  next = answer.next ?? "";
  byId("log-list").append(...older.map((entry) => row(entry, false)));
  showEmptiness();
}

function flush() {
  const batch = pending;
  pending = [];
  if (batch.length > burst) load();
  else addNew(batch.reverse());
}

function showState(tone, text) {
  byId("log-state").dataset.tone = tone;
  if (byId("log-state").textContent !== text) byId("log-state").textContent = text;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const pause = (milliseconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/** Follows the live log; while that is not to be had, asks again and again. */
async function keepFollowing(signal) {
  while (!signal.aborted) {
    let flusher;
    try {
      await follow(`/logs/tail?${filters()}`, {
        signal,
        opened: () => {
          showState("good", "Live");
          flusher = setInterval(() => pending.length && flush(), 150);
          load({ merge: true });  // what came between the first page and now
        },
        received: (text) => {
          const entry = parse(text);
          if (entry?.id) pending.push(entry);
          else if (entry?.dropped) load();  // they came faster than we read: start anew
        },
      });
    } catch {
      // Said below, whatever the reason.
    }
    clearInterval(flusher);
    if (signal.aborted) return;
    const reads = await load({ merge: true });
    if (signal.aborted) return;
    showState("warn", reads ? "Polling" : "Down");
    await pause(pollMs, signal);
  }
}

function restart() {
  stopFollowing();
  run += 1;
  pending = [];
  const controller = new AbortController();
  stopFollowing = () => controller.abort();
  load().then(() => {
    if (controller.signal.aborted) return;
    if (byId("log-live").checked) keepFollowing(controller.signal);
    else showState("quiet", "Paused");
  });
}

export function startLogs() {
  const filterSoon = debounce(250, restart);
  byId("log-name").addEventListener("input", filterSoon);
  byId("log-q").addEventListener("input", filterSoon);
  byId("log-more").addEventListener("click", loadMore);
  byId("log-live").addEventListener("change", restart);
  restart();
  return { restart };
}
