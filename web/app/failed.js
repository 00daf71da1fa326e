// SPDX-License-Identifier: Apache-2.0
// What the queue gave up on: why, what it was, and what to do with it.

import { administer } from "./api.js";
import { byId, h, notify, pretty, sureButton, time } from "./dom.js";
import { pagedList } from "./paged.js";

export function startFailed() {
  let list;

  async function act(method, path, letter) {
    const answer = await administer(method, path);
    if (answer.ok || answer.status === 404) list.drop(letter);  // 404: somebody else was quicker
    await list.refresh();
    if (!answer.ok) notify(byId("failed-notice"), `That did not work: ${answer.message}`);
  }

  const row = (letter) => {
    const path = `/dlq/${encodeURIComponent(letter.id)}`;
    const which = `?${new URLSearchParams({ action: letter.action })}`;
    const payload = typeof letter.payload === "string" ? pretty(letter.payload) : JSON.stringify(letter.payload, null, 2);
    return h("li", { className: "failed", "data-id": letter.id },
      h("div", { className: "entry-head" }, h("span", { className: "tag" }, String(letter.action)), time(letter.dead_at)),
      h("p", { className: "reason" }, String(letter.reason)),
      h("details", {}, h("summary", {}, `After ${letter.attempts} ${letter.attempts === 1 ? "attempt" : "attempts"}`), h("p", { className: "hint" }, `id ${letter.id}`), h("pre", { tabIndex: 0 }, payload)),
      h("div", { className: "row" },
        h("button", { type: "button", className: "button small", onclick: () => act("POST", `${path}/replay${which}`, letter) }, "Replay"),
        sureButton("Discard", "Discard for good?", "button ghost small", () => act("DELETE", path + which, letter))));
  };

  list = pagedList({
    path: "/dlq", list: byId("failed-list"), more: byId("failed-more"), notice: byId("failed-notice"), row,
    key: (letter) => `${letter.action} ${letter.id} ${letter.dead_at}`,
    empty: "None. What the queue can’t deliver ends up here, with the reason.", failing: "Failed messages can’t be read:",
  });
  byId("failed-refresh").addEventListener("click", list.refresh);
  return list;
}
