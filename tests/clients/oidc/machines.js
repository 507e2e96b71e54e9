// Tokens of the provider presented as they are, and a provider whose keys become others.
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Person } from "./person.js";
import { api, must, prove, secret } from "./proof.js";

const API = "urn:daypass";
// Keys are not fetched again so soon.
const PAUSE = 10_000;

async function exchanged(house, client, form) {
  const both = [client, house.secret].map((text) => new URLSearchParams({ x: text }).toString().slice(2)).join(":");
  const headers = { authorization: `Basic ${Buffer.from(both).toString("base64")}` };
  const response = await fetch(`${house.issuer}/token`, { method: "POST", headers, body: new URLSearchParams(form) });
  const body = await response.json();
  if (!response.ok) {
    throw new Error(`the provider gives no token: ${body.error} ${body.error_description}`);
  }
  secret(body.access_token);
  secret(body.id_token);
  return body;
}

// What a machine gets with its own name and password.
async function ofMachine(house) {
  return (await exchanged(house, "machine", { grant_type: "client_credentials", resource: API, scope: "login" })).access_token;
}

// What a program gets that a person has logged in to.
async function ofPerson(house, name) {
  const verifier = randomBytes(32).toString("base64url");
  const asked = {
    client_id: "people",
    response_type: "code",
    scope: "openid",
    redirect_uri: house.callback,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    claims: JSON.stringify({ id_token: { email: null, groups: null } }),
  };
  const { code } = await new Person(name).visit(`${house.issuer}/auth?${new URLSearchParams(asked)}`, house.callback);
  const form = { grant_type: "authorization_code", code, redirect_uri: house.callback, code_verifier: verifier };
  return (await exchanged(house, "people", form)).id_token;
}

function logIn(role, jwt) {
  return api("POST", "auth/jwt/login", { role, jwt }, null);
}

export async function furnish(house) {
  await must("POST", "sys/auth/jwt", { type: "jwt" });
  await must("POST", "auth/jwt/config", { oidc_discovery_url: house.issuer });
  const role = { role_type: "jwt", user_claim: "sub", token_policies: ["people"], token_ttl: "5m" };
  await must("POST", "auth/jwt/role/machine", { ...role, bound_audiences: [API], bound_claims: { client_id: "machine" } });
  await must("POST", "auth/jwt/role/person", { ...role, bound_audiences: ["people"], bound_claims: { groups: "deploy" }, groups_claim: "groups" });
}

export async function machines(house) {
  const token = await ofMachine(house);
  const machine = await logIn("machine", token);
  prove("a machine's token of the provider logs in", machine.status === 200 && machine.auth.lease_duration === 300, machine.errors);
  const person = await logIn("person", await ofPerson(house, "ann"));
  prove("a person's token of the provider logs in", person.status === 200 && person.auth.metadata.role === "person", person.errors);
  const bob = await logIn("person", await ofPerson(house, "bob"));
  prove("but not everybody's", bob.status === 400 && bob.errors.includes('claim "groups" does not match'), bob.errors);
  const wrong = await logIn("person", token);
  prove("nor a token for somebody else", wrong.status === 400 && wrong.errors.includes("invalid audience (aud) claim"), wrong.errors);
  await rotation(house, token);
}

async function rotation(house, old) {
  await house.restart();
  await pause(Math.max(0, house.configured + PAUSE + 200 - Date.now()));
  const token = await ofMachine(house);
  const machine = await logIn("machine", token);
  prove("the provider has other keys: they are fetched at once", machine.status === 200, `${machine.status} ${machine.errors}`);
  const late = await logIn("machine", old);
  prove("and a token of the old keys is worth nothing", late.status >= 400 && late.errors.includes("signature"), `${late.status} ${late.errors}`);
  const [header, claims, signature] = token.split(".");
  const forged = JSON.stringify({ ...JSON.parse(Buffer.from(claims, "base64url")), sub: "other" });
  const broken = await logIn("machine", [header, Buffer.from(forged).toString("base64url"), signature].join("."));
  prove("nor is one that was changed", broken.status >= 400 && broken.errors.includes("signature"), `${broken.status} ${broken.errors}`);
  await annLogsIn(house, "a person logs in under the new keys too");
  await house.restart(["client_secret_post"]);
  await house.configure("people");
  await annLogsIn(house, "a provider that takes our password in the form alone gets it there");
}

async function annLogsIn(house, sentence) {
  const begun = await api("POST", "auth/oidc/oidc/auth_url", { role: "people", redirect_uri: house.callback }, null);
  const { state, code } = await new Person("ann").visit(begun.data.auth_url, house.callback);
  const ended = await api("GET", `auth/oidc/oidc/callback?${new URLSearchParams({ state, code })}`, undefined, null);
  prove(sentence, ended.status === 200 && ended.auth.metadata.mail === "ann@acme.example", ended.errors);
}
