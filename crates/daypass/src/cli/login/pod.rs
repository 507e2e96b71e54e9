//! `-method=kubernetes`: the token of the pod's service account, which Kubernetes keeps in a file.

use crate::cli::{Failure, data};
use crate::show::value::Value;

/// Where Kubernetes puts it, unless the pod says otherwise.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Fills in the pod's token, unless one was given. `token_path` is for us, not for the server.
pub(super) fn token(given: &mut Value) -> Result<(), Failure> {
    let path = given.get("token_path").and_then(Value::as_text).unwrap_or(TOKEN).to_owned();
    if let Value::Map(entries) = given {
        entries.retain(|(key, _)| key != "token_path");
    }
    let token = match given.get("jwt").and_then(Value::as_text) {
        // From a file or a pipe it comes with a line's end.
        Some(token) => token.trim().to_owned(),
        None => std::fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|error| {
            Failure::server(format!("Error authenticating: the token of the service account cannot be read from {path}: {}", data::plain(&error)))
                .hint("in a pod, automountServiceAccountToken or a projected volume puts it there; token_path= names another file, jwt=- reads it from stdin")
        })?,
    };
    // To the server, which asks the cluster about it.
    given.set("jwt", Value::text(token));
    Ok(())
}
