//! The second factor of a login: asked for on the terminal where one passcode will do, as Vault's own program does.

use http::Method;

use super::{Args, ask};
use crate::cli::Failure;
use crate::cli::settings::Ctx;
use crate::client::answer::Answer;
use crate::client::{Call, Client};
use crate::show;
use crate::show::Format;
use crate::show::value::Value;

/// Finishes a login that wants a factor; any other is finished as it is.
pub(super) fn finish(args: &Args, ctx: &Ctx, client: &Client, answer: Answer, format: Format) -> Result<Answer, Failure> {
    let Some(wanted) = answer.auth.get("mfa_requirement").filter(|wanted| !wanted.is_null()).cloned() else { return Ok(answer) };
    let request = wanted.text_at("mfa_request_id").to_owned();
    let hint = format!(
        "{} write -format=json sys/mfa/validate - <<< '{{\"mfa_request_id\": \"{request}\", \"mfa_payload\": {{\"METHOD\": [\"PASSCODE\"]}}}}'",
        ctx.program
    );
    let method = match only_method(&wanted) {
        Some(method) if !args.http.non_interactive => method,
        _ => {
            show::answer(format, &answer);
            let text = format!("This login needs a second factor: finish its request {request:?} at sys/mfa/validate within five minutes");
            return Err(Failure::server(text).hint(hint));
        }
    };
    let prompt = format!("Enter the passphrase for methodID {:?} of type {:?}: ", method.text_at("id"), method.text_at("type"));
    let passcode = ask(args, &prompt, "the passcode", &hint)?;
    // To the server, which checks it.
    let payload = Value::map([(method.text_at("id").to_owned(), Value::texts([passcode.expose().as_str()]))]);
    let body = Value::map([("mfa_request_id", Value::text(&*request)), ("mfa_payload", payload)]);
    let call = Call::new(Method::PUT, "sys/mfa/validate").body(body).without_token();
    let finished = client.ask(&call).map_err(|error| Failure::api("Error validating the second factor", error))?;
    finished.ok_or_else(|| Failure::server("Error validating the second factor: Vault returned no token"))
}

/// The method, where nobody has to choose: one enforcement with one method that takes a passcode.
fn only_method(wanted: &Value) -> Option<Value> {
    let [(_, constraint)] = wanted.get("mfa_constraints")?.entries() else { return None };
    let [method] = constraint.get("any")?.items() else { return None };
    method.get("uses_passcode").is_some_and(Value::is_true).then(|| method.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(constraints: &str) -> Option<String> {
        let text = format!(r#"{{"auth": {{"mfa_requirement": {{"mfa_request_id": "r", "mfa_constraints": {constraints}}}}}}}"#);
        let answer = Answer::parse(&text).unwrap();
        only_method(answer.auth.get("mfa_requirement").unwrap()).map(|method| method.text_at("id").to_owned())
    }

    #[test]
    fn nobody_is_asked_where_there_is_a_choice_or_no_passcode() {
        let totp = |id: &str| format!(r#"{{"type": "totp", "id": "{id}", "uses_passcode": true}}"#);
        assert_eq!(wanted(&format!(r#"{{"people": {{"any": [{}]}}}}"#, totp("m"))).as_deref(), Some("m"));
        assert_eq!(wanted(&format!(r#"{{"people": {{"any": [{}, {}]}}}}"#, totp("m"), totp("n"))), None);
        assert_eq!(wanted(&format!(r#"{{"a": {{"any": [{0}]}}, "b": {{"any": [{0}]}}}}"#, totp("m"))), None);
        assert_eq!(wanted(r#"{"people": {"any": [{"type": "duo", "id": "m", "uses_passcode": false}]}}"#), None);
        assert_eq!(wanted("{}"), None);
    }
}
