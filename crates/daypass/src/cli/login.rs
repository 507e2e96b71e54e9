//! `login`: from what proves who you are to a token in `~/.vault-token`.

mod browser;
mod ci;
mod factor;
mod iam;
mod method;
mod pod;

use daypass_base::Secret;
use http::Method;

use super::settings::{Ctx, Field, Http, Output, ask_hidden};
use super::{Failure, Outcome, data, prompt, unwrap};
use crate::client::answer::Answer;
use crate::client::{Call, Client};
use crate::show::value::Value;
use crate::show::{self, Format, Supply, table};
pub(super) use method::{generic_help, method_help};

/// Log in, and keep the token for the commands that follow
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass login                                   (asks for a token)
  $ daypass login - < token
  $ daypass login -method=userpass username=bob     (asks for the password)
  $ daypass login -method=userpass -mfa=phones:123456 username=bob
  $ daypass login -method=approle role_id=... secret_id=@secret-id
  $ daypass login -method=jwt -path=gitlab role=deploy jwt=- < id-token
  $ daypass login -method=jwt -path=github role=ci  (in a job: asks the build server)
  $ daypass login -method=oidc role=people          (opens the company's login page)
  $ daypass login -method=aws role=jenkins          (as the IAM role of this task or instance)
  $ daypass login -method=kubernetes role=ci        (as the service account of this pod)
  $ daypass login -method=cert -client-cert=cert.pem -client-key=key.pem

Where a login needs a second factor, its passcode is asked for, unless -mfa
gives it. The token goes to ~/.vault-token, where every Vault client of this
user finds it, or to the program that token_helper in ~/.vault names.
VAULT_TOKEN wins over it.")]
pub(crate) struct Args {
    /// A token, or what the method needs
    #[arg(value_name = "TOKEN | K=V")]
    arguments: Vec<String>,
    /// How to log in: token, userpass, approle, aws, cert, jwt, kubernetes, oidc, ...
    #[arg(long, value_name = "METHOD", default_value = "token")]
    method: String,
    /// Where the method is mounted [default: its name]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Do not keep the token
    #[arg(long)]
    no_store: bool,
    /// Do not show the token
    #[arg(long)]
    no_print: bool,
    /// Print the token alone, and do not keep it
    #[arg(long)]
    token_only: bool,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Logs in.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let given = arguments(args)?;
    let client = ctx.client(&args.http)?;
    let answer = if args.method == "token" { with_token(args, &client, &given)? } else { with_method(args, ctx, &client, given)? };
    // A server may wrap the token that the factor is for, or what it wants of the client.
    let mut answer = factor::finish(args, ctx, &client, answer, format)?;
    if !answer.wrap_info.is_null() {
        if args.token_only || args.no_store {
            show_wrapped(args, &answer, format);
            return Ok(0);
        }
        let token = Secret::new(answer.wrap_info.text_at("token").to_owned());
        let unwrapped = unwrap::unwrap_own(&client, token).map_err(|error| Failure::api("Error unwrapping login", error))?;
        let unwrapped = unwrapped.ok_or_else(|| Failure::server("Could not find wrapped response"))?;
        answer = factor::finish(args, ctx, &client, unwrapped, format)?;
    }
    if answer.auth.is_null() {
        return Err(Failure::server(
            "Vault returned a secret, but the secret has no authentication information attached. This should never happen and is likely a bug.",
        ));
    }
    let kept = keep(args, ctx, &answer);
    let code = show_login(args, &answer, format, kept)?;
    Ok(if kept == Kept::Lost { code.max(2) } else { code })
}

/// What became of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// It was to be kept and could not be.
    Lost,
    /// Nobody asked for it to be kept.
    NotAsked,
    /// It is where the next command finds it.
    Stored,
}

/// The arguments as a map; a lone word is the token.
fn arguments(args: &Args) -> Result<Value, Failure> {
    let mut stdin = std::io::stdin();
    if args.method != "token" {
        return data::parse(&args.arguments, &mut stdin).map_err(bad_arguments);
    }
    let mut given = match args.arguments.as_slice() {
        [dash] if dash == "-" => {
            let text = Secret::new(data::text_of("-", &mut stdin).map_err(Failure::usage)?);
            // Still on its way to the server.
            Value::map([("token", Value::text(text.expose()))])
        }
        [first, rest @ ..] if !first.contains('=') => {
            let mut map = data::parse(rest, &mut stdin).map_err(bad_arguments)?;
            map.set("token", Value::text(first));
            map
        }
        all => data::parse(all, &mut stdin).map_err(bad_arguments)?,
    };
    if let Some(token) = given.get("token").and_then(Value::as_text) {
        // From a file or a pipe it comes with a line's end.
        let token = token.trim().to_owned();
        given.set("token", Value::text(token));
    }
    Ok(given)
}

