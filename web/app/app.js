// SPDX-License-Identifier: Apache-2.0
// Puts the parts of the page together. Each part reports its own trouble, so that one that is down leaves the rest alone.

import { setToken } from "./api.js";
import { byId } from "./dom.js";
import { startFailed } from "./failed.js";
import { startHealth } from "./health.js";
import { startLogs } from "./logs.js";
import { startMails } from "./mails.js";
import { startSend } from "./send.js";

const logs = startLogs();
const mails = startMails();
const failed = startFailed();
const health = startHealth();

function refreshLists() {
  mails.refresh();
  failed.refresh();
}

startSend({ sent: () => setTimeout(refreshLists, 150) });

// What others do shows up too, but a page that nobody looks at asks nothing.
const everySeconds = (seconds, action) => setInterval(() => document.visibilityState === "visible" && action(), seconds * 1000);
everySeconds(5, refreshLists);
everySeconds(10, health.refresh);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && (refreshLists(), health.refresh()));

document.addEventListener("token-wanted", () => {
  byId("token-form").hidden = false;
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  byId("token").value = "";
  byId("token-form").hidden = true;
  logs.restart();
  refreshLists();
});

const themes = { "": "Auto", light: "Light", dark: "Dark" };
function showTheme() {
  const theme = document.documentElement.dataset.theme || "";
  byId("theme").textContent = themes[theme];
  byId("theme").setAttribute("aria-label", `Colours: ${themes[theme].toLowerCase()}`);
}
byId("theme").addEventListener("click", () => {
  const names = Object.keys(themes);
  const next = names[(names.indexOf(document.documentElement.dataset.theme || "") + 1) % names.length];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  try {
    localStorage.setItem("theme", next);
  } catch {
    // The choice then lasts as long as the page.
  }
  showTheme();
});
showTheme();
