// A person without a browser: an HTTP client with cookies that fills in whatever form the provider shows.

const HOPS_MAX = 20;

export class Person {
  constructor(name) {
    this.name = name;
    this.cookies = new Map();
    // The headings of the pages that were shown, one after the other.
    this.pages = [];
  }

  // Goes to a page, logs in and agrees. Answers with what the provider sends along to the address that begins with `home`: by a redirect
  // or, where it makes the browser post a form, with that form.
  async visit(page, home) {
    this.pages = [];
    let response = await this.ask(page);
    for (let hop = 0; hop < HOPS_MAX; hop += 1) {
      const location = response.headers.get("location");
      if (location) {
        const next = new URL(location, response.url);
        if (next.href.startsWith(home)) {
          return Object.fromEntries(next.searchParams);
        }
        response = await this.ask(next);
        continue;
      }
      const html = await response.text();
      this.pages.push(/<h1>([^<]*)/.exec(html)?.[1] ?? "");
      const form = formOf(html);
      if (!form) {
        throw new Error(`no form at ${response.url} (${response.status}): ${html.replace(/<style>[^]*<.style>/, "").replace(/\s+/g, " ").slice(0, 900)}`);
      }
      if (form.action.startsWith(home)) {
        return form.fields;
      }
      const filled = { ...form.fields, ...(form.fields.prompt === "login" ? { login: this.name, password: "any" } : {}) };
      response = await this.ask(new URL(form.action, response.url), filled);
    }
    throw new Error("the provider sends people round and round");
  }

  async ask(url, form) {
    const headers = { cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ") };
    const body = form && new URLSearchParams(form);
    const response = await fetch(url, { method: form ? "POST" : "GET", body, headers, redirect: "manual" });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]*)=([^;]*)/.exec(cookie);
      this.cookies.set(name, value);
    }
    return response;
  }
}

function formOf(html) {
  const action = /<form[^>]* action="([^"]*)"/.exec(html)?.[1];
  const inputs = [...html.matchAll(/<input[^>]* name="([^"]*)"[^>]* value="([^"]*)"/g)];
  return action && { action: plain(action), fields: Object.fromEntries(inputs.map(([, name, value]) => [name, plain(value)])) };
}

function plain(text) {
  return text.replace(/&(amp|lt|gt|quot|#39);/g, (_, name) => ({ amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" })[name]);
}
