//! `login`: from a signed `GetCallerIdentity` to a token, and how long that token lives on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AwsError, Call, ErrorKind, Identity, Instance};
use daypass_base::Brief;
use daypass_base::lenient::null_is_absent;
use daypass_sdk::{Cx, Endpoint, Error, Login, Operation, Renewal, Result, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::binding::Who;
use super::client::ClientConfig;
use super::ec2::{self, Ec2Login, Place, Proof};
use super::identity::{self, IdentityConfig};
use super::request::{Given, Rules, SignedRequest};
use super::role::{IAM, INSTANCE, Role, UNBOUND};
use super::trouble::while_doing;
use super::{AwsAuth, roles};
use crate::auth::{cidr, crowded};
use crate::secrets::at_aws::deadline;

/// What a client hands in.
#[derive(Deserialize, JsonSchema)]
struct LoginParams {
    /// Name of the role; by default the name of the IAM user or role that signed, or the instance's machine image. Example: `ci`.
    #[serde(default)]
    role: String,
    /// HTTP method of the signed request: `POST` or `GET`. Example: `POST`.
    #[serde(default, deserialize_with = "null_is_absent")]
    iam_http_request_method: Option<String>,
    /// URL of the signed request, in base64. Example: `aHR0cHM6Ly9zdHMuYW1hem9uYXdzLmNvbS8=`.
    #[serde(default, deserialize_with = "null_is_absent")]
    iam_request_url: Option<String>,
    /// Body of the signed request, in base64. Example: `QWN0aW9uPUdldENhbGxlcklkZW50aXR5JlZlcnNpb249MjAxMS0wNi0xNQ==`.
    #[serde(default, deserialize_with = "null_is_absent")]
    iam_request_body: Option<String>,
    /// Headers of the signed request: an object of texts or of lists of one, the same as JSON text, or that in base64.
    #[serde(default, deserialize_with = "null_is_absent")]
    iam_request_headers: Option<Value>,
    /// Of logins of type ec2: the instance's `/latest/dynamic/instance-identity/rsa2048`, as it is.
    #[serde(default, deserialize_with = "null_is_absent")]
    pkcs7: Option<String>,
    /// Of logins of type ec2: the instance's document, in base64. It goes with `signature`.
    #[serde(default, deserialize_with = "null_is_absent")]
    identity: Option<String>,
    /// Of logins of type ec2: the instance's `/latest/dynamic/instance-identity/signature`, as it is.
    #[serde(default, deserialize_with = "null_is_absent")]
    signature: Option<String>,
    /// Of logins of type ec2: what the instance was given at its first login. Example: `5defbf9e-a8f9-3063-bdfc-54b7a42a1f95`.
    #[serde(default, deserialize_with = "null_is_absent")]
    nonce: Option<String>,
}

/// What a token remembers of its login.
#[derive(Serialize, Deserialize)]
struct Remembered {
    role_name: String,
    account: String,
    arn: String,
    user_id: String,
}

pub(super) fn endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["login"])
        .summary("Log in with a GetCallerIdentity request that is signed and not sent, or with an instance's identity document.")
        .help(HELP)
        .on_proof()
        .on(Operation::Update, login)
}

async fn login(engine: Arc<AwsAuth>, cx: Cx, params: LoginParams) -> Result<Login> {
    match params.kind()? {
        Form::Ec2(login) => ec2::log_in(&engine, &cx, login).await,
        Form::Iam => by_signature(engine, cx, params).await,
    }
}

