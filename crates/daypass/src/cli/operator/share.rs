//! What the ceremonies with unseal keys share: how a key is given, and how progress is shown.

use daypass_base::Secret;
use http::Method;

use super::super::settings::{Http, ask_hidden};
use super::super::{Failure, prompt, unwrap};
use crate::client::{Call, Client};
use crate::show::value::Value;
use crate::show::{self, Format, table};

/// An unseal key and the attempt it is for.
pub(super) struct Share {
    key: Secret<String>,
    nonce: String,
}

impl Share {
    /// The key as given, else asked for. The nonce of the running attempt is taken only for a key that is asked for: whoever types it
    /// sees it; one from a file could be meant for another attempt.
    pub(super) fn ask(given: Option<&str>, nonce: Option<&str>, current: &str, http: &Http, verb: &str) -> Result<Self, Failure> {
        let Some(argument) = given else {
            show::note(&format!("Operation nonce: {current}"));
            let usage = format!("-nonce={current} - < keyfile");
            let key = ask(http, "Unseal Key (will be hidden): ", "An unseal key cannot be asked for", &format!("daypass {verb} {usage}"))?;
            return Ok(Self { key, nonce: nonce.unwrap_or(current).to_owned() });
        };
        let nonce = nonce.map(str::trim).filter(|nonce| !nonce.is_empty()).ok_or_else(|| {
            Failure::usage("Missing nonce value: specify it via the -nonce flag").hint(format!("daypass {verb} -status shows it"))
        })?;
        Ok(Self { key: self::argument(argument)?, nonce: nonce.to_owned() })
    }

    /// To the server, which joins it with the others.
    pub(super) fn body(&self) -> Value {
        Value::map([("key", Value::text(self.key.expose())), ("nonce", Value::text(&self.nonce))])
    }
}

/// A secret given as an argument, or on stdin for `-`.
pub(super) fn argument(argument: &str) -> Result<Secret<String>, Failure> {
    unwrap::token_argument(argument)
}

/// A secret asked for on the terminal; where nobody can be asked, `problem` and how to give it otherwise.
pub(super) fn ask(http: &Http, text: &str, problem: &str, usage: &str) -> Result<Secret<String>, Failure> {
    match ask_hidden(http, text) {
        Ok(key) => Ok(key),
        Err(prompt::NoSecret::Interrupted) => Err(Failure::say(130, "Interrupted")),
        Err(prompt::NoSecret::NoTerminal(why)) => {
            Err(Failure::usage(format!("{problem}: {why}")).hint(format!("give it on stdin: {usage}")))
        }
    }
}

/// That the flags ask for one thing, and that a key comes only with none of them.
pub(super) fn one_of(wanted: &[bool], names: &str, key: Option<&str>) -> Result<(), Failure> {
    match wanted.iter().filter(|wanted| **wanted).count() {
        0 => Ok(()),
        1 if key.is_none() => Ok(()),
        1 => Err(Failure::usage(format!("Too many arguments: a key goes with none of {names}"))),
        _ => Err(Failure::usage(format!("Only one of {names} can be given at once"))),
    }
}

/// Asks the server; `context` starts the error.
pub(super) fn call(client: &Client, method: Method, path: &str, body: Option<Value>, context: &str) -> Result<Value, Failure> {
    let call = Call::new(method, path);
    let call = match body {
        Some(body) => call.body(body),
        None => call,
    };
    client.body(call).map_err(|error| Failure::api(context, error))
}

/// Rows under each other, with headings if there are any; or the whole answer. Some of these exist nowhere else, such as a one-time password.
pub(super) fn table_or_document(format: Format, rows: &[(&str, String)], whole: &Value, headings: Option<[&str; 2]>) {
    let rows: Vec<Vec<String>> = rows.iter().map(|(key, value)| vec![(*key).to_owned(), value.clone()]).collect();
    match (format, headings) {
        (Format::Table | Format::Raw, Some(headings)) => show::out_once(&table::table(&headings, &rows)),
        (Format::Table | Format::Raw, None) => show::out_once(&table::columns(&rows, "    ")),
        _ => show::document_once(format, whole),
    }
}
