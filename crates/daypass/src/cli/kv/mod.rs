//! `kv`: secrets at paths, with versions (v2) or without (v1). The server is asked first which of the two a mount is.

mod delete;
mod get;
mod list;
mod metadata;
mod mount;
mod patch;
mod put;
mod rollback;
mod versions;

use super::Outcome;
use super::settings::{Ctx, Field};
use crate::client::answer::Answer;
use crate::show::value::Value;
use crate::show::{self, Format, table};

/// Read and write secrets that stand at paths
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Get(get::Args),
    Put(put::Args),
    Patch(patch::Args),
    List(list::Args),
    Delete(delete::Args),
    Undelete(versions::UndeleteArgs),
    Destroy(versions::DestroyArgs),
    Rollback(rollback::Args),
    EnableVersioning(versions::EnableArgs),
    #[command(subcommand)]
    Metadata(metadata::Verb),
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Get(args) => get::run(args, ctx),
        Verb::Put(args) => put::run(args, ctx),
        Verb::Patch(args) => patch::run(args, ctx),
        Verb::List(args) => list::run(args, ctx),
        Verb::Delete(args) => delete::run(args, ctx),
        Verb::Undelete(args) => versions::undelete(args, ctx),
        Verb::Destroy(args) => versions::destroy(args, ctx),
        Verb::Rollback(args) => rollback::run(args, ctx),
        Verb::EnableVersioning(args) => versions::enable(args, ctx),
        Verb::Metadata(verb) => metadata::run(verb, ctx),
    }
}

/// What a write to KV v2 brought: the new version under banners, or the field asked for.
fn show_written(answer: &Answer, path: &str, field: &Field, format: Format) -> Outcome {
    let Some(data) = answer.data().filter(|_| field.field.is_none() && format == Format::Table) else {
        return super::read::show_answer(answer, field, format);
    };
    show::warnings(answer);
    show_path("Secret Path", path);
    show_section("Metadata", data);
    Ok(0)
}

/// Where a secret stands, under a banner.
fn show_path(title: &str, path: &str) {
    show::out(&format!("{}\n{path}\n", table::banner(title, path.len())));
}

/// A map under its banner.
fn show_section(title: &str, map: &Value) {
    show::out(&table::banner_for(title, map));
    show::data(Format::Table, map);
}
