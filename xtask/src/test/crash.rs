//! kill -9 under a load of writes, at random moments, again and again on one store. After each restart the server must unseal and serve,
//! every acknowledged write must be there, and no write may be there by half. [`writers`] has the kinds of writes.
//!
//! Half of the kills go to a store that a key file unseals, half to one that is unsealed by a share.
//! `DAYPASS_KILLS` says how many there are, `DAYPASS_SEED` repeats a run's moments.

mod restores;
mod store;
mod writers;

use super::{Tally, Verdict};
use crate::process::Log;
use crate::project::Project;
use crate::server::Server;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::{Client, Failure, Seal, Store};
use writers::Writer;

const KILLS: u64 = 200;

pub(super) fn run(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let kills = crate::soak::number("DAYPASS_KILLS", KILLS);
    run_for(project, log, kills).map(|(tally, _)| Verdict::Ran(tally))
}

/// So many kills. Also returns what each store went through, in a line.
pub(crate) fn run_for(project: &Project, log: &mut Log, kills: u64) -> Result<(Tally, Vec<String>), String> {
    let binary = project.daypass(log)?;
    let mut chance = Chance::new();
    let seed = chance.seed;
    log.step(&format!("{kills} times kill -9 under {} writers (seed {seed})", Writer::all().len()));
    let (mut tally, mut lines) = (Tally::default(), Vec::new());
    for (seal, kills) in [(Seal::KeyFile, kills.div_ceil(2)), (Seal::Share, kills / 2)] {
        let store = Store::new(project, binary.clone(), seal)?;
        let mut phase = Phase { store, chance: &mut chance, writers: Writer::all(), restarts: Vec::new() };
        phase.run(kills, &mut tally).map_err(|e| format!("{} (seed {seed}): {e}", seal.name()))?;
        let told = phase.told();
        println!("        {told}");
        log.note(&told);
        lines.push(told);
        // A load that wrote nothing proves nothing.
        if phase.writes() < kills {
            return Err(format!("only {} writes were acknowledged in {kills} rounds (seed {seed})", phase.writes()));
        }
    }
    let told = restores::run(project, binary, &mut chance, kills.div_ceil(10), &mut tally).map_err(|e| format!("{e} (seed {seed})"))?;
    println!("        {told}");
    log.note(&told);
    lines.push(told);
    Ok((tally, lines))
}

/// All kills on one store.
struct Phase<'a> {
    store: Store<'a>,
    chance: &'a mut Chance,
    writers: Vec<Writer>,
    /// From exec to the first healthy answer, of each restart.
    restarts: Vec<Duration>,
}

impl Phase<'_> {
    fn run(&mut self, kills: u64, tally: &mut Tally) -> Result<(), String> {
        let mut server = self.store.initialise()?;
        for round in 1..=kills {
            let refused = self.load_and_kill(server);
            let began = Instant::now();
            server = self.store.start()?;
            self.store.serve(&server)?;
            self.restarts.push(began.elapsed());
            let wrong: Vec<String> = refused.into_iter().chain(self.check(&server)).collect();
            if wrong.is_empty() {
                tally.passed += 1;
            } else {
                tally.failed += 1;
                println!("        {}, kill {round} (seed {}): {}", self.store.seal.name(), self.chance.seed, wrong.join("; "));
            }
            if round % 50 == 0 {
                println!("        {}: {round} of {kills} kills, {} acknowledged writes", self.store.seal.name(), self.writes());
            }
        }
        let client = self.store.client(&server);
        for writer in &mut self.writers {
            writer.conclude(&client)?;
        }
        drop(server);
        self.store.integrity()
    }

    /// Writes until the server is killed at a moment of chance. What was refused before that is returned: no write may be.
    fn load_and_kill(&mut self, server: Server) -> Vec<String> {
        let stop = AtomicBool::new(false);
        let client = self.store.client(&server);
        let delay = Duration::from_micros(5_000 + self.chance.next() % 350_000);
        let mut found = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = self.writers.iter_mut().map(|writer| scope.spawn(|| writer.load(&client, &stop))).collect();
            std::thread::sleep(delay);
            if server.log_has("panicked") {
                found.push(format!("the server panicked:\n{}", server.last_words()));
            }
            // Dropping the server is kill -9.
            drop(server);
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(refusal)) => found.push(refusal),
                    Err(_) => found.push("a writer panicked".to_owned()),
                }
            }
        });
        found
    }

    fn check(&mut self, server: &Server) -> Vec<String> {
        let client = self.store.client(server);
        self.writers.iter_mut().filter_map(|writer| writer.check(&client).err()).collect()
    }

    fn writes(&self) -> u64 {
        self.writers.iter().map(Writer::acknowledged).sum()
    }

    /// What this phase is worth, in one line.
    fn told(&self) -> String {
        let mut kinds: Vec<(&str, u64)> = Vec::new();
        for writer in &self.writers {
            match kinds.iter_mut().find(|(name, _)| *name == writer.name()) {
                Some((_, writes)) => *writes += writer.acknowledged(),
                None => kinds.push((writer.name(), writer.acknowledged())),
            }
        }
        let kinds: Vec<String> = kinds.iter().map(|(name, writes)| format!("{writes} {name}")).collect();
        let mut restarts: Vec<u128> = self.restarts.iter().map(Duration::as_millis).collect();
        restarts.sort_unstable();
        let last = restarts.len().saturating_sub(1);
        let at = |percent: usize| restarts.get((restarts.len() * percent / 100).min(last)).copied().unwrap_or_default();
        format!(
            "{}: {} kills, {} acknowledged writes ({}); exec to healthy: median {} ms, p99 {} ms, most {} ms",
            self.store.seal.name(),
            self.restarts.len(),
            self.writes(),
            kinds.join(", "),
            at(50),
            at(99),
            at(100)
        )
    }
}

/// xorshift64*, seeded by the clock; the seed is printed.
struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.subsec_nanos().into()) | 1;
        let seed = std::env::var("DAYPASS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(now);
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }
}
