//! `run`: a command whose AWS credentials do not end while it runs.
//!
//! [`endpoint`] serves the container-credentials protocol to its SDKs, [`keeper`] has a credential ready and asks the server for the next,
//! [`token`] keeps our own token alive, [`environment`] is what the command sees of it, [`profiles`] is where SDKs look for files and what is in
//! them. [`child`] is its process: it may have a [`terminal`], and others leave [`orphans`] behind. All of it is one task.

mod child;
mod endpoint;
mod environment;
mod keeper;
mod orphans;
mod profiles;
mod terminal;
mod token;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Clock, Entropy, Moment, Secret, SystemEntropy};
use tokio::net::TcpListener;

use super::aws::minted::{Minted, Source, Wanted};
use super::settings::{Ctx, Http};
use super::{Failure, Outcome, clean_path};
use crate::client::Client;
use crate::show;

/// Run a command with AWS credentials that are renewed while it runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  $ daypass run -role=deploy -- terraform apply
  $ daypass run -mount=cdp/aws/staging -role=ecr-staging -ttl=1h make release
  $ DAYPASS_AWS_ROLE=deploy daypass run -- sh -c \"aws s3 sync . s3://artifacts\"

Any AWS SDK in COMMAND, and the AWS CLI, fetches credentials from this program
over the loopback address, and the next before they end. The first one is
fetched before COMMAND starts. The token is renewed where it can be. What
stands behind COMMAND belongs to it, flags too.

The exit code is that of COMMAND: 128+N where signal N ended it, 127 where it
is not found, 126 where it cannot be run.")]
pub(crate) struct Args {
    /// Role of the aws engine. Environment: DAYPASS_AWS_ROLE
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Mount of the aws engine. Environment: DAYPASS_AWS_MOUNT [default: aws]
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
    /// The command, then its own arguments
    #[arg(value_name = "COMMAND ARG", trailing_var_arg = true, allow_hyphen_values = true, value_hint = clap::ValueHint::CommandWithArguments)]
    command: Vec<String>,
    #[command(flatten)]
    http: Http,
}

/// Runs the command.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let (program, arguments) = args.command.split_first().filter(|(program, _)| !program.is_empty()).ok_or_else(|| {
        Failure::usage("Not enough arguments: which command?")
            .hint("write it behind the flags: daypass run -role=deploy -- terraform apply")
    })?;
    let named = |flag: &Option<String>, name: &str| {
        let text = flag.clone().or_else(|| ctx.variable(name)).unwrap_or_default();
        Some(clean_path(&text).to_owned()).filter(|text| !text.is_empty())
    };
    let role =
        named(&args.role, "AWS_ROLE").ok_or_else(|| Failure::usage("which role of the aws engine? Give -role, or set DAYPASS_AWS_ROLE"))?;
    let path = format!("{}/sts/{role}", named(&args.mount, "AWS_MOUNT").unwrap_or_else(|| "aws".to_owned()));
    let client = ctx.client(&args.http)?;
    let source = Source::new(&client, path, &args.wanted);
    // Before the command starts: a mistyped role is told by the server, and nothing has run.
    let (first, answer) = client.work(source.mint()).map_err(|problem| problem.failure(&source.path))?;
    show::warnings(&answer);
    let hidden = environment::hidden(ctx);
    hidden.notes.iter().for_each(|text| note(text));
    let mut command = tokio::process::Command::new(program);
    command.args(arguments);
    environment::clear(&mut command);
    command.envs(hidden.variables);
    client.work(serve(&client, &source, first, command, program))
}

/// Starts the command and serves it until it has ended.
async fn serve(client: &Client, source: &Source<'_>, first: Minted, mut command: tokio::process::Command, program: &str) -> Outcome {
    let unserved = |error| Failure::server(format!("cannot listen on 127.0.0.1 for the SDKs of {program}: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unserved)?;
    let address = listener.local_addr().map_err(unserved)?;
    let entropy: &dyn Entropy = &SystemEntropy;
    let secret = Secret::new(entropy.base62(SECRET_SIZE));
    // Exposed to the command, whose SDKs send it back.
    command.env(environment::URI, format!("http://{address}{}", endpoint::PATH)).env(environment::AUTHORIZATION, secret.expose());
    let clock = Arc::clone(source.clock());
    let (kept, mut asked) = keeper::keep(first, Arc::clone(&clock));
    let mut child = child::Running::start(command, program)?;
    let mint = async || source.mint().await.map(|(minted, _warned_once)| minted);
    tokio::select! {
        ended = child.ended() => ended,
        never = asked.serve(mint) => match never {},
        never = endpoint::serve(&listener, &clock, &secret, &kept) => match never {},
        never = token::keep_alive(async |call| client.fetch_within(call).await, &*clock, note) => match never {},
    }
}

/// Waits until `left` says that nothing is left, and looks at least every [`STEP`]: timers stand still while a machine sleeps, and what ends does not.
async fn until(clock: &dyn Clock, left: impl Fn(Moment) -> Duration) {
    loop {
        let left = left(clock.moment());
        if left.is_zero() {
            return;
        }
        clock.sleep(left.min(STEP)).await;
    }
}

/// A remark of ours among what the command says.
fn note(text: &str) {
    show::note(&format!("daypass run: {text}"));
}

const STEP: Duration = Duration::from_secs(15);
/// Letters and digits of what SDKs prove themselves by: 256 bits.
const SECRET_SIZE: usize = 43;
