//! What `secrets` and `auth` share: the settings of a mount, and how a list of mounts is shown.

use super::Failure;
use super::data;
use super::settings::go_duration;
use crate::show::table;
use crate::show::value::Value;

/// Settings of a mount.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Settings {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How long a lease lasts when nobody says otherwise
    #[arg(long, value_name = "TTL")]
    default_lease_ttl: Option<String>,
    /// How long a lease can last at most
    #[arg(long, value_name = "TTL")]
    max_lease_ttl: Option<String>,
    /// hidden, or unauth to name it to callers without a token
    #[arg(long, value_name = "WHO")]
    listing_visibility: Option<String>,
    /// An option of the engine; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Version of the engine, where it has several (kv: 1 or 2)
    #[arg(long, value_name = "NUMBER")]
    version: Option<i64>,
    /// Version of the plugin
    #[arg(long, value_name = "VERSION")]
    plugin_version: Option<String>,
    /// Request field that the audit log shows as it is; may be repeated
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    audit_non_hmac_request_keys: Vec<String>,
    /// Answer field that the audit log shows as it is; may be repeated
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    audit_non_hmac_response_keys: Vec<String>,
    /// Request header passed to the engine; may be repeated
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    passthrough_request_headers: Vec<String>,
    /// Response header that the engine may set; may be repeated
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    allowed_response_headers: Vec<String>,
}

/// What is decided once, when a mount is made.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Making {
    /// Where to mount it [default: its type]
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<String>,
    /// Not copied to other clusters
    #[arg(long, hide_short_help = true)]
    local: bool,
    /// Wrap what it stores with the seal too
    #[arg(long, hide_short_help = true)]
    seal_wrap: bool,
    /// Let it use an external source of entropy
    #[arg(long, hide_short_help = true)]
    external_entropy_access: bool,
    /// Name of the plugin, for type "plugin"
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    plugin_name: Option<String>,
}

impl Making {
    /// The body that mounts `kind`, and the path it goes to when none is given.
    pub(super) fn body(&self, kind: &str, config: Value, settings: &Settings) -> Result<(String, Value), Failure> {
        let kind = kind.trim();
        let plugin = self.plugin_name.as_deref().filter(|_| kind == "plugin");
        let path = self.path.clone().unwrap_or_else(|| plugin.unwrap_or(kind).to_owned());
        let body = Value::map([
            ("type", Value::text(plugin.unwrap_or(kind))),
            ("description", Value::text(settings.description.clone().unwrap_or_default())),
            ("config", config),
            ("local", Value::Bool(self.local)),
            ("seal_wrap", Value::Bool(self.seal_wrap)),
            ("external_entropy_access", Value::Bool(self.external_entropy_access)),
            ("options", settings.options()?),
        ]);
        Ok((super::clean_path(&path).to_owned(), body))
    }
}

impl Settings {
    /// The settings that were given, description and options aside; an absent one keeps its value.
    pub(super) fn config(&self) -> Result<Value, Failure> {
        let mut config = Value::Map(Vec::new());
        for (key, flag, value) in
            [("default_lease_ttl", "default-lease-ttl", &self.default_lease_ttl), ("max_lease_ttl", "max-lease-ttl", &self.max_lease_ttl)]
        {
            if let Some(value) = value {
                // "system" goes back to the server's own limit.
                let ttl = if value == "system" { value.clone() } else { go_duration(flag, value)? };
                config.set(key, Value::text(ttl));
            }
        }
        for (key, value) in [("listing_visibility", &self.listing_visibility), ("plugin_version", &self.plugin_version)] {
            if let Some(value) = value {
                config.set(key, Value::text(value.clone()));
            }
        }
        for (key, values) in [
            ("audit_non_hmac_request_keys", &self.audit_non_hmac_request_keys),
            ("audit_non_hmac_response_keys", &self.audit_non_hmac_response_keys),
            ("passthrough_request_headers", &self.passthrough_request_headers),
            ("allowed_response_headers", &self.allowed_response_headers),
        ] {
            if !values.is_empty() {
                config.set(key, Value::texts(values.iter().cloned()));
            }
        }
        Ok(config)
    }

    /// The body that tunes a mount.
    pub(super) fn tuning(&self) -> Result<Value, Failure> {
        let mut body = self.config()?;
        if let Some(text) = &self.description {
            body.set("description", Value::text(text.clone()));
        }
        let options = self.options()?;
        if !options.is_null() {
            body.set("options", options);
        }
        Ok(body)
    }

