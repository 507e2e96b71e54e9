use super::listener::{CertDecoder, Cidr, ClientCertificates, Place, TlsVersion};
use super::*;

fn no_environment(_: &str) -> Option<String> {
    None
}

/// Reads texts as files `0.hcl`, `1.hcl`, ... of one directory.
fn read(texts: &[&str]) -> Result<(Config, Vec<String>), Vec<String>> {
    read_with(texts, no_environment)
}

fn read_with(texts: &[&str], environment: impl Fn(&str) -> Option<String>) -> Result<(Config, Vec<String>), Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for (index, text) in texts.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{index}.hcl")), text).unwrap();
    }
    let short = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
    match load_with(&[folder.path().to_owned()], environment) {
        // Where they were is another place each time.
        Ok((config, warnings)) => {
            Ok((Config { files: Vec::new(), ..config }, warnings.iter().map(|warning| short(warning.to_string())).collect()))
        }
        Err(errors) => Err(short(errors.to_string()).lines().map(str::to_owned).collect()),
    }
}

fn whole(text: &str) -> Config {
    let (config, warnings) = read(&[text]).unwrap();
    assert_eq!(warnings, [""; 0]);
    config
}

const EVERYTHING: &str = r#"
    ui            = true
    api_addr      = "https://vault.example.com:8200"
    cluster_addr  = "https://10.0.0.1:8201"
    cluster_name  = "main"
    disable_mlock = true
    pid_file      = "/run/daypass.pid"
    default_lease_ttl = "1h"
    max_lease_ttl = 86400
    log_level     = "WARN"
    log_format    = "json"
    log_file      = "/var/log/daypass.log"
    log_rotate_bytes = 1048576
    log_rotate_duration = "24h"
    log_rotate_max_files = 5
    raw_storage_endpoint = true
    allow_audit_log_prefixing = true
    introspection_endpoint = "true"
    enable_response_header_hostname = 1
    storage "sqlite" { path = "/var/lib/daypass/daypass.db" }
    seal "keyfile" { path = "/etc/daypass/seal.key" }
    telemetry {
      prometheus_retention_time = "30s"
      disable_hostname = true
      metrics_prefix = "dp"
      otlp_traces_endpoint = "https://otlp.example.com/v1/traces"
      otlp_traces_ratio = 0.25
    }
    listener "tcp" {
      address = "0.0.0.0:8200"
      tls_cert_file = "/etc/daypass/tls.crt"
      tls_key_file = "/etc/daypass/tls.key"
      tls_min_version = "tls13"
      tls_client_ca_file = "/etc/daypass/ca.crt"
      tls_require_and_verify_client_cert = "true"
      x_forwarded_for_authorized_addrs = "10.0.0.0/8, ::1"
      x_forwarded_for_hop_skips = "1"
      x_forwarded_for_reject_not_present = false
      x_forwarded_for_client_cert_header = "X-Client-Cert"
      x_forwarded_for_client_cert_header_decoders = "URL,BASE64"
      max_request_size = 1048576
      max_request_duration = "30s"
      http_read_timeout = "10s"
      http_read_header_timeout = 5
      http_idle_timeout = "1m"
      max_json_depth = 50
      redact_version = true
      telemetry { unauthenticated_metrics_access = true }
      inflight_requests_logging { unauthenticated_in_flight_requests_access = true }
      custom_response_headers {
        "default" = { "Strict-Transport-Security" = ["max-age=1", "includeSubDomains"] "X-One" = "a, b" }
        "4xx" = { "X-Two" = ["c"] }
        "301" = { "X-Three" = ["d"] }
      }
    }
    listener "unix" {
      address = "/run/daypass.sock"
      tls_disable = true
      socket_mode = "660"
      socket_user = "daypass"
      socket_group = "1000"
    }
"#;