fn bad_arguments(why: String) -> Failure {
    Failure::usage(format!("Error parsing configuration: {why}"))
}

/// Looks the token up, unless `lookup=false`: a login with a dead token is no login.
fn with_token(args: &Args, client: &Client, given: &Value) -> Result<Answer, Failure> {
    let token = match given.get("token").and_then(Value::as_text) {
        Some(token) => Secret::from(token),
        None => ask(args, "Token (will be hidden): ", "a token", "give the token on stdin: daypass login - < tokenfile")?,
    };
    if token.is_empty() {
        return Err(Failure::server("Error authenticating: a token must be passed to auth, please view the help for more information"));
    }
    let unknown = || {
        // To stdout or the token file, which is where a login leads.
        Answer::parse(&Value::map([("auth", Value::map([("client_token", Value::text(token.expose()))]))]).compact())
            .map_err(|error| Failure::server(error.to_string()))
    };
    if args.token_only || matches!(given.text_at("lookup"), "false" | "0") {
        return unknown();
    }
    let call = Call::new(Method::GET, "auth/token/lookup-self").token(token.clone());
    let failed = |error| Failure::api("Error authenticating: error looking up token", error);
    let Some(answer) = client.ask(&call).map_err(failed)? else { return unknown() };
    let Some(data) = answer.data().filter(|data| !data.is_null()) else { return Ok(answer) };
    let mut auth = Value::map([("client_token", Value::text(token.expose()))]);
    for (key, from) in [
        ("accessor", "accessor"),
        ("policies", "policies"),
        ("token_policies", "policies"),
        ("identity_policies", "identity_policies"),
        ("metadata", "meta"),
        ("orphan", "orphan"),
        ("entity_id", "entity_id"),
        ("lease_duration", "ttl"),
        ("renewable", "renewable"),
    ] {
        auth.set(key, data.get(from).cloned().unwrap_or(Value::Null));
    }
    Ok(answer.with_auth(auth))
}

fn with_method(args: &Args, ctx: &Ctx, client: &Client, mut given: Value) -> Result<Answer, Failure> {
    let mount = given.get("mount").and_then(Value::as_text).map(str::to_owned);
    let mount = args.path.clone().or(mount).unwrap_or_else(|| args.method.clone());
    if let Value::Map(entries) = &mut given {
        entries.retain(|(key, _)| key != "mount");
    }
    if args.method == "oidc" {
        return browser::log_in(client, &mount, &given);
    }
    if args.method == "jwt" {
        job_token(ctx, &mut given)?;
    }
    if args.method == "aws" {
        iam::sign(&mut given)?;
    }
    if args.method == "kubernetes" {
        pod::token(&mut given)?;
    }
    let shape = method::shape(&args.method);
    if shape.names_user && given.text_at("username").is_empty() {
        return Err(Failure::server("Error authenticating: 'username' must be specified"));
    }
    if let Some((key, shown)) = shape.asks_for.filter(|(key, _)| given.get(key).is_none()) {
        let hint = format!("give it on stdin: {key}=-, or from a file: {key}=@FILE");
        let secret = ask(args, &format!("{shown} (will be hidden): "), &format!("the {}", shown.to_lowercase()), &hint)?;
        // To the server, which checks it.
        given.set(key, Value::text(secret.expose()));
    }
    let mut path = format!("auth/{}/login", super::clean_path(&mount));
    if shape.names_user {
        path = format!("{path}/{}", given.text_at("username"));
        if let Value::Map(entries) = &mut given {
            entries.retain(|(key, _)| key != "username");
        }
    }
    let call = Call::new(Method::PUT, path).body(given).without_token();
    let answer = client.ask(&call).map_err(|error| {
        // A second factor that was refused says so itself.
        let unmounted = error.status() == Some(403) && !error.to_string().contains("enforcement");
        let failure = Failure::api("Error authenticating", error);
        if unmounted {
            failure.hint("is the method enabled at this path? -path names another one")
        } else if args.method == "cert" {
            failure
                .hint("-client-cert and -client-key name the files of the certificate that is shown; the address must begin with https://")
        } else {
            failure
        }
    })?;
    answer.ok_or_else(|| Failure::server("Error authenticating: Vault returned no token"))
}

