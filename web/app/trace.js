// SPDX-License-Identifier: Apache-2.0
// Where a message has been, and where it is.

import { administer } from "./api.js";
import { h, time } from "./dom.js";

/** How long after the first hop the others came. */
function after(hop, first) {
  const milliseconds = new Date(hop.time) - new Date(first.time);
  return Number.isNaN(milliseconds) ? "" : `+${milliseconds} ms`;
}

/** An entry's trace and hops, closed; nothing where neither is known. */
export function journey(entry) {
  const hops = Array.isArray(entry.hops) ? entry.hops : [];
  if (!entry.trace_id && !hops.length) return "";
  const rows = hops.map((hop, index) => h("div", {}, h("dt", {}, String(hop.at)), h("dd", {}, index ? after(hop, hops[0]) : time(hop.time))));
  return h("details", {},
    h("summary", {}, hops.length ? `By ${hops.map((hop) => hop.at).join(", ")}` : "Trace"),
    h("dl", { className: "facts" },
      h("div", {}, h("dt", {}, "Id"), h("dd", {}, String(entry.id))),
      entry.trace_id ? h("div", {}, h("dt", {}, "Trace"), h("dd", {}, String(entry.trace_id))) : "",
      ...rows));
}

const words = {
  stored: "Stored", queued: "Queued", spooled: "Waiting for the queue", dead_lettered: "Failed for good",
  expired: "Expired", discarded: "Discarded", unknown: "Nobody knows this id",
};

/** A button that asks where the message is and shows what it hears. */
export function receiptButton(id) {
  const answer = h("div", { className: "hint", role: "status" });
  const ask = async () => {
    const { ok, message, data } = await administer("GET", `/receipts/${encodeURIComponent(id)}`);
    if (!ok) {
      answer.textContent = `The receipt can’t be read: ${message}`;
      return;
    }
    const parts = [words[data.state] ?? data.state, data.where && `at ${data.where}`, data.reason, data.attempts && `after ${data.attempts} failed attempts`, data.duplicates && `came again ${data.duplicates} times`];
    answer.replaceChildren(`${parts.filter(Boolean).join(", ")}.`, journey(data));
  };
  return h("div", { className: "receipt" }, h("button", { type: "button", className: "button ghost small", onclick: ask }, "Where is it now?"), answer);
}