/// Fails with `BadRequest` unless STS says that the signature is of a principal whom the role names, with `Denied` from outside the bound networks, and with
/// `TooMany` when too many logins wait for STS; with what could not be asked about that principal ([`super::trouble`]).
async fn by_signature(engine: Arc<AwsAuth>, cx: Cx, params: LoginParams) -> Result<Login> {
    let config = ClientConfig::find(&cx).await?;
    let rules = Rules { server_id: &config.iam_server_id_header_value, allowed: &config.allowed_sts_header_values };
    let signed = SignedRequest::read(params.given(), rules)?;
    let until = fresh_until(&cx, &signed)?;
    let remote = cx.request.remote;
    if !config.allow_signature_reuse && !engine.seen.allows(&signed.signature, remote, cx.clock.moment()) {
        return Err(used());
    }
    let target = config.login_target(&cx);
    let call = Call::usual(&target, deadline(&cx));
    let identity = engine.aws.forward_caller_identity(call, &signed.identity).await.map_err(upstream)?;
    let who = Who::of(&identity)?;
    let name = if params.role.is_empty() { who.principal.name.to_lowercase() } else { params.role.to_lowercase() };
    let role = role_for_login(&cx, &name).await?;
    // Before the signature is used up: it is still its owner's to use.
    if !cidr::allowed(&role.token.bound_cidrs, remote) {
        return Err(Error::denied());
    }
    engine.check_binding(&cx, &name, &role, &who).await?;
    let instance = engine.inferred(&cx, &name, &role, &who).await?;
    let identity_config = identity::find(&cx).await?;
    let alias = match identity_config.iam_alias.as_str() {
        "canonical_arn" => who.principal.canonical(),
        "full_arn" => engine.full_arn(&cx, &who).await?,
        "unique_id" => who.unique_id.clone(),
        _ => role.role_id.clone(),
    };
    // Last: only a login that succeeds uses a signature up, so nobody can fill the memory with others' or block a login by failing.
    if !config.allow_signature_reuse && !engine.seen.take(signed.signature, until, remote, cx.clock.moment()) {
        return Err(used());
    }
    let remembered = Remembered { role_name: name, account: identity.account, arn: identity.arn, user_id: identity.user_id };
    Ok(Login {
        metadata: metadata(&identity_config, &role, &who, instance.as_ref()),
        display_name: who.display_name(),
        alias,
        internal: Some(json!(remembered)),
        ..role.token.login()
    })
}

/// The kinds of logins.
enum Form {
    Ec2(Ec2Login),
    Iam,
}

impl LoginParams {
    fn given(&self) -> Given<'_> {
        Given {
            method: self.iam_http_request_method.as_deref(),
            url: self.iam_request_url.as_deref(),
            body: self.iam_request_body.as_deref(),
            headers: self.iam_request_headers.as_ref(),
        }
    }

    /// Step 1: which kind of login it is. Errors: `BadRequest` for what is none.
    fn kind(&self) -> Result<Form> {
        let iam = [self.iam_http_request_method.is_some(), self.iam_request_url.is_some(), self.iam_request_headers.is_some()];
        let any_iam = iam.contains(&true) || self.iam_request_body.is_some();
        let (whole, half) = (self.pkcs7.is_some(), [self.identity.is_some(), self.signature.is_some()]);
        let any_ec2 = whole || half.contains(&true) || self.nonce.is_some();
        let refuse = |text: &str| Err(Error::bad_request(text));
        match (any_iam, any_ec2) {
            (true, true) => refuse("supplied auth values for both ec2 and iam auth types"),
            (false, true) if !whole && half.contains(&false) => {
                refuse("supplied some of the auth values for the ec2 auth type but not all")
            }
            (false, true) => self.of_ec2().map(Form::Ec2).map_err(Error::bad_request),
            (true, false) if iam.contains(&false) => refuse("supplied some of the auth values for the iam auth type but not all"),
            (true, false) => Ok(Form::Iam),
            (false, false) => refuse("didn't supply required authentication values"),
        }
    }

    /// The fields of a login of type `ec2`. Errors: Vault's texts.
    fn of_ec2(&self) -> std::result::Result<Ec2Login, String> {
        let field = |field: &Option<String>| field.clone().unwrap_or_default();
        let (pkcs7, document, signature) = (field(&self.pkcs7), field(&self.identity), field(&self.signature));
        let proof = match (pkcs7.is_empty(), document.is_empty() && signature.is_empty()) {
            (true, true) => return Err(format!("either pkcs7 or {TUPLE} needs to be provided")),
            (false, false) => return Err(format!("both pkcs7 and {TUPLE} is supplied; provide only one")),
            (false, true) => Proof::of_pkcs7(&pkcs7)?,
            (true, false) => Proof::of_identity(&document, &signature)?,
        };
        Ok(Ec2Login { role: self.role.to_lowercase(), proof, nonce: self.nonce.clone() })
    }
}

/// Until when a signature can be used. Errors: `BadRequest` when its time is far from ours.
fn fresh_until(cx: &Cx, signed: &SignedRequest) -> Result<daypass_sdk::Timestamp> {
    let now = cx.clock.now();
    let apart = now.seconds().abs_diff(signed.signed_at.seconds());
    if apart > SIGNATURE_LIFE.as_secs() {
        return Err(Error::bad_request(format!(
            "the request was signed {apart} s away from this server's time; at most {} s are allowed: sign a new one, and see that both clocks are right",
            SIGNATURE_LIFE.as_secs()
        )));
    }
    Ok(signed.signed_at + SIGNATURE_LIFE + Duration::from_secs(1))
}

