//! `status`: sealed or not, and who leads. Also what `operator unseal` shows.

use http::Method;

use super::settings::{Ctx, Field, Http, Output};
use super::{Failure, Outcome};
use crate::client::{Call, Client, Error};
use crate::show::value::Value;
use crate::show::{self, Format, table};

/// Tell whether the server is sealed, and its version
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: 0 unsealed, 1 error, 2 sealed.

Examples:

  $ daypass status
  $ daypass status -format=json")]
pub(crate) struct Args {
    #[command(flatten)]
    field: Field,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    http: Http,
}

/// Asks and shows.
pub(super) fn run(args: &Args, ctx: &Ctx) -> Outcome {
    let format = ctx.format_but_raw(&args.output)?;
    let client = ctx.client(&args.http).map_err(|failure| Failure { code: 1, ..failure })?;
    let failed = |error| {
        let failure = Failure::api("Error checking seal status", error);
        Failure { code: u8::from(!failure.instead), ..failure }
    };
    let seal = client.body(Call::new(Method::GET, "sys/seal-status").root_namespace()).map_err(failed)?;
    let status = with_leader(&client, &seal).map_err(failed)?;
    match &args.field.field {
        Some(name) => {
            let value = status.get(name).ok_or_else(|| Failure::usage(format!("Field {name:?} not present in secret")))?;
            show::field(format, value, show::Supply::Lasting);
        }
        None => show_status(format, &status),
    }
    if seal.get("previous_shares_unseal").is_some_and(Value::is_true) {
        show::note(OLD_KEYS);
    }
    if status.get("sealed").is_some_and(Value::is_true) {
        return Ok(2);
    }
    warn_of_pause(&client);
    Ok(0)
}

/// That nothing is taken back is easily forgotten after a restore. The status itself keeps Vault's shape, so this is a remark, for those whose token may know.
fn warn_of_pause(client: &Client) {
    if client.config().token.is_none() {
        return;
    }
    let asked = client.body(Call::new(Method::GET, "sys/storage/revocation").plain());
    if asked.is_ok_and(|answer| answer.at(&["data", "paused"]).is_some_and(Value::is_true)) {
        show::note(
            "Revocation is paused: what has ended is not taken back.\nhint: \"daypass operator revocation status\" tells since when and why",
        );
    }
}

/// The seal status with what `sys/leader` adds. A sealed node with HA on does not know the leader; that is no error.
pub(super) fn with_leader(client: &Client, seal: &Value) -> Result<Value, Error> {
    let leader = match client.body(Call::new(Method::GET, "sys/leader").root_namespace().plain()) {
        Ok(leader) => leader,
        Err(error) if error.status() == Some(503) => Value::map([("ha_enabled", Value::Bool(true))]),
        Err(error) => return Err(error),
    };
    let mut status = Value::Map(Vec::new());
    for key in SEAL_KEYS {
        if let Some(value) = seal.get(key) {
            status.set(key, value.clone());
        } else if key == "build_date" {
            status.set(key, Value::text(""));
        }
    }
    for (key, value) in seal.entries() {
        status.set(key, value.clone());
    }
    status.set("ha_enabled", Value::Bool(leader.get("ha_enabled").is_some_and(Value::is_true)));
    for key in LEADER_KEYS {
        // Go's client leaves out what is empty, and so does this.
        if let Some(value) = leader.get(key).filter(|value| !matches!(value.go().as_str(), "" | "false" | "0" | NO_TIME)) {
            status.set(key, value.clone());
        }
    }
    Ok(status)
}

/// Shows a status.
pub(super) fn show_status(format: Format, status: &Value) {
    match format {
        Format::Table | Format::Raw => {
            if let Some(text) = table::key_values(&rows(status)) {
                show::out(&text);
            }
        }
        _ => show::document(format, status),
    }
}

const OLD_KEYS: &str =
    "WARNING! The unseal keys were exchanged, but the new ones did not reach whoever asked for them, so the old ones still unseal.
hint: exchange them again with the old ones: \"daypass operator rekey -init\"";
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The order in which Go's client writes the seal status.
const SEAL_KEYS: [&str; 15] = [
    "type",
    "initialized",
    "sealed",
    "t",
    "n",
    "progress",
    "nonce",
    "version",
    "build_date",
    "migration",
    "cluster_name",
    "cluster_id",
    "recovery_seal",
    "recovery_seal_type",
    "storage_type",
];
const LEADER_KEYS: [&str; 9] = [
    "is_self",
    "active_time",
    "leader_address",
    "leader_cluster_address",
    "performance_standby",
    "performance_standby_last_remote_wal",
    "last_wal",
    "raft_committed_index",
    "raft_applied_index",
];

