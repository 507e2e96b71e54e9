//! `docs/limits.md` against the struct: a limit that is not documented, or documented with another number, fails here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use daypass_base::Limits;

/// Every limit and its default as the page writes it. All fields are named: a new one does not compile until it is here.
fn limits() -> BTreeMap<&'static str, String> {
    let Limits {
        connections,
        handshake_timeout,
        header_timeout,
        body_timeout,
        idle_timeout,
        park_after,
        linger,
        streams,
        stream_resets,
        requests,
        headers,
        header_bytes,
        uri_bytes,
        path_bytes,
        path_segments,
        query_parameters,
        body_bytes,
        all_bodies_bytes,
        snapshot_bytes,
        json_depth,
        json_string_bytes,
        json_object_entries,
        json_array_elements,
        json_tokens,
        json_memory_bytes,
        all_fields_bytes,
        audit_data_bytes,
        audit_stranger_data_bytes,
        request_seconds,
        list_names,
        mounts,
        policy_sets_cached,
        policy_sets_bytes,
        entities_cached,
        sts_leases_listed,
        mints_kept,
        mint_retention,
    } = Limits::default();
    let time = |length: Duration| format!("{}s", length.as_secs_f64());
    BTreeMap::from([
        ("connections", connections.to_string()),
        ("handshake_timeout", time(handshake_timeout)),
        ("header_timeout", time(header_timeout)),
        ("body_timeout", time(body_timeout)),
        ("idle_timeout", time(idle_timeout)),
        ("park_after", time(park_after)),
        ("linger", time(linger)),
        ("streams", streams.to_string()),
        ("stream_resets", stream_resets.to_string()),
        ("requests", requests.to_string()),
        ("headers", headers.to_string()),
        ("header_bytes", header_bytes.to_string()),
        ("uri_bytes", uri_bytes.to_string()),
        ("path_bytes", path_bytes.to_string()),
        ("path_segments", path_segments.to_string()),
        ("query_parameters", query_parameters.to_string()),
        ("body_bytes", body_bytes.to_string()),
        ("all_bodies_bytes", all_bodies_bytes.to_string()),
        ("snapshot_bytes", snapshot_bytes.to_string()),
        ("json_depth", json_depth.to_string()),
        ("json_string_bytes", json_string_bytes.to_string()),
        ("json_object_entries", json_object_entries.to_string()),
        ("json_array_elements", json_array_elements.to_string()),
        ("json_tokens", json_tokens.to_string()),
        ("json_memory_bytes", json_memory_bytes.to_string()),
        ("all_fields_bytes", all_fields_bytes.to_string()),
        ("audit_data_bytes", audit_data_bytes.to_string()),
        ("audit_stranger_data_bytes", audit_stranger_data_bytes.to_string()),
        ("request_seconds", time(request_seconds.duration())),
        ("list_names", list_names.to_string()),
        ("mounts", mounts.to_string()),
        ("policy_sets_cached", policy_sets_cached.to_string()),
        ("policy_sets_bytes", policy_sets_bytes.to_string()),
        ("entities_cached", entities_cached.to_string()),
        ("sts_leases_listed", sts_leases_listed.to_string()),
        ("mints_kept", mints_kept.to_string()),
        ("mint_retention", time(mint_retention.duration())),
    ])
}

#[test]
fn the_page_names_every_limit_with_its_default_its_key_and_what_is_beyond() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md")).unwrap();
    let mut documented = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, default, key, beyond] = cells[..] else { panic!("four cells are wanted: {line}") };
        assert!(key.starts_with('`') || key.starts_with("fixed"), "a key, or why there is none: {line}");
        assert!(beyond.len() > 2, "what the client sees: {line}");
        assert!(documented.insert(name.trim_matches('`').to_owned(), default.to_owned()).is_none(), "twice: {line}");
    }
    let wanted: BTreeMap<String, String> = limits().into_iter().map(|(name, default)| (name.to_owned(), default)).collect();
    assert_eq!(documented, wanted);
}
