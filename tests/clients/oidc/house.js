// The provider as a process, and the mounts and roles that trust it.
import { spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { freePort, must, prove, secret, until } from "./proof.js";

const PROVIDER = fileURLToPath(new URL("provider.js", import.meta.url));

export class House {
  static async build() {
    const [port, callbackPort] = [await freePort(), await freePort()];
    const house = new House(port, callbackPort);
    await house.start();
    return house;
  }

  constructor(port, callbackPort) {
    this.port = port;
    this.issuer = `http://127.0.0.1:${port}`;
    // Everything that RFC 6749 section 2.3.1 wants encoded in a password.
    this.secret = secret(`p%2B a:b&c=/+~${randomBytes(9).toString("base64")}`);
    this.callbackPort = callbackPort;
    this.callback = `http://localhost:${callbackPort}/oidc/callback`;
    this.page = `${process.env.VAULT_ADDR}/ui/vault/auth/oidc/oidc/callback`;
    this.posted = `${process.env.VAULT_ADDR}/v1/auth/oidc/oidc/callback`;
  }

  // Starts the provider with new keys. `ways` are those that it takes a client's password by.
  async start(ways = ["client_secret_basic", "client_secret_post"]) {
    const keys = [key("RS256", "rsa", { modulusLength: 2048 }), key("ES256", "ec", { namedCurve: "P-256" })];
    this.provider = spawn(process.execPath, [PROVIDER], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    const redirects = [this.callback, this.page, this.posted];
    this.provider.send({ port: this.port, keys, secret: this.secret, redirects, ways });
    await until("the provider is there", async () => (await fetch(`${this.issuer}/.well-known/openid-configuration`)).ok);
  }

  async stop() {
    const ended = new Promise((resolve) => this.provider.once("exit", resolve));
    this.provider.kill();
    await ended;
  }

  async restart(ways) {
    await this.stop();
    await this.start(ways);
  }

  // Configures a mount for a client of the provider.
  async configure(client, more) {
    const config = { oidc_discovery_url: this.issuer, oidc_client_id: client, oidc_client_secret: this.secret, default_role: "people" };
    await must("POST", "auth/oidc/config", { ...config, ...more });
    this.configured = Date.now();
  }

  // The role of those who may deploy.
  role(name, more) {
    const role = {
      role_type: "oidc",
      user_claim: "email",
      // The port of a program on this machine is not compared.
      allowed_redirect_uris: ["http://localhost:8250/oidc/callback", this.page],
      oidc_scopes: ["email", "profile", "groups"],
      bound_claims: { groups: ["deploy", "operate"] },
      groups_claim: "groups",
      claim_mappings: { name: "full_name", email: "mail" },
      token_policies: ["people"],
      token_ttl: "10m",
    };
    return must("POST", `auth/oidc/role/${name}`, { ...role, ...more });
  }

  async furnish() {
    await must("POST", "sys/auth/oidc", { type: "oidc" });
    await this.configure("people");
    const config = await must("GET", "auth/oidc/config");
    const { data } = config;
    prove("configured by discovery", data.oidc_discovery_url === this.issuer && data.oidc_client_id === "people", data);
    prove("which shows no password", !config.text.includes("oidc_client_secret") && !config.text.includes(this.secret), Object.keys(data));
    await must("PUT", "sys/policies/acl/people", { policy: 'path "secret/data/people" { capabilities = ["read"] }' });
    await must("PUT", "sys/policies/acl/deployers", { policy: 'path "secret/data/deploy" { capabilities = ["read"] }' });
    await must("POST", "secret/data/deploy", { data: { n: 1 } });
    const { data: group } = await must("POST", "identity/group", { name: "deployers", type: "external", policies: ["deployers"] });
    const accessor = (await must("GET", "sys/auth")).data["oidc/"].accessor;
    await must("POST", "identity/group-alias", { name: "deploy", mount_accessor: accessor, canonical_id: group.id });
    await this.role("people");
  }
}

function key(alg, type, options) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: "jwk" }), alg, use: "sig", kid: randomBytes(6).toString("hex") };
}
