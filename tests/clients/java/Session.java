import io.github.jopenlibs.vault.Vault;
import io.github.jopenlibs.vault.VaultConfig;
import io.github.jopenlibs.vault.VaultException;
import io.github.jopenlibs.vault.api.Auth;
import io.github.jopenlibs.vault.api.sys.mounts.MountPayload;
import io.github.jopenlibs.vault.api.sys.mounts.MountType;
import io.github.jopenlibs.vault.json.JsonObject;
import io.github.jopenlibs.vault.response.AuthResponse;
import io.github.jopenlibs.vault.response.LogicalResponse;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** A session with the Java driver, which the Jenkins plugin is built on. */
public final class Session {
    private static int passed;
    private static int failed;

    private interface Action {
        Object run() throws Exception;
    }

    private static void prove(String sentence, boolean holds, Object seen) {
        if (holds) {
            passed++;
            System.out.println("ok    " + sentence);
        } else {
            failed++;
            System.out.println("FAIL  " + sentence + ": saw " + seen);
        }
    }

    /** The driver throws for refusals in some calls and answers with the status in others: both are seen here. */
    private static void refused(String sentence, int status, Action action) {
        try {
            Object answer = action.run();
            int seen = answer instanceof LogicalResponse r ? r.getRestResponse().getStatus() : 0;
            prove(sentence, seen == status, "status " + seen);
        } catch (VaultException e) {
            prove(sentence, e.getHttpStatusCode() == status, e.getHttpStatusCode() + " " + e.getMessage());
        } catch (Exception e) {
            prove(sentence, false, e);
        }
    }

    private static Vault client(String token, int engineVersion) throws VaultException {
        VaultConfig config = new VaultConfig().address(System.getenv("VAULT_ADDR")).token(token).engineVersion(engineVersion).build();
        return Vault.create(config);
    }

