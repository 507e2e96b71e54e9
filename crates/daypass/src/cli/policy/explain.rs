//! `policy explain`: why a token or a policy allows something or not. The server decides and explains; this lays it out.

use http::Method;

use super::super::settings::{Ctx, Http, Output};
use super::super::unwrap::token_argument;
use super::super::{Failure, Outcome, data};
use crate::client::Call;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Say why a token or a policy allows something or not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass policy explain aws/sts/deploy
  $ daypass policy explain jenkins,default aws/sts/deploy
  $ daypass policy explain -operation=update ci aws/sts/deploy ttl=1h
  $ daypass policy explain -accessor 9793c9b3 sys/mounts
  $ daypass policy explain - sys/mounts <<< \"$TOKEN\"")]
pub(crate) struct Args {
    /// Whose rights: policies, joined by commas; a token; or - for a token on stdin [default: the token in use].
    /// Then the path, and what the request sends
    #[arg(value_name = "[TOKEN | POLICIES] PATH [KEY=VALUE]")]
    arguments: Vec<String>,
    /// The first argument is an accessor
    #[arg(long)]
    accessor: bool,
    /// What is to be done: create, read, update, patch, delete or list
    #[arg(long, value_name = "OPERATION", default_value = "read")]
    operation: String,
    /// How long the answer is to be wrapped
    #[arg(long, value_name = "TTL")]
    wrapped_for: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Asks and shows.
pub(crate) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let sent =
        args.arguments.iter().position(|argument| argument.contains('=') || argument.starts_with('@')).unwrap_or(args.arguments.len());
    let (words, pairs) = args.arguments.split_at_checked(sent).unwrap_or((&args.arguments, &[]));
    let (who, path) = match words {
        [path] if args.accessor => return Err(Failure::usage(format!("-accessor needs an accessor and a path, got only {path:?}"))),
        [path] => (None, path),
        [who, path] => (Some(who.as_str()), path),
        other => {
            let few_or_many = if other.is_empty() { "Not enough" } else { "Too many" };
            return Err(Failure::usage(format!("{few_or_many} arguments (expected 1-2, got {})", other.len())));
        }
    };
    let mut body = Value::map([("path", Value::text(path.trim())), ("operation", Value::text(args.operation.trim()))]);
    if let Some(ttl) = &args.wrapped_for {
        body.set("wrap_ttl", Value::text(ttl.trim()));
    }
    if !pairs.is_empty() {
        let parameters =
            data::parse(pairs, &mut std::io::stdin()).map_err(|why| Failure::usage(format!("Failed to parse K=V data: {why}")))?;
        body.set("parameters", parameters);
    }
    let call = match who {
        None => "sys/policies/explain-self",
        Some(accessor) if args.accessor => {
            body.set("accessor", Value::text(accessor.trim()));
            "sys/policies/explain"
        }
        Some(token) if is_token(token) => {
            // To the server, which is asked about it.
            body.set("token", Value::text(token_argument(token)?.expose()));
            "sys/policies/explain"
        }
        Some(policies) => {
            body.set("policies", Value::text(policies.trim()));
            "sys/policies/explain"
        }
    };
    let answer = ctx.client(&args.http)?.know(Call::new(Method::POST, call).body(body));
    let answer = answer.map_err(|error| Failure::api("Error explaining", error))?;
    let answer = answer.ok_or_else(|| Failure::server("The server explained nothing"))?;
    match format {
        Format::Table | Format::Raw => laid_out(answer.data()).iter().for_each(|line| show::out(&show::inert(line))),
        _ => show::document(format, answer.data()),
    }
    Ok(0)
}

/// A token by its looks. One of another form goes through stdin.
fn is_token(text: &str) -> bool {
    text == "-" || ["hvs.", "hvb.", "s.", "b."].iter().any(|prefix| text.starts_with(prefix))
}

fn laid_out(data: &Value) -> Vec<String> {
    let mut lines = vec![data.text_at("reason").to_owned()];
    if !data.text_at("remark").is_empty() {
        lines.push(data.text_at("remark").to_owned());
    }
    lines.push(String::new());
    let mut pairs = vec![
        ("Request".to_owned(), format!("{} {}", data.text_at("operation"), data.text_at("path"))),
        ("Policies".to_owned(), data.texts_at("policies").join(", ")),
    ];
    let missing = data.texts_at("missing_policies");
    if !missing.is_empty() {
        pairs.push(("Not existing".to_owned(), missing.join(", ")));
    }
    let rule = data.get("rule").filter(|rule| !rule.is_null());
    if let Some(rule) = rule {
        pairs.push(("Rule".to_owned(), format!("{:?}: {}", rule.text_at("pattern"), rule.text_at("counts_because"))));
        pairs.extend(grants(rule).into_iter().map(|grant| (String::new(), grant)));
        pairs.extend(constraints(rule).into_iter().map(|constraint| (String::new(), constraint)));
    }
    for other in data.get("others").map(Value::items).unwrap_or_default() {
        pairs.push(("Does not count".to_owned(), format!("{:?}: {}", other.text_at("pattern"), other.text_at("lost_because"))));
        pairs.extend(grants(other).into_iter().map(|grant| (String::new(), grant)));
    }
    lines.extend(pairs.into_iter().map(|(name, text)| format!("{name:<16}{text}")));
    lines
}

/// `ci, line 3: read, update` for each policy that has the pattern.
fn grants(rule: &Value) -> Vec<String> {
    let grants = rule.get("policies").map(Value::items).unwrap_or_default();
    let line = |grant: &Value| grant.get("line").and_then(Value::as_integer).unwrap_or_default();
    grants
        .iter()
        .map(|grant| format!("  {}, line {}: {}", grant.text_at("policy"), line(grant), grant.texts_at("capabilities").join(", ")))
        .collect()
}

/// What the rule wants besides: parameters and wrapping.
fn constraints(rule: &Value) -> Vec<String> {
    let permits = rule.get("permits").map(Value::entries).unwrap_or_default();
    permits.iter().filter(|(name, _)| name != "capabilities").map(|(name, value)| format!("  {name}: {}", value.compact())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_reads_from_the_verdict_down() {
        let data = Value::parse(
            r#"{"allowed":false,"reason":"denied by \"a/*\" of policy ci: capability \"update\" is not granted","remark":"",
            "path":"a/b","operation":"update","policies":["ci"],"missing_policies":["gone"],
            "rule":{"pattern":"a/*","counts_because":"the best pattern with wildcards","policies":[{"policy":"ci","line":3,"capabilities":["read"]}],
            "permits":{"capabilities":["read"],"max_wrapping_ttl":60}},
            "others":[{"pattern":"*","lost_because":"its first wildcard stands earlier","policies":[{"policy":"ci","line":1,"capabilities":["list"]}]}]}"#,
        )
        .unwrap();
        let expected = [
            "denied by \"a/*\" of policy ci: capability \"update\" is not granted",
            "",
            "Request         update a/b",
            "Policies        ci",
            "Not existing    gone",
            "Rule            \"a/*\": the best pattern with wildcards",
            "                  ci, line 3: read",
            "                  max_wrapping_ttl: 60",
            "Does not count  \"*\": its first wildcard stands earlier",
            "                  ci, line 1: list",
        ];
        assert_eq!(laid_out(&data), expected);
    }

    #[test]
    fn tokens_are_told_from_policies() {
        assert!(is_token("-") && is_token("hvs.x") && !is_token("ci,default") && !is_token("sales"));
    }
}