fn rows(status: &Value) -> Vec<(String, String)> {
    let text = |key: &str| status.get(key).filter(|value| !value.is_null()).map(Value::go).unwrap_or_default();
    let yes = |key: &str| status.get(key).is_some_and(Value::is_true);
    let recovery = if yes("recovery_seal") { "Recovery " } else { "" };
    let mut rows = vec![("Seal Type".to_owned(), text("type"))];
    let mut row = |key: &str, value: String| rows.push((key.to_owned(), value));
    if yes("recovery_seal") {
        row("Recovery Seal Type", text("recovery_seal_type"));
    }
    row("Initialized", text("initialized"));
    row("Sealed", text("sealed"));
    if text("type") == "keyfile" {
        // The numbers are there for clients that want some: nobody holds shares.
        if yes("sealed") && yes("initialized") {
            row("Opened By", "the key file of seal \"keyfile\" in the server's configuration, at its start".to_owned());
        }
    } else {
        row(&format!("Total {recovery}Shares"), text("n"));
        row("Threshold", text("t"));
        if yes("sealed") {
            row("Unseal Progress", format!("{}/{}", text("progress"), text("t")));
            row("Unseal Nonce", text("nonce"));
        }
    }
    if yes("migration") {
        row("Seal Migration in Progress", text("migration"));
    }
    row("Version", text("version"));
    row("Build Date", text("build_date"));
    row("Storage Type", text("storage_type"));
    if !text("cluster_name").is_empty() && !text("cluster_id").is_empty() {
        row("Cluster Name", text("cluster_name"));
        row("Cluster ID", text("cluster_id"));
    }
    row("HA Enabled", text("ha_enabled"));
    if yes("ha_enabled") {
        ha_rows(&text, yes("sealed"), yes("is_self"), &mut row);
    }
    for (key, title) in
        [("raft_committed_index", "Raft Committed Index"), ("raft_applied_index", "Raft Applied Index"), ("last_wal", "Last WAL")]
    {
        if !text(key).is_empty() {
            row(title, text(key));
        }
    }
    rows
}

fn ha_rows(text: &dyn Fn(&str) -> String, sealed: bool, active: bool, row: &mut dyn FnMut(&str, String)) {
    if sealed {
        row("HA Mode", "sealed".to_owned());
        return;
    }
    row("HA Cluster", text("leader_cluster_address"));
    row("HA Mode", if active { "active" } else { "standby" }.to_owned());
    if active && !text("active_time").is_empty() {
        row("Active Since", text("active_time"));
    }
    if !active {
        let leader = text("leader_address");
        row("Active Node Address", if leader.is_empty() { "<none>".to_owned() } else { leader });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(json: &str) -> Vec<String> {
        rows(&Value::parse(json).unwrap()).into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn a_sealed_server_shows_its_progress() {
        let rows = keys(r#"{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":1,"nonce":"x","ha_enabled":false}"#);
        assert!(rows.contains(&"Unseal Progress=1/3".to_owned()));
        assert!(rows.contains(&"Total Shares=5".to_owned()));
    }

    /// Story: a sealed server with a key file showed recovery shares that nobody has, and how many of them it had got.
    #[test]
    fn a_server_that_a_key_file_opens_says_so_and_counts_no_shares() {
        let sealed = keys(r#"{"type":"keyfile","initialized":true,"sealed":true,"t":1,"n":1,"progress":0,"recovery_seal":true}"#);
        assert!(sealed.iter().any(|row| row.starts_with("Opened By=the key file")), "{sealed:?}");
        assert!(!sealed.iter().any(|row| row.contains("Shares") || row.contains("Progress")), "{sealed:?}");
    }

    #[test]
    fn a_standby_names_its_leader() {
        let rows =
            keys(r#"{"sealed":false,"ha_enabled":true,"leader_address":"https://a:8200","leader_cluster_address":"https://a:8201"}"#);
        assert_eq!(
            rows.get(rows.len() - 3..).unwrap(),
            ["HA Cluster=https://a:8201", "HA Mode=standby", "Active Node Address=https://a:8200"]
        );
    }

    #[test]
    fn a_recovery_seal_counts_recovery_shares() {
        let rows = keys(r#"{"type":"awskms","recovery_seal":true,"recovery_seal_type":"shamir","n":5,"t":3}"#);
        assert_eq!(rows.get(1).unwrap(), "Recovery Seal Type=shamir");
        assert!(rows.contains(&"Total Recovery Shares=5".to_owned()));
    }
}
