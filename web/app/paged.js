// SPDX-License-Identifier: Apache-2.0
// A list that is read page by page and refreshed from the top: caught mails and failed messages.

import { administer } from "./api.js";
import { h, notify } from "./dom.js";

const shownAtMost = 1000;

/** What a page says that does not hold all. */
const partly = (answer) => answer.message === "ok" ? "" : answer.message;

/**
 * A refresh leaves the rows alone that are still there: what was loaded, opened, half confirmed or has the focus stays so.
 * @param row makes the <li> of an item; @param key tells items apart; @param failing begins the sentence for the notice
 */
export function pagedList({ path, list, more, notice, row, key = (item) => item.id, empty, failing }) {
  let rows = new Map();  // <li>s by key, in the order shown
  let next = "";
  let run = 0;    // each refresh is a new run; answers to an older one are dropped
  let epoch = 0;  // each start anew; older pages of the list before are dropped

  function show(shown) {
    for (const [known, element] of rows) if (!shown.has(known)) element.remove();
    list.querySelector(".empty")?.remove();
    let at = list.firstElementChild;
    for (const element of shown.values()) {
      if (element === at) at = at.nextElementSibling;
      else list.insertBefore(element, at);
    }
    rows = shown;
    if (!rows.size) list.replaceChildren(h("li", { className: "empty" }, empty));
    more.hidden = !next;
  }

  /** Rows below the first page: loaded before, and not known to be gone. */
  function below(page) {
    const known = [...rows.keys()];
    const last = Math.max(-1, ...page.map((item) => known.indexOf(key(item))));
    // A page of unknown items leaves a gap below it: then the list starts anew, as where it is longer than anybody reads.
    return last < 0 || rows.size > shownAtMost ? null : known.slice(last + 1);
  }

  async function refresh() {
    const mine = ++run;
    const answer = await administer("GET", path);
    if (mine !== run) return;
    notify(notice, answer.ok ? partly(answer) : `${failing} ${answer.message}`);
    if (!answer.ok) return;
    const page = answer.data ?? [];
    const rest = answer.next ? below(page) : [];
    if (!rest) epoch += 1;
    if (!rest?.length) next = answer.next ?? "";
    show(new Map([
      ...page.map((item) => [key(item), rows.get(key(item)) ?? row(item)]),
      ...(rest ?? []).map((known) => [known, rows.get(known)]),
    ]));
  }

  more.addEventListener("click", async () => {
    const mine = epoch;
    more.disabled = true;
    const answer = await administer("GET", `${path}?${new URLSearchParams({ cursor: next })}`);
    more.disabled = false;
    if (mine !== epoch) return;
    notify(notice, answer.ok ? partly(answer) : `${failing} ${answer.message}`);
    if (!answer.ok) return;
    next = answer.next ?? "";
    const older = (answer.data ?? []).filter((item) => !rows.has(key(item)));
    show(new Map([...rows, ...older.map((item) => [key(item), row(item)])]));
  });

  /** Of an item that is gone, wherever it is shown. */
  function drop(item) {
    const left = new Map(rows);
    left.delete(key(item));
    show(left);
  }

  refresh();
  return { refresh, drop };
}
