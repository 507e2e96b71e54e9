//! `server -dev`: in memory, initialised, unsealed, with a KV store and, if asked for, the AWS sandbox.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use daypass_barrier::shamir;
use daypass_base::{Clock, Entropy, Seconds, Secret, duration};
use daypass_core::{Body, Core, HttpRequest, Opened};
use daypass_sandbox::{Options, Running};
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::{Value, json};

use crate::cli::server::ServerArgs;
use crate::cli::token_place::TokenPlace;
use crate::show;

/// What a dev server tells its user.
pub(super) struct Dev {
    unseal_key: Secret<String>,
    root_token: Secret<String>,
}

pub(super) async fn start_sandbox(
    args: &ServerArgs,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Option<Running>, String> {
    if !args.dev_aws_sandbox {
        return Ok(None);
    }
    let address = args.dev_aws_sandbox_address.as_deref().unwrap_or("127.0.0.1:0");
    let listen = address.parse().map_err(|error| format!("-dev-aws-sandbox-address {address:?} is no address with a port: {error}"))?;
    let session_min = session_min(args)?.map(Seconds::duration);
    let options = Options { listen, allow_short_sessions: args.dev_aws_sandbox_short_sessions, session_min, ..Options::default() };
    let running = daypass_sandbox::start(options, Arc::clone(clock), Arc::clone(entropy)).await;
    running.map(Some).map_err(|error| format!("The AWS sandbox cannot start: {error}"))
}

/// The shortest session of the sandbox, where flags name another than AWS's.
pub(super) fn session_min(args: &ServerArgs) -> Result<Option<Seconds>, String> {
    let Some(text) = &args.dev_aws_sandbox_min_ttl else {
        return Ok(args.dev_aws_sandbox_short_sessions.then_some(Seconds(1)));
    };
    let flag = "-dev-aws-sandbox-min-ttl";
    let signed = duration::parse(text).map_err(|error| format!("{flag} {text:?} is no duration: {error}"))?;
    let least = Seconds::from(signed.size);
    if signed.negative || !(1..=900).contains(&least.0) {
        return Err(format!("{flag} {text:?} must be from 1s to 900s"));
    }
    Ok(Some(least))
}

/// Initialises, unseals, and makes what `vault server -dev` makes.
pub(super) async fn set_up(args: &ServerArgs, core: &Core) -> Result<Dev, String> {
    let text = |error: daypass_sdk::Error| error.to_string();
    let made = core.initialise(1, 1).await.map_err(text)?;
    let share = made.shares.into_iter().next().ok_or("no share was made")?;
    let unseal_key = shamir::encode_base64(&share);
    core.unseal(share).await.map_err(text)?;
    let mut root_token = made.root_token;
    if let Some(wanted) = &args.dev_root_token_id {
        // Exposed to be sent in the request that makes it.
        let body = json!({ "id": wanted.expose(), "policies": ["root"], "no_parent": true, "no_default_policy": true });
        ask(core, &root_token, "auth/token/create", &body).await?;
        ask(core, &root_token, "auth/token/revoke-self", &json!({})).await?;
        root_token = wanted.clone();
    }
    if !args.dev_no_kv {
        let body = json!({ "type": "kv", "description": "key/value secret storage", "options": { "version": "2" } });
        ask(core, &root_token, "sys/mounts/secret", &body).await?;
    }
    if !args.dev_no_store_token {
        let stored = store_for_command_line(root_token.clone()).await;
        // A server that serves is worth more than the convenience; the token is printed as well.
        if let Err(error) = stored {
            tracing::warn!(%error, "the root token is not stored for the command line (-dev-no-store-token leaves it out without this warning)");
        }
    }
    Ok(Dev { unseal_key, root_token })
}

/// Keeps the token where the command line looks for it. On a thread of its own, which nobody waits for at the end: a token helper may hang.
async fn store_for_command_line(token: Secret<String>) -> Result<(), String> {
    // Relative, it would be whatever lies in the folder that this was started in.
    let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/')).ok_or("HOME is not set to a whole path")?;
    let place = TokenPlace::of_home(&home).map_err(|error| error.to_string())?;
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Nobody listens any more where the server was stopped meanwhile.
        let _unheard = tell.send(place.store(&token).map_err(|error| error.to_string()));
    });
    told.await.unwrap_or_else(|_thread_ended| Err("storing it failed".to_owned()))
}

/// Asks the core as any client would: a dev server has no back door.
async fn ask(core: &Core, token: &Secret<String>, path: &str, body: &Value) -> Result<(), String> {
    let mut headers = HeaderMap::new();
    // Exposed to be sent.
    let value = HeaderValue::from_str(token.expose())
        .map_err(|_not_a_header| "the root token holds characters that no header can carry".to_owned())?;
    headers.insert("x-vault-token", value);
    let uri: Uri = format!("/v1/{path}").parse().map_err(|_not_a_path| format!("{path:?} is no path"))?;
    let request = HttpRequest {
        method: Method::PUT,
        uri,
        headers,
        body: Body::Read(Bytes::from(body.to_string())),
        peer: None,
        client_chain: None,
        opened: Opened::default(),
    };
    let answer = core.handle(request).await;
    if answer.status < 300 {
        return Ok(());
    }
    Err(format!("setting up the dev server failed at {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)))
}

/// Prints how to use it, in the words that scripts look for.
pub(super) fn announce(dev: &Dev, address: &str, sandbox: Option<&Running>) {
    let mut text = format!(
        "WARNING! dev mode is enabled! In this mode, Vault runs entirely in-memory\n\
         and starts unsealed with a single unseal key. The root token is already\n\
         authenticated to the CLI, so you can immediately begin using Vault.\n\n\
         You may need to set the following environment variables:\n\n    \
         $ export VAULT_ADDR='{address}'\n\n\
         The unseal key and root token are displayed below in case you want to\n\
         seal/unseal the Vault or re-authenticate.\n\n\
         Unseal Key: {}\nRoot Token: {}\n\n",
        // Exposed to the person who started a dev server: that is what it is for.
        dev.unseal_key.expose(),
        dev.root_token.expose()
    );
    if let Some(sandbox) = sandbox {
        let url = sandbox.url();
        let _infallible =
            write!(text, "AWS Sandbox: {url}\n\nAWS calls of this server go to the sandbox. To point other programs there:\n\n");
        let (task, all): (Vec<_>, Vec<_>) = sandbox.environment().into_iter().partition(|(name, _)| name.starts_with("AWS_CONTAINER_"));
        let exports = |variables: Vec<(String, String)>| -> String {
            variables
                .iter()
                .filter(|(name, _)| name != "AWS_DEFAULT_REGION")
                .map(|(name, value)| format!("    $ export {name}={value}\n"))
                .collect()
        };
        text.push_str(&exports(all));
        text.push_str("\nTo let another program be the sandbox's ECS task, for a login with -method=aws:\n\n");
        text.push_str(&exports(task));
        text.push('\n');
    }
    text.push_str("Development mode should NOT be used in production installations!\n");
    show::out(&text);
}
