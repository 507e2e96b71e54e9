// A session with node-vault, the client of JavaScript build tools.
"use strict";

const vault = require("node-vault");

let passed = 0;
let failed = 0;

function prove(sentence, holds, seen) {
  if (holds) {
    passed += 1;
    console.log(`ok    ${sentence}`);
  } else {
    failed += 1;
    console.log(`FAIL  ${sentence}: saw`, seen);
  }
}

async function refused(sentence, status, action) {
  try {
    await action();
    prove(sentence, false, "no refusal");
  } catch (error) {
    prove(sentence, error.response && error.response.statusCode === status, error.message);
  }
}

function client(token) {
  return vault({ endpoint: process.env.VAULT_ADDR, token });
}

async function status(root) {
  const health = await root.health();
  prove("health", health.initialized === true && health.sealed === false, health);
  prove("status", (await root.status()).sealed === false);
  const self = await root.tokenLookupSelf();
  prove("the token looks itself up", self.data.policies.includes("root"), self.data.policies);
  await refused("a wrong token is denied", 403, () => client("s.wrong").tokenLookupSelf());
}

async function policies(root) {
  await root.addPolicy({ name: "reader", rules: 'path "secret/data/app" { capabilities = ["read"] }' });
  prove("a policy is written and listed", (await root.policies()).policies.includes("reader"));
  prove("and read", (await root.getPolicy({ name: "reader" })).rules.includes("secret/data/app"));
  await refused("one that does not parse is refused", 400, () => root.addPolicy({ name: "bad", rules: "path {" }));
}

async function kv(root) {
  await root.write("secret/data/app", { data: { user: "robot", n: 5 } });
  const read = await root.read("secret/data/app");
  prove("KV 2: write and read keep types", read.data.data.user === "robot" && read.data.data.n === 5, read.data.metadata);
  const patched = await root.update("secret/data/app", { data: { n: 6 } });
  prove("update is a merge patch", patched.data.version === 2, patched.data);
  prove("list", (await root.list("secret/metadata")).data.keys.join() === "app");
  await root.delete("secret/data/app");
  await refused("delete", 404, () => root.read("secret/data/app"));
  await root.mount({ mount_point: "plain", type: "kv", options: { version: "1" } });
  prove("KV 1: mounted", "plain/" in (await root.mounts()).data);
  await root.write("plain/a/b", { x: "y" });
  prove("read", (await root.read("plain/a/b")).data.x === "y");
  prove("help", typeof (await root.help("plain")).help === "string");
  await root.unmount({ mount_point: "plain" });
  await refused("unmounted", 404, () => root.read("plain/a/b"));
}

async function tokens(root) {
  const own = root.token;
  const made = await root.tokenCreate({ policies: ["reader"], ttl: "10m", display_name: "job" });
  // The client takes the new token for its own.
  root.token = own;
  prove("a token with a policy", made.auth.lease_duration === 600 && made.auth.policies.includes("reader"), made.auth.policies);
  const job = client(made.auth.client_token);
  await refused("writes nothing", 403, () => job.write("secret/data/app", { data: {} }));
  const renewed = await job.tokenRenewSelf({ increment: "5m" });
  prove("renews itself", renewed.auth.lease_duration >= 290 && renewed.auth.lease_duration <= 600, renewed.auth.lease_duration);
  prove("lookup by accessor", (await root.tokenLookupAccessor({ accessor: made.auth.accessor })).data.display_name === "token-job");
  await job.tokenRevokeSelf();
  await refused("and revokes itself", 403, () => job.tokenLookupSelf());
}

async function machines(root) {
  await root.enableAuth({ mount_point: "approle", type: "approle" });
  await root.addApproleRole({ role_name: "job", token_policies: "default", token_ttl: 600 });
  const { data: role } = await root.getApproleRoleId({ role_name: "job" });
  const { data: secret } = await root.getApproleRoleSecret({ role_name: "job" });
  const job = vault({ endpoint: process.env.VAULT_ADDR });
  const login = await job.approleLogin({ role_id: role.role_id, secret_id: secret.secret_id });
  prove("AppRole login", login.auth.lease_duration === 600 && login.auth.policies.join() === "default", login.auth.policies);
  prove("the token works", (await job.tokenLookupSelf()).data.path === "auth/approle/login");
  await refused("a wrong secret id is refused", 400, () => client("").approleLogin({ role_id: role.role_id, secret_id: "wrong" }));
}

async function aws(root) {
  const mount = "cdp/aws/staging";
  await root.mount({ mount_point: mount, type: "aws" });
  await root.write(`${mount}/roles/ecr-staging`, { credential_type: "assumed_role", role_arns: ["arn:aws:iam::111111111111:role/ecr-staging"] });
  const written = await root.write(`${mount}/sts/ecr-staging`, { ttl: "60m" });
  const read = await root.read(`${mount}/sts/ecr-staging`);
  for (const minted of [written, read]) {
    prove("AWS: a credential for a session", minted.data.access_key.startsWith("ASIA") && Boolean(minted.data.security_token), Object.keys(minted.data));
    prove("whose lease tells the truth", minted.lease_duration >= 3590 && minted.lease_duration <= 3600 && minted.renewable === false, minted.lease_duration);
  }
  await refused("a lease of STS cannot be renewed", 400, () => root.write("sys/leases/renew", { lease_id: written.lease_id }));
  await root.write("sys/leases/revoke", { lease_id: written.lease_id });
  await refused("a revoked lease is not found", 400, () => root.write("sys/leases/lookup", { lease_id: written.lease_id }));
  await refused("an unknown role is a bad request", 400, () => root.read(`${mount}/sts/nobody`));
}

async function main() {
  const root = client(process.env.VAULT_TOKEN);
  await status(root);
  await policies(root);
  await kv(root);
  await tokens(root);
  await machines(root);
  if (process.env.AWS_SANDBOX) {
    await aws(root);
  } else {
    console.log("      left out: everything with AWS, because AWS_SANDBOX names no fake AWS");
  }
}

main()
  .catch((error) => prove("the session runs to its end", false, error.message))
  .finally(() => {
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed === 0 ? 0 : 1);
  });
