//! `operator`: initialise, unseal and seal; the ceremonies with unseal keys, and the encryption key; snapshots.

mod generate_root;
mod keys;
mod offline;
mod pgp;
mod rekey;
mod revocation;
mod share;
mod snapshot;

use http::Method;

use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome, at_most_one, status};
use crate::client::{Call, Client, Error};
use crate::show::value::Value;
use crate::show::{self, Format};

/// Initialise, unseal and seal a server, exchange its keys, save and restore it
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Init(InitArgs),
    Unseal(UnsealArgs),
    Seal(SealArgs),
    StepDown(StepDownArgs),
    GenerateRoot(generate_root::Args),
    Rekey(rekey::Args),
    Rotate(keys::RotateArgs),
    KeyStatus(keys::KeyStatusArgs),
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    #[command(subcommand)]
    Raft(snapshot::RaftVerb),
    #[command(subcommand)]
    Revocation(revocation::Verb),
}

/// Make the keys of a new server and print them, once
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator init
  $ daypass operator init -key-shares=1 -key-threshold=1 -format=json
  $ daypass operator init -key-shares=2 -key-threshold=2 -pgp-keys=ada.asc,bob.asc -root-token-pgp-key=ada.asc
  $ daypass operator init -status     (exit code 0 initialised, 2 not, 1 error)")]
