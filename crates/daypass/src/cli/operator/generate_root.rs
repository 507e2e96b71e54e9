//! `operator generate-root`: a new root token, authorised by unseal keys.

use data_encoding::{BASE64, BASE64_NOPAD};
use daypass_base::{Entropy, Secret, SystemEntropy};
use http::Method;
use zeroize::Zeroizing;

use super::super::settings::{Ctx, Http, Output};
use super::super::{Failure, Outcome, at_most_one};
use super::pgp;
use super::share::{self, Share, table_or_document};
use crate::client::{Call, Client};
use crate::show::value::Value;
use crate::show::{self, Format};

/// Make a new root token, with the consent of those who hold unseal keys
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator generate-root -init        (shows the one-time password, once)
  $ daypass operator generate-root -init -pgp-key=ada.asc     (the token is for Ada alone)
  $ daypass operator generate-root              (asks each holder for a key)
  $ daypass operator generate-root -nonce=NONCE - < key1
  $ daypass operator generate-root -decode=ENCODED     (asks for the one-time password)
  $ daypass operator generate-root -decode=ENCODED -otp=- < otp

A key or a one-time password given as an argument ends in the shell's history.")]
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
    /// Print a one-time password for -init, made here
    #[arg(long)]
    generate_otp: bool,
    /// Print the token that hides in this encoded token, or in the one on stdin for -
    #[arg(long, value_name = "ENCODED")]
    decode: Option<String>,
    /// The one-time password, or - to read it from stdin
    #[arg(long, value_name = "OTP")]
    otp: Option<String>,
    /// With -init: file with the public PGP key that the token is encrypted to, instead of a one-time password
    #[arg(long, value_name = "FILE", conflicts_with = "otp")]
    pgp_key: Option<String>,
    /// Which attempt a key is for, as -init showed it; needed when the key is not asked for
    #[arg(long, value_name = "NONCE")]
    nonce: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

const ATTEMPT: &str = "sys/generate-root/attempt";
const OTP_NOTE: &str = "A One-Time-Password has been generated for you and is shown in the OTP field.
You will need this value to decode the resulting root token, so keep it safe.";

/// Does the one thing that the flags ask for.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let given = at_most_one(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let wanted = [args.init, args.cancel, args.status, args.generate_otp, args.decode.is_some()];
    share::one_of(&wanted, "-init, -cancel, -status, -generate-otp and -decode", given)?;
    if let Some(encoded) = &args.decode {
        return decode(args, encoded, format);
    }
    if args.otp.is_some() && !args.init {
        return Err(Failure::usage("-otp goes with -init, which hides the token with it, or with -decode, which brings it back"));
    }
    if args.pgp_key.is_some() && !args.init {
        return Err(Failure::usage("-pgp-key goes with -init, which starts the attempt"));
    }
    let client = ctx.client(&args.http)?;
    if args.generate_otp {
        return generate_otp(&client, format);
    }
    if args.init {
        return init(args, &client, format);
    }
    if args.cancel {
        client.call(&Call::new(Method::DELETE, ATTEMPT)).map_err(|error| Failure::api("Error canceling root token generation", error))?;
        show::out("Success! Root token generation canceled (if it was started)");
        return Ok(0);
    }
    let status = current(&client)?;
    if args.status {
        show_progress(format, &status);
        return Ok(0);
    }
    if !status.get("started").is_some_and(Value::is_true) {
        return Err(Failure::usage(
            "No root generation is in progress. Start a root generation by running\n\"vault operator generate-root -init\".",
        ));
    }
    let share = Share::ask(given, args.nonce.as_deref(), status.text_at("nonce"), &args.http, "operator generate-root")?;
    let done = share::call(&client, Method::PUT, "sys/generate-root/update", Some(share.body()), "Error posting unseal key")?;
    show_progress(format, &done);
    Ok(0)
}

fn current(client: &Client) -> Result<Value, Failure> {
    share::call(client, Method::GET, ATTEMPT, None, "Error getting root generation status")
}

fn init(args: &Args, client: &Client, format: Format) -> Outcome {
    let mut body = Value::Map(Vec::new());
    if let Some(otp) = &args.otp {
        // To the server, which hides the token with it.
        body.set("otp", Value::text(share::argument(otp)?.expose()));
    }
    if let Some(name) = &args.pgp_key {
        body.set("pgp_key", Value::text(pgp::key(name)?));
    }
    let started = share::call(client, Method::PUT, ATTEMPT, Some(body), "Error initializing root generation")?;
    if !started.text_at("otp").is_empty() && matches!(format, Format::Table) {
        show::note(&format!("{OTP_NOTE}\n"));
    }
    show_progress(format, &started);
    Ok(0)
}

