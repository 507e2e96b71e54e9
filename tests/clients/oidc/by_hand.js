// Logins without a browser: a program follows the redirects and fills in the provider's forms.
import { setTimeout as pause } from "node:timers/promises";
import { Person } from "./person.js";
import { api, prove } from "./proof.js";

const NONCE = "of the client";

// Begins a login. `changed` is what a thief or a broken client makes of the page's parameters.
async function begin(house, { role = "people", redirect = house.callback, changed = {} } = {}) {
  const { data, errors } = await api("POST", "auth/oidc/oidc/auth_url", { role, redirect_uri: redirect, client_nonce: NONCE }, null);
  if (!data?.auth_url) {
    throw new Error(`no page for role ${role} and ${redirect}: ${errors}`);
  }
  const page = new URL(data.auth_url);
  Object.entries(changed).forEach(([name, value]) => page.searchParams.set(name, value));
  return page;
}

// Ends a login with what the provider sent.
function finish({ state, code }, nonce = NONCE) {
  const query = new URLSearchParams({ state, client_nonce: nonce, ...(code ? { code } : {}) });
  return api("GET", `auth/oidc/oidc/callback?${query}`, undefined, null);
}

// A whole login.
async function logIn(house, person, how = {}) {
  const page = await begin(house, how);
  const sent = await person.visit(page, how.redirect ?? house.callback);
  return { page, sent, ended: await finish(sent) };
}

function refused(sentence, ended, text) {
  prove(sentence, ended.status === 400 && ended.errors.includes(text), `${ended.status} ${ended.errors}`);
}

export async function byHand(house) {
  await beginnings(house);
  await people(house);
  await thieves(house);
  await strangers(house);
  await clients(house);
  await posts(house);
}

async function beginnings(house) {
  const ask = (body) => api("POST", "auth/oidc/oidc/auth_url", body, null);
  const elsewhere = await ask({ role: "people", redirect_uri: "http://evil.example/oidc/callback" });
  prove("a redirect elsewhere gets no page", elsewhere.status === 200 && elsewhere.data.auth_url === "", elsewhere.data);
  const nobody = await ask({ role: "nobody", redirect_uri: house.callback });
  prove("nor does an unknown role", nobody.status === 200 && nobody.data.auth_url === "", nobody.data);
  const page = await begin(house);
  const said = Object.fromEntries(page.searchParams);
  prove("the page is the provider's", page.href.startsWith(`${house.issuer}/auth?`), page.origin + page.pathname);
  prove("it is asked for a code with PKCE", said.response_type === "code" && said.code_challenge_method === "S256", said);
  prove("and for the role's scopes", said.scope === "openid email profile groups" && said.redirect_uri === house.callback, said);
  for (const url of [`${house.issuer}/`, `${house.issuer}/realm`]) {
    const config = { oidc_discovery_url: url, oidc_client_id: "people", oidc_client_secret: house.secret };
    const { status, errors } = await api("POST", "auth/oidc/config", config);
    prove(`a provider that is not ${url.slice(house.issuer.length)} is refused`, status === 400 && errors.includes("error checking oidc discovery URL"), errors);
  }
}

async function people(house) {
  const ann = new Person("ann");
  const { sent, ended } = await logIn(house, ann);
  prove("the provider asks who it is and whether she agrees", ann.pages.join() === "Sign-in,Authorize", ann.pages);
  prove("it sends a code back, and its name", Boolean(sent.code) && sent.iss === house.issuer, Object.keys(sent));
  const { auth } = ended;
  prove("the code becomes a token", ended.status === 200 && Boolean(auth?.client_token), ended.errors);
  const metadata = { full_name: "Änne Müller", mail: "ann@acme.example", role: "people" };
  prove("with the mapped claims as metadata", same(auth?.metadata, metadata), auth?.metadata);
  prove("with the role's policies and lifetime", same(auth?.token_policies, ["default", "people"]) && auth?.lease_duration === 600, auth);
  prove("and her group's", same(auth?.identity_policies, ["deployers"]), auth?.identity_policies);
  const { data: self } = await api("GET", "auth/token/lookup-self", undefined, auth?.client_token);
  prove("the token knows her name", self?.display_name === "oidc-ann@acme.example" && self.path === "auth/oidc/oidc/callback", self);
  prove("and what the provider said of her", same(self?.meta, metadata) && same(self.identity_policies, ["deployers"]), self);
  const read = await api("GET", "secret/data/deploy", undefined, auth?.client_token);
  prove("it does what the group may", read.status === 200, read.status);
  const again = await logIn(house, ann);
  prove("who is logged in there is asked nothing", ann.pages.length === 0 && again.ended.status === 200, ann.pages);
  prove("and is the same entity", again.ended.auth?.entity_id === auth?.entity_id, again.ended.auth?.entity_id);
  await house.role("fresh", { max_age: "1h" });
  const fresh = await logIn(house, new Person("ann"), { role: "fresh" });
  prove("a role may ask how long ago the login was", fresh.page.searchParams.get("max_age") === "3600" && fresh.ended.status === 200, fresh.ended.errors);
  const page = await logIn(house, new Person("ann"), { redirect: house.page });
  prove("a login may go through a page of the server", page.ended.status === 200, page.ended.errors);

  refused("a state is good once", await finish(sent), "Vault login failed. Expired or missing OAuth state.");
  const other = await begin(house);
  refused("a code is good once", await finish({ state: other.searchParams.get("state"), code: sent.code }), "invalid_grant");
  refused("a made-up state is none", await finish({ state: "made-up", code: sent.code }), "Expired or missing OAuth state.");
}