/// Step 9. Errors: `BadRequest` with Vault's texts.
async fn role_for_login(cx: &Cx, name: &str) -> Result<Role> {
    let shown = Brief(name);
    let role = roles::find(cx, name).await?.ok_or_else(|| Error::bad_request(format!("entry for role {shown} not found")))?;
    if !role.is_bound() {
        return Err(Error::bad_request(UNBOUND));
    }
    if role.auth_type != IAM {
        return Err(Error::bad_request(format!("auth method iam not allowed for role {shown}")));
    }
    Ok(role)
}

impl AwsAuth {
    /// Step 11: the instance that a session runs on, where the role infers one from the session's name.
    async fn inferred(&self, cx: &Cx, name: &str, role: &Role, who: &Who) -> Result<Option<Instance>> {
        if !role.infers_instances() {
            return Ok(None);
        }
        let session = who.principal.session.as_deref().unwrap_or_default();
        let place = Place { account: &who.principal.account, region: &role.inferred_aws_region, instance: session };
        let failed = |error| {
            while_doing(&format!("failed to verify {session} as a valid EC2 instance in region {}", role.inferred_aws_region), error)
        };
        let instance = self.running(cx, place).await.map_err(failed)?;
        let checked = self.check_instance(cx, (name, role), place, &instance).await;
        checked.map_err(|error| while_doing("error validating instance", error))?;
        Ok(Some(instance))
    }
}

fn metadata(config: &IdentityConfig, role: &Role, who: &Who, instance: Option<&Instance>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([("role_id".to_owned(), role.role_id.clone())]);
    for name in &config.iam_metadata {
        let value = match name.as_str() {
            "account_id" => who.principal.account.clone(),
            "auth_type" => IAM.to_owned(),
            "canonical_arn" => who.principal.canonical(),
            "client_arn" => who.arn.clone(),
            "client_user_id" => who.unique_id.clone(),
            "inferred_aws_region" if instance.is_some() => role.inferred_aws_region.clone(),
            "inferred_entity_type" if instance.is_some() => INSTANCE.to_owned(),
            other => match (other, instance) {
                ("inferred_entity_id", Some(instance)) => instance.id.clone(),
                ("inferred_hostname", Some(instance)) => instance.private_dns_name.clone(),
                _nothing_is_inferred => continue,
            },
        };
        out.insert(name.clone(), value);
    }
    out
}

/// Fails with `BadRequest` when the role is gone or does not name the principal any more: the token keeps the end it has. Fails otherwise with what could
/// not be asked, which may be asked again.
pub(super) async fn renew(engine: Arc<AwsAuth>, cx: Cx, internal: Value) -> Result<Renewal> {
    if internal.get("instance").is_some() {
        return ec2::renew(&engine, &cx, from_json("the login of a token", internal.to_string().as_bytes())?).await;
    }
    let Remembered { role_name, account, arn, user_id } = from_json("the login of a token", internal.to_string().as_bytes())?;
    let role = role_for_login(&cx, &role_name).await?;
    let who = Who::of(&Identity { account, arn, user_id })?;
    engine.check_binding(&cx, &role_name, &role, &who).await?;
    engine.inferred(&cx, &role_name, &role, &who).await?;
    Ok(role.token.renewal())
}

/// What STS, or the way to it, says against a login.
fn upstream(error: AwsError) -> Error {
    let text = match (error.kind, error.status) {
        (ErrorKind::Throttled, None) => {
            let text = format!("error making upstream request: {}", error.message);
            return crowded::later(Error::bad_request(text)).because(error);
        }
        (ErrorKind::Malformed, None) => return Error::bad_request(format!("invalid request: {}", error.message)),
        (ErrorKind::Other, _) if error.code == "InvalidAnswer" => error.message.clone(),
        (_, Some(status)) => format!("received error code {status} from STS: {}: {}", error.code, error.message),
        (_, None) => format!("error making request: {}", error.message),
    };
    Error::bad_request(format!("error making upstream request: {text}")).because(error)
}

fn used() -> Error {
    Error::bad_request("this signature was used for a login already: sign a new GetCallerIdentity request for each login")
}

/// The other way to prove an instance.
const TUPLE: &str = "a tuple containing the instance identity document and its SHA256 RSA signature";
/// How long a signature is good for; STS itself allows as much.
pub(super) const SIGNATURE_LIFE: Duration = Duration::from_mins(15);
const HELP: &str =
    "Sign a GetCallerIdentity request of STS with the AWS credentials at hand, and hand in its method, URL, body and headers instead of
sending it. The server asks STS whose signature it is; it learns no key. A signature serves one login.

An instance may log in with its identity document instead, to a role of auth_type=ec2: send its /latest/dynamic/instance-identity/rsa2048 as
pkcs7, or its document (in base64) and signature. The answer has a nonce in auth.metadata that later logins of the instance must bring.";