/// Fills in the token that a build server gives to its job, unless one was given. `audience` is for the build server, not for ours.
fn job_token(ctx: &Ctx, given: &mut Value) -> Result<(), Failure> {
    let audience = given.get("audience").and_then(Value::as_text).map(str::to_owned);
    if let Value::Map(entries) = given {
        entries.retain(|(key, _)| key != "audience");
    }
    if let Some(token) = given.get("jwt").and_then(Value::as_text) {
        // From a file or a pipe it comes with a line's end.
        let token = token.trim().to_owned();
        given.set("jwt", Value::text(token));
    } else if let Some(token) = ci::token(ctx, audience.as_deref())? {
        // To the server, which checks it.
        given.set("jwt", Value::text(token.expose().trim()));
    }
    Ok(())
}

fn ask(args: &Args, text: &str, what: &str, hint: &str) -> Result<Secret<String>, Failure> {
    match ask_hidden(&args.http, text) {
        Ok(secret) => Ok(secret),
        Err(prompt::NoSecret::Interrupted) => Err(Failure::say(130, "Interrupted")),
        Err(prompt::NoSecret::NoTerminal(why)) => {
            Err(Failure::server(format!("Error authenticating: An error occurred attempting to ask for {what}: {why}")).hint(hint))
        }
    }
}

fn show_wrapped(args: &Args, answer: &Answer, format: Format) {
    if args.token_only {
        show::out_raw(answer.wrap_info.text_at("token"), Supply::Once);
    } else {
        show::answer(format, answer);
    }
}

/// Keeps the token, and says what that means. Where that fails the login has not: what proved it may be of no use a second time, so the token is shown.
fn keep(args: &Args, ctx: &Ctx, answer: &Answer) -> Kept {
    if args.token_only {
        return Kept::NotAsked;
    }
    if args.no_store {
        show::note(
            "The token was not stored in token helper. Set the VAULT_TOKEN environment\nvariable or pass the token below with each request to Vault.\n",
        );
        return Kept::NotAsked;
    }
    let token = Secret::new(answer.auth.text_at("client_token").to_owned());
    let place = ctx.token_place().map_err(|failure| failure.text().to_owned());
    let stored = place.and_then(|place| place.store(&token).map_err(|error| format!("{}: {}", place.name(), data::plain(&error))));
    if let Err(why) = stored {
        show::note(&table::wrap(&format!("Error storing token: {why}"), 80, 0));
        let shown = if args.no_print {
            "-no-print keeps it from being shown, so it is lost: log in again without it, or with -no-store."
        } else {
            "The resulting token is shown below for your records: store it yourself, or set the VAULT_TOKEN environment variable."
        };
        show::note(&format!(
            "{}\n",
            table::wrap(&format!("Authentication was successful, but the token was not persisted. {shown}"), 80, 0)
        ));
        return Kept::Lost;
    }
    if ctx.variable("TOKEN").is_some() {
        let text = "WARNING! The VAULT_TOKEN environment variable is set! The value of this variable will take precedence; if this is unwanted please unset VAULT_TOKEN or update its value accordingly.";
        show::note(&format!("{}\n", table::wrap(text, 80, 0)));
    }
    Kept::Stored
}

fn show_login(args: &Args, answer: &Answer, format: Format, kept: Kept) -> Outcome {
    if args.token_only {
        show::out_raw(answer.auth.text_at("client_token"), Supply::Once);
        return Ok(0);
    }
    if args.no_print {
        return Ok(0);
    }
    if let Some(name) = &args.field.field {
        let value = answer.field(name).ok_or_else(|| Failure::usage(format!("Field {name:?} not present in secret")))?;
        show::field(format, &value, Supply::Once);
        return Ok(0);
    }
    if format == Format::Table {
        // Vault says "already stored" even after -no-store; that is not true, so this does not.
        show::out(if kept == Kept::Stored {
            "Success! You are now authenticated. The token information displayed below is\nalready stored in the token helper. You do NOT need to run \"vault login\" again.\nFuture Vault requests will automatically use this token.\n"
        } else {
            "Success! You are now authenticated. The token information is displayed below.\n"
        });
    }
    show::answer(format, answer);
    Ok(0)
}
