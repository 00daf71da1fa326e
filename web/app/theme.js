// SPDX-License-Identifier: Apache-2.0
// Not a module, so that it runs before the first paint: the chosen colours, if any.
try {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; the system's colours are right then.
}