#[test]
fn every_key_arrives() {
    let config = whole(EVERYTHING);
    assert!(
        config.ui
            && config.disable_mlock
            && config.raw_storage_endpoint
            && config.allow_audit_log_prefixing
            && config.introspection_endpoint
            && config.hostname_header
    );
    assert_eq!(config.api_addr.as_deref(), Some("https://vault.example.com:8200"));
    assert_eq!(config.cluster_name.as_deref(), Some("main"));
    assert_eq!((config.default_lease_ttl, config.max_lease_ttl), (Some(Seconds(3600)), Some(Seconds(86400))));
    assert_eq!((config.log.level.as_deref(), config.log.json, config.log.rotate_after), (Some("warn"), Some(true), Some(Seconds(86400))));
    assert_eq!(config.storage, Some(Storage::Sqlite { path: "/var/lib/daypass/daypass.db".into() }));
    assert_eq!(config.seal, Seal::KeyFile { path: "/etc/daypass/seal.key".into() });
    assert_eq!(config.telemetry.prometheus_retention, Some(Seconds(30)));
    let traces = config.telemetry.traces.as_ref().unwrap();
    assert_eq!((traces.endpoint.host(), traces.ratio), ("otlp.example.com", Ratio::of(0.25)));
    let [tcp, unix] = config.listeners.as_slice() else { panic!("two listeners") };
    let tls = tcp.tls.as_ref().unwrap();
    assert_eq!(tcp.place, Place::Tcp("0.0.0.0:8200".into()));
    assert_eq!(tls.min_version, TlsVersion::Tls13);
    assert_eq!(tls.client_certificates, ClientCertificates::Required(Some("/etc/daypass/ca.crt".into())));
    let forwarded = tcp.forwarded_for.as_ref().unwrap();
    assert_eq!((forwarded.proxies.len(), forwarded.hop_skips), (2, 1));
    assert!(!forwarded.reject_not_present && forwarded.reject_not_authorized);
    assert_eq!(forwarded.client_cert_decoders, [CertDecoder::Url, CertDecoder::Base64]);
    assert_eq!((tcp.max_request_size, tcp.max_request_duration), (Some(1_048_576), Some(Seconds(30))));
    assert_eq!((tcp.timeouts.read_header, tcp.json.depth_max), (Some(Seconds(5)), Some(50)));
    assert!(tcp.open_metrics && tcp.open_in_flight_requests && tcp.redact_version && !tcp.redact_addresses);
    let headers: Vec<(&str, &str, &str)> = tcp
        .custom_headers
        .iter()
        .flat_map(|set| set.headers.iter().map(|(name, value)| (set.status.as_str(), name.as_str(), value.to_str().unwrap())))
        .collect();
    assert_eq!(
        headers,
        [
            ("default", "strict-transport-security", "max-age=1; includeSubDomains"),
            ("default", "x-one", "a, b"),
            ("4xx", "x-two", "c"),
            ("301", "x-three", "d"),
        ]
    );
    let Place::Unix { path, access } = &unix.place else { panic!("a socket") };
    assert_eq!((path.to_str(), access.mode, access.group.as_deref()), (Some("/run/daypass.sock"), Some(0o660), Some("1000")));
    assert!(unix.tls.is_none());
}

#[test]
fn json_says_the_same_as_hcl() {
    let hcl = whole(
        "ui = true\nstorage \"inmem\" {}\nlistener \"tcp\" {\n address = \":8200\"\n tls_disable = 1\n}\ntelemetry { disable_hostname = true }",
    );
    for json in [
        r#"{"ui": true, "storage": {"inmem": {}}, "listener": {"tcp": {"address": ":8200", "tls_disable": 1}}, "telemetry": {"disable_hostname": true}}"#,
        r#"{"ui": "true", "backend": [{"inmem": {}}], "listener": [{"tcp": {"address": ":8200", "tls_disable": "true"}}], "telemetry": [{"disable_hostname": true}]}"#,
    ] {
        assert_eq!(whole(json), hcl, "{json}");
    }
}

