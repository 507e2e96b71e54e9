//! `lease`: look at, renew and revoke what was lent.

use http::Method;

use super::settings::{Ctx, Http, Output, go_duration};
use super::{Failure, Outcome, clean_path, exactly};
use crate::client::Call;
use crate::show;
use crate::show::value::Value;

/// Look at, renew and revoke leases
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Lookup(LookupArgs),
    Renew(RenewArgs),
    Revoke(RevokeArgs),
}

/// Tell how long a lease lasts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass lease lookup aws/creds/deploy/2f6a614c...")]
pub(crate) struct LookupArgs {
    /// The lease id
    #[arg(value_name = "ID")]
    arguments: Vec<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Make a lease last longer. STS credentials cannot: ask for new ones
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass lease renew aws/creds/deploy/2f6a614c...
  $ daypass lease renew -increment=1h aws/creds/deploy/2f6a614c...")]
pub(crate) struct RenewArgs {
    /// The lease id
    #[arg(value_name = "ID")]
    arguments: Vec<String>,
    /// How long it shall last from now
    #[arg(long, value_name = "TTL")]
    increment: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Take back what was lent
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass lease revoke aws/creds/deploy/2f6a614c...
  $ daypass lease revoke -prefix aws/creds/deploy
  $ daypass lease revoke -force -prefix aws/creds/deploy
  $ daypass lease revoke -force -prefix aws/creds/deploy/2f6a614c...

Without -sync the server revokes in the background, and tries again if it fails.")]
pub(crate) struct RevokeArgs {
    /// The lease id, or with -prefix a path or a lease id
    #[arg(value_name = "ID")]
    arguments: Vec<String>,
    /// Revoke all leases under a path
    #[arg(long)]
    prefix: bool,
    /// Forget the leases even when revoking fails; needs -prefix
    #[arg(long, visible_alias = "f")]
    force: bool,
    /// Wait until it is done
    #[arg(long)]
    sync: bool,
    #[command(flatten)]
    http: Http,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Lookup(args) => lookup(args, ctx),
        Verb::Renew(args) => renew(args, ctx),
        Verb::Revoke(args) => revoke(args, ctx),
    }
}

fn lookup(args: &LookupArgs, ctx: &Ctx) -> Outcome {
    if args.arguments.is_empty() {
        return Err(Failure::usage("Missing ID!"));
    }
    let [id] = exactly(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let body = Value::map([("lease_id", Value::text(id.trim()))]);
    let answer = ctx.client(&args.http)?.write("sys/leases/lookup", Some(body));
    let answer = answer.map_err(|error| Failure::api(&format!("error looking up lease id {id}"), error))?;
    show::answer(format, &answer.ok_or_else(|| Failure::server("Invalid response returned from Vault"))?);
    Ok(0)
}

fn renew(args: &RenewArgs, ctx: &Ctx) -> Outcome {
    // Vault once took the increment as a second argument, and scripts still give it so.
    let (id, increment) = match args.arguments.as_slice() {
        [id, increment] => (id.as_str(), Some(increment)),
        many if many.len() > 2 => return Err(Failure::usage(format!("Too many arguments (expected 1-2, got {})", many.len()))),
        other => {
            let [id] = exactly(other)?;
            (id, args.increment.as_ref())
        }
    };
    let format = ctx.format_but_raw(&args.output)?;
    let mut body = Value::map([("lease_id", Value::text(id.trim()))]);
    if let Some(increment) = increment {
        body.set("increment", Value::text(go_duration("increment", increment)?));
    }
    let answer = ctx.client(&args.http)?.write("sys/leases/renew", Some(body));
    let answer = answer.map_err(|error| Failure::api(&format!("Error renewing {id}"), error))?;
    show::answer(format, &answer.ok_or_else(|| Failure::server("Invalid response returned from Vault"))?);
    Ok(0)
}

fn revoke(args: &RevokeArgs, ctx: &Ctx) -> Outcome {
    let [id] = exactly(&args.arguments)?;
    if args.force && !args.prefix {
        return Err(Failure::usage("Specifying -force requires also specifying -prefix"));
    }
    let id = id.trim().trim_start_matches('/');
    let client = ctx.client(&args.http)?;
    let sync = Value::map([("sync", Value::Bool(args.sync))]);
    let under = |kind: &str| Call::new(Method::PUT, format!("sys/leases/revoke-{kind}/{}", clean_path(id)));
    let (call, doing, done) = match (args.prefix, args.force) {
        (true, true) => {
            show::note("Warning! Force-removing leases can cause Vault to become out of sync with\nsecret engines!");
            (under("force"), "force revoking leases with prefix", "Force revoked any leases with prefix")
        }
        (true, false) => (under("prefix").body(sync), "revoking leases with prefix", "Revoked any leases with prefix"),
        (false, _) => {
            let body = Value::map([("lease_id", Value::text(id)), ("sync", Value::Bool(args.sync))]);
            (Call::new(Method::PUT, "sys/leases/revoke").body(body), "revoking lease", "Revoked lease")
        }
    };
    let reply = client.call(&call).map_err(|error| Failure::api(&format!("Error {doing} {id}"), error))?;
    if args.sync || args.force {
        show::out(&format!("Success! {done}: {id}"));
    } else {
        show::out("All revocation operations queued successfully!");
    }
    // What the server could not do at once.
    if let Ok(Some(answer)) = reply.answer() {
        show::warnings(&answer);
    }
    if is_signed(id) {
        show::note(LIVES_ON);
    }
    Ok(0)
}

/// Whether this is the id of a lease that the server signed and stored nowhere: of a secret that ends by itself. Other ids end in 24 characters
/// without a dot.
fn is_signed(lease_id: &str) -> bool {
    let (_, tail) = lease_id.rsplit_once('/').unwrap_or_default();
    tail.split_once('.').is_some_and(|(head, rest)| head.len() == 24 && rest.len() == 43)
}

/// Said here and not by the server: clients of Vault's take an answer with a body, which is no 204, for a failure.
const LIVES_ON: &str = "The lease is gone, and AWS accepts the credential until it ends by itself. What ends it sooner, where its role sets
allow_revoke_sessions: daypass aws revoke-sessions MOUNT ROLE, for all earlier sessions of its IAM role.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_of_what_ends_by_itself_are_told_by_their_ids() {
        let signed = format!("cdp/aws/staging/sts/ecr/{}.{}", "a".repeat(24), "b".repeat(43));
        assert!(is_signed(&signed));
        for other in [format!("aws/creds/user/{}", "a".repeat(24)), format!("aws/creds/user/{}.root", "a".repeat(24)), "x".to_owned()] {
            assert!(!is_signed(&other), "{other}");
        }
    }
}
