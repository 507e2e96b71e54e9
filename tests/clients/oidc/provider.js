// A certified OpenID provider on loopback, with its own login and consent pages. Everybody whom it knows may log in with any password.
//
// Its parent sends one message: port, keys (JWKs), secret, redirects, ways to show the secret. It ends with its parent.
import { once } from "node:events";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// NODE_PATH, where the packages lie, counts for `require` alone.
const { default: Provider } = await import(pathToFileURL(createRequire(import.meta.url).resolve("oidc-provider")));

const PEOPLE = {
  ann: { email: "ann@acme.example", name: "Änne Müller", groups: ["everybody", "deploy"] },
  bob: { email: "bob@acme.example", name: "Bob", groups: ["everybody"] },
};
// The API that machines ask for tokens for.
const API = "urn:daypass";

const { port, keys, secret, redirects, ways } = (await once(process, "message"))[0];
process.once("disconnect", () => process.exit());
const issuer = `http://127.0.0.1:${port}`;
const person = (client_id, more) => ({ client_id, client_secret: secret, redirect_uris: redirects, token_endpoint_auth_method: ways[0], ...more });

const provider = new Provider(issuer, {
  clients: [
    person("people"),
    person("hasty"),
    person("poster", {
      grant_types: ["authorization_code", "implicit"],
      response_types: ["code", "id_token", "code id_token"],
      // Implicit answers go to a web application over TLS alone; a native one may listen on this machine. It asks for consent each time.
      application_type: "native",
    }),
    person("elliptic", { id_token_signed_response_alg: "ES256" }),
    { client_id: "machine", client_secret: secret, token_endpoint_auth_method: ways[0], grant_types: ["client_credentials"], redirect_uris: [], response_types: [] },
  ],
  jwks: { keys },
  cookies: { keys: ["of no value"] },
  clientAuthMethods: ways,
  pkce: { methods: ["S256"], required: () => true },
  scopes: ["openid"],
  claims: { openid: ["sub"], email: ["email"], profile: ["name"], groups: ["groups"] },
  async findAccount(_, name) {
    const claims = Object.hasOwn(PEOPLE, name) && PEOPLE[name];
    return claims ? { accountId: name, claims: () => ({ sub: name, ...claims }) } : undefined;
  },
  // A code of the hasty client is good for a second.
  ttl: {
    AuthorizationCode: (_context, _code, client) => (client.clientId === "hasty" ? 1 : 60),
    ...Object.fromEntries(["AccessToken", "ClientCredentials", "Grant", "IdToken", "Interaction", "Session"].map((kind) => [kind, 600])),
  },
  features: {
    claimsParameter: { enabled: true },
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({ scope: "login", audience: API, accessTokenFormat: "jwt", jwt: { sign: { alg: "RS256" } } }),
    },
  },
});

provider.on("server_error", (_, error) => console.error(error));
provider.listen(port, "127.0.0.1");