#[test]
fn all_mistakes_come_at_once_with_their_lines() {
    let text = r#"
defaut_lease_ttl = "1h"
max_lease_ttl = "soon"
ui = "perhaps"
api_addr = "vault.example.com"
log_level = "loud"
log_format = 5
storage "sqlit" { }
seal "awskms" { }
listener "tcp" {
  adress = "0.0.0.0:8200"
  tls_cert_file = "a.pem"
  tls_min_version = "ssl3"
  x_forwarded_for_authorized_addrs = ["10.0.0.0/40"]
  max_request_size = "much"
  custom_response_headers { "6xx" = { "A" = ["b"] } "200" = { "X-Vault-Token" = ["c"] } }
}
listener "udp" { }
listener { }
telemetry = 5
"#;
    assert_eq!(
        read(&[text]).unwrap_err(),
        [
            "0.hcl:2: defaut_lease_ttl: nobody knows this key; did you mean default_lease_ttl?",
            "0.hcl:3: max_lease_ttl: time: invalid duration \"soon\"; write seconds, or a duration such as \"90s\" or \"1h\"",
            "0.hcl:4: ui: true or false was expected, not \"perhaps\"",
            "0.hcl:5: api_addr: \"vault.example.com\" is no URL; write it as \"https://vault.example.com:8200\"",
            "0.hcl:6: log_level: \"loud\" is not known; write trace, debug, info, warn or error",
            "0.hcl:7: log_format: \"5\" is not known; write standard or json",
            "0.hcl:8: storage \"sqlit\" is not known; did you mean \"sqlite\"?",
            "0.hcl:9: seal \"awskms\" is one of Vault's that this server cannot use; write seal \"keyfile\" { path = \"...\" }, or none for shares",
            "0.hcl:10: listener \"tcp\": tls_key_file: missing; name a PEM file, or set tls_disable = true to listen without TLS",
            "0.hcl:11: listener \"tcp\": adress: nobody knows this key; did you mean address?",
            "0.hcl:13: listener \"tcp\": tls_min_version: \"ssl3\" is not known; write \"tls12\" or \"tls13\"",
            "0.hcl:14: listener \"tcp\": x_forwarded_for_authorized_addrs: \"10.0.0.0/40\" is no address or block such as \"10.0.0.0/8\"",
            "0.hcl:15: listener \"tcp\": max_request_size: a whole number was expected, not \"much\"",
            "0.hcl:16: listener \"tcp\": custom_response_headers: \"6xx\" is no status; write \"default\", \"2xx\" or \"301\"",
            "0.hcl:16: listener \"tcp\": custom_response_headers: X-Vault-Token: X-Vault headers cannot be set",
            "0.hcl:18: listener \"udp\": only \"tcp\" and \"unix\" are known",
            "0.hcl:19: listener: its type is missing; write listener \"type\" { ... }",
            "0.hcl:20: telemetry: a block was expected, not 5",
        ]
    );
}

/// Story: of several groups that set one header the last in the file won: "default" behind "200" took its place.
#[test]
fn the_headers_closest_to_a_status_come_last_wherever_they_stand() {
    let text = r#"
listener "tcp" {
  tls_disable = true
  custom_response_headers { "200" = { "X-A" = ["exact"] } "2xx" = { "X-A" = ["class"] } "default" = { "X-A" = ["any"] } }
}
"#;
    let config = whole(text);
    let order: Vec<&str> = config.listeners[0].custom_headers.iter().map(|group| group.status.as_str()).collect();
    assert_eq!(order, ["default", "2xx", "200"]);
}

/// Story: headers that are none were dropped without a word, and a `Content-Length` was taken: every answer ended where it said.
#[test]
fn headers_that_answers_cannot_have_are_refused() {
    let text = r#"
listener "tcp" {
  tls_disable = true
  custom_response_headers { "default" = {
    "Content-Length" = ["5"]
    "transfer-encoding" = ["chunked"]
    "Bad Name" = ["x"]
    "X-Line" = ["a\nb"]
    "X-Good" = ["x"]
  } }
}
"#;
    let whose = "listener \"tcp\": custom_response_headers:";
    assert_eq!(
        read(&[text]).unwrap_err(),
        [
            format!(
                "0.hcl:5: {whose} Content-Length: the server alone sets this header: it says where an answer ends and how it is packed"
            ),
            format!(
                "0.hcl:6: {whose} transfer-encoding: the server alone sets this header: it says where an answer ends and how it is packed"
            ),
            format!("0.hcl:7: {whose} Bad Name: this is no name of a header"),
            format!("0.hcl:8: {whose} X-Line: its value has characters that no header can carry"),
        ]
    );
}

