//! What the auth methods need to know of a person, and what they say about it.

/// How a login with a method looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The user name goes into the path, not into the body.
    pub(super) names_user: bool,
    /// What to ask for when it is not given: the field, and its name for people.
    pub(super) asks_for: Option<(&'static str, &'static str)>,
}

/// The shape of a method's login; methods that are not known here take what they are given.
pub(super) fn shape(method: &str) -> Shape {
    match method {
        "userpass" | "ldap" | "radius" | "okta" => Shape { names_user: true, asks_for: Some(("password", "Password")) },
        "github" => Shape { names_user: false, asks_for: Some(("token", "GitHub Personal Access Token")) },
        "approle" => Shape { names_user: false, asks_for: Some(("secret_id", "Secret id")) },
        "jwt" => Shape { names_user: false, asks_for: Some(("jwt", "JWT")) },
        _ => Shape { names_user: false, asks_for: None },
    }
}

/// How to log in with a method that this program knows.
pub(in crate::cli) fn method_help(method: &str, program: &str) -> Option<String> {
    let text = match method {
        "token" => {
            "Usage: daypass login TOKEN

  Logs in with a token that was made elsewhere.

      $ daypass login - < token

Configuration:

  token=<string>
      The token. Asked for when not given.

  lookup=<bool>
      Whether to ask the server about the token first. The default is true."
        }
        "userpass" | "ldap" | "radius" | "okta" => {
            "Usage: daypass login -method=userpass username=NAME

  Logs in with a user name and a password.

      $ daypass login -method=userpass username=sally
      Password (will be hidden):

Configuration:

  username=<string>
      The user's name.

  password=<string>
      The password. Asked for when not given."
        }
        "approle" => {
            "Usage: daypass login -method=approle role_id=ID secret_id=@FILE

  Logs in a machine with the id of a role and a secret id.

      $ daypass login -method=approle role_id=d7c0... secret_id=@/run/secret-id

Configuration:

  role_id=<string>
      The id of the role.

  secret_id=<string>
      A secret id of the role. Asked for when not given."
        }
        "aws" => {
            "Usage: daypass login -method=aws role=NAME

  Logs in with the AWS credentials of this machine: environment, profile, web
  identity, ECS task or EC2 instance. They sign a request that says who they
  are; they are not sent.

      $ daypass login -method=aws role=jenkins
      $ daypass login -method=aws -path=aws-prod role=ci header_value=vault.example.com

Configuration:

  role=<string>
      The role to log in to. The default is the name of the IAM role or user.

  header_value=<string>
      What the server asks for as iam_server_id_header_value, if it does.

  region=<string>
      The region to sign for; auto takes the one of the environment. The
      default is us-east-1.

  aws_access_key_id=<string>, aws_secret_access_key=<string>,
  aws_security_token=<string>
      Keys to sign with in place of this machine's; the last only with
      temporary ones. From a file: aws_secret_access_key=@FILE."
        }
        "cert" => {
            "Usage: daypass login -method=cert -client-cert=FILE -client-key=FILE

  Logs in with the certificate that is shown to the server over TLS. The
  server's address begins with https://.

      $ daypass login -method=cert -client-cert=cert.pem -client-key=key.pem
      $ daypass login -method=cert -path=cert-prod name=runners

The files can also be named by VAULT_CLIENT_CERT and VAULT_CLIENT_KEY. The
first one holds the certificate and then those of its issuers, if the server
does not know them.

Configuration:

  name=<string>
      The trusted certificate to log in by. The default is to try all."
        }
        "jwt" => {
            "Usage: daypass login -method=jwt role=NAME jwt=@FILE

  Logs in with a token of another issuer, such as a build server.

      $ daypass login -method=jwt role=deploy jwt=@/run/id-token

Configuration:

  role=<string>
      The role to log in to.

  jwt=<string>
      The issuer's token. When not given, the build server is asked for it:
      GitHub Actions by its own API, others by the variable in which they put
      it (VAULT_ID_TOKEN, CIRCLE_OIDC_TOKEN_V2, BITBUCKET_STEP_OIDC_TOKEN,
      TFC_WORKLOAD_IDENTITY_TOKEN). Elsewhere a person is asked.

  audience=<string>
      The audience to ask GitHub Actions for."
        }
        "kubernetes" => {
            "Usage: daypass login -method=kubernetes role=NAME

  Logs in with the token of this pod's service account.

      $ daypass login -method=kubernetes role=ci
      $ daypass login -method=kubernetes -path=eks role=ci token_path=/run/token/token

Configuration:

  role=<string>
      The role to log in to.

  token_path=<string>
      The file with the token. The default is
      /var/run/secrets/kubernetes.io/serviceaccount/token.

  jwt=<string>
      The token itself, instead of a file."
        }
        "oidc" => {
            "Usage: daypass login -method=oidc role=NAME

  Logs a person in on the company's login page, in a browser.

      $ daypass login -method=oidc role=people

Configuration:

  role=<string>
      The role to log in to.

  port=<string>
      The port to listen on for the page's answer. The default is 8250.

  listenaddress=<string>, callbackhost=<string>, callbackport=<string>,
  callbackmethod=<string>
      Where to listen, and how the page reaches that. The defaults are
      localhost, localhost, the port, and http.

  skip_browser=<bool>
      Show the page's address without opening it."
        }
        "github" => {
            "Usage: daypass login -method=github

  Logs in with a personal access token of GitHub.

Configuration:

  token=<string>
      The access token. Asked for when not given."
        }
        _ => return None,
    };
    Some(text.replace("-method=userpass", &format!("-method={method}")).replace("daypass", program))
}

/// How to log in with a method that only the server knows.
pub(in crate::cli) fn generic_help(method: &str, path: &str, program: &str) -> String {
    format!(
        "Usage: {program} login -method={method} -path={} [K=V...]

  Sends the given pairs to auth/{path}login. What that wants is told by

      $ {program} path-help auth/{path}login",
        path.trim_end_matches('/')
    )
}
