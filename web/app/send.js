// SPDX-License-Identifier: Apache-2.0
// The form, and what was sent and received.

import { call, urlOf } from "./api.js";
import { byId, h, pretty } from "./dom.js";
import { asCurl, compose, judge, presets } from "./presets.js";
import { receiptButton } from "./trace.js";

const keptSends = 8;
const history = [];
const drafts = {};  // what was typed, by service, so that a look at another service loses nothing
let shown;

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const preset = () => presets[chosen("service")];

function facts(entries) {
  const list = h("dl", { className: "facts" });
  for (const [name, value] of entries) if (value) list.append(h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  return list;
}

const toneOf = (status) => (status >= 200 && status < 300 ? "good" : status >= 400 && status < 500 ? "warn" : "bad");
const duration = (milliseconds) => (milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds)} ms`);

function show(send) {
  shown = send;
  const { request, answer } = send;
  const extra = Object.entries(request.headers).filter(([name]) => /^(idempotency-key|x-flexi)/i.test(name));
  byId("sent").className = "";
  byId("sent").replaceChildren(facts([["Call", `${request.method} ${request.path}`], ...extra]), h("pre", { tabIndex: 0 }, request.body));
  byId("copy-curl").hidden = false;

  const id = answer.headers.get("X-Flexi-Id");
  const pill = byId("received-status");
  pill.hidden = false;
  pill.dataset.tone = toneOf(answer.status);
  pill.textContent = answer.failure ? "No answer" : String(answer.status);
  byId("received").className = "";
  byId("received").replaceChildren(
    facts([
      ["Took", duration(answer.duration)],
      ["Way", answer.headers.get("X-Flexi-Way")],
      ["Id", id],
      ["Duplicate", answer.headers.get("X-Flexi-Duplicate") === "true" ? "yes, it was there already" : ""],
      ["Kind of error", answer.headers.get("X-Flexi-Error")],
      ["Retry after", answer.headers.get("Retry-After")],
    ]),
    h("pre", { tabIndex: 0 }, answer.failure ?? pretty(answer.text)),
    // A login is answered and gone: there is nothing to be found of it.
    ...(id && answer.status === 202 && send.kept ? [receiptButton(id)] : []),
  );
  showHistory();
}

function showHistory() {
  byId("history").replaceChildren(
    ...history.map((send) =>
      h("li", {},
        h("button", { type: "button", className: "history-row", "aria-pressed": String(send === shown), onclick: () => show(send) },
          h("span", { className: "pill", "data-tone": toneOf(send.answer.status) }, send.answer.failure ? "–" : String(send.answer.status)),
          h("span", {}, send.label),
          h("span", { className: "hint way clip" }, send.answer.headers.get("X-Flexi-Way") ?? ""),
          h("span", { className: "hint number" }, duration(send.answer.duration)),
        ))),
  );
}

/** @returns whether the payload can be sent */
function showJudgement() {
  const { error, warning } = judge(preset(), byId("payload").value);
  const state = byId("payload-state");
  byId("payload").setAttribute("aria-invalid", String(Boolean(error)));
  state.dataset.tone = error ? "bad" : warning ? "warn" : "good";
  const text = error ?? warning ?? "Valid JSON.";
  if (state.textContent !== text) state.textContent = text;
  return !error;
}

function showService() {
  byId("payload").value = drafts[chosen("service")] ?? preset().example;
  byId("service-hint").textContent = preset().hint;
  // Hitting the broker goes nowhere else, so there is nothing to choose.
  byId("via-set").disabled = byId("ack-set").disabled = preset().path === "/";
  showJudgement();
}

async function send(sent) {
  const button = byId("send");
  if (button.disabled) return;
  if (!showJudgement()) {
    byId("payload").focus();
    return;
  }
  const local = preset().path === "/";
  const request = compose(preset(), byId("payload").value, { via: local ? "" : chosen("via"), ack: local ? "" : chosen("ack"), key: byId("key").value.trim() });
  button.disabled = true;
  button.textContent = "Sending…";
  byId("received").setAttribute("aria-busy", "true");
  const answer = await call(request.method, request.path, request);
  byId("received").removeAttribute("aria-busy");
  button.textContent = "Send";
  button.disabled = false;
  const label = document.querySelector('input[name="service"]:checked + span').textContent;
  history.unshift({ request, answer, label, kept: chosen("service") !== "auth" });
  history.splice(keptSends);
  show(history[0]);
  sent();
}

async function copyCurl() {
  const text = asCurl(shown.request, urlOf(shown.request.path).href);
  const button = byId("copy-curl");
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // The clipboard may be refused (no TLS, no permission): show it where it can be copied by hand.
    byId("sent").querySelector("pre").textContent = text;
    button.textContent = "Shown below";
  }
  setTimeout(() => (button.textContent = "Copy as curl"), 1500);
}

/** @param sent called after each answer */
export function startSend({ sent }) {
  const form = byId("send-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(sent);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      send(sent);
    }
  });
  for (const radio of document.querySelectorAll('input[name="service"]')) radio.addEventListener("change", showService);
  byId("payload").addEventListener("input", () => {
    drafts[chosen("service")] = byId("payload").value;
    showJudgement();
  });
  byId("payload-reset").addEventListener("click", () => {
    delete drafts[chosen("service")];
    showService();
  });
  byId("key-new").addEventListener("click", () => {
    // randomUUID wants a secure context, which plain http to another machine is not.
    const bytes = crypto.getRandomValues(new Uint8Array(12));
    byId("key").value = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  });
  byId("copy-curl").addEventListener("click", copyCurl);
  showService();
}
