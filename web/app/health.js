// SPDX-License-Identifier: Apache-2.0
// The pill at the top and the notice below it: what is down, by name.

import { call, reachable, urlOf } from "./api.js";
import { byId, notify } from "./dom.js";

function show(tone, text, trouble) {
  const pill = byId("health");
  pill.dataset.tone = tone;
  if (pill.textContent !== text) pill.textContent = text;
  notify(byId("trouble"), trouble);
}

async function refresh() {
  const answer = await call("GET", "/readyz");
  if (answer.failure) {
    if (urlOf("/").origin !== location.origin && (await reachable())) return show("good", "Reachable", "");
    return show("bad", "Not reachable", `The broker at ${answer.failure} What you send is not delivered; this page tries again by itself.`);
  }
  let state = {};
  try {
    state = JSON.parse(answer.text);
  } catch {
    // A plain 200 or 503 says enough.
  }
  const down = Object.entries(state.parts ?? {}).filter(([, why]) => why !== "ok");
  if (state.draining) return show("warn", "Stopping", "The server is stopping and takes no new work.");
  if (answer.status === 200 && !down.length) return show("good", "Ready", "");
  const list = down.map(([part, why]) => `${part}: ${why}`).join(" · ");
  return show("warn", answer.status === 200 ? "Partly ready" : "Not ready", list ? `Not well: ${list}. The rest works.` : "The server says it is not ready.");
}

export function startHealth() {
  refresh();
  return { refresh };
}