pub(crate) struct InitArgs {
    /// Into how many unseal keys to split the root key [default: 5]
    #[arg(long, visible_alias = "n", value_name = "COUNT")]
    key_shares: Option<i64>,
    /// How many of them unseal [default: 3]
    #[arg(long, visible_alias = "t", value_name = "COUNT")]
    key_threshold: Option<i64>,
    /// Into how many recovery keys to split, where a key service unseals [default: 5]
    #[arg(long, value_name = "COUNT")]
    recovery_shares: Option<i64>,
    /// How many of them recover [default: 3]
    #[arg(long, value_name = "COUNT")]
    recovery_threshold: Option<i64>,
    /// Files with public PGP keys, in binary, base64 or armour: one for each unseal key, which only its holder can read then
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    pgp_keys: Vec<String>,
    /// File with the public PGP key that the root token is encrypted to
    #[arg(long, value_name = "FILE")]
    root_token_pgp_key: Option<String>,
    /// Files with public PGP keys for recovery keys, where a key service unseals
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    recovery_pgp_keys: Vec<String>,
    /// Only tell whether the server is initialised
    #[arg(long)]
    status: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Give one unseal key
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator unseal             (asks, without showing the key)
  $ daypass operator unseal - < key1
  $ daypass operator unseal -reset

A key given as an argument ends in the shell's history.")]
pub(crate) struct UnsealArgs {
    /// The key, or - to read it from stdin
    #[arg(value_name = "KEY")]
    arguments: Vec<String>,
    /// Forget the keys given so far
    #[arg(long)]
    reset: bool,
    /// The key is part of a seal migration
    #[arg(long)]
    migrate: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Seal the server: it forgets its keys and answers nothing until it is unsealed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator seal")]
pub(crate) struct SealArgs {
    #[command(flatten)]
    http: Http,
}

/// Make the leader give up leading
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator step-down")]
pub(crate) struct StepDownArgs {
    #[command(flatten)]
    http: Http,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Init(args) => init(args, ctx),
        Verb::Unseal(args) => unseal(args, ctx),
        Verb::Seal(args) => {
            let call = Call::new(Method::PUT, "sys/seal");
            ctx.client(&args.http)?.call(&call).map_err(|error| Failure::api("Error sealing", error))?;
            show::out("Success! Vault is sealed.");
            Ok(0)
        }
        Verb::StepDown(args) => {
            let call = Call::new(Method::PUT, "sys/step-down");
            let client = ctx.client(&args.http)?;
            client.call(&call).map_err(|error| Failure::api("Error stepping down", error))?;
            show::out(&format!("Success! Stepped down: {}", client.config().address.url("")));
            Ok(0)
        }
        Verb::GenerateRoot(args) => generate_root::run(args, ctx),
        Verb::Rekey(args) => rekey::run(args, ctx),
        Verb::Rotate(args) => keys::rotate(args, ctx),
        Verb::KeyStatus(args) => keys::status(args, ctx),
        Verb::Snapshot(verb) | Verb::Raft(snapshot::RaftVerb::Snapshot(verb)) => snapshot::run(verb, ctx),
        Verb::Revocation(verb) => revocation::run(verb, ctx),
    }
}

fn init(args: &InitArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let client = ctx.client(&args.http)?;
    if args.status {
        return init_status(&client, format);
    }
    let failed = |error| Failure::api("Error initializing", error);
    // A server that a key service unseals has recovery keys instead, and refuses numbers for the other kind.
    let seal = client.body(Call::new(Method::GET, "sys/seal-status").plain()).map_err(failed)?;
    let recovery = seal.get("recovery_seal").is_some_and(Value::is_true);
    let mut body = Value::Map(Vec::new());
    let mut count = |key: &str, given: Option<i64>, usual: i64, wanted: bool| {
        if let Some(number) = given.or(wanted.then_some(usual)) {
            body.set(key, Value::number(number));
        }
    };
    count("secret_shares", args.key_shares, 5, !recovery);
    count("secret_threshold", args.key_threshold, 3, !recovery);
    count("recovery_shares", args.recovery_shares, 5, recovery);
    count("recovery_threshold", args.recovery_threshold, 3, recovery);
    for (names, flag, shares, field) in [
        (&args.pgp_keys, "-pgp-keys", "secret_shares", "pgp_keys"),
        (&args.recovery_pgp_keys, "-recovery-pgp-keys", "recovery_shares", "recovery_pgp_keys"),
    ] {
        if !names.is_empty() {
            let shares = body.get(shares).and_then(Value::as_integer).unwrap_or(0);
            let keys = pgp::keys(names, flag, shares)?;
            body.set(field, Value::texts(keys));
        }
    }
    if let Some(name) = &args.root_token_pgp_key {
        body.set("root_token_pgp_key", Value::text(pgp::key(name)?));
    }
    let made = client.body(Call::new(Method::PUT, "sys/init").body(body.clone())).map_err(failed)?;
    match format {
        Format::Table | Format::Raw => show::out_once(&init_text(&made, &body)),
        _ => show::document_once(format, &init_document(&made, &body)),
    }
    Ok(0)
}

fn init_status(client: &Client, format: Format) -> Outcome {
    let failed = |error: Error| Failure { code: 1, ..Failure::api("Error checking initialization status", error) };
    let status = client.body(Call::new(Method::GET, "sys/init")).map_err(failed)?;
    let initialized = status.get("initialized").is_some_and(Value::is_true);
    match format {
        Format::Table | Format::Raw => show::out(if initialized { "Vault is initialized" } else { "Vault is not initialized" }),
        _ => show::document(format, &Value::map([("initialized", Value::Bool(initialized))])),
    }
    Ok(if initialized { 0 } else { 2 })
}

fn init_text(made: &Value, asked: &Value) -> String {
    let mut lines = Vec::new();
    for (title, key) in [("Unseal", "keys_base64"), ("Recovery", "recovery_keys_base64")] {
        let keys = made.texts_at(key);
        lines.extend(keys.iter().zip(1..).map(|(key, number)| format!("{title} Key {number}: {key}")));
    }
    lines.extend([String::new(), format!("Initial Root Token: {}", made.text_at("root_token")), String::new()]);
    let number = |key: &str| asked.get(key).map(Value::go).unwrap_or_default();
    if asked.get("recovery_shares").is_some() {
        let (shares, threshold) = (number("recovery_shares"), number("recovery_threshold"));
        lines.extend([
            "Success! Vault is initialized".to_owned(),
            String::new(),
            format!("Recovery key initialized with {shares} key shares and a key threshold of {threshold}. Please\nsecurely distribute the key shares printed above."),
        ]);
        return lines.join("\n");
    }
    if made.texts_at("keys_base64").is_empty() {
        lines.push(
            "Vault is initialized and has unsealed itself: its seal is not made of shares,
so none were handed out. Keep a copy of the key that seals it in a safe place:
without it the data cannot be read. Keep the root token safe, or revoke it when
it is no longer needed."
                .to_owned(),
        );
        return lines.join("\n");
    }
    let (shares, threshold) = (number("secret_shares"), number("secret_threshold"));
    lines.push(format!(
        "Vault initialized with {shares} key shares and a key threshold of {threshold}. Please securely
distribute the key shares printed above. When the Vault is re-sealed,
restarted, or stopped, you must supply at least {threshold} of these keys to unseal it
before it can start servicing requests.

Vault does not store the generated root key. Without at least {threshold} keys to
reconstruct the root key, Vault will remain permanently sealed!

It is possible to generate new unseal keys, provided you have a quorum of
existing unseal keys shares. See \"vault operator rekey\" for more information."
    ));
    lines.join("\n")
}

fn init_document(made: &Value, asked: &Value) -> Value {
    let part = |key: &str| made.get(key).cloned().unwrap_or(Value::Null);
    let number = |key: &str| asked.get(key).cloned().unwrap_or(Value::number(0));
    Value::map([
        ("unseal_keys_b64", part("keys_base64")),
        ("unseal_keys_hex", part("keys")),
        ("unseal_shares", number("secret_shares")),
        ("unseal_threshold", number("secret_threshold")),
        ("recovery_keys_b64", part("recovery_keys_base64")),
        ("recovery_keys_hex", part("recovery_keys")),
        ("recovery_keys_shares", number("recovery_shares")),
        ("recovery_keys_threshold", number("recovery_threshold")),
        ("root_token", part("root_token")),
    ])
}

fn unseal(args: &UnsealArgs, ctx: &Ctx) -> Outcome {
    let given = at_most_one(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let client = ctx.client(&args.http)?;
    let body = if args.reset {
        Value::map([("reset", Value::Bool(true))])
    } else {
        let key = match given {
            Some(argument) => share::argument(argument)?,
            None => share::ask(
                &args.http,
                "Unseal Key (will be hidden): ",
                "An unseal key cannot be asked for",
                "daypass operator unseal - < keyfile",
            )?,
        };
        // To the server, which joins it with the others.
        Value::map([("key", Value::text(key.expose())), ("reset", Value::Bool(false)), ("migrate", Value::Bool(args.migrate))])
    };
    let failed = |error| Failure::api("Error unsealing", error);
    let seal = client.body(Call::new(Method::PUT, "sys/unseal").body(body)).map_err(failed)?;
    status::show_status(format, &status::with_leader(&client, &seal).map_err(failed)?);
    Ok(0)
}
