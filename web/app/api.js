// SPDX-License-Identifier: Apache-2.0
// The calls to the broker. Nothing here throws for what a server or a network does: the answer says what went wrong.

const configured = document.querySelector('meta[name="broker-url"]')?.content || document.baseURI;
const base = new URL(configured.endsWith("/") ? configured : configured.replace(/[^/]*$/, (last) => (last && !last.includes(".html") ? `${last}/` : "")), document.baseURI);
const timeoutMs = 35000;

let token = "";
try {
  token = sessionStorage.getItem("token") || "";
} catch {
  // Without storage the token lives as long as the page.
}

export function setToken(value) {
  token = value.trim();
  try {
    sessionStorage.setItem("token", token);
  } catch {
    // See above.
  }
}

/** Where a path of the broker is, e.g. "/logs?limit=5". */
export const urlOf = (path) => new URL(`.${path}`, base);

const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

/** @returns {status, headers, text, duration, failure}; status 0 and `failure` where no answer came. */
export async function call(method, path, { headers = {}, body } = {}) {
  const started = performance.now();
  try {
    const response = await fetch(urlOf(path), { method, headers, body, cache: "no-store", signal: AbortSignal.timeout(timeoutMs) });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, duration: performance.now() - started };
  } catch (error) {
    const why = error.name === "TimeoutError" ? `gave no answer within ${timeoutMs / 1000} s` : "can’t be reached";
    return { status: 0, headers: new Headers(), text: "", duration: performance.now() - started, failure: `${base.host} ${why}.` };
  }
}

/** A reading or administering call. @returns {ok, message, data, next}; message says what is wrong where not ok. */
export async function administer(method, path, body) {
  const headers = { Accept: "application/json", ...authorization() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await call(method, path, { headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.failure) return { ok: false, message: answer.failure };
  if (answer.status === 401 || answer.status === 403) document.dispatchEvent(new CustomEvent("token-wanted"));
  try {
    const envelope = JSON.parse(answer.text);
    return { ok: answer.status < 300 && !envelope.error, status: answer.status, ...envelope };
  } catch {
    return { ok: false, status: answer.status, message: `${base.host} answered ${answer.status} with something that is not JSON.` };
  }
}

/** Whether the broker is there at all, though it may not let this page read what it says. */
export async function reachable() {
  try {
    await fetch(urlOf("/ping"), { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(5000) });
    return true;
  } catch {
    return false;
  }
}

/**
 * Reads server-sent events until they end or `signal` aborts; throws where they can't be had. A fetch instead of an
 * EventSource, because that one can't send the administrator's token.
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html section 9.2.6
 */
export async function follow(path, { signal, opened, received }) {
  const response = await fetch(urlOf(path), { headers: { Accept: "text/event-stream", ...authorization() }, cache: "no-store", signal });
  if (!response.ok || !response.body) throw new Error(`the live log answered ${response.status}`);
  opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (buffer + value).split(/\r?\n\r?\n/);
    buffer = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).replace(/^ /, ""));
      if (data.length) received(data.join("\n"));
    }
  }
}
