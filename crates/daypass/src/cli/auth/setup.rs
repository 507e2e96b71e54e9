//! `auth setup`: from the name of a build server to a mount, a configuration and a role that take its tokens.

mod there;

use daypass_base::Seconds;
use http::Method;

use there::Config;

use super::presets::{Plan, Preset, Wish};
use crate::cli::settings::{Ctx, Http};
use crate::cli::{Failure, Outcome, clean_path, exactly};
use crate::client::answer::Known;
use crate::client::{Call, Client};
use crate::show;
use crate::show::value::Value;

/// Let the jobs of a build server log in with their own tokens
#[derive(Debug, clap::Args)]
#[command(after_help = "Build servers: bitbucket, buildkite, circleci, eks, github, gitlab, jenkins,
terraform-cloud. What is written is shown, with the lines for a pipeline.

Examples:

  $ daypass auth setup github -org=acme -project=app -policies=deploy
  $ daypass auth setup gitlab -url=https://gitlab.acme.example -org=platform
  $ daypass auth setup gitlab -org=acme -project=app -role=long -policies=deploy -token-type=service
  $ daypass auth setup jenkins -url=https://jenkins.acme.example/oidc -project=team/app
  $ daypass auth setup eks -url=https://oidc.eks.eu-west-1.amazonaws.com/id/ABC -org=builds")]
pub(crate) struct SetupArgs {
    /// The build server
    #[arg(value_name = "BUILD-SERVER")]
    arguments: Vec<String>,
    /// Whose jobs: an organisation, group, workspace or namespace
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Which of its projects, repositories or workspaces; * stands for any text [default: all of them]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Which branch (main, refs/heads/main) or tag (refs/tags/v1) alone; * stands for any text
    #[arg(long = "ref", value_name = "REF")]
    git_ref: Option<String>,
    /// The role to write
    #[arg(long, value_name = "NAME", default_value = "ci")]
    role: String,
    /// Policies of the tokens [default: the role's name]
    #[arg(long, value_name = "NAMES")]
    policies: Option<String>,
    /// How long the tokens live, from the login and from each renewal [default: 15m]
    #[arg(long, value_name = "TTL")]
    ttl: Option<String>,
    /// How long a service token lives at most, however often it is renewed [default: 12h]
    #[arg(long, value_name = "TTL")]
    max_ttl: Option<String>,
    /// batch (nothing is stored for a login, and it cannot be renewed) or service
    #[arg(long, value_name = "TYPE")]
    token_type: Option<String>,
    /// The audience that the jobs ask for [default: the build server's own, or this server's address]
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// The issuer, for a build server of your own
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// PEM file of the authorities that the issuer's certificate is signed by [default: the system's]
    #[arg(long, value_name = "FILE")]
    issuer_ca: Option<String>,
    /// Where to mount the method [default: the build server's name]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Write over a role and a configuration that are there and take the tokens of others, or have more than would be written
    #[arg(long)]
    replace: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    http: Http,
}

pub(super) fn run(args: &SetupArgs, ctx: &Ctx) -> Outcome {
    let [name] = exactly(&args.arguments)?;
    let Some(preset) = Preset::parse(name) else {
        let known: Vec<&str> = Preset::ALL.iter().map(|(name, _)| *name).collect();
        return Err(Failure::usage(format!("unknown build server {name:?}")).hint(format!("known are {}", known.join(", "))));
    };
    let client = ctx.client(&args.http)?;
    let server = client.config().address.url("").trim_end_matches('/').to_owned();
    let wish = Wish {
        org: args.org.clone(),
        project: args.project.clone(),
        git_ref: args.git_ref.clone(),
        audience: args.audience.clone(),
        url: args.url.clone(),
        server: server.clone(),
    };
    let plan = preset.plan(&wish).map_err(|why| Failure::usage(format!("{name}: {why}")))?;
    let path = clean_path(args.path.as_deref().unwrap_or(name)).to_owned();
    let writes = writes(args, &plan, preset, &path)?;
    let (mut mount, mut config) = (Mount::Made, Config::Written);
    if !args.dry_run {
        mount = self::mount(&client, &path)?;
        match mount {
            Mount::Made => enable(&client, &path)?,
            Mount::There if args.replace => {}
            Mount::There => config = there::check(&client, &plan, &path, &writes, &usual(args))?,
        }
    }
    let writes = writes.into_iter().skip(usize::from(config == Config::Stays)).collect::<Vec<_>>();
    if !args.dry_run {
        for (at, body) in &writes {
            let call = Call::new(Method::PUT, at.clone()).body(body.clone());
            client.ask(&call).map_err(|error| {
                let failure = Failure::api(&format!("Error writing {at}"), error);
                mount.left_behind(&path).into_iter().fold(failure, Failure::hint)
            })?;
        }
    }
    show::out(if args.dry_run { "Nothing was written. It would be:\n" } else { "Success! These were written:\n" });
    if mount == Mount::Made {
        show::out(&format!("  auth enable -path={path} jwt"));
    }
    if config == Config::Stays {
        show::out(&format!("  auth/{path}/config stays as it is"));
    }
    for (path, body) in &writes {
        show::out(&format!("  {path}\n{}", indented(&body.pretty())));
    }
    show::out(&format!("\nFor the pipeline:\n\n{}", indented(&preset.snippet(&server, &path, &args.role, &plan.audience))));
    Ok(0)
}

