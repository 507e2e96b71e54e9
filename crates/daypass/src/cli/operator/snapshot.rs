//! `operator snapshot`, and `operator raft snapshot` as Vault writes it: the whole store into a file, and back.

mod place;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Clock, SystemClock};
use daypass_storage::snapshot::Manifest;
use http::Method;
use tokio::sync::mpsc;

use super::super::settings::{Ctx, Http, Output};
use super::super::{Failure, Outcome};
use super::offline;
use crate::client::{self, Call, Client, Followed};
use crate::config::Seal;
use crate::show;
use crate::show::value::Value;
use place::{Source, Target};

/// Take a snapshot of the store, restore one, look into one
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    Save(SaveArgs),
    Restore(RestoreArgs),
    Inspect(InspectArgs),
}

/// Vault's name for the same
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RaftVerb {
    #[command(subcommand)]
    Snapshot(Verb),
}

/// Save a snapshot of a running server
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator snapshot save daypass.snap
  $ daypass operator snapshot save - | gpg -e -r ops > daypass.snap.gpg

The file is verified before it gets its name. Standard output (-), a pipe or a
device is written to as the snapshot comes in: use what was written only when
the command ended well. It is sealed as the store is: it is
of no use without the unseal keys of its time. It needs \"read\" on
sys/storage/raft/snapshot.")]
pub(crate) struct SaveArgs {
    /// Where to put it; - is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    http: Http,
}

/// Replace all that a server stores by a snapshot
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator snapshot restore daypass.snap
  $ daypass operator snapshot restore -force other.snap
  $ daypass operator snapshot restore -offline -config=/etc/daypass/daypass.hcl daypass.snap

Afterwards revocation is paused: \"daypass operator revocation resume\" lets it go on.")]
pub(crate) struct RestoreArgs {
    /// The snapshot; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whatever its keys are: the server is sealed afterwards, and unsealed with the keys of the snapshot's time
    #[arg(long)]
    force: bool,
    /// Into the store of a server that does not run
    #[arg(long, requires = "config")]
    offline: bool,
    /// Configuration of that server; may be repeated
    #[arg(long, value_name = "PATH", requires = "offline")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    http: Http,
}

/// Verify a snapshot and tell what is in it, without any server
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass operator snapshot inspect daypass.snap
  $ daypass operator snapshot inspect -format=json daypass.snap")]
pub(crate) struct InspectArgs {
    /// The snapshot; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Runs one of the verbs.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> Outcome {
    match verb {
        Verb::Save(args) => save(args, ctx),
        Verb::Restore(args) if args.offline => restore_offline(args),
        Verb::Restore(args) => restore(args, ctx),
        Verb::Inspect(args) => inspect(args, ctx),
    }
}

/// The server writes all of its state beside its store before the first byte comes: a minute for some gigabytes.
const BEGUN_WITHIN: Duration = Duration::from_hours(1);

fn save(args: &SaveArgs, ctx: &Ctx) -> Outcome {
    let client = ctx.client(&args.http)?;
    let target = Target::open(&args.file)?;
    // What has gone into a pipe is gone.
    let (nothing, undone) = if target.is_stream() {
        ("what was written is no whole snapshot", "do not use what was written")
    } else {
        ("nothing was saved", "nothing was saved")
    };
    let (file, path) = (target.handle(), args.file.clone());
    let file = file.map_err(|error| at_file("Error creating the snapshot", &path, &error))?;
    let (pieces, coming) = mpsc::channel(PIECES_MAX);
    // On a thread of its own, so that Ctrl-C is heard while the other end of a pipe reads nothing.
    let passing = std::thread::spawn(move || place::pass_on(coming, file, &path));
    let mut progress = Progress::new("received", None);
    let call = Call::new(Method::GET, "sys/storage/raft/snapshot").unwrapped();
    let followed = client.follow(&call, BEGUN_WITHIN, async |piece: &[u8]| {
        progress.add(piece.len() as u64);
        pieces.send(Bytes::copy_from_slice(piece)).await.is_ok()
    });
    progress.end();
    drop(pieces);
    // What came is not whole: the server says why in its log.
    let hint = format!("{undone}: try again, and look into the server's log if that does not help");
    let failed = |error| {
        let broken_off = matches!(error, client::Error::Unreached { .. });
        let failure = Failure::api("Error taking the snapshot", error);
        if broken_off && failure.hint.is_none() { failure.hint(hint.clone()) } else { failure }
    };
    if followed.map_err(failed)? == Followed::Interrupted {
        return Err(Failure::server(format!("Interrupted: {nothing}")));
    }
    let Some(passed) = client.unless_interrupted(move || passing.join()) else {
        return Err(Failure::server(format!("Interrupted: all of the snapshot came in, but it was not verified: {nothing}")));
    };
    let passed = passed.unwrap_or_else(|_panicked| Err(Failure::server("The snapshot could not be verified")));
    let (whole, size) = passed.map_err(|failure| if failure.is_usage() { failure } else { failure.hint(hint) })?;
    target.keep().map_err(|error| at_file("Error naming the snapshot", &args.file, &error))?;
    let Manifest { time, rows, .. } = &whole.manifest;
    show::note(&format!("Saved {}: {} rows of {time}, {}", args.file.display(), rows.all(), amount(size)));
    Ok(0)
}

