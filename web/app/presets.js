// SPDX-License-Identifier: Apache-2.0
// What the page can send: where it goes, an example, and which fields it wants.

const log = {
  example: '{\n  "name": "event",\n  "data": "Some kind of data"\n}',
  wanted: ["name", "data"],
};

export const presets = {
  log: { ...log, hint: "Through the queue unless you choose another transport.", path: "/handle", action: "log" },
  mail: {
    hint: "Rendered as HTML and plain text; it shows up among the mails.",
    path: "/handle",
    action: "mail",
    example: '{\n  "from": "me@example.com",\n  "to": "you@example.com",\n  "subject": "Test email",\n  "message": "Hello world!"\n}',
    wanted: ["to", "subject", "message"],
  },
  auth: {
    hint: "Says whether these credentials match; the answer holds the user.",
    path: "/handle",
    action: "auth",
    example: '{\n  "email": "admin@example.com",\n  "password": "verysecret"\n}',
    wanted: ["email", "password"],
  },
  grpc: { ...log, hint: "The contract’s POST /log-gRPC: by gRPC to the logger, answered once it is stored.", path: "/log-gRPC" },
  broker: { hint: "Just hits the broker, to see that it is there.", path: "/", example: "{}", wanted: [] },
};

/** @returns {error} for what is no JSON, {warning} for what the server will refuse, {} for what is fine. */
export function judge(preset, text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { error: `Not JSON: ${place(error.message, text)}` };
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) return { warning: "The server wants an object: { … }" };
  const problems = preset.wanted.flatMap((name) => {
    if (!(name in value)) return name === "message" && value.template ? [] : [`“${name}” is missing`];
    if (typeof value[name] === "string" || (name === "to" && Array.isArray(value[name]))) return [];
    return [`“${name}” should be text`];
  });
  return problems.length ? { warning: `${problems.join(", ")}: the server will refuse it.` } : {};
}

/** Browsers name a position; people think in lines. */
function place(message, text) {
  if (text.trim() === "") return "it is empty";
  const position = /position (\d+)/.exec(message);
  if (!position || /line \d+/.test(message)) return message;
  const before = text.slice(0, Number(position[1])).split("\n");
  return message.replace(/(in JSON )?at position \d+/, `at line ${before.length}, column ${before.at(-1).length + 1}`);
}

/** The request as it goes out; the payload stays exactly as it was typed. */
export function compose(preset, payload, { via, ack, key }) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  if (key) headers["Idempotency-Key"] = key;
  if (!preset.action) {
    if (via) headers["X-Flexi-Via"] = via;
    if (ack) headers["X-Flexi-Ack"] = ack;
    return { method: "POST", path: preset.path, headers, body: payload };
  }
  const fields = [`  "action": ${JSON.stringify(preset.action)}`];
  if (via) fields.push(`  "via": ${JSON.stringify(via)}`);
  if (ack) fields.push(`  "ack": ${JSON.stringify(ack)}`);
  fields.push(`  ${JSON.stringify(preset.action)}: ${payload.trim().replaceAll("\n", "\n  ")}`);
  return { method: "POST", path: preset.path, headers, body: `{\n${fields.join(",\n")}\n}` };
}

/** The same request for a terminal. */
export function asCurl({ method, headers, body }, url) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const named = Object.entries(headers).filter(([name]) => name !== "Accept").map(([name, value]) => ` \\\n  -H ${quote(`${name}: ${value}`)}`);
  return `curl -i -X ${method} ${quote(url)}${named.join("")} \\\n  --data-binary ${quote(body)}`;
}
