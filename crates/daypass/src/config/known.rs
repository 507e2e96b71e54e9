//! Keys that Vault knows and that have no meaning here, each with the reason that its warning gives.

/// A key and why it does nothing.
pub(super) type Ignored = (&'static str, &'static str);

/// At the top.
pub(super) const TOP: &[Ignored] = &[
    ("adaptive_overload_protection", ENTERPRISE),
    ("administrative_namespace_path", ENTERPRISE),
    ("cache_size", CACHE),
    ("cloud", "this node is not linked to HCP; manage it where it runs"),
    ("cluster_cipher_suites", "nodes share a store; there is no cluster port"),
    ("detect_deadlocks", "it looks for deadlocks of another implementation"),
    ("disable_cache", CACHE),
    ("disable_clustering", "nodes share a store; there is no cluster port"),
    ("disable_indexing", ENTERPRISE),
    ("disable_performance_standby", ENTERPRISE),
    ("disable_printable_check", PRINTABLE),
    ("disable_sealwrap", ENTERPRISE),
    ("disable_sentinel_trace", ENTERPRISE),
    ("enable_multiseal", ENTERPRISE),
    ("enable_post_unseal_trace", "it traces another implementation"),
    ("enable_response_header_raft_node_id", RAFT),
    ("entropy", ENTERPRISE),
    ("experiments", "there are no experiments to turn on"),
    ("feature_flags", "there are no feature flags to set"),
    ("ha_backend", "any node may serve on a shared store; there is no separate one for leadership"),
    ("ha_storage", "any node may serve on a shared store; there is no separate one for leadership"),
    ("imprecise_lease_role_tracking", "leases are counted by role exactly"),
    ("initialize", "initialise with `operator init`"),
    ("kms_library", ENTERPRISE),
    ("license_path", ENTERPRISE),
    ("log_requests_level", "requests are not logged; an audit device records each of them"),
    ("observations", ENTERPRISE),
    ("plugin_directory", PLUGINS),
    ("plugin_file_permissions", PLUGINS),
    ("plugin_file_uid", PLUGINS),
    ("plugin_tmpdir", PLUGINS),
    ("post_unseal_trace_directory", "it traces another implementation"),
    ("remove_irrevocable_lease_after", "irrevocable leases stay listed until they are revoked"),
    ("replication", ENTERPRISE),
    ("reporting", "nothing is reported to anyone"),
    ("sentinel", ENTERPRISE),
    ("service_registration", "nodes are not registered anywhere; point a load balancer at sys/health"),
    ("user_lockout", "lockout has Vault's defaults; tune it at each auth mount"),
];

/// In `telemetry`.
pub(super) const TELEMETRY: &[Ignored] = &[
    ("add_lease_metrics_namespace_labels", ENTERPRISE),
    ("add_mount_point_rollback_metrics", "metrics carry the mount where it matters"),
    ("circonus_api_app", SINK),
    ("circonus_api_token", SINK),
    ("circonus_api_url", SINK),
    ("circonus_broker_id", SINK),
    ("circonus_broker_select_tag", SINK),
    ("circonus_check_display_name", SINK),
    ("circonus_check_force_metric_activation", SINK),
    ("circonus_check_id", SINK),
    ("circonus_check_instance_id", SINK),
    ("circonus_check_search_tag", SINK),
    ("circonus_check_tags", SINK),
    ("circonus_submission_interval", SINK),
    ("circonus_submission_url", SINK),
    ("dogstatsd_addr", SINK),
    ("dogstatsd_tags", SINK),
    ("enable_hostname_label", "metrics carry no host name; Prometheus adds `instance`"),
    ("filter_default", "all metrics are kept"),
    ("lease_metrics_epsilon", "lease metrics have fixed steps"),
    ("maximum_gauge_cardinality", "gauges are limited by design"),
    ("num_lease_metrics_buckets", "lease metrics have fixed steps"),
    ("prefix_filter", "all metrics are kept"),
    ("rollback_metrics_include_mount_point", "metrics carry the mount where it matters"),
    ("stackdriver_debug_logs", SINK),
    ("stackdriver_location", SINK),
    ("stackdriver_namespace", SINK),
    ("stackdriver_project_id", SINK),
    ("statsd_address", SINK),
    ("statsite_address", SINK),
    ("usage_gauge_period", "gauges are read when they are asked for"),
];

