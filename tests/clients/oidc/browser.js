// Headless Chromium, driven by chromedriver over the WebDriver protocol (https://www.w3.org/TR/webdriver2/).
import { spawn } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { freePort, until } from "./proof.js";

const ELEMENT = "element-6066-11e4-a52e-4f735466cecf";
const FLAGS = [
  "--headless=new",
  "--disable-gpu",
  "--no-first-run",
  // A container's /dev/shm is small.
  "--disable-dev-shm-usage",
  // The pages name fonts elsewhere. Nothing leaves this machine.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
  "--no-proxy-server",
];

export class Browser {
  static async open() {
    const port = await freePort();
    const driver = spawn("chromedriver", [`--port=${port}`], { stdio: ["ignore", "ignore", "inherit"] });
    driver.on("error", (error) => console.log(`chromedriver: ${error.message}`));
    const browser = new Browser(driver, `http://127.0.0.1:${port}`);
    await until("chromedriver is there", async () => (await browser.call("GET", "/status")).ready);
    // Root has no sandbox.
    const args = process.getuid() === 0 ? [...FLAGS, "--no-sandbox"] : FLAGS;
    const wanted = { alwaysMatch: { browserName: "chrome", pageLoadStrategy: "eager", "goog:chromeOptions": { args } } };
    const { sessionId, capabilities } = await browser.call("POST", "/session", { capabilities: wanted });
    browser.session = `/session/${sessionId}`;
    browser.version = capabilities.browserVersion;
    return browser;
  }

  constructor(driver, address) {
    this.driver = driver;
    this.address = address;
    this.session = "";
  }

  async call(method, path, body) {
    const headers = { "content-type": "application/json" };
    const response = await fetch(this.address + this.session + path, { method, headers, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) {
      throw new Error(`${path}: ${value.error}: ${value.message.split("\n")[0]}`);
    }
    return value;
  }

  go(url) {
    return this.call("POST", "/url", { url });
  }

  async page() {
    const text = await this.call("POST", "/execute/sync", { script: "return document.body ? document.body.innerText : ''", args: [] });
    return { text, url: await this.call("GET", "/url") };
  }

  // What a selector finds, once it is there.
  async find(css) {
    return until(`the page has ${css}`, async () => (await this.call("POST", "/element", { using: "css selector", value: css }))[ELEMENT]);
  }

  async type(css, text) {
    await this.call("POST", `/element/${await this.find(css)}/value`, { text });
  }

  // Clicks, and waits until the page is another.
  async click(css) {
    const element = await this.find(css);
    await this.call("POST", `/element/${element}/click`, {});
    await until(`${css} leads on`, async () => {
      try {
        await this.call("GET", `/element/${element}/name`);
        return false;
      } catch {
        return true;
      }
    });
  }

  // Forgets who is logged in.
  forget() {
    return this.call("POST", "/goog/cdp/execute", { cmd: "Network.clearBrowserCookies", params: {} });
  }

  async close() {
    try {
      await this.call("DELETE", "");
    } finally {
      this.driver.kill();
      await pause(50);
    }
  }
}
