// What the session says, and what its parts share.
import { createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

// Far more than it takes, for a machine that has other work.
export const WAIT_MAX = 60_000;
let passed = 0;
let failed = 0;
const secrets = new Set();

export function prove(sentence, holds, seen) {
  if (holds) {
    passed += 1;
    console.log(`ok    ${sentence}`);
  } else {
    failed += 1;
    console.log(`FAIL  ${sentence}: saw ${hide(seen)}`);
  }
}

// A value that no line may repeat.
export function secret(value) {
  if (value) {
    secrets.add(value);
  }
  return value;
}

function hide(seen) {
  let text = typeof seen === "string" ? seen : JSON.stringify(seen) ?? "nothing";
  for (const value of secrets) {
    text = text.replaceAll(value, "<secret>");
  }
  return text.trim().slice(0, 1500);
}

export function end() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

// Waits until something is so; what fails meanwhile is told at the end.
export async function until(what, check) {
  const last = Date.now() + WAIT_MAX;
  let trouble = "";
  while (Date.now() < last) {
    try {
      const found = await check();
      if (found) {
        return found;
      }
    } catch (error) {
      trouble = `: ${error.message}`;
    }
    await pause(20);
  }
  throw new Error(`not within ${WAIT_MAX / 1000} s: ${what}${trouble}`);
}

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

// The server's API. A stranger has no token.
export async function api(method, path, body, token = process.env.VAULT_TOKEN) {
  const headers = { ...(token ? { "x-vault-token": token } : {}), ...(body ? { "content-type": "application/json" } : {}) };
  const response = await fetch(`${process.env.VAULT_ADDR}/v1/${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  const answer = text.startsWith("{") ? JSON.parse(text) : {};
  secret(answer.auth?.client_token);
  return { status: response.status, text, data: answer.data, auth: answer.auth, errors: (answer.errors ?? []).join(" ") };
}

export async function must(method, path, body) {
  const answer = await api(method, path, body);
  if (answer.status >= 300) {
    throw new Error(`${method} ${path}: ${answer.status} ${answer.errors}`);
  }
  return answer;
}