/// In `listener "tcp"` and `listener "unix"`.
pub(super) const LISTENER: &[Ignored] = &[
    ("agent_api", "it is for Vault Agent"),
    ("chroot_namespace", ENTERPRISE),
    ("cluster_address", "nodes share a store; there is no cluster port"),
    ("cors_allowed_headers", CORS),
    ("cors_allowed_origins", CORS),
    ("cors_enabled", CORS),
    ("disable_printable_check", PRINTABLE),
    ("disable_replication_status_endpoints", ENTERPRISE),
    ("disable_request_limiter", ENTERPRISE),
    ("disable_unauthed_generate_root_endpoints", "these endpoints are open as in Vault"),
    ("disable_unauthed_rekey_endpoints", "these endpoints are open as in Vault"),
    ("http_write_timeout", "a client that stops reading is cut off after http_idle_timeout"),
    ("max_token_header_size", "all headers of a request together have a limit of 64 KiB, which is not set"),
    ("profiling", "there are no Go profiles to serve"),
    ("proxy_api", "it is for Vault Proxy"),
    ("proxy_protocol_authorized_addrs", PROXY_PROTOCOL),
    ("proxy_protocol_behavior", PROXY_PROTOCOL),
    ("purpose", "every listener serves the API"),
    ("require_request_header", "it is for Vault Agent"),
    ("role", "it is for Vault Agent"),
    ("tls_cipher_suites", "the cipher suites are those that the TLS library holds safe"),
    ("tls_max_version", "the newest TLS version is always offered"),
    ("tls_prefer_server_cipher_suites", "the server's order of cipher suites always counts"),
];

/// In `storage "sqlite"`.
pub(super) const STORAGE: &[Ignored] = &[
    ("api_addr", "write api_addr at the top of the file"),
    ("cluster_addr", "write cluster_addr at the top of the file"),
    ("disable_clustering", "there is no cluster port"),
    ("max_entry_size", "values have one limit that is not set"),
    ("redirect_addr", "write api_addr at the top of the file"),
];

/// In `storage "raft"`, beyond those of every storage.
pub(super) const RAFT_STORAGE: &[Ignored] = &[
    ("autopilot", ONE_FILE),
    ("autopilot_reconcile_interval", ONE_FILE),
    ("autopilot_redundancy_zone", ONE_FILE),
    ("autopilot_update_interval", ONE_FILE),
    ("autopilot_upgrade_version", ONE_FILE),
    ("election_timeout", ONE_FILE),
    ("heartbeat_timeout", ONE_FILE),
    ("max_batch_entries", ONE_FILE),
    ("max_batch_size", ONE_FILE),
    ("max_mount_and_namespace_table_entry_size", ONE_FILE),
    ("max_trailing_logs", ONE_FILE),
    ("node_id", ONE_FILE),
    ("performance_multiplier", ONE_FILE),
    ("raft_log_verifier_enabled", ONE_FILE),
    ("raft_wal", ONE_FILE),
    ("retry_join", ONE_FILE),
    ("retry_join_as_non_voter", ONE_FILE),
    ("snapshot_delay", ONE_FILE),
    ("snapshot_interval", ONE_FILE),
    ("snapshot_threshold", ONE_FILE),
    ("trailing_logs", ONE_FILE),
];

/// Storages of Vault that this server cannot use.
pub(super) const OTHER_STORAGES: &[&str] = &[
    "aerospike",
    "alicloudoss",
    "azure",
    "cassandra",
    "cockroachdb",
    "consul",
    "couchdb",
    "dynamodb",
    "etcd",
    "foundationdb",
    "gcs",
    "inmem_ha",
    "inmem_transactional",
    "inmem_transactional_ha",
    "manta",
    "mssql",
    "mysql",
    "oci",
    "postgresql",
    "s3",
    "spanner",
    "swift",
    "zookeeper",
];

/// Seals of Vault that this server cannot use.
pub(super) const OTHER_SEALS: &[&str] = &[
    "alicloudkms",
    "awskms",
    "azurekeyvault",
    "gcpckms",
    "hsm",
    "huaweicloudkms",
    "ocikms",
    "pkcs11",
    "static",
    "tencentcloudkms",
    "transit",
];

const CACHE: &str = "what is cached is kept by the store";
const CORS: &str = "origins are allowed at sys/config/cors, for all listeners";
const ENTERPRISE: &str = "it is a feature of Vault Enterprise";
const ONE_FILE: &str = "the embedded store is one file without raft";
const PLUGINS: &str = "engines and methods are built in; there are no plugins";
const PRINTABLE: &str = "paths are always checked: what cannot be seen makes two paths look the same";
const PROXY_PROTOCOL: &str = "the PROXY protocol is not read; use X-Forwarded-For";
const SINK: &str = "metrics are read at sys/metrics, not sent anywhere";
const RAFT: &str = "the embedded store has no raft node id";
