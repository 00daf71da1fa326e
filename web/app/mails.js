// SPDX-License-Identifier: Apache-2.0
// The mails: list, and one opened in a dialog. Of those that went by SMTP there is no copy.

import { administer } from "./api.js";
import { byId, h, notify, sureButton, time } from "./dom.js";
import { pagedList } from "./paged.js";

// A mail is a stranger's markup: it gets a frame without scripts, forms or origin, and loads nothing but its own data.
const framePolicy = '<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'; img-src data:">';
const tabs = ["html", "plain", "source"];

const people = (value) => (Array.isArray(value) ? value.join(", ") : String(value ?? ""));

function select(name, focus) {
  for (const tab of tabs) {
    const button = byId(`tab-${tab}`);
    button.setAttribute("aria-selected", String(tab === name));
    button.tabIndex = tab === name ? 0 : -1;
    byId(`mail-${tab}`).hidden = tab !== name;
  }
  if (focus) byId(`tab-${name}`).focus();
}

/** Arrow keys move between tabs. Source: https://www.w3.org/WAI/ARIA/apg/patterns/tabs/ */
function moveTab(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const at = tabs.findIndex((tab) => byId(`tab-${tab}`) === event.target);
  select(tabs[(at + step + tabs.length) % tabs.length], true);
}

export function startMails() {
  let open;
  let list;
  const dialog = byId("mail-dialog");

  async function show(id) {
    const answer = await administer("GET", `/mails/${encodeURIComponent(id)}`);
    if (!answer.ok) return notify(byId("mail-notice"), `That mail can’t be read: ${answer.message}`);
    open = answer.data;
    byId("mail-subject").textContent = open.subject || "(no subject)";
    byId("mail-people").replaceChildren(`${people(open.from)} → ${people(open.to)} · `, time(open.created_at));
    const frame = h("iframe", { title: "The mail as HTML", sandbox: "", referrerPolicy: "no-referrer" });
    const copied = open.html !== undefined;
    frame.srcdoc = framePolicy + (copied ? open.html : `By SMTP: ${open.state}. No copy is kept here.`);
    byId("mail-html").replaceChildren(frame);
    byId("mail-plain").textContent = open.plain ?? "";
    byId("mail-source").textContent = open.source ?? "";
    byId("mail-release-form").hidden = byId("mail-delete-place").hidden = !copied;
    byId("mail-result").textContent = "";
    byId("mail-release-to").value = "";
    select("html");
    dialog.showModal();
  }

  async function remove() {
    const answer = await administer("DELETE", `/mails/${encodeURIComponent(open.id)}`);
    if (!answer.ok) {
      byId("mail-result").textContent = answer.message;
      return;
    }
    dialog.close();
    list.drop(open);
    list.refresh();
  }

  const row = (mail) =>
    h("li", { "data-id": mail.id },
      h("button", { type: "button", className: "mail-row", onclick: () => show(mail.id) },
        h("span", { className: "entry-head" }, h("strong", { className: "grow clip" }, mail.subject || "(no subject)"), time(mail.created_at)),
        h("span", { className: "hint clip" }, `${people(mail.from)} → ${people(mail.to)}${mail.state ? ` · ${mail.state}` : ""}`)));

  list = pagedList({
    path: "/mails", list: byId("mail-list"), more: byId("mail-more"), notice: byId("mail-notice"), row,
    empty: "None. Mails that you send are caught here, unless an SMTP server takes them.", failing: "Mails can’t be read:",
  });

  for (const tab of tabs) {
    byId(`tab-${tab}`).addEventListener("click", () => select(tab));
    byId(`tab-${tab}`).addEventListener("keydown", moveTab);
  }
  byId("mail-delete-place").append(sureButton("Delete", "Delete for good?", "button ghost", remove));
  byId("mail-release-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const to = byId("mail-release-to").value.trim();
    byId("mail-result").textContent = "Releasing…";
    const answer = await administer("POST", `/mails/${encodeURIComponent(open.id)}/release`, to ? { to } : {});
    byId("mail-result").textContent = answer.ok ? answer.message : `Not released: ${answer.message}`;
  });
  dialog.addEventListener("close", () => byId("mail-html").replaceChildren());
  // A click on the backdrop hits the dialog itself, as its content fills it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  byId("mail-refresh").addEventListener("click", list.refresh);
  return list;
}