    /// `-options` and `-version` together; null when there are none.
    fn options(&self) -> Result<Value, Failure> {
        let mut options = data::flag_pairs("options", &self.options)?;
        if let Some(version) = self.version {
            options.set("version", Value::text(version.to_string()));
        }
        Ok(if options.entries().is_empty() { Value::Null } else { options })
    }
}

/// Which kind of mounts a table lists: the columns differ a little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Auth methods.
    Auth,
    /// Secrets engines.
    Secrets,
}

/// The short table.
pub(super) fn short_table(kind: Kind, mounts: &Value) -> String {
    let columns = if kind == Kind::Auth { 5 } else { 4 };
    let row = |(path, mount): &(String, Value)| {
        let mut row = vec![path.clone()];
        row.extend(["type", "accessor", "description", "plugin_version"].iter().take(columns - 1).map(|key| mount.text_at(key).to_owned()));
        row
    };
    let rows: Vec<Vec<String>> = mounts.entries().iter().map(row).collect();
    let headings = ["Path", "Type", "Accessor", "Description", "Version"];
    table::table(headings.get(..columns).unwrap_or_default(), &rows)
}

/// The long table.
pub(super) fn detailed_table(kind: Kind, mounts: &Value) -> String {
    let own = if kind == Kind::Auth { "Token Type" } else { "Force No Cache" };
    let headings = [
        "Path",
        "Plugin",
        "Accessor",
        "Default TTL",
        "Max TTL",
        own,
        "Replication",
        "Seal Wrap",
        "External Entropy Access",
        "Options",
        "Description",
        "UUID",
        "Version",
        "Running Version",
        "Running SHA256",
        "Deprecation Status",
    ];
    let rows: Vec<Vec<String>> = mounts.entries().iter().map(|(path, mount)| detailed_row(kind, path, mount)).collect();
    table::table(&headings, &rows)
}

fn detailed_row(kind: Kind, path: &str, mount: &Value) -> Vec<String> {
    let text = |key: &str| mount.text_at(key).to_owned();
    let yes = |key: &str| mount.get(key).is_some_and(Value::is_true).to_string();
    let ttl = |key: &str| match mount.at(&["config", key]).and_then(Value::as_integer) {
        _ if matches!(mount.text_at("type"), "system" | "cubbyhole") => String::new(),
        Some(0) | None => "system".to_owned(),
        Some(seconds) => seconds.to_string(),
    };
    let own = if kind == Kind::Auth { "token_type" } else { "force_no_cache" };
    let options = mount.get("options").filter(|options| !options.is_null()).cloned().unwrap_or(Value::Map(Vec::new()));
    vec![
        path.to_owned(),
        text("type"),
        text("accessor"),
        ttl("default_lease_ttl"),
        ttl("max_lease_ttl"),
        mount.at(&["config", own]).map(Value::go).unwrap_or_default(),
        if mount.get("local").is_some_and(Value::is_true) { "local" } else { "replicated" }.to_owned(),
        yes("seal_wrap"),
        yes("external_entropy_access"),
        options.go(),
        text("description"),
        text("uuid"),
        text("plugin_version"),
        text("running_plugin_version"),
        text("running_sha256"),
        text("deprecation_status"),
    ]
}

/// The mounts as a document, keys in the order of Go's client.
pub(super) fn document(mounts: &Value) -> Value {
    // What a server leaves out is empty, false or null: the type of the key decides, as in Go's struct.
    const KEYS: [&str; 13] = [
        "uuid",
        "type",
        "description",
        "accessor",
        "config",
        "options",
        "local",
        "seal_wrap",
        "external_entropy_access",
        "plugin_version",
        "running_plugin_version",
        "running_sha256",
        "deprecation_status",
    ];
    let ordered = |mount: &Value| {
        let missing = |key: &str| match key {
            "options" | "config" => Value::Null,
            "local" | "seal_wrap" | "external_entropy_access" => Value::Bool(false),
            _ => Value::text(""),
        };
        let mut out = Value::map(KEYS.map(|key| (key, mount.get(key).cloned().unwrap_or_else(|| missing(key)))));
        let config = mount.get("config").unwrap_or(&Value::Null);
        let mut first = Value::Map(Vec::new());
        for key in ["default_lease_ttl", "max_lease_ttl", "force_no_cache"] {
            first.set(key, config.get(key).cloned().unwrap_or(Value::Null));
        }
        for (key, value) in config.entries() {
            first.set(key, value.clone());
        }
        out.set("config", first);
        out
    };
    Value::map(mounts.entries().iter().map(|(path, mount)| (path.clone(), ordered(mount))))
}
