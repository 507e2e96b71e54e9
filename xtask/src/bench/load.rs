//! Workloads, and wrk to run them.

use super::target::{Target, own_children};
use crate::process::Log;
use std::process::Command;

/// One kind of request.
pub(crate) struct Workload {
    /// As the tables call it.
    pub(crate) name: &'static str,
    method: &'static str,
    path: &'static str,
    body: String,
    keys: u32,
    /// The token has no policy `default`.
    bare_token: bool,
    /// It asks AWS, which a peer without its AWS plugin cannot.
    pub(crate) mints: bool,
    /// What the project wants at 64 connections.
    pub(crate) goal: Goal,
}

/// The goal for a workload, and the peers' figures that it was set by (measured once, on another day).
pub(crate) struct Goal {
    /// Microseconds per request: Vault, OpenBao, and the floor that was built up from measured primitives.
    pub(crate) cpu: [Option<f64>; 3],
    /// The peer's processor time per request, divided by ours.
    pub(crate) cpu_ratio: f64,
    /// Our requests a second, divided by the peer's.
    pub(crate) rate_ratio: f64,
}

/// What one run showed, or the medians of several. Times in microseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// The server's processor time per request, user and system, its children not counted.
    pub(crate) cpu: f64,
    /// The fake AWS's, where it is asked.
    pub(crate) sandbox_cpu: f64,
    /// Share of the machine that programs took which have no part in this: 0 to 1.
    pub(crate) others: f64,
}

/// The plan, with the goals of this project.
pub(crate) fn all(keys: u32) -> Vec<Workload> {
    let value = format!("{{\"data\":{{\"v\":\"{}\"}}}}", "x".repeat(1000));
    let goal = |vault, bao: f64, floor, cpu_ratio, rate_ratio| Goal {
        cpu: [Some(vault), (bao > 0.0).then_some(bao), Some(floor)],
        cpu_ratio,
        rate_ratio,
    };
    let get = |name, path, goal| Workload {
        name,
        method: "GET",
        path,
        body: String::new(),
        keys: 0,
        bare_token: false,
        mints: false,
        goal,
    };
    let lookup = "/v1/auth/token/lookup-self";
    let secret = "/v1/bench/data/%d";
    vec![
        get("sys/health", "/v1/sys/health", goal(45.0, 33.0, 8.0, 4.0, 3.0)),
        get("token lookup-self", lookup, goal(471.0, 457.0, 10.5, 33.0, 18.0)),
        Workload { bare_token: true, ..get("lookup-self without `default`", lookup, goal(139.0, 144.0, 10.5, 10.0, 7.0)) },
        Workload { keys, ..get("KV v2 read, 1 KB of 10 k keys", secret, goal(462.0, 477.0, 11.0, 30.0, 17.0)) },
        Workload {
            method: "PUT",
            body: value,
            keys,
            ..get("KV v2 write, 1 KB, durable", secret, goal(1139.0, 1216.0, 17.0, 40.0, 25.0))
        },
        Workload {
            method: "PUT",
            body: "{\"ttl\":\"15m\"}".to_owned(),
            mints: true,
            ..get("aws/sts mint, sandbox", "/v1/aws/sts/bench", goal(1519.0, 2327.0, 31.0, 30.0, 20.0))
        },
        Workload {
            method: "POST",
            body: "{\"ttl\":\"1h\"}".to_owned(),
            ..get("token create", "/v1/auth/token/create", goal(2102.0, 2152.0, 19.0, 65.0, 40.0))
        },
        get("policy read", "/v1/sys/policies/acl/bench", goal(395.0, 0.0, 10.5, 30.0, 16.0)),
    ]
}

/// One run. `sandbox` is the process whose time is reported beside the server's.
pub(crate) fn run(
    log: &mut Log,
    target: &Target,
    sandbox: u32,
    workload: &Workload,
    connections: u32,
    seconds: u64,
) -> Result<Figures, String> {
    let busy = |target: &Target| -> Result<(f64, f64, f64, f64, f64), String> {
        let (busy, all) = machine()?;
        Ok((super::target::cpu(target.pid())?, super::target::cpu(sandbox)?, own_children()?, busy, all))
    };
    let before = busy(target)?;
    let text = wrk(log, target, workload, connections, seconds)?;
    let after = busy(target)?;
    let line = text.lines().find_map(|l| l.strip_prefix("bench ")).unwrap_or_default();
    let words: Vec<f64> = line.split(' ').filter_map(|w| w.parse().ok()).collect();
    let &[requests, refused, broken, p50, p99, p999, duration] = words.as_slice() else {
        return Err(format!("wrk printed no figures:\n{text}"));
    };
    if refused + broken > 0.0 || requests < 1.0 {
        let what = format!("{requests} requests, {refused} refused, {broken} broken");
        return Err(format!("{} at {connections} connections: {what}; see {}", workload.name, log.path().display()));
    }
    let (server, aws, load) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
    let others = (after.3 - before.3 - server - aws - load).max(0.0) / (after.4 - before.4).max(0.01);
    Ok(Figures {
        rate: requests * 1e6 / duration.max(1.0),
        p50,
        p99,
        p999,
        cpu: server * 1e6 / requests,
        sandbox_cpu: aws * 1e6 / requests,
        others,
    })
}

/// Figure by figure, the median.
pub(crate) fn medians(runs: &[Figures]) -> Figures {
    let of = |pick: fn(&Figures) -> f64| median(runs.iter().map(pick).collect());
    Figures {
        rate: of(|f| f.rate),
        p50: of(|f| f.p50),
        p99: of(|f| f.p99),
        p999: of(|f| f.p999),
        cpu: of(|f| f.cpu),
        sandbox_cpu: of(|f| f.sandbox_cpu),
        others: of(|f| f.others),
    }
}

/// The middle one; the mean of the two middle ones of an even number; 0 of none.
pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| all.get(index).copied().unwrap_or(0.0);
    let half = all.len() / 2;
    if all.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.saturating_sub(1)), at(half)) }
}

fn wrk(log: &mut Log, target: &Target, workload: &Workload, connections: u32, seconds: u64) -> Result<String, String> {
    let mut command = Command::new("wrk");
    command.arg("-t1").arg(format!("-c{connections}")).arg(format!("-d{seconds}s")).arg("-s").arg(&target.script);
    command.arg(format!("http://{}", target.address)).arg("--");
    command.args([workload.method, workload.path, &workload.body, &workload.keys.to_string()]);
    command.env("BENCH_TOKEN", if workload.bare_token { &target.bare_token } else { &target.token });
    log.run(&mut command)
}

/// Seconds that the machine's processors worked, and seconds that there were, idle ones among them.
fn machine() -> Result<(f64, f64), String> {
    let stat = std::fs::read_to_string("/proc/stat").map_err(|e| format!("/proc/stat: {e}"))?;
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal: what a hypervisor steals is lost to us as to a busy neighbour.
    let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|w| w.parse().ok()).collect();
    let all: f64 = ticks.iter().sum();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok(((all - idle) / super::target::TICKS, all / super::target::TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }
}