    public static void main(String[] arguments) throws Exception {
        String token = System.getenv("VAULT_TOKEN");
        Vault raw = client(token, 1);
        Vault root = client(token, 2);
        status(root);
        policies(raw);
        kv(root, raw);
        tokens(root, raw);
        machines(raw);
        if (System.getenv("AWS_SANDBOX") != null) {
            aws(raw);
        } else {
            System.out.println("      left out: everything with AWS, because AWS_SANDBOX names no fake AWS");
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    private static void status(Vault root) throws VaultException {
        prove("health", root.debug().health().getRestResponse().getStatus() == 200, "");
        prove("the server is not sealed", !root.seal().sealStatus().getSealed(), "");
        prove("the token looks itself up", root.auth().lookupSelf().getPolicies().contains("root"), "");
        refused("a wrong token is denied", 403, () -> client("s.wrong", 1).auth().lookupSelf());
    }

    private static void policies(Vault raw) throws VaultException {
        Map<String, Object> rules = Map.of("policy", "path \"secret/data/app\" { capabilities = [\"read\"] }");
        prove("a policy is written", raw.logical().write("sys/policies/acl/reader", rules).getRestResponse().getStatus() == 204, "");
        prove("and read", raw.logical().read("sys/policies/acl/reader").getData().get("policy").contains("secret/data/app"), "");
        refused("one that does not parse is refused", 400, () -> raw.logical().write("sys/policies/acl/bad", Map.of("policy", "path {")));
    }

    private static void kv(Vault root, Vault raw) throws VaultException {
        root.logical().write("secret/app", Map.of("user", "robot", "n", 5));
        Map<String, String> data = root.logical().read("secret/app").getData();
        prove("KV 2: write and read, the driver adding data/ by itself", "robot".equals(data.get("user")) && "5".equals(data.get("n")), data);
        root.logical().write("secret/app", Map.of("user", "second"));
        prove("an old version", "robot".equals(root.logical().read("secret/app", true, 1).getData().get("user")), "");
        prove("list", root.logical().list("secret").getListData().equals(List.of("app")), "");
        root.logical().delete("secret/app", new int[] {2});
        refused("a deleted version is not found", 404, () -> root.logical().read("secret/app"));
        root.logical().unDelete("secret/app", new int[] {2});
        prove("undelete", "second".equals(root.logical().read("secret/app").getData().get("user")), "");
        root.logical().destroy("secret/app", new int[] {1});
        refused("a destroyed version is not found", 404, () -> root.logical().read("secret/app", true, 1));

        MountPayload payload = new MountPayload().description("plain");
        prove("KV 1: mount", raw.mounts().enable("plain", MountType.KEY_VALUE, payload).getRestResponse().getStatus() == 204, "");
        raw.logical().write("plain/a", Map.of("x", "y"));
        prove("write and read", "y".equals(raw.logical().read("plain/a").getData().get("x")), "");
        prove("mounts are listed", raw.mounts().list().getMounts().containsKey("plain/"), "");
        raw.logical().delete("plain/a");
        refused("delete", 404, () -> raw.logical().read("plain/a"));
        prove("unmount", raw.mounts().disable("plain").getRestResponse().getStatus() == 204, "");
    }

    private static void tokens(Vault root, Vault raw) throws VaultException {
        UUID id = UUID.randomUUID();
        Auth.TokenRequest request = new Auth.TokenRequest().id(id).polices(List.of("reader")).ttl("10m").displayName("job");
        AuthResponse made = root.auth().createToken(request);
        prove("a token with an id of the client's choice", made.getAuthClientToken().equals(id.toString()) && made.getAuthLeaseDuration() == 600, "");
        Vault job = client(made.getAuthClientToken(), 2);
        prove("reads what it may", "second".equals(job.logical().read("secret/app").getData().get("user")), "");
        refused("writes nothing", 403, () -> job.logical().write("secret/app", Map.of("a", "b")));
        long renewed = job.auth().renewSelf(300).getAuthLeaseDuration();
        prove("renews itself", renewed >= 290 && renewed <= 600, renewed);
        job.auth().revokeSelf();
        refused("and revokes itself", 403, () -> job.auth().lookupSelf());
        String wrapping = root.auth().wrap(new JsonObject().add("key", "value"), 60).getToken();
        prove("unwrap", "value".equals(root.auth().unwrap(wrapping).getData().get("key").asString()), "");
    }

    /** As Jenkins logs in. */
    private static void machines(Vault raw) throws VaultException {
        raw.logical().write("sys/auth/approle", Map.of("type", "approle"));
        raw.logical().write("auth/approle/role/job", Map.of("token_policies", "default", "token_ttl", "10m"));
        String role = raw.logical().read("auth/approle/role/job/role-id").getData().get("role_id");
        String secret = raw.logical().write("auth/approle/role/job/secret-id", Map.of()).getData().get("secret_id");
        AuthResponse login = client("", 1).auth().loginByAppRole(role, secret);
        prove("AppRole login", login.getAuthLeaseDuration() == 600 && login.getAuthPolicies().equals(List.of("default")), "");
        prove("the token works", client(login.getAuthClientToken(), 1).auth().lookupSelf().getPolicies().equals(List.of("default")), "");
        refused("a wrong secret id is refused", 400, () -> client("", 1).auth().loginByAppRole(role, UUID.randomUUID().toString()));
    }

    private static void aws(Vault raw) throws VaultException {
        String mount = "cdp/aws/staging";
        prove("AWS: mount at a deep path", raw.mounts().enable(mount, MountType.AWS, new MountPayload()).getRestResponse().getStatus() == 204, "");
        Map<String, Object> role = Map.of("credential_type", "assumed_role", "role_arns", "arn:aws:iam::111111111111:role/ecr-staging");
        prove("a role", raw.logical().write(mount + "/roles/ecr-staging", role).getRestResponse().getStatus() < 300, "");
        LogicalResponse written = raw.logical().write(mount + "/sts/ecr-staging", Map.of("ttl", "60m"));
        LogicalResponse read = raw.logical().read(mount + "/sts/ecr-staging");
        for (LogicalResponse minted : List.of(written, read)) {
            boolean session = minted.getData().get("access_key").startsWith("ASIA") && minted.getData().containsKey("security_token");
            prove("a credential for a session", session, minted.getData().keySet());
            long duration = minted.getLeaseDuration();
            prove("whose lease tells the truth", duration >= 3590 && duration <= 3600 && !minted.getRenewable(), duration);
        }
        refused("a lease of STS cannot be renewed", 400, () -> raw.leases().renew(written.getLeaseId(), 60));
        prove("it can be revoked", raw.leases().revoke(written.getLeaseId()).getRestResponse().getStatus() == 204, "");
        refused("an unknown role is a bad request", 400, () -> raw.logical().read(mount + "/sts/nobody"));
    }
}