async function thieves(house) {
  const ann = new Person("ann");
  const nonce = await ann.visit(await begin(house), house.callback);
  refused("another client's nonce is refused", await finish(nonce, "another's"), "invalid client_nonce");
  refused("and the login is over", await finish(nonce), "Expired or missing OAuth state.");
  const changed = async (parameters) => (await logIn(house, ann, { changed: parameters })).ended;
  refused("a token with another nonce is refused", await changed({ nonce: "another" }), "Token verification failed. Invalid ID token nonce.");
  refused("a code for another challenge is refused", await changed({ code_challenge: "A".repeat(43) }), "invalid_grant");
  refused("a code of another client is refused", await changed({ client_id: "elliptic" }), "invalid_grant");
  const [one, two] = [await ann.visit(await begin(house), house.callback), await ann.visit(await begin(house), house.callback)];
  refused("codes of two logins cannot be swapped", await finish({ state: one.state, code: two.code }), "invalid_grant");
  const silent = await ann.visit(await begin(house), house.callback);
  refused("a login without a code is none", await finish({ state: silent.state }), "No code or id_token received.");
}

async function strangers(house) {
  const bob = new Person("bob");
  const { ended } = await logIn(house, bob);
  refused("whoever is in none of the bound groups is refused", ended, 'error validating claims: claim "groups" does not match any associated bound claim values');
  await house.role("bobs", { bound_claims: { email: "*@acme.example" }, bound_claims_type: "glob" });
  const other = (await logIn(house, bob, { role: "bobs" })).ended;
  prove("a role for everybody takes him", other.status === 200 && same(other.auth.identity_policies ?? [], []), other.errors);
  await house.role("mute", { oidc_scopes: ["email"], bound_claims: {} });
  refused("groups that are not asked for are not there", (await logIn(house, bob, { role: "mute" })).ended, '"groups" claim not found in token');
  await house.role("subject", { bound_subject: "ann", bound_claims: {} });
  refused("a role for one subject takes no other", (await logIn(house, bob, { role: "subject" })).ended, "invalid subject (sub) claim");
}

async function clients(house) {
  await house.configure("people", { oidc_client_secret: "wrong" });
  refused("a wrong password at the provider shows", (await logIn(house, new Person("ann"))).ended, "invalid_client");
  await house.configure("hasty");
  const page = await begin(house);
  const late = await new Person("ann").visit(page, house.callback);
  await pause(2100);
  refused("an expired code is refused", await finish(late), "invalid_grant");
  await house.configure("elliptic");
  refused("a token signed with ES256 is not expected", (await logIn(house, new Person("ann"))).ended, "ES256 is not among jwt_supported_algs");
  await house.configure("elliptic", { jwt_supported_algs: ["ES256"] });
  const elliptic = (await logIn(house, new Person("ann"))).ended;
  prove("unless jwt_supported_algs says so", elliptic.status === 200, elliptic.errors);
}

// The provider makes the browser post its answer to the API.
async function posts(house) {
  await house.role("plain", { bound_claims: {}, groups_claim: "", user_claim: "sub" });
  for (const kinds of [["code"], ["id_token"], ["code", "id_token"]]) {
    const name = kinds.join(" and ");
    await house.configure("poster", { oidc_response_mode: "form_post", oidc_response_types: kinds });
    const page = await begin(house, { redirect: house.page, role: kinds.includes("code") ? "people" : "plain" });
    const sent = await new Person("ann").visit(page, house.posted);
    prove(`form_post: the form holds ${name}`, kinds.every((kind) => sent[kind]) && sent.state === page.searchParams.get("state"), Object.keys(sent));
    const response = await fetch(house.posted, { method: "POST", body: new URLSearchParams(sent) });
    prove(`form_post: the browser posts ${name}`, response.status === 200 && (await response.text()).includes("has arrived"), response.status);
    const ended = await finish({ state: sent.state, code: "no_code" });
    prove(`form_post: the client fetches its token after ${name}`, ended.status === 200 && Boolean(ended.auth.client_token), ended.errors);
  }
  await house.configure("people");
}

function same(seen, wanted) {
  const sorted = (value) => JSON.stringify(Array.isArray(value) ? [...value].sort() : value && Object.entries(value).sort());
  return sorted(seen) === sorted(wanted);
}
