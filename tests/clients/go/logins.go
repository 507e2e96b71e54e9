package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	vault "github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	awsauth "github.com/hashicorp/vault/api/auth/aws"
	"github.com/hashicorp/vault/api/auth/kubernetes"
	"github.com/hashicorp/vault/api/auth/userpass"
)

// logins uses the modules that the client has for logins: they are what Go programs, and Vault's agent, log in with.
func logins(ctx context.Context, root *vault.Client) {
	for _, method := range []string{"approle", "userpass", "kubernetes"} {
		works(method+": enable", root.Sys().EnableAuthWithOptions(method, &vault.EnableAuthOptions{Type: method}))
	}
	write := func(path string, fields map[string]any) *vault.Secret {
		secret, err := root.Logical().WriteWithContext(ctx, path, fields)
		works(path+" is written", err)
		return secret
	}
	write("auth/approle/role/job", map[string]any{"token_ttl": "10m"})
	role, err := root.Logical().Read("auth/approle/role/job/role-id")
	secret := write("auth/approle/role/job/secret-id", map[string]any{})
	if works("a role has an id", err) && secret != nil {
		id := &approle.SecretID{FromString: secret.Data["secret_id"].(string)}
		method, err := approle.NewAppRoleAuth(role.Data["role_id"].(string), id)
		logsIn(ctx, "AppRole", method, err, "role_name", "job")
	}
	write("auth/userpass/users/ann", map[string]any{"password": "correct horse"})
	person, err := userpass.NewUserpassAuth("ann", &userpass.Password{FromString: "correct horse"})
	logsIn(ctx, "userpass", person, err, "username", "ann")
	person, err = userpass.NewUserpassAuth("ann", &userpass.Password{FromString: "wrong"})
	staysOut(ctx, "a wrong password", http.StatusBadRequest, person, err)
	pods(ctx, write)
	for _, method := range []string{"approle", "userpass", "kubernetes"} {
		works(method+": disable", root.Sys().DisableAuth(method))
	}
}

// pods log in to a cluster whose API server knows one token.
func pods(ctx context.Context, write func(string, map[string]any) *vault.Secret) {
	token := jwt(map[string]any{"sub": "system:serviceaccount:builds:runner", "aud": []string{"vault"}})
	cluster := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		var review struct{ Spec struct{ Token string } }
		status := map[string]any{"authenticated": false}
		if json.NewDecoder(request.Body).Decode(&review) == nil && review.Spec.Token == token {
			user := map[string]any{"username": "system:serviceaccount:builds:runner", "uid": "uid-1"}
			status = map[string]any{"authenticated": true, "user": user, "audiences": []string{"vault"}}
		}
		answer.Header().Set("content-type", "application/json")
		answer.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(answer).Encode(map[string]any{"kind": "TokenReview", "status": status})
	}))
	defer cluster.Close()
	write("auth/kubernetes/config", map[string]any{"kubernetes_host": cluster.URL})
	bound := map[string]any{"bound_service_account_names": []string{"runner"}, "bound_service_account_namespaces": []string{"builds"}, "audience": "vault"}
	write("auth/kubernetes/role/ci", bound)
	file := filepath.Join(os.Getenv("HOME"), "pod-token")
	works("a pod has its token in a file", os.WriteFile(file, []byte(token), 0o600))
	pod, err := kubernetes.NewKubernetesAuth("ci", kubernetes.WithServiceAccountTokenPath(file))
	logsIn(ctx, "Kubernetes", pod, err, "service_account_name", "runner")
	other := jwt(map[string]any{"sub": "system:serviceaccount:builds:runner", "aud": []string{"vault"}, "jti": "2"})
	pod, err = kubernetes.NewKubernetesAuth("ci", kubernetes.WithServiceAccountToken(other))
	staysOut(ctx, "a token that the cluster does not know", http.StatusForbidden, pod, err)
}

// roles of AWS log in with requests that the module signs; the fake STS verifies each signature.
func roles(ctx context.Context, root *vault.Client) {
	works("aws: enable", root.Sys().EnableAuthWithOptions("aws", &vault.EnableAuthOptions{Type: "aws"}))
	_, err := root.Logical().Write("auth/aws/config/client", map[string]any{"iam_server_id_header_value": "vault.example.com"})
	works("a server id is wanted", err)
	user := "arn:aws:iam::999999999999:user/daypass-root"
	_, err = root.Logical().Write("auth/aws/role/person", map[string]any{"bound_iam_principal_arn": user, "resolve_aws_unique_ids": false})
	works("a role for an IAM user", err)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIADAYPASSSANDBOX22", "AWS_SECRET_ACCESS_KEY": "sandbox/only/never/a/real/secret/key/000"} {
		works(name+" is set", os.Setenv(name, value))
		defer os.Unsetenv(name)
	}
	method, err := awsauth.NewAWSAuth(awsauth.WithRole("person"), awsauth.WithIAMAuth(), awsauth.WithIAMServerIDHeader("vault.example.com"))
	logsIn(ctx, "AWS", method, err, "account_id", "999999999999")
	method, err = awsauth.NewAWSAuth(awsauth.WithRole("person"), awsauth.WithIAMAuth(), awsauth.WithIAMServerIDHeader("other.example.com"))
	staysOut(ctx, "a login for another server", http.StatusBadRequest, method, err)
	works("aws: disable", root.Sys().DisableAuth("aws"))
}

// logsIn proves that a login gives a token that works and says who it is.
func logsIn(ctx context.Context, name string, method vault.AuthMethod, err error, key, value string) {
	if !works(name+": the module is ready", err) {
		return
	}
	own := client("")
	secret, err := own.Auth().Login(ctx, method)
	if !works(name+": login", err) {
		return
	}
	prove(name+": it says who it is", secret.Auth != nil && secret.Auth.Metadata[key] == value, secret.Auth.Metadata)
	_, err = own.Auth().Token().LookupSelfWithContext(ctx)
	works(name+": the client uses the token it got", err)
}

// staysOut proves that a login is refused with this status.
func staysOut(ctx context.Context, what string, status int, method vault.AuthMethod, err error) {
	if works(what+": the module is ready", err) {
		_, err = client("").Auth().Login(ctx, method)
		refused(what+" is refused", status, err)
	}
}

// jwt is a token as the cluster would sign it; here the cluster alone judges it.
func jwt(claims map[string]any) string {
	part := func(value any) string {
		text, _ := json.Marshal(value)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]any{"alg": "RS256", "typ": "JWT"}) + "." + part(claims) + ".c2lnbmF0dXJl"
}
