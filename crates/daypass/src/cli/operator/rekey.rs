//! `operator rekey`: new unseal keys, authorised by the old ones; or a new key file.

mod offline;

use std::path::PathBuf;

use http::Method;

use super::super::settings::{Ctx, Http, Output};
use super::super::{Failure, Outcome, at_most_one};
use super::pgp;
use super::share::{self, Share, table_or_document};
use crate::client::{Call, Client};
use crate::show::value::Value;
use crate::show::{self, Format};

/// Exchange the unseal keys for new ones, with the consent of those who hold the old ones
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator rekey -init -key-shares=5 -key-threshold=3
  $ daypass operator rekey                       (asks each holder for a key)
  $ daypass operator rekey -nonce=NONCE - < key1
  $ daypass operator rekey -init -verify         (the new keys count once enough were handed in)
  $ daypass operator rekey -verify               (hands one of them in)
  $ daypass operator rekey -init -key-shares=2 -key-threshold=2 -pgp-keys=ada.asc,bob.asc -backup
  $ daypass operator rekey -backup-retrieve      (the encrypted keys that were kept)
  $ daypass operator rekey -offline -config=/etc/daypass/daypass.hcl -key-file=/mnt/keys/new.key

The last one is for a server that a key file unseals, while it does not run: it
makes the new file, which must not exist yet, and seals the store under its key
in one step. The old file is left for you to destroy.

A key given as an argument ends in the shell's history.")]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the command line")]
pub(crate) struct Args {
    /// An unseal key, or - to read it from stdin
    #[arg(value_name = "KEY")]
    arguments: Vec<String>,
    /// Start an attempt
    #[arg(long)]
    init: bool,
    /// Give the attempt up
    #[arg(long)]
    cancel: bool,
    /// Show how far the attempt is
    #[arg(long)]
    status: bool,
    /// With -init, ask for the new keys before they count; else, what is done is done to that check
    #[arg(long)]
    verify: bool,
    /// Into how many unseal keys to split the root key [default: 5]
    #[arg(long, visible_alias = "n", value_name = "COUNT")]
    key_shares: Option<i64>,
    /// How many of them unseal [default: 3]
    #[arg(long, visible_alias = "t", value_name = "COUNT")]
    key_threshold: Option<i64>,
    /// With -init: files with public PGP keys, in binary, base64 or armour: one for each new key, which only its holder can read then
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    pgp_keys: Vec<String>,
    /// With -init and -pgp-keys: keep the encrypted keys on the server
    #[arg(long)]
    backup: bool,
    /// Show the encrypted keys that were kept
    #[arg(long)]
    backup_retrieve: bool,
    /// Remove the encrypted keys that were kept
    #[arg(long)]
    backup_delete: bool,
    /// Which attempt a key is for, as -init showed it; needed when the key is not asked for
    #[arg(long, value_name = "NONCE")]
    nonce: Option<String>,
    /// Exchange the key file of a server that does not run
    #[arg(long, requires = "config", requires = "key_file")]
    offline: bool,
    /// With -offline: configuration of that server; may be repeated
    #[arg(long, value_name = "PATH", requires = "offline")]
    config: Vec<PathBuf>,
    /// With -offline: the key file to make
    #[arg(long, value_name = "FILE", requires = "offline")]
    key_file: Option<PathBuf>,
    /// Which keys; taken for Vault's sake, there are only unseal keys
    #[arg(long, value_name = "TARGET", hide = true)]
    target: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

const INIT: &str = "sys/rekey/init";
const BACKUP: &str = "sys/rekey/backup";
const VERIFY: &str = "sys/rekey/verify";
const LOST: &str = "WARNING! The new keys are shown once, to whoever gives the last of the old ones.
If they are lost then, nothing brings them back: add -verify to be asked for
them before they count.";

/// Does the one thing that the flags ask for.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let given = at_most_one(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let wanted = [args.init, args.cancel, args.status, args.backup_retrieve, args.backup_delete, args.offline];
    share::one_of(&wanted, "-init, -cancel, -status, -backup-retrieve, -backup-delete and -offline", given)?;
    if !args.init && (args.key_shares.is_some() || args.key_threshold.is_some() || !args.pgp_keys.is_empty() || args.backup) {
        return Err(Failure::usage("-key-shares, -key-threshold, -pgp-keys and -backup go with -init"));
    }
    if let Some(new) = args.key_file.as_ref().filter(|_| args.offline) {
        return offline::run(&args.config, new);
    }
    let client = ctx.client(&args.http)?;
    if args.backup_retrieve || args.backup_delete {
        return kept(args, &client, format);
    }
    if args.init {
        return init(args, &client, format);
    }
    if args.cancel {
        return cancel(args, &client);
    }
    let status = current(&client, args.verify)?;
    if args.status {
        show_progress(format, &status);
        return Ok(0);
    }
    if !status.get("started").is_some_and(Value::is_true) {
        return Err(Failure::usage("No rekey is in progress. Start a rekey process by running\n\"vault operator rekey -init\"."));
    }
    let share = Share::ask(
        given,
        args.nonce.as_deref(),
        status.text_at("nonce"),
        &args.http,
        if args.verify { "operator rekey -verify" } else { "operator rekey" },
    )?;
    let path = if args.verify { VERIFY } else { "sys/rekey/update" };
    let done = share::call(&client, Method::PUT, path, Some(share.body()), "Error posting unseal key")?;
    if !done.get("complete").is_some_and(Value::is_true) {
        show_progress(format, &done);
        return Ok(0);
    }
    match format {
        Format::Table | Format::Raw if args.verify => {
            show::out("Success! Rekey verification successful. The rekey operation is complete and\nthe new keys are now active.");
            for warning in done.texts_at("warnings") {
                show::note(&format!("Warning! {warning}"));
            }
        }
        Format::Table | Format::Raw => show::out_once(&new_keys(&done, &status)),
        _ => show::document_once(format, &done),
    }
    Ok(0)
}

