//! `-method=aws`: a `GetCallerIdentity` signed with the AWS credentials that are given or at hand, instead of a secret.
//!
//! The server gets the role and what was signed, and nothing else that was given: it may be a key.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_aws::{ErrorKind, LiveAws, LoginRequest, Settings, StaticKeys, Target};
use daypass_base::{Secret, SystemClock};

use crate::cli::Failure;
use crate::show;
use crate::show::value::Value;

/// Puts what goes to the server in the place of what was given. Errors: keys in part; nothing to sign with.
pub(super) fn sign(given: &mut Value) -> Result<(), Failure> {
    let failed = |why: String| Failure::server(format!("Error authenticating: {why}"));
    let base64 = |text: &str| Value::text(BASE64.encode(text.as_bytes()));
    let wish = Wish::of(given).map_err(failed)?;
    if let Some(names) = unknown(given) {
        show::note(&format!("Not sent, since a login with an IAM identity has no such field: {names}"));
    }
    let signed = signed(&wish).map_err(failed)?;
    // To the server, which sends them on to STS.
    let headers = signed.headers.iter().map(|(name, value)| (name.as_str(), Value::texts([value.expose().as_str()])));
    let headers = Value::map(headers).compact();
    let role = given.get("role").cloned().map(|role| ("role", role));
    let login = [
        ("iam_http_request_method", Value::text("POST")),
        ("iam_request_url", base64(&signed.url)),
        ("iam_request_body", base64(signed.body)),
        ("iam_request_headers", base64(&headers)),
    ];
    *given = Value::map(role.into_iter().chain(login));
    Ok(())
}

/// Names of Vault's command line: those that are for the signer, the role, and how much its signer would log.
const KNOWN: [&str; 7] =
    ["aws_access_key_id", "aws_secret_access_key", "aws_security_token", "header_value", "log_level", "region", "role"];

/// Names that mean nothing here. The values may be secrets.
fn unknown(given: &Value) -> Option<String> {
    let names: Vec<&str> = given.entries().iter().map(|(name, _)| name.as_str()).filter(|name| !KNOWN.contains(name)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// What to sign, and with which keys.
struct Wish {
    target: Target,
    server_id: Option<String>,
}

impl Wish {
    /// Half of a key is refused: the surroundings may have another identity, and the login would be that one's.
    fn of(given: &Value) -> Result<Self, String> {
        // From a file they come with a line's end.
        let at = |name: &str| given.get(name).and_then(Value::as_text).map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned);
        let secret = |name: &str| at(name).map(Secret::new);
        let session_token = secret("aws_security_token");
        let keys = match (at("aws_access_key_id"), secret("aws_secret_access_key")) {
            (Some(access_key_id), Some(secret_access_key)) => Some(StaticKeys { access_key_id, secret_access_key }),
            (None, None) if session_token.is_none() => None,
            _ => return Err("aws_access_key_id and aws_secret_access_key are given together, aws_security_token only with them".to_owned()),
        };
        // `auto` is what the environment says; every server takes the default.
        let region = at("region").unwrap_or_else(|| "us-east-1".to_owned());
        let region = Some(region).filter(|region| region != "auto");
        Ok(Self { target: Target { region, keys, session_token, ..Target::default() }, server_id: at("header_value") })
    }
}

fn signed(wish: &Wish) -> Result<LoginRequest, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let aws = LiveAws::new(Arc::new(SystemClock::new()), Settings::default());
    let signed = runtime.block_on(aws.sign_login(&wish.target, wish.server_id.as_deref()));
    signed.map_err(|error| match error.kind {
        // What the library advises is meant for servers.
        ErrorKind::NoIdentity => {
            let causes = error.message.split_once("caused by: ").map_or(error.message.as_str(), |(_, causes)| causes);
            format!("there are no AWS credentials to sign with: {causes}")
        }
        _ => error.message,
    })
}
