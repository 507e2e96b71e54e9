//! A day of steady work on a store on disk: what is stored follows what lives, the file follows what is stored, memory stays what it was.
//!
//! A quarter of an hour by itself; `DAYPASS_HOURS` sets how many hours.

use std::time::Duration;

use daypass_storage::Space;
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

use crate::number;

/// What was there at the end of an hour.
#[derive(Debug, Clone, Copy)]
struct Sample {
    hour: u64,
    /// Rows of tokens, of leases, of the index; entries of the expiry index.
    rows: [usize; 4],
    /// Bytes of keys and values.
    live: u64,
    file: u64,
    resident: u64,
}

async fn sample(server: &TestServer, hour: u64) -> Sample {
    server.aws().forget_calls();
    // Before the rows are read, all of them at once.
    let resident = resident();
    let mut rows = [0; 4];
    let mut live = 0;
    for (at, space) in [(0, Space::Token), (1, Space::Lease), (2, Space::Index), (3, Space::Config)] {
        let all = server.rows(space).await;
        rows[at] = all.len();
        live += all.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    }
    rows[3] = server.expiry_entries().await;
    let size = |name: &str| std::fs::metadata(server.folder().unwrap().join(name)).map_or(0, |file| file.len());
    Sample { hour, rows, live: u64::try_from(live).unwrap(), file: size("daypass.db"), resident }
}

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

async fn prepare(server: &TestServer) -> (String, String) {
    server.operator().await;
    server.put("sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } })).await.ok();
    server.seconds(5).await;
    crate::aws::prepare(server).await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    server.put("auth/approle/role/r", json!({ "token_ttl": "10m", "token_policies": "everything" })).await.ok();
    let role = server.get("auth/approle/role/r/role-id").await.ok().text("/data/role_id");
    let secret = server.put("auth/approle/role/r/secret-id", json!({})).await.ok().text("/data/secret_id");
    (role, secret)
}

/// What is asked for in one minute.
async fn minute(server: &TestServer, number: u64, role: &str, secret: &str) {
    let login = server.put("auth/approle/login", json!({ "role_id": role, "secret_id": secret })).nobody().await.ok().token();
    for _ in 0..3 {
        server.put("aws/sts/deploy", json!({ "ttl": "15m" })).token(&login).await.ok();
        let child = server.put("auth/token/create", json!({ "ttl": "5m" })).token(&login).await.ok().token();
        server.put("cubbyhole/a", json!({ "number": number })).token(&child).await.ok();
    }
    server.put(&format!("kv/data/k{}", number % 50), json!({ "data": { "v": "x".repeat(200) } })).await.ok();
    server.get(&format!("kv/data/k{}", number % 50)).await.ok();
    let wrapped = server.put("sys/wrapping/wrap", json!({ "v": number })).wrap("300s").await.ok().wrapped();
    if number.is_multiple_of(2) {
        server.put("sys/wrapping/unwrap", Value::Null).token(&wrapped).await.ok();
    }
    if number.is_multiple_of(5) {
        server.get("aws/creds/ci").await.ok();
        server.put("auth/approle/role/r/secret-id", json!({ "ttl": "10m", "num_uses": 3 })).await.ok();
    }
    server.seconds(60).await;
}

/// The store gives space back a little at a time, in real time, after the last write.
async fn given_back(server: &TestServer) {
    let mut last = 0;
    for _ in 0..50 {
        let file = std::fs::metadata(server.folder().unwrap().join("daypass.db")).map_or(0, |file| file.len());
        let log = std::fs::metadata(server.folder().unwrap().join("daypass.db-wal")).map_or(0, |file| file.len());
        if log == 0 && file == last {
            return;
        }
        last = file;
        pause().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the store's own thread works in real time")]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_day_of_steady_work_leaves_the_store_and_memory_as_large_as_what_lives() {
    let hours = number("DAYPASS_HOURS", 0);
    let minutes = if hours == 0 { 15 } else { 60 };
    let server = Setup::default().on_disk().start().await;
    let (role, secret) = prepare(&server).await;
    let mut samples = Vec::new();
    for hour in 1..=hours.max(1) {
        for number in 0..minutes {
            minute(&server, hour * 60 + number, &role, &secret).await;
        }
        given_back(&server).await;
        let sample = sample(&server, hour).await;
        println!("{sample:?}, {} users", server.aws().users().len());
        samples.push(sample);
    }
    let (first, last) = (samples[samples.len().min(2) - 1], samples[samples.len() - 1]);
    for sample in &samples {
        // Ten logins live at a time, fifteen children, six secret ids, six users: some hundred rows, and as many in the last hour as in the second.
        for (now, then) in sample.rows.iter().zip(first.rows) {
            assert!(*now <= then + then / 5 + 8, "hour {}: {:?}, and {:?} in hour {}", sample.hour, sample.rows, first.rows, first.hour);
        }
        let room = sample.live + sample.live * 3 / 10 + SPARE;
        assert!(sample.file <= room, "hour {}: {} bytes of {} live ones", sample.hour, sample.file, sample.live);
    }
    // The caches of rows, 12 MiB of them at most, fill in the first hours, and the ledger of mints grows for as long as it is kept. Other tests
    // of this process would be seen here: only the long form looks.
    if let (Some(settled), true) = (samples.get(11), hours >= 24) {
        assert!(last.resident <= settled.resident + settled.resident / 10, "{settled:?}, {last:?}");
    }
}

/// Free pages that the store keeps for the next writes, and the pages of its tables that are begun.
const SPARE: u64 = 2 * 1024 * 1024;
