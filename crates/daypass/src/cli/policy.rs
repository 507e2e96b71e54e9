//! `policy`: write, read, list, delete, tidy and explain policies.

mod explain;
mod layout;

use daypass_policy::{Policy, PolicyError};
use http::Method;

use super::settings::{Ctx, Http, Output};
use super::{Failure, Outcome, data, exactly};
use crate::client::Call;
use crate::client::answer::Known;
use crate::show::value::Value;
use crate::show::{self, Format};

/// Write, read, list, delete, tidy and explain policies
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Write(WriteArgs),
    /// Show a policy
    #[command(after_help = "Examples:

  $ daypass policy read jenkins")]
    Read(NameArgs),
    List(ListArgs),
    /// Delete a policy; tokens that have it lose what it gave
    #[command(after_help = "Examples:

  $ daypass policy delete jenkins")]
    Delete(NameArgs),
    Fmt(FmtArgs),
    Explain(explain::Args),
}

/// Write a policy
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass policy write jenkins ./jenkins.hcl
  $ daypass policy write jenkins - <<< 'path \"aws/sts/ci\" { capabilities = [\"read\"] }'")]
pub(crate) struct WriteArgs {
    /// Its name, then the file it is in, or - for stdin
    #[arg(value_name = "NAME FILE")]
    arguments: Vec<String>,
    #[command(flatten)]
    http: Http,
}

/// One policy, by its name
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// The policy's name
    #[arg(value_name = "NAME")]
    arguments: Vec<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// List the names of all policies
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass policy list")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Lay out a policy file in the usual way, in place
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass policy fmt jenkins.hcl")]
pub(crate) struct FmtArgs {
    /// The file
    #[arg(value_name = "FILE")]
    arguments: Vec<String>,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Write(args) => write(args, ctx),
        Verb::Read(args) => read(args, ctx),
        Verb::List(args) => list(args, ctx),
        Verb::Delete(args) => {
            let [name] = exactly(&args.arguments)?;
            let name = name.trim().to_lowercase();
            let call = Call::new(Method::DELETE, format!("sys/policies/acl/{name}"));
            ctx.client(&args.http)?.call(&call).map_err(|error| Failure::api(&format!("Error deleting {name}"), error))?;
            show::out(&format!("Success! Deleted policy: {name}"));
            Ok(0)
        }
        Verb::Fmt(args) => fmt(args),
        Verb::Explain(args) => explain::run(args, ctx),
    }
}

fn write(args: &WriteArgs, ctx: &Ctx) -> Outcome {
    let [name, file] = exactly(&args.arguments)?;
    let name = name.trim().to_lowercase();
    let text = data::text_of(file, &mut std::io::stdin())
        .map_err(|why| Failure::server(format!("Error opening policy file: {}", why.trim_start_matches("error reading file: "))))?;
    let call = Call::new(Method::PUT, format!("sys/policies/acl/{name}")).body(Value::map([("policy", Value::Text(text))]));
    let answer = ctx.client(&args.http)?.know(call).map_err(|error| Failure::api("Error uploading policy", error))?;
    if let Some(known) = &answer {
        show::warnings(known.answer());
    }
    show::out(&format!("Success! Uploaded policy: {name}"));
    Ok(0)
}

fn read(args: &NameArgs, ctx: &Ctx) -> Outcome {
    let [name] = exactly(&args.arguments)?;
    let format = ctx.format_but_raw(&args.output)?;
    let name = name.trim().to_lowercase();
    let failed = |error| Failure::api(&format!("Error reading policy named {name}"), error);
    let answer = ctx.client(&args.http)?.find(Call::get(format!("sys/policies/acl/{name}"))).map_err(failed)?;
    let answer = answer.ok_or_else(|| Failure::server(format!("No policy named: {name}")))?;
    let text = answer.data().get("policy").or_else(|| answer.data().get("rules")).and_then(Value::as_text).unwrap_or_default();
    match format {
        Format::Table | Format::Raw => show::out(text.trim()),
        _ => show::document(format, &Value::map([("policy", Value::text(text))])),
    }
    Ok(0)
}

fn list(args: &ListArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let call = Call::get("sys/policies/acl").query("list", "true");
    let answer = ctx.client(&args.http)?.find(call).map_err(|error| Failure::api("Error listing policies", error))?;
    let data = answer.map_or(Value::Null, Known::into_data);
    let names = data.texts_at("keys");
    match format {
        Format::Table | Format::Raw => names.iter().for_each(|name| show::out(&show::inert(name))),
        _ => show::document(format, &Value::texts(names)),
    }
    Ok(0)
}

fn fmt(args: &FmtArgs) -> Outcome {
    let [file] = exactly(&args.arguments)?;
    let failed = |error: std::io::Error| Failure::usage(format!("Error formatting policy: open {file}: {}", data::plain(&error)));
    let text = std::fs::read_to_string(file).map_err(failed)?;
    // Laid out, what is no policy looks as if it were one.
    Policy::parse(file, &text).map_err(|error| Failure::usage(format!("Error formatting policy {file}: {}", mistakes(&error))))?;
    let tidy = layout::tidy(&text).map_err(|why| Failure::usage(format!("Error formatting policy {file}: {why}")))?;
    if tidy != text {
        std::fs::write(file, tidy).map_err(failed)?;
    }
    show::out(&format!("Success! Formatted policy: {file}"));
    Ok(0)
}

/// What a server says of such a text; where more than one thing is wrong, all of it with its places.
fn mistakes(error: &PolicyError) -> String {
    if error.mistakes().len() > 1 { format!("{error}\n{}", error.report()) } else { error.to_string() }
}
