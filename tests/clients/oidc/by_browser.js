// Logins with the command line and a browser: the CLI prints the page's address and waits; Chromium opens the page.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Browser } from "./browser.js";
import { WAIT_MAX, prove, secret, until } from "./proof.js";

// `daypass login -method=oidc`, waiting.
class Terminal {
  constructor(house, ...more) {
    const { VAULT_TOKEN: _, ...env } = process.env;
    const args = ["login", "-method=oidc", "-format=json", `port=${house.callbackPort}`, "skip_browser=true", ...more];
    this.out = "";
    this.said = "";
    this.child = spawn(process.env.DAYPASS_BIN, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout.on("data", (data) => { this.out += data; });
    this.child.stderr.on("data", (data) => { this.said += data; });
    this.ended = new Promise((resolve) => { this.child.once("close", resolve); });
  }

  page() {
    return until("the CLI prints the page's address", async () => /^ *(http\S+)\s*$/m.exec(this.said)?.[1]);
  }

  async end() {
    const late = setTimeout(() => this.child.kill(), WAIT_MAX);
    const status = await this.ended;
    clearTimeout(late);
    const auth = this.out.startsWith("{") ? JSON.parse(this.out).auth : undefined;
    secret(auth?.client_token);
    return { status, auth, said: this.said };
  }
}

export async function byBrowser(house) {
  const browser = await Browser.open();
  try {
    prove(`Chromium ${browser.version} is there`, Boolean(browser.version));
    await logsIn(house, browser);
    await isKnown(house, browser);
    await isSentByForm(house, browser);
    await cancels(house, browser);
    await isNotWanted(house, browser);
  } finally {
    await browser.close();
  }
}

async function fillIn(browser, name) {
  await browser.type("input[name=login]", name);
  await browser.type("input[name=password]", "any");
  await browser.click("button[type=submit]");
}

async function agree(browser) {
  await browser.click("input[value=consent] ~ button[type=submit]");
}

async function logsIn(house, browser) {
  const terminal = new Terminal(house);
  await browser.go(await terminal.page());
  prove("the printed address shows the provider's form", (await browser.page()).text.startsWith("Sign-in"), await browser.page());
  await fillIn(browser, "ann");
  await browser.find("input[value=consent]");
  const consent = await browser.page();
  prove("it asks whether the scopes are all right", consent.text.startsWith("Authorize") && consent.text.includes("groups"), consent);
  await agree(browser);
  const landed = await until("the browser lands", async () => {
    const page = await browser.page();
    return page.url.startsWith(house.callback) && page.text && page;
  });
  prove("the browser lands on the CLI's page", landed.text.includes("The answer has arrived"), landed);
  const { status, auth, said } = await terminal.end();
  prove("the CLI has a token", status === 0 && Boolean(auth?.client_token), said);
  prove("of the person in the browser", auth?.metadata?.mail === "ann@acme.example" && auth.metadata.full_name === "Änne Müller", auth?.metadata);
  prove("with the policies of role and group", ["people", "deployers"].every((name) => auth?.policies?.includes(name)), auth?.policies);
  const file = join(process.env.HOME, ".vault-token");
  prove("it is kept for the commands that follow", existsSync(file) && readFileSync(file, "utf8") === auth?.client_token, existsSync(file));
  const next = await command("kv", "get", "-field=n", "secret/deploy");
  prove("which find it", next.status === 0 && next.out.trim() === "1", next.said);
}

async function isKnown(house, browser) {
  const terminal = new Terminal(house, "-no-store");
  await browser.go(await terminal.page());
  const { status, auth, said } = await terminal.end();
  prove("a browser that is logged in goes straight through", status === 0 && auth?.metadata?.mail === "ann@acme.example", said);
}

async function isSentByForm(house, browser) {
  await house.configure("poster", { oidc_response_mode: "form_post", oidc_response_types: ["code", "id_token"] });
  const terminal = new Terminal(house, "-no-store");
  await browser.go(await terminal.page());
  await agree(browser);
  const { status, auth, said } = await terminal.end();
  prove("the browser may post the answer to the CLI", status === 0 && auth?.metadata?.mail === "ann@acme.example", said);
  await house.configure("people");
}

async function cancels(house, browser) {
  await browser.forget();
  const terminal = new Terminal(house, "-no-store");
  await browser.go(await terminal.page());
  await browser.click("a[href*='/abort']");
  const { status, said } = await terminal.end();
  prove("who cancels gets no token, and is told why", status === 2 && said.includes("the provider says: access_denied"), said);
}

async function isNotWanted(house, browser) {
  await browser.forget();
  const terminal = new Terminal(house, "-no-store");
  await browser.go(await terminal.page());
  await fillIn(browser, "bob");
  await agree(browser);
  const { status, said } = await terminal.end();
  prove("who may not log in is told so", status === 2 && said.includes('claim "groups" does not match any associated bound claim values'), said);
}

function command(...args) {
  const { VAULT_TOKEN: _, ...env } = process.env;
  const child = spawn(process.env.DAYPASS_BIN, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let [out, said] = ["", ""];
  child.stdout.on("data", (data) => { out += data; });
  child.stderr.on("data", (data) => { said += data; });
  return new Promise((resolve) => { child.once("close", (status) => resolve({ status, out, said })); });
}