fn restore(args: &RestoreArgs, ctx: &Ctx) -> Outcome {
    let client = ctx.client(&args.http)?;
    let source = Source::open(&args.file)?.kept()?;
    let (whole, size) = source.verified()?;
    let file = source.handle()?;
    let path = if args.force { "sys/storage/raft/snapshot-force" } else { "sys/storage/raft/snapshot" };
    let mut progress = Progress::new("sent", Some(size));
    let sent = client.upload(&Call::new(Method::POST, path).unwrapped(), file, size, move |bytes| progress.add(bytes));
    sent.map_err(|error| Failure::api("Error restoring the snapshot", error))?;
    done(&whole.manifest);
    show::note(&seal_afterwards(&client));
    Ok(0)
}

/// Whether the server opened itself again, and what opens it if it did not.
fn seal_afterwards(client: &Client) -> String {
    let asked = client.body(Call::new(Method::GET, "sys/seal-status").root_namespace());
    let seal = match asked {
        Ok(seal) => seal,
        Err(error) => return format!("Whether the server is unsealed cannot be told: {error}\nhint: \"daypass status\" asks again"),
    };
    if !seal.get("sealed").is_some_and(Value::is_true) {
        return "The server is unsealed.".to_owned();
    }
    let opens = if seal.text_at("type") == "keyfile" {
        "the key file of the snapshot's time, at the path that seal \"keyfile\" in its configuration names, and a restart.\n\
         Until that file is there the server does not start again"
    } else {
        "the unseal keys of the snapshot's time: \"daypass operator unseal\". Where its configuration has a seal\n\
         \"keyfile\", take that out: with it the server does not start again"
    };
    format!("The server is SEALED. It is opened by {opens}.\nhint: the server's log says why it did not open itself")
}

fn done(manifest: &Manifest) {
    show::note(&format!("Restored {} rows of {}.", manifest.rows.all(), manifest.time));
    show::note(
        "Revocation is paused: what has ended is refused, but nothing is taken back at AWS.\n\
         hint: \"daypass operator revocation resume\" once no other server works with the same leases",
    );
}

fn restore_offline(args: &RestoreArgs) -> Outcome {
    let (config, path) = offline::place(&args.config)?;
    let mut counted = Source::open(&args.file)?.counted("read")?;
    let restored = offline::work(&path, "Error restoring the snapshot", async |store| {
        let manifest = daypass_core::restore_offline(store, &mut counted, SystemClock::new().now()).await?;
        let opens = match &config.seal {
            Seal::KeyFile { path } => daypass_core::opens_by_file(store, path).await,
            Seal::Shamir => Ok(()),
        };
        Ok((manifest, opens))
    });
    counted.progress.end();
    let (manifest, opens) = restored?;
    done(&manifest);
    if let Err(why) = opens {
        show::note(&format!("The server will not start as it is configured: {why}"));
    }
    Ok(0)
}

fn inspect(args: &InspectArgs, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let (whole, size) = Source::open(&args.file)?.verified()?;
    let manifest = &whole.manifest;
    let number = |number: u64| Value::number(i64::try_from(number).unwrap_or(i64::MAX));
    let rows = &manifest.rows;
    let state_sum = whole.sums.lines().find_map(|line| line.strip_suffix("  state.bin")).unwrap_or_default();
    show::data(
        format,
        &Value::map([
            ("format", number(manifest.format.into())),
            ("made_by", Value::text(&manifest.made_by)),
            ("time", Value::text(manifest.time.to_string())),
            ("config_version", number(manifest.config_version)),
            ("config_rows", number(rows.config)),
            ("token_rows", number(rows.token)),
            ("lease_rows", number(rows.lease)),
            ("index_rows", number(rows.index)),
            ("expiry_entries", number(rows.due)),
            ("claims", number(rows.claim)),
            ("state_bytes", number(manifest.state_bytes)),
            ("file_bytes", number(size)),
            ("state_sha256", Value::text(state_sum)),
            ("verified", Value::Bool(true)),
        ]),
    );
    Ok(0)
}

fn at_file(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{what}: {}: {error}", path.display()))
}

/// How far something is, on stderr: rewritten each half second for a person, a line each ten seconds for a log, and nothing for what is quick.
struct Progress {
    what: &'static str,
    total: Option<u64>,
    done: u64,
    clock: Arc<dyn Clock>,
    next: Duration,
    pause: Duration,
    shown: bool,
}

impl Progress {
    fn new(what: &'static str, total: Option<u64>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let pause = if io::stderr().is_terminal() { TERMINAL_PAUSE } else { LOG_PAUSE };
        Self { what, total, done: 0, next: clock.elapsed() + pause, clock, pause, shown: false }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let now = self.clock.elapsed();
        if now < self.next {
            return;
        }
        self.next = now + self.pause;
        self.shown = true;
        let of = self
            .total
            .filter(|total| *total > 0)
            .map(|total| format!(" of {} ({} %)", amount(total), self.done.saturating_mul(100) / total));
        let line = format!("{} {}{}", amount(self.done), self.what, of.unwrap_or_default());
        if self.pause == TERMINAL_PAUSE { show::prompt(&format!("\r{line:<60}")) } else { show::note(&line) }
    }

    fn end(&mut self) {
        if self.shown && self.pause == TERMINAL_PAUSE {
            show::prompt(&format!("\r{:<60}\r", ""));
        }
        self.shown = false;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Pieces that wait to be written.
const PIECES_MAX: usize = 16;
const TERMINAL_PAUSE: Duration = Duration::from_millis(500);
const LOG_PAUSE: Duration = Duration::from_secs(10);
