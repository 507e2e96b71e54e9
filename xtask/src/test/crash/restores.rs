//! kill -9 while a snapshot is restored: afterwards the server serves the old store or the new one, whole, and the new one where the restore
//! was reported as done.

use super::store::{Client, Failure, Seal, Store};
use super::{Chance, Tally};
use crate::project::Project;
use crate::server::Server;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Secrets of 4 KB that each of the two stores holds, so that a restore takes some time.
const SECRETS: usize = 2_000;
/// The second store has so many more: nobody takes one for the other.
const MORE: usize = 200;
/// Writers that fill the stores.
const HANDS: usize = 8;

/// One of two states that the store may be in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    First,
    Second,
}

impl State {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    fn secrets(self) -> usize {
        match self {
            Self::First => SECRETS,
            Self::Second => SECRETS + MORE,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }
}

/// So many kills. Returns the line that tells of them.
pub(super) fn run(project: &Project, binary: PathBuf, chance: &mut Chance, kills: u64, tally: &mut Tally) -> Result<String, String> {
    let mut store = Store::new(project, binary, Seal::KeyFile)?;
    let mut server = prepare(&mut store)?;
    let began = Instant::now();
    restore(&store, &server, State::First)?.wait().map_err(|e| e.to_string())?;
    let whole = began.elapsed();
    let mut in_force = seen(&store.client(&server))?;
    if in_force != State::First {
        return Err("a restore that nothing interrupts changes nothing".to_owned());
    }
    let (mut kept, mut replaced) = (0, 0);
    for round in 1..=kills {
        let wanted = in_force.other();
        let child = restore(&store, &server, wanted)?;
        std::thread::sleep(whole.mul_f64(0.01 * f64::from(u8::try_from(chance.next() % 120).unwrap_or(0))));
        // Dropping the server is kill -9.
        drop(server);
        let reported = child.wait_with_output().map_err(|e| e.to_string())?.status.success();
        server = store.start()?;
        store.serve(&server)?;
        match seen(&store.client(&server)) {
            Ok(state) if state == wanted || !reported => {
                tally.passed += 1;
                if state == wanted {
                    replaced += 1;
                } else {
                    kept += 1;
                }
                in_force = state;
            }
            found => {
                tally.failed += 1;
                println!("        restore, kill {round} (seed {}): reported as done: {reported}; found {found:?}", chance.seed);
                return Err("what a restore left can be judged no further".to_owned());
            }
        }
    }
    drop(server);
    store.integrity()?;
    if let Some(left) = store.left_over() {
        return Err(format!("{left} is left over from a restore that was cut off"));
    }
    Ok(format!(
        "restores: {kills} kills, {kept} left the old store, {replaced} the new one; a whole restore takes {} ms",
        whole.as_millis()
    ))
}

/// A store that has been through both states, with a snapshot of each.
fn prepare(store: &mut Store<'_>) -> Result<Server, String> {
    let server = store.initialise()?;
    for (state, from) in [(State::First, 0), (State::Second, SECRETS)] {
        fill(&store.client(&server), from..state.secrets())?;
        let saved = command(store, &server, "save", state, &[])?.wait_with_output().map_err(|e| e.to_string())?;
        if !saved.status.success() {
            return Err(format!("no snapshot was saved: {}", String::from_utf8_lossy(&saved.stderr)));
        }
    }
    Ok(server)
}

fn fill(client: &Client, numbers: std::ops::Range<usize>) -> Result<(), String> {
    let body = format!("{{\"v\":\"{}\"}}", "x".repeat(4096));
    let numbers: Vec<usize> = numbers.collect();
    std::thread::scope(|scope| {
        let hands: Vec<_> = numbers
            .chunks(numbers.len().div_ceil(HANDS).max(1))
            .map(|part| {
                let body = &body;
                scope.spawn(move || part.iter().try_for_each(|number| client.call("PUT", &format!("kv1/{number}"), body).map(drop)))
            })
            .collect();
        hands.into_iter().try_for_each(|hand| hand.join().map_err(|_| "a writer panicked".to_owned())?.map_err(Failure::text))
    })
}

fn restore(store: &Store<'_>, server: &Server, state: State) -> Result<Child, String> {
    command(store, server, "restore", state, &["-force"])
}

fn command(store: &Store<'_>, server: &Server, verb: &str, state: State, flags: &[&str]) -> Result<Child, String> {
    let mut command: Command = store.cli(server);
    command.args(["operator", "snapshot", verb]).args(flags).arg(store.file(&format!("{}.snap", state.name())));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| format!("operator snapshot {verb} did not start: {e}"))
}

/// Which state the store is in, whole. Nothing may be taken back by itself: both came by a restore.
fn seen(client: &Client) -> Result<State, String> {
    let listed = client.call("LIST", "kv1", "").map_err(Failure::text)?;
    let keys = listed.pointer("/data/keys").and_then(Value::as_array).map_or(0, Vec::len);
    let state = [State::First, State::Second].into_iter().find(|state| state.secrets() == keys);
    let state = state.ok_or_else(|| format!("{keys} secrets are there, which is neither store"))?;
    let last = client.call("GET", &format!("kv1/{}", state.secrets() - 1), "").map_err(Failure::text)?;
    if last.pointer("/data/v").and_then(Value::as_str).map_or(0, str::len) != 4096 {
        return Err("a secret is not whole".to_owned());
    }
    Ok(state)
}
