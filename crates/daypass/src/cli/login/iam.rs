//! `-method=aws`: a `GetCallerIdentity` signed with the AWS credentials at hand, instead of a secret.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_aws::{ErrorKind, LiveAws, LoginRequest, Settings};
use daypass_base::SystemClock;

use crate::cli::Failure;
use crate::show::value::Value;

/// Takes what is for the signer out of `given`, and puts the signed request in.
pub(super) fn sign(given: &mut Value) -> Result<(), Failure> {
    let mut take = |name: &str| {
        let value = given.get(name).and_then(Value::as_text).map(str::to_owned).filter(|value| !value.is_empty());
        if let Value::Map(entries) = given {
            entries.retain(|(key, _)| key != name);
        }
        value
    };
    let base64 = |text: &str| Value::text(BASE64.encode(text.as_bytes()));
    let (server_id, region) = (take("header_value"), take("region"));
    // `auto` is what the environment says; every server takes the default.
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let region = Some(region.as_str()).filter(|region| *region != "auto");
    let signed = signed(region, server_id.as_deref()).map_err(|why| Failure::server(format!("Error authenticating: {why}")))?;
    given.set("iam_http_request_method", Value::text("POST"));
    given.set("iam_request_url", base64(&signed.url));
    given.set("iam_request_body", base64(signed.body));
    // To the server, which sends them on to STS.
    let headers = signed.headers.iter().map(|(name, value)| (name.as_str(), Value::texts([value.expose().as_str()])));
    given.set("iam_request_headers", base64(&Value::map(headers).compact()));
    Ok(())
}

fn signed(region: Option<&str>, server_id: Option<&str>) -> Result<LoginRequest, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let aws = LiveAws::new(Arc::new(SystemClock::new()), Settings::default());
    let signed = runtime.block_on(aws.sign_login(region, server_id));
    signed.map_err(|error| match error.kind {
        // What the library advises is meant for servers.
        ErrorKind::NoIdentity => {
            let causes = error.message.split_once("caused by: ").map_or(error.message.as_str(), |(_, causes)| causes);
            format!("there are no AWS credentials to sign with: {causes}")
        }
        _ => error.message,
    })
}