fn generate_otp(client: &Client, format: Format) -> Outcome {
    let status = current(client)?;
    let length = status.get("otp_length").and_then(Value::as_integer).and_then(|length| usize::try_from(length).ok());
    let length = length
        .filter(|length| (1..=OTP_LENGTH_MAX).contains(length))
        .ok_or_else(|| Failure::server(format!("The server did not tell how long a one-time password is (1 to {OTP_LENGTH_MAX})")))?;
    let entropy: &dyn Entropy = &SystemEntropy;
    print_alone(format, "otp", &entropy.base62(length));
    Ok(0)
}

/// Joins the two without asking the server: neither needs to leave this machine.
fn decode(args: &Args, encoded: &str, format: Format) -> Outcome {
    if encoded == "-" && args.otp.as_deref() == Some("-") {
        return Err(Failure::usage("only one of -decode and -otp can be read from stdin"));
    }
    let encoded = share::argument(encoded)?;
    let otp = match &args.otp {
        Some(otp) => share::argument(otp)?,
        None => share::ask(&args.http, "One-time password (will be hidden): ", "Missing otp: use -otp to supply it", "-otp=- < otpfile")?,
    };
    print_alone(format, "token", &joined(&encoded, &otp)?);
    Ok(0)
}

fn joined(encoded: &Secret<String>, otp: &Secret<String>) -> Result<Zeroizing<String>, Failure> {
    // Exposed to be joined: the token is what was asked for.
    let (encoded, otp) = (encoded.expose().as_bytes(), otp.expose().as_bytes());
    let hidden = BASE64_NOPAD.decode(encoded).or_else(|_padded| BASE64.decode(encoded)).map(Zeroizing::new);
    let hidden = hidden
        .map_err(|error| Failure::usage(format!("Error decoding root token: illegal base64 data at input byte {}", error.position)))?;
    if hidden.len() != otp.len() {
        return Err(Failure::usage(format!(
            "Error decoding root token: the token has {} characters and the one-time password has {}: it belongs to another attempt",
            hidden.len(),
            otp.len()
        )));
    }
    let token: Zeroizing<Vec<u8>> = Zeroizing::new(hidden.iter().zip(otp).map(|(hidden, otp)| hidden ^ otp).collect());
    let token = std::str::from_utf8(&token)
        .ok()
        .filter(|token| token.chars().all(|c| c.is_ascii_graphic()))
        .ok_or_else(|| Failure::usage("Error decoding root token: the one-time password is not this token's"))?;
    Ok(Zeroizing::new(token.to_owned()))
}

fn print_alone(format: Format, key: &str, text: &str) {
    match format {
        Format::Table | Format::Raw => show::out_once(text),
        _ => show::document_once(format, &Value::map([(key, Value::text(text))])),
    }
}

fn show_progress(format: Format, status: &Value) {
    let text = |key: &str| status.get(key).map(Value::go).unwrap_or_default();
    let mut rows = vec![
        ("Nonce", text("nonce")),
        ("Started", text("started")),
        ("Progress", format!("{}/{}", text("progress"), text("required"))),
        ("Complete", text("complete")),
    ];
    rows.extend(
        [("PGP Fingerprint", "pgp_fingerprint"), ("Encoded Token", "encoded_token"), ("OTP", "otp"), ("OTP Length", "otp_length")]
            .iter()
            .filter_map(|(title, key)| Some((*title, text(key))).filter(|(_, value)| !matches!(value.as_str(), "" | "0"))),
    );
    table_or_document(format, &rows, status, None);
}

const OTP_LENGTH_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_token_is_joined_again_and_nothing_wrong_is_repeated() {
        let hidden: Vec<u8> = b"hvs.abc".iter().zip(b"0123456").map(|(a, b)| a ^ b).collect();
        let encoded = secret(&BASE64_NOPAD.encode(&hidden));
        assert_eq!(*joined(&encoded, &secret("0123456")).unwrap(), "hvs.abc");
        for (encoded, otp, why) in [
            (encoded.clone(), "012345", "7 characters and the one-time password has 6"),
            (encoded, "YYYYYYY", "is not this token's"),
            (secret("!"), "0", "input byte 0"),
        ] {
            let error = joined(&encoded, &secret(otp)).unwrap_err();
            assert!(error.text().contains(why), "{}", error.text());
        }
    }
}