fn current(client: &Client, verify: bool) -> Result<Value, Failure> {
    share::call(client, Method::GET, if verify { VERIFY } else { INIT }, None, "Error getting rekey status")
}

fn init(args: &Args, client: &Client, format: Format) -> Outcome {
    let shares = args.key_shares.unwrap_or(5);
    let keys = if args.pgp_keys.is_empty() { Vec::new() } else { pgp::keys(&args.pgp_keys, "-pgp-keys", shares)? };
    let keys = if keys.is_empty() { Value::Null } else { Value::texts(keys) };
    let body = Value::map([
        ("secret_shares", Value::number(shares)),
        ("secret_threshold", Value::number(args.key_threshold.unwrap_or(3))),
        ("stored_shares", Value::number(0)),
        ("pgp_keys", keys),
        ("backup", Value::Bool(args.backup)),
        ("require_verification", Value::Bool(args.verify)),
    ]);
    let started = share::call(client, Method::PUT, INIT, Some(body), "Error initializing rekey")?;
    // Encrypted keys that are kept can be read again.
    if !args.verify && !args.backup && matches!(format, Format::Table) {
        show::note(&format!("{LOST}\n"));
    }
    show_progress(format, &started);
    Ok(0)
}

/// What was kept of encrypted keys: shown, or removed.
fn kept(args: &Args, client: &Client, format: Format) -> Outcome {
    if args.backup_delete {
        let call = Call::new(Method::DELETE, BACKUP);
        client.call(&call).map_err(|error| Failure::api("Error deleting rekey backup", error))?;
        show::out("Success! Delete backup keys (if they existed)");
        return Ok(0);
    }
    let answer = share::call(client, Method::GET, BACKUP, None, "Error retrieving rekey backup")?;
    let data = answer.get("data").filter(|data| !data.is_null()).unwrap_or(&answer);
    let mut rows = vec![("Operation Nonce", data.text_at("nonce").to_owned())];
    for (fingerprint, keys) in data.get("keys_base64").map(Value::entries).unwrap_or_default() {
        rows.extend(keys.items().iter().map(|key| (fingerprint.as_str(), key.go())));
    }
    table_or_document(format, &rows, data, Some(["PGP Fingerprint", "Encrypted Key"]));
    Ok(0)
}

