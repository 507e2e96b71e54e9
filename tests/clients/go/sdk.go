package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	amazon "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	vault "github.com/hashicorp/vault/api"
)

// sdk is AWS's own Go SDK with nothing of ours: it asks the server as it would ask the credentials endpoint of a container. The
// credentials last for 20 seconds.
func sdk(ctx context.Context, root *vault.Client) {
	const mount = "cdp/aws/staging"
	_, err := root.Logical().Write(mount+"/roles/short", map[string]any{
		"credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/ecr-staging", "default_sts_ttl": "20s",
	})
	works("AWS SDK: a role with short credentials", err)
	rules := `path "` + mount + `/container/short" { capabilities = ["read"] }`
	works("a policy for them alone", root.Sys().PutPolicy("short", rules))
	made, err := root.Auth().Token().Create(&vault.TokenCreateRequest{Policies: []string{"short"}, NoDefaultPolicy: true})
	if !works("a token for the workload", err) {
		return
	}
	os.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", root.Address()+"/v1/"+mount+"/container/short")
	os.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", made.Auth.ClientToken)
	found, err := config.LoadDefaultConfig(ctx, config.WithBaseEndpoint(os.Getenv("AWS_SANDBOX")))
	works("the SDK finds its configuration", err)
	client := sts.NewFromConfig(found)
	who, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	prove("it fetches a credential by itself", err == nil && strings.HasPrefix(amazon.ToString(who.Arn), "arn:aws:sts::111111111111:assumed-role/ecr-staging/"), err)
	first, err := found.Credentials.Retrieve(ctx)
	prove("which says when it ends, and whose account it is",
		err == nil && first.CanExpire && first.AccountID == "111111111111" && time.Until(first.Expires) < 21*time.Second, err)
	kept := found.Copy()
	kept.Credentials = credentials.StaticCredentialsProvider{Value: amazon.Credentials{
		AccessKeyID: first.AccessKeyID, SecretAccessKey: first.SecretAccessKey, SessionToken: first.SessionToken,
	}}
	copied := sts.NewFromConfig(kept)
	_, err = copied.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	works("a copy of it works while it lasts", err)
	time.Sleep(21 * time.Second)
	_, err = copied.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	var refusal smithy.APIError
	prove("after 21 seconds the copy has expired", errors.As(err, &refusal) && refusal.ErrorCode() == "ExpiredToken", err)
	_, err = client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	works("and the SDK goes on with a new one", err)
	next, err := found.Credentials.Retrieve(ctx)
	prove("whose key is another", err == nil && next.AccessKeyID != first.AccessKeyID, err)
	works("its token is revoked", root.Auth().Token().RevokeTree(made.Auth.ClientToken))
	_, err = client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	prove("the workload gets no more, and is told why", err != nil && strings.Contains(fmt.Sprint(err), "permission denied"), err)
}