/// Story: a size of -1, by which files for Vault switch the limit off, stopped the server.
#[test]
fn a_size_below_zero_is_no_limit_of_its_own() {
    for size in ["-1", "0", "\"-1\""] {
        let config = whole(&format!("listener \"tcp\" {{\n tls_disable = true\n max_request_size = {size}\n}}"));
        assert_eq!(config.listeners[0].max_request_size, Some(0), "{size}");
    }
}

#[test]
fn keys_without_meaning_are_named_with_the_reason() {
    let text = r#"
plugin_directory = "/x"
cache_size = 5
service_registration "consul" { }
storage "raft" {
  path = "/data"
  node_id = "n1"
  retry_join { leader_api_addr = "https://a" }
}
listener "tcp" {
  tls_disable = true
  tls_min_version = "tls10"
  cluster_address = ":8201"
}
telemetry { statsd_address = "localhost:8125" }
ui = true
ui = false
"#;
    let (config, warnings) = read(&[text]).unwrap();
    assert_eq!(config.storage, Some(Storage::Sqlite { path: "/data/daypass.db".into() }));
    assert!(!config.ui);
    assert_eq!(
        warnings,
        [
            "0.hcl:2: plugin_directory has no effect on this server: engines and methods are built in; there are no plugins",
            "0.hcl:3: cache_size has no effect on this server: what is cached is kept by the store",
            "0.hcl:4: service_registration has no effect on this server: nodes are not registered anywhere; point a load balancer at sys/health",
            "0.hcl:5: storage \"raft\": path: taken as the embedded store at /data/daypass.db; data that Vault left there is not read",
            "0.hcl:7: storage \"raft\": node_id has no effect on this server: the embedded store is one file without raft",
            "0.hcl:8: storage \"raft\": retry_join has no effect on this server: the embedded store is one file without raft",
            "0.hcl:12: listener \"tcp\": tls_min_version: tls10 is not spoken; the oldest version accepted is tls12",
            "0.hcl:13: listener \"tcp\": cluster_address has no effect on this server: nodes share a store; there is no cluster port",
            "0.hcl:15: telemetry: statsd_address has no effect on this server: metrics are read at sys/metrics, not sent anywhere",
            "0.hcl:17: ui is set twice; the later one counts",
        ]
    );
}

/// Story: files that Vault reads were refused for keys of Vault's that "nobody knows".
#[test]
fn keys_of_vault_that_have_no_effect_stop_no_server() {
    let text = r#"
disable_printable_check = true
cluster_cipher_suites = "TLS_AES_128_GCM_SHA256"
cloud { resource_id = "x" }
log_requests_level = "info"
listener "tcp" {
  tls_disable = true
  max_token_header_size = 8192
  purpose = ["api"]
  cors_enabled = true
  cors_allowed_origins = ["*"]
  cors_allowed_headers = ["x"]
  disable_printable_check = true
}
"#;
    let (_, warnings) = read(&[text]).unwrap();
    assert_eq!(
        warnings,
        [
            "0.hcl:2: disable_printable_check has no effect on this server: paths are always checked: what cannot be seen makes two paths look the same",
            "0.hcl:3: cluster_cipher_suites has no effect on this server: nodes share a store; there is no cluster port",
            "0.hcl:4: cloud has no effect on this server: this node is not linked to HCP; manage it where it runs",
            "0.hcl:5: log_requests_level has no effect on this server: requests are not logged; an audit device records each of them",
            "0.hcl:8: listener \"tcp\": max_token_header_size has no effect on this server: all headers of a request together have a limit of 64 KiB, which is not set",
            "0.hcl:9: listener \"tcp\": purpose has no effect on this server: every listener serves the API",
            "0.hcl:10: listener \"tcp\": cors_enabled has no effect on this server: origins are allowed at sys/config/cors, for all listeners",
            "0.hcl:11: listener \"tcp\": cors_allowed_origins has no effect on this server: origins are allowed at sys/config/cors, for all listeners",
            "0.hcl:12: listener \"tcp\": cors_allowed_headers has no effect on this server: origins are allowed at sys/config/cors, for all listeners",
            "0.hcl:13: listener \"tcp\": disable_printable_check has no effect on this server: paths are always checked: what cannot be seen makes two paths look the same",
        ]
    );
}

