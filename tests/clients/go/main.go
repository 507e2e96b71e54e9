// Command session is a session with the official Go client, which Terraform's provider, Vault's agent and most tools use.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	vault "github.com/hashicorp/vault/api"
)

var passed, failed int

func prove(sentence string, holds bool, seen ...any) {
	if holds {
		passed++
		fmt.Println("ok   ", sentence)
		return
	}
	failed++
	fmt.Println("FAIL ", sentence, ": saw", seen)
}

// works proves that nothing went wrong on the way to a fact.
func works(sentence string, err error) bool {
	prove(sentence, err == nil, err)
	return err == nil
}

// refused proves that the server answered with that status.
func refused(sentence string, status int, err error) {
	var answer *vault.ResponseError
	prove(sentence, errors.As(err, &answer) && answer.StatusCode == status, err)
}

func client(token string) *vault.Client {
	// Address from VAULT_ADDR, as every tool with this client finds it.
	made, err := vault.NewClient(vault.DefaultConfig())
	if err != nil {
		fmt.Println("FAIL  the client is made:", err)
		os.Exit(1)
	}
	made.SetToken(token)
	return made
}

func main() {
	ctx := context.Background()
	root := client(os.Getenv("VAULT_TOKEN"))
	status(root)
	policies(ctx, root)
	kv(ctx, root)
	tokens(ctx, root)
	wrapping(root)
	machines(root)
	logins(ctx, root)
	transit(root)
	if os.Getenv("AWS_SANDBOX") != "" {
		aws(ctx, root)
		sdk(ctx, root)
		roles(ctx, root)
	} else {
		fmt.Println("      left out: everything with AWS, because AWS_SANDBOX names no fake AWS")
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

func status(root *vault.Client) {
	health, err := root.Sys().Health()
	prove("health", err == nil && health.Initialized && !health.Sealed && !health.Standby, err)
	seal, err := root.Sys().SealStatus()
	prove("seal status has a version", err == nil && strings.Count(seal.Version, ".") >= 2, err)
	leader, err := root.Sys().Leader()
	prove("leader", err == nil && leader != nil, err)
	self, err := root.Auth().Token().LookupSelf()
	prove("the token looks itself up", err == nil && slices.Contains(list(self.Data["policies"]), "root"), err)
	_, err = client("s.wrong").Auth().Token().LookupSelf()
	refused("a wrong token is denied", http.StatusForbidden, err)
}

func policies(ctx context.Context, root *vault.Client) {
	rules := `path "secret/data/app" { capabilities = ["read"] }`
	works("a policy is written", root.Sys().PutPolicyWithContext(ctx, "reader", rules))
	read, err := root.Sys().GetPolicy("reader")
	prove("and read as written", err == nil && read == rules, err)
	names, err := root.Sys().ListPolicies()
	prove("and listed", err == nil && slices.Contains(names, "reader"), err)
	refused("one that does not parse is refused", http.StatusBadRequest, root.Sys().PutPolicy("bad", "path {"))
	works("and deleted", root.Sys().DeletePolicy("bad"))
}

func kv(ctx context.Context, root *vault.Client) {
	two := root.KVv2("secret")
	made, err := two.Put(ctx, "app", map[string]any{"user": "robot"})
	prove("KV 2: put", err == nil && made.VersionMetadata.Version == 1, err)
	patched, err := two.Patch(ctx, "app", map[string]any{"extra": "yes"})
	prove("patch by merge", err == nil && patched.VersionMetadata.Version == 2, err)
	patched, err = two.Patch(ctx, "app", map[string]any{"extra": "still"}, vault.WithMergeMethod(vault.KVMergeMethodReadWrite))
	prove("patch by read and write", err == nil && patched.VersionMetadata.Version == 3, err)
	got, err := two.Get(ctx, "app")
	prove("get", err == nil && got.Data["user"] == "robot" && got.Data["extra"] == "still", err)
	got, err = two.GetVersion(ctx, "app", 1)
	prove("get an old version", err == nil && got.Data["extra"] == nil, err)
	_, err = two.Put(ctx, "app", map[string]any{}, vault.WithCheckAndSet(1))
	refused("check-and-set with an old version is refused", http.StatusBadRequest, err)
	works("rollback", func() error { _, err := two.Rollback(ctx, "app", 1); return err }())
	works("delete", two.Delete(ctx, "app"))
	works("undelete", two.Undelete(ctx, "app", []int{4}))
	works("destroy", two.Destroy(ctx, "app", []int{1}))
	versions, err := two.GetVersionsAsList(ctx, "app")
	prove("versions", err == nil && len(versions) == 4 && versions[0].Destroyed, err)
	works("metadata", two.PutMetadata(ctx, "app", vault.KVMetadataPutInput{MaxVersions: 5, CustomMetadata: map[string]any{"team": "ci"}}))
	meta, err := two.GetMetadata(ctx, "app")
	prove("metadata read back", err == nil && meta.MaxVersions == 5 && meta.CustomMetadata["team"] == "ci", err)
	_, err = two.Get(ctx, "nothing")
	prove("what is not there is ErrSecretNotFound", errors.Is(err, vault.ErrSecretNotFound), err)

	works("KV 1: mount", root.Sys().Mount("plain", &vault.MountInput{Type: "kv", Options: map[string]string{"version": "1"}}))
	one := root.KVv1("plain")
	works("put", one.Put(ctx, "a", map[string]any{"n": 5}))
	got, err = one.Get(ctx, "a")
	prove("get keeps numbers numbers", err == nil && fmt.Sprint(got.Data["n"]) == "5", err)
	keys, err := root.Logical().List("plain")
	prove("list", err == nil && slices.Equal(list(keys.Data["keys"]), []string{"a"}), err)
	mounts, err := root.Sys().ListMounts()
	prove("mounts", err == nil && mounts["plain/"] != nil && mounts["plain/"].Type == "kv", err)
	works("tune", root.Sys().TuneMount("plain", vault.MountConfigInput{MaxLeaseTTL: "2h"}))
	config, err := root.Sys().MountConfig("plain")
	prove("tuned", err == nil && config.MaxLeaseTTL == 7200, err)
	works("unmount", root.Sys().Unmount("plain"))
}

func tokens(ctx context.Context, root *vault.Client) {
	made, err := root.Auth().Token().CreateWithContext(ctx, &vault.TokenCreateRequest{
		Policies: []string{"reader"}, TTL: "10m", DisplayName: "job", Metadata: map[string]string{"build": "9"},
	})
	if !works("a token with a policy", err) {
		return
	}
	job := client(made.Auth.ClientToken)
	_, err = job.KVv2("secret").Get(ctx, "app")
	works("reads what it may", err)
	_, err = job.KVv2("secret").Put(ctx, "app", map[string]any{})
	refused("writes nothing", http.StatusForbidden, err)
	capabilities, err := root.Sys().Capabilities(made.Auth.ClientToken, "secret/data/app")
	prove("capabilities", err == nil && slices.Equal(capabilities, []string{"read"}), err)
	renewed, err := job.Auth().Token().RenewSelf(300)
	prove("renews itself", err == nil && renewed.Auth.LeaseDuration >= 290 && renewed.Auth.LeaseDuration <= 600, err)
	watch(job, renewed)
	seen, err := root.Auth().Token().LookupAccessor(made.Auth.Accessor)
	prove("lookup by accessor", err == nil && seen.Data["display_name"] == "token-job", err)
	works("revoke by accessor", root.Auth().Token().RevokeAccessor(made.Auth.Accessor))
	_, err = job.Auth().Token().LookupSelf()
	refused("a revoked token is denied", http.StatusForbidden, err)
}

// watch lets the client's own renewer run once, as agents do in the background.
func watch(job *vault.Client, secret *vault.Secret) {
	watcher, err := job.NewLifetimeWatcher(&vault.LifetimeWatcherInput{Secret: secret, Increment: 300})
	if !works("the client's lifetime watcher accepts the token", err) {
		return
	}
	go watcher.Start()
	defer watcher.Stop()
	select {
	case renewal := <-watcher.RenewCh():
		prove("and renews it", renewal.Secret.Auth != nil)
	case err := <-watcher.DoneCh():
		prove("and renews it", false, err)
	case <-time.After(20 * time.Second):
		prove("and renews it", false, "nothing within 20 s")
	}
}

func wrapping(root *vault.Client) {
	wrapper := client(root.Token())
	wrapper.SetWrappingLookupFunc(func(_, _ string) string { return "60s" })
	made, err := wrapper.Auth().Token().Create(&vault.TokenCreateRequest{Policies: []string{"default"}})
	if !works("an answer is wrapped", err) {
		return
	}
	opened, err := root.Logical().Unwrap(made.WrapInfo.Token)
	prove("and unwrapped", err == nil && opened.Auth != nil && opened.Auth.ClientToken != "", err)
	_, err = root.Logical().Unwrap(made.WrapInfo.Token)
	refused("once", http.StatusBadRequest, err)
}

// machines logs in as tools with this client do: by a plain write, then with the token that came back.
func machines(root *vault.Client) {
	works("AppRole: enable", root.Sys().EnableAuthWithOptions("approle", &vault.EnableAuthOptions{Type: "approle"}))
	_, err := root.Logical().Write("auth/approle/role/job", map[string]any{"token_policies": "default", "token_ttl": "10m"})
	works("a role", err)
	role, err := root.Logical().Read("auth/approle/role/job/role-id")
	if !works("its id", err) {
		return
	}
	secret, err := root.Logical().Write("auth/approle/role/job/secret-id", nil)
	if !works("a secret id", err) {
		return
	}
	ask := map[string]any{"role_id": role.Data["role_id"], "secret_id": secret.Data["secret_id"]}
	login, err := client("").Logical().Write("auth/approle/login", ask)
	if works("login", err) {
		self, err := client(login.Auth.ClientToken).Auth().Token().LookupSelf()
		prove("the token works", err == nil && self.Data["path"] == "auth/approle/login", err)
	}
	mounts, err := root.Sys().ListAuth()
	prove("auth mounts are listed", err == nil && mounts["approle/"] != nil && mounts["token/"] != nil, err)
	works("disable", root.Sys().DisableAuth("approle"))
}

// transit is used by plain writes: the client has no words of its own for it.
func transit(root *vault.Client) {
	works("transit: mount", root.Sys().Mount("transit", &vault.MountInput{Type: "transit"}))
	text := base64.StdEncoding.EncodeToString([]byte("hello"))
	write := func(path string, fields map[string]any) map[string]any {
		secret, err := root.Logical().Write("transit/"+path, fields)
		if err != nil || secret == nil {
			prove(path+" answers", false, err)
			return map[string]any{}
		}
		return secret.Data
	}
	sealed := fmt.Sprint(write("encrypt/app", map[string]any{"plaintext": text})["ciphertext"])
	prove("encrypt makes the key on the way", strings.HasPrefix(sealed, "vault:v1:"), sealed)
	prove("decrypt", write("decrypt/app", map[string]any{"ciphertext": sealed})["plaintext"] == text)
	prove("rotate", fmt.Sprint(write("keys/app/rotate", nil)["latest_version"]) == "2")
	rewrapped := fmt.Sprint(write("rewrap/app", map[string]any{"ciphertext": sealed})["ciphertext"])
	prove("rewrap", strings.HasPrefix(rewrapped, "vault:v2:"), rewrapped)
	prove("what was wrapped again decrypts", write("decrypt/app", map[string]any{"ciphertext": rewrapped})["plaintext"] == text)
	_, err := root.Logical().Write("transit/decrypt/app", map[string]any{"ciphertext": rewrapped[:len(rewrapped)-8] + "AAAAAAA="})
	refused("a tampered ciphertext is refused", http.StatusBadRequest, err)
	for _, kind := range []string{"ed25519", "ecdsa-p256"} {
		write("keys/"+kind, map[string]any{"type": kind})
		signature := write("sign/"+kind, map[string]any{"input": text})["signature"]
		check := map[string]any{"input": text, "signature": signature}
		prove(kind+": sign and verify", write("verify/"+kind, check)["valid"] == true)
		check["input"] = base64.StdEncoding.EncodeToString([]byte("other"))
		prove("another message does not verify", write("verify/"+kind, check)["valid"] == false)
	}
	key, err := root.Logical().Read("transit/keys/ed25519")
	prove("the public key is shown", err == nil && key != nil && strings.Contains(fmt.Sprint(key.Data["keys"]), "public_key"), err)
	_, err = root.Logical().Delete("transit/keys/app")
	refused("a key is not deleted unless it may be", http.StatusBadRequest, err)
	works("unmount", root.Sys().Unmount("transit"))
}

func aws(ctx context.Context, root *vault.Client) {
	mount := "cdp/aws/staging"
	works("AWS: mount at a deep path", root.Sys().Mount(mount, &vault.MountInput{Type: "aws"}))
	_, err := root.Logical().WriteWithContext(ctx, mount+"/roles/ecr-staging", map[string]any{
		"credential_type": "assumed_role", "role_arns": []string{"arn:aws:iam::111111111111:role/ecr-staging"},
	})
	works("a role", err)
	written, err := root.Logical().Write(mount+"/sts/ecr-staging", map[string]any{"ttl": "60m"})
	if !works("a credential by write", err) {
		return
	}
	read, err := root.Logical().ReadWithData(mount+"/sts/ecr-staging", map[string][]string{"ttl": {"15m"}})
	prove("a credential by read, with its ttl in the query", err == nil && read.LeaseDuration >= 890 && read.LeaseDuration <= 900, err)
	key, _ := written.Data["access_key"].(string)
	prove("it is a session's key", strings.HasPrefix(key, "ASIA") && written.Data["security_token"] == written.Data["session_token"])
	prove("its lease tells the truth", written.LeaseDuration >= 3590 && written.LeaseDuration <= 3600 && !written.Renewable, written.LeaseDuration)
	lease, err := root.Sys().Lookup(written.LeaseID)
	prove("lease lookup", err == nil && lease.Data["renewable"] == false, err)
	_, err = root.Sys().Renew(written.LeaseID, 3600)
	refused("renew is refused", http.StatusBadRequest, err)
	works("revoke", root.Sys().Revoke(written.LeaseID))
	_, err = root.Sys().Lookup(written.LeaseID)
	refused("a revoked lease is not found", http.StatusBadRequest, err)
	_, err = root.Logical().Read(mount + "/sts/nobody")
	refused("an unknown role is a bad request", http.StatusBadRequest, err)
}

func list(value any) []string {
	var out []string
	items, _ := value.([]any)
	for _, item := range items {
		out = append(out, fmt.Sprint(item))
	}
	return out
}