fn cancel(args: &Args, client: &Client) -> Outcome {
    let call = Call::new(Method::DELETE, if args.verify { VERIFY } else { INIT });
    let call = match args.nonce.as_deref() {
        Some(nonce) if !args.verify => call.body(Value::map([("nonce", Value::text(nonce))])),
        _ => call,
    };
    let young = "whoever started it knows its nonce: give -nonce; ten minutes after the start it is not needed";
    client.call(&call).map_err(|error| match error.status() {
        Some(400) if args.nonce.is_none() && !args.verify => Failure::api("Error canceling rekey", error).hint(young),
        _ => Failure::api("Error canceling rekey", error),
    })?;
    show::out(if args.verify {
        "Success! Canceled rekey verification (if it was started)"
    } else {
        "Success! Canceled rekeying (if it was started)"
    });
    Ok(0)
}

fn show_progress(format: Format, status: &Value) {
    let text = |key: &str| status.get(key).map(Value::go).unwrap_or_default();
    // A check of new keys tells no number of old ones.
    let checks = status.get("required").is_none();
    let mut rows = vec![("Nonce", text("nonce")), ("Started", text("started"))];
    if status.get("started").is_some_and(Value::is_true) {
        if checks {
            rows.extend([
                ("New Shares", text("n")),
                ("New Threshold", text("t")),
                ("Verification Progress", format!("{}/{}", text("progress"), text("t"))),
            ]);
        } else {
            rows.extend([
                ("Rekey Progress", format!("{}/{}", text("progress"), text("required"))),
                ("New Shares", text("n")),
                ("New Threshold", text("t")),
                ("Verification Required", text("verification_required")),
            ]);
            if !status.texts_at("pgp_fingerprints").is_empty() {
                rows.extend([("PGP Fingerprints", status.texts_at("pgp_fingerprints").join(", ")), ("Backup", text("backup"))]);
            }
        }
        if !text("verification_nonce").is_empty() {
            rows.push(("Verification Nonce", text("verification_nonce")));
        }
    }
    table_or_document(format, &rows, status, Some(["Key", "Value"]));
}

/// The new keys, once, and what to do with them. `asked` is the attempt as it stood before the last key.
fn new_keys(done: &Value, asked: &Value) -> String {
    let keys = done.texts_at("keys_base64");
    let holders = done.texts_at("pgp_fingerprints");
    let line = |(key, number): (&&str, usize)| match holders.get(number - 1) {
        Some(holder) => format!("Key {number} fingerprint: {holder}; value: {key}"),
        None => format!("Key {number}: {key}"),
    };
    let mut lines: Vec<String> = keys.iter().zip(1..).map(line).collect();
    lines.extend([String::new(), format!("Operation nonce: {}", done.text_at("nonce")), String::new()]);
    if done.get("backup").is_some_and(Value::is_true) {
        lines.extend([
            "The encrypted unseal keys are kept on the server: \"vault operator rekey -backup-retrieve\"
shows them, and \"vault operator rekey -backup-delete\" removes them. Nothing removes
them by itself."
                .to_owned(),
            String::new(),
        ]);
    }
    let number = |key: &str| asked.get(key).map(Value::go).unwrap_or_default();
    let (shares, threshold) = (number("n"), number("t"));
    if done.get("verification_required").is_some_and(Value::is_true) {
        lines.push(format!(
            "Vault has created new unseal keys, split into {shares} key shares and a key threshold
of {threshold}. They are not active until they are verified: hand {threshold} of them in with
\"vault operator rekey -verify\". Until then the old keys unseal.

The current verification status, including initial nonce, is shown below.

Verification Nonce: {}",
            done.text_at("verification_nonce")
        ));
        return lines.join("\n");
    }
    lines.push(format!(
        "Vault unseal keys rekeyed with {shares} key shares and a key threshold of {threshold}.
Please securely distribute the key shares printed above. When Vault is re-sealed,
restarted, or stopped, you must supply at least {threshold} of these keys to unseal it
before it can start servicing requests."
    ));
    lines.join("\n")
}
