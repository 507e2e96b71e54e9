//! `server`: the flags; `crate::serve` does the work.

use std::path::PathBuf;
use std::process::ExitCode;

use daypass_base::Secret;

use super::settings::Ctx;

/// Run a server
#[derive(Debug, Clone, Default, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the command line")]
#[command(after_help = "Examples:

  $ daypass server -config=/etc/daypass/daypass.hcl
  $ daypass server -dev
  $ daypass server -dev -dev-root-token-id=root -dev-aws-sandbox

A dev server keeps everything in memory, is unsealed, and listens on
127.0.0.1:8200 without TLS. Not for production.")]
pub(crate) struct ServerArgs {
    /// Configuration file, HCL or JSON, or a directory of them; may be repeated. Environment: VAULT_CONFIG_PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
    /// Run in memory, unsealed, for trying things out
    #[arg(long, help_heading = "Dev options")]
    pub(crate) dev: bool,
    /// Where a dev server listens. Environment: VAULT_DEV_LISTEN_ADDRESS [default: 127.0.0.1:8200]
    #[arg(long, value_name = "ADDRESS", help_heading = "Dev options")]
    pub(crate) dev_listen_address: Option<String>,
    /// Root token of a dev server. Environment: VAULT_DEV_ROOT_TOKEN_ID [default: a random one]
    #[arg(long, value_name = "TOKEN", help_heading = "Dev options")]
    pub(crate) dev_root_token_id: Option<Secret<String>>,
    /// Do not put the root token into ~/.vault-token
    #[arg(long, help_heading = "Dev options")]
    pub(crate) dev_no_store_token: bool,
    /// Do not mount a KV store at secret/
    #[arg(long, help_heading = "Dev options")]
    pub(crate) dev_no_kv: bool,
    /// Serve a dev server over TLS, with an authority made for it
    #[arg(long, help_heading = "Dev options")]
    pub(crate) dev_tls: bool,
    /// Where -dev-tls puts the authority, certificate and key [default: a temporary directory]
    #[arg(long, value_name = "DIR", help_heading = "Dev options")]
    pub(crate) dev_tls_cert_dir: Option<PathBuf>,
    /// Start the AWS sandbox too, and send this server's AWS calls there
    #[arg(long, help_heading = "Dev options")]
    pub(crate) dev_aws_sandbox: bool,
    /// Where that sandbox listens [default: 127.0.0.1 on a free port]
    #[arg(long, value_name = "ADDRESS", help_heading = "Dev options")]
    pub(crate) dev_aws_sandbox_address: Option<String>,
    /// Let that sandbox hand out sessions shorter than AWS's 900 seconds
    #[arg(long, help_heading = "Dev options")]
    pub(crate) dev_aws_sandbox_short_sessions: bool,
    /// Shortest session of that sandbox, and the shortest that this server asks it for [default: 900s, as at AWS]
    #[arg(long, value_name = "TTL", help_heading = "Dev options")]
    pub(crate) dev_aws_sandbox_min_ttl: Option<String>,
    /// trace, debug, info, warn or error. Environment: VAULT_LOG_LEVEL [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// standard or json. Environment: VAULT_LOG_FORMAT [default: standard]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// File to log to, in place of stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// End the process when the core shuts down; taken for Vault's sake, it always does
    #[arg(long, hide = true)]
    pub(crate) exit_on_core_shutdown: bool,
}

/// Fills in what the environment says and runs the server.
pub(super) fn run(args: &ServerArgs, ctx: &Ctx) -> ExitCode {
    let mut args = args.clone();
    if args.config.is_empty() {
        args.config.extend(ctx.variable("CONFIG_PATH").filter(|_| !args.dev).map(PathBuf::from));
    }
    // -dev-tls alone means -dev, as it does in Vault.
    args.dev |= args.dev_tls || args.dev_aws_sandbox;
    args.dev_listen_address = args.dev_listen_address.or_else(|| ctx.variable("DEV_LISTEN_ADDRESS"));
    args.dev_root_token_id = args.dev_root_token_id.or_else(|| ctx.variable("DEV_ROOT_TOKEN_ID").map(Secret::new));
    args.log_level = args.log_level.or_else(|| ctx.variable("LOG_LEVEL"));
    args.log_format = args.log_format.or_else(|| ctx.variable("LOG_FORMAT"));
    crate::serve::run(&args)
}
