//! Every limit of a request in one place.

use daypass_base::Seconds;

/// Limits of requests and answers. The defaults are Vault's where Vault has one.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request body. Beyond: 413.
    pub body_bytes: usize,
    /// Levels of arrays and objects in a JSON body. Beyond: 400.
    pub json_depth: usize,
    /// Bytes of one JSON string. Beyond: 400.
    pub json_string_bytes: usize,
    /// Entries of one JSON object. Beyond: 400.
    pub json_object_entries: usize,
    /// Elements of one JSON array. Beyond: 400.
    pub json_array_elements: usize,
    /// Values in one JSON body. Beyond: 400.
    pub json_tokens: usize,
    /// Bytes of a path after decoding. Beyond: 400.
    pub path_bytes: usize,
    /// Segments of a path. Beyond: 400.
    pub path_segments: usize,
    /// Parameters of a query. Beyond: 400.
    pub query_parameters: usize,
    /// Longest time that a request may take.
    pub request_seconds: Seconds,
    /// Names in one list answer.
    pub list_names: usize,
    /// Compiled policy sets kept in memory.
    pub policy_sets_cached: usize,
    /// Callers whose groups and identity policies are kept in memory.
    pub entities_cached: usize,
    /// Mounts of one server.
    pub mounts: usize,
    /// Live STS leases whose ids are kept in memory for listings; the oldest are forgotten first.
    pub sts_leases_listed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            json_depth: 300,
            json_string_bytes: 1 << 20,
            json_object_entries: 10_000,
            json_array_elements: 10_000,
            json_tokens: 500_000,
            path_bytes: 2_048,
            path_segments: 64,
            query_parameters: 256,
            request_seconds: Seconds(90),
            list_names: daypass_sdk::LIST_MAX,
            policy_sets_cached: 1_024,
            entities_cached: 10_000,
            mounts: 10_000,
            sts_leases_listed: 100_000,
        }
    }
}
