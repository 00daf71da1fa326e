// SPDX-License-Identifier: Apache-2.0
// A list that is read page by page and refreshed from the top: caught mails and failed messages.

import { administer } from "./api.js";
import { h, notify } from "./dom.js";

/** @param row makes the <li> of an item; @param failing begins the sentence for the notice */
export function pagedList({ path, list, more, notice, row, empty, failing }) {
  let shown = null;  // the last first page as text: an unchanged one leaves the list, and the focus in it, alone
  let next = "";

  async function refresh() {
    const answer = await administer("GET", path);
    notify(notice, answer.ok ? "" : `${failing} ${answer.message}`);
    if (!answer.ok) return;
    const text = JSON.stringify([answer.data, answer.next]);
    if (text === shown) return;
    shown = text;
    next = answer.next ?? "";
    const items = answer.data ?? [];
    list.replaceChildren(...(items.length ? items.map(row) : [h("li", { className: "empty" }, empty)]));
    more.hidden = !next;
  }

  more.addEventListener("click", async () => {
    more.disabled = true;
    const answer = await administer("GET", `${path}?${new URLSearchParams({ cursor: next })}`);
    more.disabled = false;
    notify(notice, answer.ok ? "" : `${failing} ${answer.message}`);
    if (!answer.ok) return;
    next = answer.next ?? "";
    list.append(...(answer.data ?? []).map(row));
    more.hidden = !next;
  });

  refresh();
  return { refresh };
}
