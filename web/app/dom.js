// SPDX-License-Identifier: Apache-2.0
// Elements and text. Whatever comes from outside becomes a text node, never markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties, attributes ("aria-…", "data-…"), listeners (on…) and children; strings become text. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== ""));
  return element;
}

/** Shows `text` in a notice, or hides the notice where there is none. */
export function notify(element, text) {
  element.hidden = !text;
  if (element.textContent !== (text || "")) element.textContent = text || "";
}

/** A button that asks once more before it does what can't be undone. */
export function sureButton(label, sure, className, action) {
  const button = h("button", { type: "button", className }, label);
  const calm = () => {
    button.textContent = label;
    button.classList.remove("danger");
  };
  button.addEventListener("blur", calm);
  button.addEventListener("click", () => {
    if (button.textContent === label) {
      button.textContent = sure;
      button.classList.add("danger");
      return;
    }
    calm();
    action();
  });
  return button;
}

/** <time> in the reader's own zone; the exact moment on hover. */
export function time(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return h("span", {}, String(text ?? ""));
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const today = date.toDateString() === new Date().toDateString();
  const day = date.toLocaleDateString([], { day: "numeric", month: "short" });
  return h("time", { dateTime: String(text), title: String(text) }, today ? clock : `${day}, ${clock}`);
}

/** JSON with two spaces, or the text as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

export function debounce(milliseconds, action) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}
