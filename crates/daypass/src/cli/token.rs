//! `token`: make, look at, renew and revoke tokens.

use daypass_base::{Secret, duration};
use http::Method;

use super::settings::{Ctx, Field, Http, Output, go_duration};
use super::unwrap::token_argument;
use super::{Failure, Outcome, at_most_one, data, read};
use crate::client::Call;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Make, look at, renew and revoke tokens
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Create(Box<CreateArgs>),
    Lookup(LookupArgs),
    Renew(RenewArgs),
    Revoke(RevokeArgs),
    Capabilities(CapabilitiesArgs),
}

/// Make a token, a child of the one in use
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass token create -policy=jenkins -ttl=30m
  $ daypass token create -policy=deploy -use-limit=5 -field=token
  $ daypass token create -orphan -period=24h -display-name=ci")]
pub(crate) struct CreateArgs {
    /// A policy that it shall have; may be repeated [default: those of the token in use]
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    /// How long it lasts
    #[arg(long, value_name = "TTL")]
    ttl: Option<String>,
    /// How long it lasts at most, whatever is renewed
    #[arg(long, value_name = "TTL")]
    explicit_max_ttl: Option<String>,
    /// Each renewal makes it last this long, without an end; needs sudo
    #[arg(long, value_name = "TTL")]
    period: Option<String>,
    /// How often it can be used [default: without limit]
    #[arg(long, value_name = "COUNT")]
    use_limit: Option<i64>,
    /// Outlives the token in use
    #[arg(long)]
    orphan: bool,
    /// Without the policy "default"
    #[arg(long)]
    no_default_policy: bool,
    /// Whether it can be renewed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    renewable: bool,
    /// Made by the rules of this token role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// service or batch
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Shown in the audit log and in lookups
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// Written into the audit log; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Name of the entity alias; needs -role
    #[arg(long, value_name = "NAME")]
    entity_alias: Option<String>,
    /// The token itself, made up by you; needs root
    #[arg(long, value_name = "TOKEN")]
    id: Option<Secret<String>>,
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Tell what a token may do and how long it lasts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass token lookup
  $ daypass token lookup -accessor 9793c9b3-...
  $ echo $TOKEN | daypass token lookup -")]
pub(crate) struct LookupArgs {
    /// The token, or - to read it from stdin [default: the one in use]
    #[arg(value_name = "TOKEN | ACCESSOR")]
    arguments: Vec<String>,
    /// The argument is an accessor
    #[arg(long)]
    accessor: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Make a token last longer
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass token renew
  $ daypass token renew -increment=30m -accessor 9793c9b3-...")]
pub(crate) struct RenewArgs {
    /// The token, or - to read it from stdin [default: the one in use]
    #[arg(value_name = "TOKEN | ACCESSOR")]
    arguments: Vec<String>,
    /// The argument is an accessor
    #[arg(long)]
    accessor: bool,
    /// How long it shall last from now
    #[arg(long, visible_alias = "i", value_name = "TTL")]
    increment: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Revoke a token, its children and their leases
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass token revoke -self
  $ daypass token revoke -accessor 9793c9b3-...
  $ daypass token revoke -mode=orphan - < token    (its children live on)")]
pub(crate) struct RevokeArgs {
    /// The token, or - to read it from stdin
    #[arg(value_name = "TOKEN | ACCESSOR")]
    arguments: Vec<String>,
    /// The argument is an accessor
    #[arg(long)]
    accessor: bool,
    /// Revoke the token in use
    #[arg(long = "self")]
    own: bool,
    /// orphan: not its children; path: all tokens made at this path
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    #[command(flatten)]
    http: Http,
}

/// Tell what a token may do at a path
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass token capabilities cdp/aws/staging/sts/ecr-staging
  $ daypass token capabilities -accessor 9793c9b3-... secret/data/app")]
pub(crate) struct CapabilitiesArgs {
    /// The token [default: the one in use], then the path
    #[arg(value_name = "[TOKEN | ACCESSOR] PATH")]
    arguments: Vec<String>,
    /// The first argument is an accessor
    #[arg(long)]
    accessor: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Create(args) => create(args, ctx),
        Verb::Lookup(args) => lookup(args, ctx),
        Verb::Renew(args) => renew(args, ctx),
        Verb::Revoke(args) => revoke(args, ctx),
        Verb::Capabilities(args) => capabilities(args, ctx),
    }
}

fn create(args: &CreateArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let mut body = Value::Map(Vec::new());
    if !args.policy.is_empty() {
        body.set("policies", Value::texts(args.policy.iter().cloned()));
    }
    for (key, flag, value) in
        [("ttl", "ttl", &args.ttl), ("explicit_max_ttl", "explicit-max-ttl", &args.explicit_max_ttl), ("period", "period", &args.period)]
    {
        if let Some(value) = value {
            body.set(key, Value::text(go_duration(flag, value)?));
        }
    }
    for (key, value) in [("type", &args.kind), ("display_name", &args.display_name), ("entity_alias", &args.entity_alias)] {
        if let Some(value) = value {
            body.set(key, Value::text(value.clone()));
        }
    }
    if let Some(count) = args.use_limit {
        body.set("num_uses", Value::number(count));
    }
    if let Some(id) = &args.id {
        // To the server, which makes this very token.
        body.set("id", Value::text(id.expose()));
    }
    if !args.metadata.is_empty() {
        body.set("meta", data::flag_pairs("metadata", &args.metadata)?);
    }
    body.set("no_parent", Value::Bool(args.orphan));
    body.set("no_default_policy", Value::Bool(args.no_default_policy));
    body.set("renewable", Value::Bool(args.renewable));
    let path = args.role.as_ref().map_or_else(|| "auth/token/create".to_owned(), |role| format!("auth/token/create/{role}"));
    let answer = ctx.client(&args.http)?.ask(&Call::new(Method::POST, path).body(body));
    let answer = answer.map_err(|error| Failure::api("Error creating token", error))?;
    read::show_answer(&answer.ok_or_else(|| Failure::server("Invalid response returned from Vault"))?, &args.field, format)
}

/// Where a request about a token goes: itself, by accessor or by token.
fn about(verb: &str, accessor: bool, argument: Option<&str>) -> Result<(String, Value), Failure> {
    let Some(argument) = argument else {
        if accessor {
            return Err(Failure::usage("Missing token accessor").hint("give the accessor as an argument"));
        }
        return Ok((format!("auth/token/{verb}-self"), Value::Map(Vec::new())));
    };
    if accessor {
        return Ok((format!("auth/token/{verb}-accessor"), Value::map([("accessor", Value::text(argument.trim()))])));
    }
    // To the server, which is asked about it.
    Ok((format!("auth/token/{verb}"), Value::map([("token", Value::text(token_argument(argument)?.expose()))])))
}

fn lookup(args: &LookupArgs, ctx: &Ctx) -> Outcome {
    let argument = at_most_one(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let (path, body) = about("lookup", args.accessor, argument)?;
    let client = ctx.client(&args.http)?;
    let answer = if argument.is_none() { client.read(&path, &[]) } else { client.ask(&Call::new(Method::POST, path).body(body)) };
    let answer = answer.map_err(|error| Failure::api("Error looking up token", error))?;
    show::answer(format, &answer.ok_or_else(|| Failure::server("Invalid response returned from Vault"))?);
    Ok(0)
}

fn renew(args: &RenewArgs, ctx: &Ctx) -> Outcome {
    let argument = at_most_one(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let (path, mut body) = about("renew", args.accessor, argument)?;
    let seconds = match &args.increment {
        Some(text) => duration::parse(text)
            .map_err(|error| Failure::usage(format!("invalid value {text:?} for flag -increment: {error}")))?
            .size
            .as_secs(),
        None => 0,
    };
    body.set("increment", Value::number(i64::try_from(seconds).unwrap_or(i64::MAX)));
    let answer = ctx.client(&args.http)?.write(&path, Some(body)).map_err(|error| Failure::api("Error renewing token", error))?;
    show::answer(format, &answer.ok_or_else(|| Failure::server("Invalid response returned from Vault"))?);
    Ok(0)
}

fn revoke(args: &RevokeArgs, ctx: &Ctx) -> Outcome {
    let given = args.arguments.len();
    let mode = args.mode.as_deref().unwrap_or_default();
    if args.own && given > 0 {
        return Err(Failure::usage(format!("Too many arguments with -self (expected 0, got {given})")));
    }
    if !args.own && given > 1 {
        return Err(Failure::usage(format!("Too many arguments (expected 1 or -self, got {given})")));
    }
    if !args.own && given == 0 {
        return Err(Failure::usage("Not enough arguments (expected 1 or -self, got 0)"));
    }
    if args.own && args.accessor {
        return Err(Failure::usage("Cannot use -self with -accessor!"));
    }
    if args.own && !mode.is_empty() {
        return Err(Failure::usage("Cannot use -self with -mode!"));
    }
    if args.accessor && !matches!(mode, "") {
        return Err(Failure::usage(format!("Cannot use -accessor with -mode={mode}!")));
    }
    let argument = args.arguments.first().map(String::as_str);
    let (path, body) = match mode {
        "" => about("revoke", args.accessor, argument)?,
        "orphan" => about("revoke-orphan", false, argument)?,
        "path" => (format!("sys/leases/revoke-prefix/{}", super::clean_path(argument.unwrap_or_default())), Value::Map(Vec::new())),
        other => return Err(Failure::usage(format!("Invalid mode: {other}")).hint("the modes are orphan and path")),
    };
    let body = Some(body).filter(|body| !body.entries().is_empty());
    ctx.client(&args.http)?.write(&path, body).map_err(|error| Failure::api("Error revoking token", error))?;
    show::out("Success! Revoked token (if it existed)");
    Ok(0)
}

fn capabilities(args: &CapabilitiesArgs, ctx: &Ctx) -> Outcome {
    let (who, path) = match args.arguments.as_slice() {
        [path] if args.accessor => return Err(Failure::usage(format!("-accessor needs an accessor and a path, got only {path:?}"))),
        [path] => (None, path),
        [who, path] => (Some(who.as_str()), path),
        other => {
            let few_or_many = if other.is_empty() { "Not enough" } else { "Too many" };
            return Err(Failure::usage(format!("{few_or_many} arguments (expected 1-2, got {})", other.len())));
        }
    };
    let format = ctx.format_but_raw(&args.output)?;
    let path = path.trim();
    let mut body = Value::map([("path", Value::text(path))]);
    let call = match who {
        None => "sys/capabilities-self",
        Some(accessor) if args.accessor => {
            body.set("accessor", Value::text(accessor.trim()));
            "sys/capabilities-accessor"
        }
        Some(token) => {
            // To the server, which is asked about it.
            body.set("token", Value::text(token_argument(token)?.expose()));
            "sys/capabilities"
        }
    };
    let answer = ctx.client(&args.http)?.know(Call::new(Method::POST, call).body(body));
    let answer = answer.map_err(|error| Failure::api("Error listing capabilities", error))?;
    let answer = answer.ok_or_else(|| Failure::server("No capabilities found"))?;
    let data = answer.data();
    let found = data.get(path).or_else(|| data.get("capabilities")).cloned().unwrap_or(Value::Null);
    let mut names: Vec<String> = found.items().iter().map(Value::go).collect();
    if names.is_empty() {
        return Err(Failure::server("No capabilities found"));
    }
    names.sort();
    match format {
        Format::Table | Format::Raw => show::out(&names.join(", ")),
        _ => show::document(format, &Value::texts(names)),
    }
    Ok(0)
}
