//! `aws`: what operators ask about roles of aws mounts. The server answers; this lays it out.

pub(super) mod minted;
mod terraform;

use daypass_base::Clock as _;
use http::Method;
use minted::{Source, Wanted};

use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome, clean_path, exactly};
use crate::client::Call;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Check the roles of an aws mount, print the IAM policies they need, give their credentials to AWS's tools, end their sessions
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Check(CheckArgs),
    CredentialProcess(CredentialProcessArgs),
    PolicyFor(PolicyForArgs),
    RevokeSessions(RevokeSessionsArgs),
}

/// Walk from the server's own identity to what a role may do, and name the hop that fails
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass aws check cdp/aws/staging ecr-staging
  $ daypass aws check -action=s3:PutObject -resource=arn:aws:s3:::artifacts/* aws deploy

Exit code 2 when a hop fails. A session of 15 minutes is made and thrown away.")]
pub(crate) struct CheckArgs {
    /// The mount, then its role
    #[arg(value_name = "MOUNT ROLE")]
    arguments: Vec<String>,
    /// IAM role, when the role allows more than one
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// An action that the credential shall be allowed; may be repeated [default: what a push to ECR needs]
    #[arg(long, value_name = "ACTION")]
    action: Vec<String>,
    /// What the actions are done on [default: everything]
    #[arg(long, value_name = "ARN")]
    resource: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Print a credential as AWS's SDKs and CLI read it from a credential_process
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass aws credential-process aws deploy
  $ daypass aws credential-process -ttl=1h -role-session-name=alice aws deploy

For a profile in ~/.aws/config:

  [profile deploy]
  credential_process = daypass aws credential-process aws deploy

SDKs run it again before the credential ends. Roles of type iam_user are
refused: their keys have no end that AWS knows. \"daypass run\" spares a
program the profile.")]
pub(crate) struct CredentialProcessArgs {
    /// The mount, then its role
    #[arg(value_name = "MOUNT ROLE")]
    arguments: Vec<String>,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    http: Http,
}

/// Print the IAM policies that a role needs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass aws policy-for cdp/aws/staging ecr-staging
  $ daypass aws policy-for -terraform -repository=arn:aws:ecr:eu-west-1:111111111111:repository/app aws deploy")]
pub(crate) struct PolicyForArgs {
    /// The mount, then its role
    #[arg(value_name = "MOUNT ROLE")]
    arguments: Vec<String>,
    /// ARN of an ECR repository to push to; may be repeated
    #[arg(long, value_name = "ARN")]
    repository: Vec<String>,
    /// ARN of the principal that the server is [default: asked of AWS]
    #[arg(long, value_name = "ARN")]
    principal: Option<String>,
    /// As resources for Terraform instead of JSON
    #[arg(long)]
    terraform: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// End all sessions of an IAM role that began before now
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass aws revoke-sessions aws deploy
  $ daypass aws revoke-sessions -source-identity=acme.app aws deploy
  $ daypass aws revoke-sessions -undo aws deploy

The role must allow it (allow_revoke_sessions=true). Builds that hold an earlier session fail.")]
pub(crate) struct RevokeSessionsArgs {
    /// The mount, then its role
    #[arg(value_name = "MOUNT ROLE")]
    arguments: Vec<String>,
    /// IAM role, when the role allows more than one
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// Only sessions with this source identity
    #[arg(long, value_name = "NAME")]
    source_identity: Option<String>,
    /// Take the policy off again
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Runs the verb.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Check(args) => check(args, ctx),
        Verb::CredentialProcess(args) => credential_process(args, ctx),
        Verb::PolicyFor(args) => policy_for(args, ctx),
        Verb::RevokeSessions(args) => revoke_sessions(args, ctx),
    }
}

/// `<mount>/<what>/<role>`.
fn path(arguments: &[String], what: &str) -> Result<String, Failure> {
    let [mount, role] = exactly::<2>(arguments)?;
    Ok(format!("{}/{what}/{role}", clean_path(mount).trim_end_matches('/')))
}

fn check(args: &CheckArgs, ctx: &Ctx) -> Outcome {
    let (path, format) = (path(&args.arguments, "check")?, ctx.format_but_raw(&args.output)?);
    let mut body = Value::map::<&str>([]);
    for (field, value) in [("role_arn", &args.role_arn), ("resource", &args.resource)] {
        if let Some(value) = value {
            body.set(field, Value::text(value.trim()));
        }
    }
    if !args.action.is_empty() {
        body.set("actions", Value::texts(args.action.iter().map(|action| action.trim())));
    }
    let client = ctx.client(&args.http)?;
    let answer = client.find(Call::new(Method::PUT, &path).body(body)).map_err(|error| Failure::api("Error checking", error))?;
    let answer = answer.ok_or_else(|| Failure::no_value(&path))?;
    let ok = answer.data().get("ok").is_some_and(Value::is_true);
    if format == Format::Table {
        for step in answer.data().get("steps").map(Value::items).unwrap_or_default() {
            show::out(&lines(step));
        }
    } else {
        show::answer(format, answer.answer());
    }
    Ok(if ok { 0 } else { 2 })
}

fn credential_process(args: &CredentialProcessArgs, ctx: &Ctx) -> Outcome {
    let path = path(&args.arguments, "sts")?;
    let client = ctx.client(&args.http)?;
    let source = Source::new(&client, path, &args.wanted);
    let (minted, answer) = client.work(source.mint()).map_err(|problem| problem.failure(&source.path))?;
    // On stderr: stdout is for the credential alone.
    show::warnings(&answer);
    show::out(&minted.for_process(source.clock().moment()));
    Ok(0)
}

/// A step as a person reads it.
fn lines(step: &Value) -> String {
    let mark = match step.get("ok") {
        Some(ok) if ok.is_true() => "ok     ",
        Some(Value::Bool(_)) => "FAILED ",
        _ => "unknown",
    };
    let head = format!("{mark}  {}\n         {}", step.text_at("step"), step.text_at("detail").replace('\n', "\n         "));
    let mending = step.get("mend").map(Value::entries).unwrap_or_default().iter();
    let mending = mending.map(|(place, document)| format!("         {}, to be added:\n{}", place.replace('_', " "), document.pretty()));
    std::iter::once(head).chain(mending).collect::<Vec<_>>().join("\n")
}

fn policy_for(args: &PolicyForArgs, ctx: &Ctx) -> Outcome {
    let (path, format) = (path(&args.arguments, "policy-for")?, ctx.format_but_raw(&args.output)?);
    let mut call = Call::get(&path);
    if let Some(principal) = &args.principal {
        call = call.query("principal", principal.trim());
    }
    if !args.repository.is_empty() {
        call = call.query("repositories", &args.repository.join(","));
    }
    let client = ctx.client(&args.http)?;
    let answer = client.find(call).map_err(|error| Failure::api("Error reading the policies", error))?;
    let answer = answer.ok_or_else(|| Failure::no_value(&path))?;
    match format {
        Format::Table if args.terraform => show::out(&terraform::resources(answer.data())),
        Format::Table => show::document(Format::Json, answer.data()),
        _ => show::answer(format, answer.answer()),
    }
    Ok(0)
}

fn revoke_sessions(args: &RevokeSessionsArgs, ctx: &Ctx) -> Outcome {
    let (path, format) = (path(&args.arguments, "revoke-sessions")?, ctx.format_but_raw(&args.output)?);
    let fields = [("role_arn", &args.role_arn), ("source_identity", &args.source_identity)];
    let given = fields.into_iter().filter_map(|(field, value)| value.as_ref().map(|value| (field, value.trim())));
    let client = ctx.client(&args.http)?;
    if args.undo {
        let call = given.fold(Call::new(Method::DELETE, &path), |call, (field, value)| call.query(field, value));
        match client.ask(&call).map_err(|error| Failure::api("Error undoing", error))? {
            // It says what was not undone.
            Some(answer) => show::answer(format, &answer),
            None => show::out("Success! Earlier sessions work again, once AWS has spread it."),
        }
        return Ok(0);
    }
    let body = Value::map(given.map(|(field, value)| (field, Value::text(value))));
    let answer = client.fetch(&Call::new(Method::PUT, &path).body(body)).map_err(|error| Failure::api("Error ending sessions", error))?;
    show::answer(format, &answer.ok_or_else(|| Failure::no_value(&path))?);
    Ok(0)
}