/// Paths and bodies of the configuration and of the role, in the order in which they are written.
fn writes(args: &SetupArgs, plan: &Plan, preset: Preset, path: &str) -> Result<[(String, Value); 2], Failure> {
    let pem = match &args.issuer_ca {
        None => None,
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("error reading file: {file}: {error}")))?),
    };
    let mut role = plan.role();
    role.set("token_policies", Value::text(args.policies.as_deref().unwrap_or(&args.role)));
    let kind = args.token_type.as_deref().unwrap_or_else(|| usual_type(preset));
    role.set("token_ttl", Value::text(ttl(args)));
    role.set("token_max_ttl", Value::text(max_ttl(args, kind)?));
    role.set("token_type", Value::text(kind));
    Ok([(format!("auth/{path}/config"), plan.config(pem.as_deref())), (format!("auth/{path}/role/{}", args.role), role)])
}

fn ttl(args: &SetupArgs) -> &str {
    args.ttl.as_deref().unwrap_or(TTL)
}

/// The fields of the role's tokens that no flag says anything about: somebody may have said something else since.
fn usual(args: &SetupArgs) -> Vec<&'static str> {
    let is_given = |flags: &[&Option<String>]| flags.iter().any(|flag| flag.is_some());
    let fields = [
        ("token_ttl", is_given(&[&args.ttl])),
        ("token_max_ttl", is_given(&[&args.ttl, &args.max_ttl, &args.token_type])),
        ("token_type", is_given(&[&args.token_type])),
    ];
    fields.into_iter().filter(|(_, given)| !given).map(|(field, _)| field).collect()
}

/// The last end of the tokens. That of a batch token is its only one. A service token is there to outlast its first one: with the same for both, as it once was,
/// no renewal added anything. Errors: of the flags.
fn max_ttl(args: &SetupArgs, kind: &str) -> Result<String, Failure> {
    let seconds = |flag: &str, text: &str| {
        Seconds::parse(text).map_err(|error| Failure::usage(format!("invalid value {text:?} for flag -{flag}: {error}")))
    };
    let ttl = seconds("ttl", self::ttl(args))?;
    let is_renewable = !matches!(kind, "batch" | "default-batch");
    match args.max_ttl.as_deref() {
        None if is_renewable && ttl < seconds("max-ttl", MAX_TTL)? => Ok(MAX_TTL.to_owned()),
        None => Ok(self::ttl(args).to_owned()),
        Some(_) if !is_renewable => Err(Failure::usage(format!("-max-ttl is for tokens that are renewed, and {kind} tokens cannot be"))
            .hint("-token-type=service makes tokens that can be; -ttl is how long others live")),
        Some(max) if seconds("max-ttl", max)? < ttl => {
            Err(Failure::usage(format!("-max-ttl={max} is shorter than -ttl={}", self::ttl(args)))
                .hint("-max-ttl counts from the login, renewals included"))
        }
        Some(max) => Ok(max.to_owned()),
    }
}

/// Longer than it takes to get what a job is to have.
const TTL: &str = "15m";
/// Longer than builds take, and over by tonight.
const MAX_TTL: &str = "12h";

/// HCP Terraform renews its token and revokes it at the end, and the provider may make a child of it: a batch token takes none of that. Others log in, read,
/// and end.
fn usual_type(preset: Preset) -> &'static str {
    if preset == Preset::TerraformCloud { "service" } else { "batch" }
}

/// Whether the mount is this command's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mount {
    Made,
    There,
}

impl Mount {
    /// What to know where the command ends before its end.
    fn left_behind(self, path: &str) -> Option<String> {
        let text = format!(
            "auth/{path}/ was enabled and stays, without all of its configuration: run this again once the cause is mended, or take it back by \
             \"daypass auth disable {path}\""
        );
        (self == Self::Made).then_some(text)
    }
}

/// Whether the mount is there, of a type that takes such tokens. Errors: another type; of the server.
fn mount(client: &Client, path: &str) -> Result<Mount, Failure> {
    let failed = |error| Failure::api("Error listing enabled authentications", error);
    let mounts = client.find(Call::get("sys/auth")).map_err(failed)?.map_or(Value::Null, Known::into_data);
    match mounts.get(&format!("{path}/")).map(|mount| mount.text_at("type").to_owned()) {
        Some(kind) if kind == "jwt" || kind == "oidc" => Ok(Mount::There),
        Some(kind) => Err(Failure::server(format!("auth/{path}/ is a mount of type {kind}")).hint("-path names another place")),
        None => Ok(Mount::Made),
    }
}

fn enable(client: &Client, path: &str) -> Result<(), Failure> {
    let call = Call::new(Method::POST, format!("sys/auth/{path}")).body(Value::map([("type", Value::text("jwt"))]));
    client.ask(&call).map_err(|error| Failure::api("Error enabling jwt auth", error))?;
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests;
