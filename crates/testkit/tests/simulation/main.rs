//! The whole core on a simulated clock over a store that fails on purpose, and AWS that fails as well: histories that chance writes, judged by
//! a model that is plain to see.
//!
//! One seed is one history: it can be told again to the letter. What is asked for, in what order the calls of the store come, what fails, when
//! the process dies and how time goes all come from it; there is one thread, no real time and no randomness of the system's.
//! `DAYPASS_CASES` sets how many histories are told, `DAYPASS_SEED` the first seed; a failure names its seed and its steps.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a failure shows its steps")]
#![allow(clippy::unnecessary_wraps, reason = "plans of deeds have one shape, though some always find something to do")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may fail by panicking")]

mod aws;
mod day;
mod deed;
mod every_write;
mod history;
mod kv;
mod logins;
mod model;
mod registers;
mod scratch;
mod sweeps;
mod tokens;
mod world;
mod wraps;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use history::History;

/// The one of the binary that is shipped, so that what is said of memory holds for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Tells a history. Gives a hash of all that was answered.
fn tell(seed: u64) -> u64 {
    told(&format!("DAYPASS_SEED={seed} DAYPASS_CASES=1 shows it again"), &mut History::new(seed), History::tell)
}

/// Tells a history in some way; should it fail, its steps are shown.
fn told<T>(name: &str, history: &mut History, tell: impl FnOnce(&mut History) -> T) -> T {
    catch_unwind(AssertUnwindSafe(|| tell(history))).unwrap_or_else(|panic| {
        eprintln!("{name}; steps:\n  {}", history.steps().join("\n  "));
        resume_unwind(panic)
    })
}

#[test]
fn whatever_fails_nothing_promised_is_lost_and_nothing_refused_is_done() {
    let (cases, first) = (number("DAYPASS_CASES", 25), number("DAYPASS_SEED", 1));
    let threads = number("DAYPASS_THREADS", 1).clamp(1, 64);
    let next = std::sync::atomic::AtomicU64::new(first);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if seed >= first + cases {
                            return;
                        }
                        // One that fails keeps nobody from telling the others.
                        if catch_unwind(|| tell(seed)).is_err() {
                            failed.lock().unwrap().push(seed);
                        }
                    }
                })
            })
            .collect();
        for teller in tellers {
            if let Err(panic) = teller.join() {
                resume_unwind(panic);
            }
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{cases} histories from seed {first} on told, {} failed", failed.len());
    assert!(failed.is_empty(), "failed: DAYPASS_SEED={failed:?}");
}

#[test]
fn a_seed_tells_the_very_same_history_again() {
    for seed in [3, 14] {
        assert_eq!(tell(seed), tell(seed), "seed {seed}");
    }
}