/// `hsm` and `kms` are seals: to read past them would leave the root key in shares where the file says otherwise.
#[test]
fn a_seal_by_another_of_its_names_is_a_seal() {
    for name in ["seal", "hsm", "kms"] {
        let wrong = read(&[&format!("{name} \"pkcs11\" {{ lib = \"/x\" }}")]).unwrap_err();
        assert!(wrong[0].starts_with("0.hcl:1: seal \"pkcs11\" is one of Vault's that this server cannot use"), "{wrong:?}");
        assert_eq!(whole(&format!("{name} \"keyfile\" {{ path = \"/k\" }}")).seal, Seal::KeyFile { path: "/k".into() });
    }
}

#[test]
fn a_listener_has_its_type_as_label_or_as_key() {
    let labelled = whole("listener \"tcp\" {\n address = \"[::]:9\"\n tls_disable = true\n}");
    for text in [
        "listener {\n type = \"tcp\"\n address = \"[::]:9\"\n tls_disable = true\n}",
        "listener \"tcp\" {\n type = \"tcp\"\n address = \"[::]:9\"\n tls_disable = true\n}",
        r#"{"listener": [{"type": "tcp", "address": "[::]:9", "tls_disable": true}]}"#,
        r#"{"listener": {"type": "tcp", "address": "[::]:9", "tls_disable": true}}"#,
    ] {
        assert_eq!(whole(text), labelled, "{text}");
    }
    let wrong = read(&["listener \"unix\" {\n address = \"/s\"\n type = \"tcp\"\n}"]).unwrap_err();
    assert_eq!(wrong, ["0.hcl:3: listener \"unix\": type: \"tcp\" is not what the block's label says"]);
}

#[test]
fn the_longest_that_a_request_may_take_is_each_listeners_own_or_the_files() {
    for (text, expected) in [
        ("", None),
        ("default_max_request_duration = \"0\"", None),
        ("default_max_request_duration = \"10s\"", Some(10)),
        ("default_max_request_duration = \"10s\"\nlistener \"unix\" { address = \"/a\" }", Some(10)),
        ("default_max_request_duration = \"10s\"\nlistener \"unix\" {\n address = \"/a\"\n max_request_duration = 5\n}", Some(5)),
        ("listener \"unix\" {\n address = \"/a\"\n max_request_duration = 5\n}\nlistener \"unix\" { address = \"/b\" }", Some(5)),
        (
            "default_max_request_duration = 10\nlistener \"unix\" {\n address = \"/a\"\n max_request_duration = 5\n}\nlistener \"unix\" { address = \"/b\" }",
            Some(10),
        ),
    ] {
        assert_eq!(whole(text).request_seconds(), expected.map(Seconds), "{text}");
    }
    let tokens = |keys: &str| whole(&format!("listener \"tcp\" {{\n tls_disable = true\n {keys}\n}}")).listeners[0].json.tokens_max;
    assert_eq!(tokens("max_json_token = 7"), Some(7));
    assert_eq!(tokens("max_json_token_count = 8"), Some(8));
    assert_eq!(tokens("max_json_token = 9\n max_json_token_count = 8"), Some(8));
}

