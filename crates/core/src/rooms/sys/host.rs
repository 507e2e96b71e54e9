//! `sys/host-info`: the machine, as its kernel tells. What cannot be read is missing, and a warning says so.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use serde_json::{Map, Value, json};

use super::Sys;
use super::mounts::Nothing;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![Endpoint::at(["host-info"]).summary("Show the machine that the server runs on.").on(Operation::Read, host_info)]
}

async fn host_info(_sys: Arc<Sys>, cx: Cx, _params: Nothing) -> Result<Reply> {
    // Asking for the room on a disk may wait for that disk.
    let read = tokio::task::spawn_blocking(|| {
        [("cpu", cpu()), ("cpu_times", cpu_times()), ("disk", disk()), ("host", host()), ("memory", memory())]
    });
    let parts = read.await.map_err(|error| Error::internal("the machine could not be looked at").because(error))?;
    let missing: Vec<&str> = parts.iter().filter(|(_, part)| part.is_none()).map(|(name, _)| *name).collect();
    let mut data: Map<String, Value> = parts.iter().map(|(name, part)| ((*name).to_owned(), part.clone().unwrap_or_default())).collect();
    data.insert("timestamp".to_owned(), json!(cx.clock.now()));
    let warn = |reply: Reply, name: &&str| reply.warn(format!("{name} could not be read on this system"));
    Ok(missing.iter().fold(Reply::data(data), warn))
}

fn proc(file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{file}")).ok()
}

/// One entry per processor.
fn cpu() -> Option<Value> {
    let text = proc("cpuinfo")?;
    let one = |(number, block): (usize, &str)| {
        let field = |name: &str| {
            let named = block.lines().filter_map(|line| line.split_once(':')).find(|(known, _)| known.trim() == name);
            named.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let flags: Vec<String> = field("flags").split_whitespace().map(str::to_owned).collect();
        json!({
            "cpu": number, "vendorId": field("vendor_id"), "family": field("cpu family"), "model": field("model"),
            "stepping": field("stepping").parse::<i64>().unwrap_or_default(), "physicalId": field("physical id"), "coreId": field("core id"),
            "cores": 1, "modelName": field("model name"), "mhz": field("cpu MHz").parse::<f64>().unwrap_or_default(),
            "cacheSize": field("cache size").split(' ').next().and_then(|size| size.parse::<i64>().ok()).unwrap_or_default(),
            "flags": flags, "microcode": field("microcode"),
        })
    };
    Some(text.split("\n\n").filter(|block| !block.trim().is_empty()).take(CPUS_MAX).enumerate().map(one).collect())
}

/// Seconds that each processor spent, and with what.
fn cpu_times() -> Option<Value> {
    const NAMES: [&str; 10] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guestNice"];
    let text = proc("stat")?;
    let one = |line: &str| {
        let (cpu, ticks) = line.split_once(' ')?;
        // "cpu" alone is the sum of all.
        cpu.strip_prefix("cpu").filter(|number| !number.is_empty())?;
        let spent = ticks.split_whitespace().map(|ticks| ticks.parse::<f64>().unwrap_or_default() / TICKS_PER_SECOND);
        let mut out: Map<String, Value> = NAMES.iter().zip(spent).map(|(name, spent)| ((*name).to_owned(), json!(spent))).collect();
        out.insert("cpu".to_owned(), cpu.into());
        Some(Value::Object(out))
    };
    Some(text.lines().filter_map(one).take(CPUS_MAX).collect())
}

/// File systems that lie on a device, each once.
fn disk() -> Option<Value> {
    let text = proc("self/mounts")?;
    let mut seen = std::collections::BTreeSet::new();
    let one = |line: &str| {
        let mut words = line.split(' ');
        let (device, path, kind) = (words.next()?, words.next()?, words.next()?);
        if !(device.starts_with('/') || path == "/") || !seen.insert(device.to_owned()) {
            return None;
        }
        let room = rustix::fs::statvfs(path).ok()?;
        let (total, free) = (room.f_blocks.saturating_mul(room.f_frsize), room.f_bavail.saturating_mul(room.f_frsize));
        let used = total.saturating_sub(room.f_bfree.saturating_mul(room.f_frsize));
        let inodes_used = room.f_files.saturating_sub(room.f_ffree);
        Some(json!({
            "path": path, "fstype": kind, "total": total, "free": free, "used": used,
            "usedPercent": percent(used, used.saturating_add(free)), "inodesTotal": room.f_files, "inodesUsed": inodes_used,
            "inodesFree": room.f_ffree, "inodesUsedPercent": percent(inodes_used, room.f_files),
        }))
    };
    Some(text.lines().filter_map(one).take(DISKS_MAX).collect())
}

/// This machine's name. None: the kernel does not say it.
pub(super) fn name() -> Option<String> {
    kernel("hostname")
}

fn kernel(name: &str) -> Option<String> {
    Some(proc(&format!("sys/kernel/{name}"))?.trim().to_owned())
}

fn host() -> Option<Value> {
    let stat = proc("stat")?;
    let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok()).unwrap_or_default();
    let uptime = proc("uptime").and_then(|text| text.split('.').next()?.parse::<u64>().ok()).unwrap_or_default();
    // The fourth word: running and all tasks.
    let tasks = proc("loadavg").and_then(|text| text.split(' ').nth(3)?.split_once('/')?.1.parse::<u64>().ok());
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let named = |name: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    Some(json!({
        "hostname": name()?, "uptime": uptime, "bootTime": booted, "procs": tasks.unwrap_or_default(),
        "os": std::env::consts::OS, "platform": named("ID"), "platformFamily": named("ID_LIKE"), "platformVersion": named("VERSION_ID"),
        "kernelVersion": kernel("osrelease").unwrap_or_default(), "kernelArch": std::env::consts::ARCH,
        "virtualizationSystem": "", "virtualizationRole": "", "hostid": "",
    }))
}

fn memory() -> Option<Value> {
    let text = proc("meminfo")?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default().saturating_mul(1024)
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let used = total.saturating_sub(available);
    Some(json!({
        "total": total, "available": available, "used": used, "usedPercent": percent(used, total), "free": bytes("MemFree"),
        "active": bytes("Active"), "inactive": bytes("Inactive"), "buffers": bytes("Buffers"), "cached": bytes("Cached"),
        "dirty": bytes("Dirty"), "shared": bytes("Shmem"), "slab": bytes("Slab"), "swapTotal": bytes("SwapTotal"), "swapFree": bytes("SwapFree"),
    }))
}

/// By hundredths of a percent.
fn percent(part: u64, whole: u64) -> f64 {
    let hundredths = u128::from(part).saturating_mul(10_000).checked_div(u128::from(whole)).unwrap_or_default();
    f64::from(u32::try_from(hundredths).unwrap_or_default()) / 100.0
}

/// What Linux counts processor time in, for user space.
const TICKS_PER_SECOND: f64 = 100.0;
const CPUS_MAX: usize = 1_024;
const DISKS_MAX: usize = 256;
