//! Figures for `sys/metrics`: plain atomics, laid out at start. Counting takes no lock and allocates nothing; the texts are made when
//! somebody asks. Labels are a mount's type, a stage, a status class: never what a client sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod show;

pub(crate) use show::{Family, Point, Reading, counter, gauge, json, prometheus};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper ends of the steps of every histogram, in microseconds.
const STEPS: [u64; 9] = [250, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 2_000_000, 10_000_000];

/// How long something took, each time.
#[derive(Debug)]
pub(crate) struct Timer {
    steps: [Counter; STEPS.len()],
    count: Counter,
    micros: AtomicU64,
    least: AtomicU64,
    most: AtomicU64,
}

impl Default for Timer {
    fn default() -> Self {
        Self {
            steps: Default::default(),
            count: Counter::default(),
            micros: AtomicU64::new(0),
            least: AtomicU64::new(u64::MAX),
            most: AtomicU64::new(0),
        }
    }
}

impl Timer {
    pub(crate) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.least.fetch_min(micros, Ordering::Relaxed);
        self.most.fetch_max(micros, Ordering::Relaxed);
        if let Some((_, step)) = STEPS.iter().zip(&self.steps).find(|(end, _)| micros <= **end) {
            step.add();
        }
        self.count.add();
    }

    fn read(&self) -> Times {
        let mut below = 0;
        let steps = STEPS.iter().zip(&self.steps).map(|(end, step)| {
            below += step.get();
            (*end, below)
        });
        let steps: Vec<(u64, u64)> = steps.collect();
        // Never less than the last step, though somebody counts while this reads.
        let count = self.count.get().max(below);
        let least = if count == 0 { 0 } else { self.least.load(Ordering::Relaxed) };
        Times { steps, count, sum: self.micros.load(Ordering::Relaxed), least, most: self.most.load(Ordering::Relaxed) }
    }
}

/// What a [`Timer`] held when it was read; times in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// Upper ends, and how many were at or below.
    steps: Vec<(u64, u64)>,
    count: u64,
    sum: u64,
    least: u64,
    most: u64,
}

/// The figures of one type of engine.
#[derive(Debug, Default)]
struct OfKind {
    name: &'static str,
    requests: Timer,
    leases: Counter,
}

/// All figures that the core counts from its start on.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    kinds: Vec<OfKind>,
    /// Requests that led to no mount.
    nowhere: Timer,
    requests: Timer,
    logins: Timer,
    statuses: [Counter; CLASSES.len()],
    identify: Timer,
    audit: Timer,
    run: Timer,
    pub(crate) quota_violations: Counter,
    pub(crate) audit_request_failures: Counter,
    pub(crate) audit_response_failures: Counter,
}

/// A stage of the pipeline whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Identify,
    /// Until a device has the record of the request.
    Audit,
    Run,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Audit => "audit",
            Self::Run => "run",
        }
    }
}

/// Classes of statuses by their first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Types that are mounted in every server.
const BUILTIN: [&str; 4] = ["cubbyhole", "identity", "system", "token"];

impl Metrics {
    /// With a place for each of these types of engines.
    pub(crate) fn new(kinds: impl IntoIterator<Item = &'static str>) -> Self {
        let mut names: Vec<&'static str> = BUILTIN.into_iter().chain(kinds).collect();
        names.sort_unstable();
        names.dedup();
        Self { kinds: names.into_iter().map(|name| OfKind { name, ..OfKind::default() }).collect(), ..Self::default() }
    }

    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        self.of_stage(stage).took(took);
    }

    fn of_stage(&self, stage: Stage) -> &Timer {
        match stage {
            Stage::Identify => &self.identify,
            Stage::Audit => &self.audit,
            Stage::Run => &self.run,
        }
    }

    pub(crate) fn answered(&self, status: u16) {
        if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|class| self.statuses.get(class)) {
            class.add();
        }
    }

    /// A request to a mount of this type took so long. No type: it led nowhere.
    pub(crate) fn request(&self, kind: &str, login: bool, took: Duration) {
        if login { &self.logins } else { &self.requests }.took(took);
        self.of(kind).map_or(&self.nowhere, |kind| &kind.requests).took(took);
    }

    pub(crate) fn lease(&self, kind: &str) {
        if let Some(kind) = self.of(kind) {
            kind.leases.add();
        }
    }

    fn of(&self, kind: &str) -> Option<&OfKind> {
        let place = self.kinds.binary_search_by(|known| known.name.cmp(kind)).ok()?;
        self.kinds.get(place)
    }

    /// What was counted so far.
    pub(crate) fn families(&self) -> Vec<Family> {
        let of_kind = |name: &'static str, reading| Point { labels: vec![("mount_type", name.to_owned())], reading };
        let labelled = |label: &'static str, value: &str, reading| Point { labels: vec![(label, value.to_owned())], reading };
        let used = self.kinds.iter().map(|kind| (kind.name, kind.requests.read())).chain([("none", self.nowhere.read())]);
        let requests = used.filter(|(_, times)| times.count > 0).map(|(name, times)| of_kind(name, Reading::Histogram(times)));
        let leases = self.kinds.iter().filter(|kind| kind.leases.get() > 0);
        let stages = [Stage::Identify, Stage::Audit, Stage::Run];
        let statuses = CLASSES.iter().zip(&self.statuses);
        let summary = |name, help, timer: &Timer| Family { name, help, points: vec![Point::plain(Reading::Summary(timer.read()))] };
        vec![
            summary("vault.core.handle_request", "Milliseconds that requests took, logins apart.", &self.requests),
            summary("vault.core.handle_login_request", "Milliseconds that logins took.", &self.logins),
            Family {
                name: "vault.core.response_status_code",
                help: "Answers by the class of their status.",
                points: statuses.map(|(class, count)| labelled("type", class, Reading::Counter(count.get()))).collect(),
            },
            counter("vault.audit.log_request_failure", "Requests that no audit device took.", self.audit_request_failures.get()),
            counter("vault.audit.log_response_failure", "Answers that no audit device took.", self.audit_response_failures.get()),
            counter("vault.quota.rate_limit.violation", "Requests over a rate limit quota.", self.quota_violations.get()),
            Family {
                name: "vault.secret.lease.creation",
                help: "Leases made, by the type of the mount.",
                points: leases.map(|kind| labelled("secret_engine", kind.name, Reading::Counter(kind.leases.get()))).collect(),
            },
            Family { name: "daypass.request.seconds", help: "Time of requests by the type of the mount.", points: requests.collect() },
            Family {
                name: "daypass.stage.seconds",
                help: "Time that requests spent in a stage.",
                points: stages.map(|stage| labelled("stage", stage.name(), Reading::Histogram(self.of_stage(stage).read()))).into(),
            },
        ]
    }
}