#[test]
fn several_files_add_up_as_in_vault() {
    let one = "listener \"tcp\" { tls_disable = true }\nmax_lease_ttl = \"10h\"\nlog_level = \"info\"\nui = true\nstorage \"file\" { path = \"/one\" }";
    let two = "listener \"tcp\" {\n address = \"[::]:8300\"\n tls_disable = true\n}\nmax_lease_ttl = \"5h\"\nlog_level = \"debug\"\nstorage \"inmem\" {}";
    let (config, warnings) = read(&[one, two]).unwrap();
    assert_eq!(
        config.listeners.iter().map(|listener| listener.place.clone()).collect::<Vec<_>>(),
        [Place::Tcp("127.0.0.1:8200".into()), Place::Tcp("[::]:8300".into())]
    );
    assert_eq!(config.max_lease_ttl, Some(Seconds(36000)));
    assert_eq!((config.log.level.as_deref(), config.ui, config.storage), (Some("debug"), true, Some(Storage::Memory)));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn directories_are_read_by_name_without_editors_leavings() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("b.json", r#"{"cluster_name": "b"}"#), ("a.hcl", "cluster_name = \"a\""), ("c.hcl~", "?"), (".#d.hcl", "?"), ("e.txt", "?")]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let (config, _) = load_with(&[folder.path().to_owned()], no_environment).unwrap();
    assert_eq!(config.cluster_name.as_deref(), Some("b"));
    assert_eq!(config.files, ["a.hcl", "b.json"].map(|name| folder.path().join(name)));
    let missing = load_with(&[folder.path().join("none.hcl")], no_environment).unwrap_err();
    assert!(missing.to_string().contains("none.hcl: cannot be read: No such file"));
    let empty = tempfile::tempdir().unwrap();
    assert!(
        load_with(&[empty.path().to_owned()], no_environment)
            .unwrap_err()
            .to_string()
            .ends_with("no file in this directory ends in .hcl or .json")
    );
}

#[test]
fn environment_wins_where_vault_lets_it() {
    let environment = |name: &str| match name {
        "VAULT_API_ADDR" => Some("http://vault:1".to_owned()),
        "DAYPASS_API_ADDR" => Some("http://ours:1".to_owned()),
        "VAULT_UI" => Some("true".to_owned()),
        "VAULT_RAFT_PATH" => Some("/env".to_owned()),
        "VAULT_LEASE_TTL" => panic!("not read"),
        _ => None,
    };
    let (config, _) = read_with(&["api_addr = \"http://file:1\"\nstorage \"raft\" {}"], environment).unwrap();
    assert_eq!(config.api_addr.as_deref(), Some("http://ours:1"));
    assert!(config.ui);
    assert_eq!(config.storage, Some(Storage::Sqlite { path: "/env/daypass.db".into() }));
    let wrong = read_with(&[""], |name| (name == "VAULT_UI").then(|| "maybe".to_owned())).unwrap_err();
    assert_eq!(wrong, ["environment: VAULT_UI: \"maybe\" is neither true nor false"]);
}

#[test]
fn text_that_is_no_hcl_is_reported_by_place() {
    assert_eq!(
        read(&["ui = \nlistener \"tcp\" {\n  address = [1\n}\n", "ui = ?"]).unwrap_err(),
        [
            "0.hcl:2: column 1: a value was expected, got: IDENT",
            "0.hcl:4: column 1: error parsing list, expected comma or list end, got: RBRACE",
            "1.hcl:1: column 6: illegal char '?'",
        ]
    );
}

#[test]
fn default_over_max_is_a_mistake() {
    let wrong = read(&["default_lease_ttl = \"2h\"", "max_lease_ttl = \"1h\""]).unwrap_err();
    assert_eq!(wrong, ["configuration: default_lease_ttl 2h0m0s is over max_lease_ttl 1h0m0s"]);
    for alone in ["default_lease_ttl = \"1000h\"", "default_lease_ttl = \"1000h\"\nmax_lease_ttl = 0"] {
        let wrong = read(&[alone]).unwrap_err();
        assert!(wrong[0].starts_with("configuration: default_lease_ttl 1000h0m0s is over max_lease_ttl, which is 768h0m0s"), "{wrong:?}");
    }
}

/// Story: `default_lease_ttl = "0"`, written by those who want Vault's default, made every token without a lifetime of its own dead at birth.
#[test]
fn a_lifetime_of_zero_is_vaults_default() {
    let day = Seconds(86_400);
    for (text, expected) in [
        ("default_lease_ttl = \"0\"\nmax_lease_ttl = \"0s\"", SystemTtls::default()),
        ("default_lease_ttl = 0", SystemTtls::default()),
        ("max_lease_ttl = \"24h\"\ndefault_lease_ttl = \"0s\"", SystemTtls { default: day, max: day }),
        ("default_lease_ttl = \"24h\"", SystemTtls { default: day, max: SystemTtls::default().max }),
    ] {
        assert_eq!(read(&[text]).unwrap().0.ttls(), expected, "{text}");
    }
}

#[test]
fn addresses_get_vaults_port() {
    for (written, expected) in [
        ("0.0.0.0", "0.0.0.0:8200"),
        ("::1", "[::1]:8200"),
        ("[::1]", "[::1]:8200"),
        ("vault.local", "vault.local:8200"),
        (":9", ":9"),
        ("[::]:1", "[::]:1"),
    ] {
        let config = whole(&format!("listener \"tcp\" {{ address = \"{written}\" tls_disable = true }}"));
        assert_eq!(config.listeners[0].place, Place::Tcp(expected.into()), "{written}");
    }
    assert!(read(&["listener \"tcp\" { address = \"a:b\" tls_disable = true }"]).unwrap_err()[0].contains("is no address"));
}

#[test]
fn blocks_of_addresses_hold_their_addresses() {
    for (block, address, expected) in [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("0.0.0.0/0", "1.2.3.4", true),
        ("1.2.3.4", "1.2.3.4", true),
        ("1.2.3.4", "1.2.3.5", false),
        ("10.0.0.0/8", "::ffff:10.0.0.1", true),
        ("fe80::/10", "fe80::1", true),
        ("::/0", "1.2.3.4", false),
    ] {
        assert_eq!(Cidr::parse(block).unwrap().contains(address.parse().unwrap()), expected, "{block} {address}");
    }
    assert!(["10.0.0.0/33", "x", "1.2.3", "1.2.3.4/x"].iter().all(|text| Cidr::parse(text).is_none()));
}

#[test]
fn traces_go_where_they_are_told_and_nowhere_else() {
    let read_one = |inside: &str| read(&[&format!("telemetry {{\n{inside}\n}}")]);
    let traces = |inside: &str| read_one(inside).unwrap().0.telemetry.traces;
    assert_eq!(traces(""), None);
    assert_eq!(traces("otlp_traces_endpoint = \"\""), None);
    let url = "otlp_traces_endpoint = \"http://127.0.0.1:4318/v1/traces\"";
    assert_eq!(traces(url).unwrap().ratio, None);
    for (share, ratio) in [("1", 1.0), ("0", 0.0), ("0.001", 0.001), ("\"0.5\"", 0.5)] {
        assert_eq!(traces(&format!("{url}\notlp_traces_ratio = {share}")).unwrap().ratio, Ratio::of(ratio), "{share}");
    }
    for (inside, wrong) in [
        (
            "otlp_traces_endpoint = \"collector:4317\"",
            "0.hcl:2: telemetry: otlp_traces_endpoint: \"collector:4317\" cannot be used: it must begin with http:// or https://; write it as \"http://127.0.0.1:4318/v1/traces\"",
        ),
        (
            "otlp_traces_endpoint = 5",
            "0.hcl:2: telemetry: otlp_traces_endpoint: \"5\" cannot be used: it must begin with http:// or https://; write it as \"http://127.0.0.1:4318/v1/traces\"",
        ),
        (&format!("{url}\notlp_traces_ratio = 1.5"), "0.hcl:3: telemetry: otlp_traces_ratio: a number from 0 to 1 was expected, not 1.5"),
        (
            &format!("{url}\notlp_traces_ratio = \"half\""),
            "0.hcl:3: telemetry: otlp_traces_ratio: a number from 0 to 1 was expected, not \"half\"",
        ),
        ("otlp_traces_ratio = 0.5", "0.hcl:2: telemetry: otlp_traces_ratio: there are no traces without otlp_traces_endpoint"),
        (
            "otlp_trace_endpoint = \"x\"",
            "0.hcl:2: telemetry: otlp_trace_endpoint: nobody knows this key; did you mean otlp_traces_endpoint?",
        ),
    ] {
        assert_eq!(read_one(inside).unwrap_err(), [wrong], "{inside}");
    }
}
