//! KV version 2: every acknowledged write is read again, with its version, and check-and-set holds.

use daypass_base::Entropy;
use daypass_testkit::{Ask, TestServer};
use serde_json::{Value, json};

use crate::deed::{Chosen, Deed, Round, any, pick};
use crate::model::Model;
use crate::world::{Heard, Said};

/// What a key may be like: one of these.
#[derive(Debug, Clone)]
pub(crate) struct KvKey {
    may_be: Vec<State>,
}

/// The newest version, 0 without any, and its value; `None` where it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    version: u64,
    value: Option<u64>,
}

const NOTHING: State = State { version: 0, value: None };

impl Default for KvKey {
    fn default() -> Self {
        Self { may_be: vec![NOTHING] }
    }
}

impl KvKey {
    fn add(&mut self, state: State) {
        if !self.may_be.contains(&state) {
            self.may_be.push(state);
        }
    }

    fn add_all(&mut self, states: Vec<State>) {
        for state in states {
            self.add(state);
        }
    }

    fn retain(&mut self, what: &str, fits: impl Fn(&State) -> bool) {
        let before = self.may_be.clone();
        self.may_be.retain(fits);
        assert!(!self.may_be.is_empty(), "{what}, but it can only be {before:?}");
    }
}

fn path(key: usize) -> String {
    format!("kv/data/k{key}")
}

/// Writes of one key at the same moment: with check-and-set where there is more than one.
#[derive(Debug)]
pub(crate) struct KvPut {
    key: usize,
    values: Vec<u64>,
    cas: Option<u64>,
}

pub(crate) fn put(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let key = any(chance, model.keys.len())?;
    let state = model.keys[key].may_be.first()?.clone();
    let many = pick(chance, &[1, 1, 1, 2, 4]);
    let values = (0..many).map(|_| model.number()).collect();
    let cas = match chance.below(4) {
        0 => Some(state.version + 1),
        1 => Some(state.version),
        _ if many > 1 => Some(state.version),
        _ => None,
    };
    Some(Box::new(KvPut { key, values, cas }))
}

impl Deed for KvPut {
    fn asks(&self, _: &Model, server: &TestServer) -> Vec<Ask> {
        let body = |value: &u64| match self.cas {
            Some(cas) => json!({ "data": { "v": value }, "options": { "cas": cas } }),
            None => json!({ "data": { "v": value } }),
        };
        self.values.iter().map(|value| server.put(&path(self.key), body(value))).collect()
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], _: &Round) {
        let key = &mut model.keys[self.key];
        let fits = |state: &State| self.cas.is_none_or(|cas| cas == state.version);
        let done: Vec<(u64, u64)> = self
            .values
            .iter()
            .zip(heard)
            .filter_map(|(value, heard)| match heard.said() {
                Said::Done(answer) => Some((*value, u64::try_from(answer.number("/data/version")).unwrap())),
                _ => None,
            })
            .collect();
        assert!(done.len() <= 1 || self.cas.is_none(), "check-and-set let {done:?} through");
        if let [(value, version)] = done[..] {
            key.retain(&format!("k{}: write of version {version} was accepted", self.key), |state| {
                fits(state) && state.version + 1 == version
            });
            key.may_be = vec![State { version, value: Some(value) }];
            return;
        }
        let before = key.may_be.clone();
        for (value, heard) in self.values.iter().zip(heard) {
            match heard.said() {
                Said::Unknown => {
                    for state in before.iter().filter(|state| fits(state)) {
                        key.add(State { version: state.version + 1, value: Some(*value) });
                    }
                }
                Said::Refused(answer) => {
                    assert_eq!(answer.status, 400, "{}", answer.body);
                    let others = self.values.len() > 1;
                    // Another of the same moment, of which nobody heard, may have been first.
                    assert!(others || before.iter().any(|state| !fits(state)), "k{}: {} though it fits {before:?}", self.key, answer.body);
                }
                Said::Full | Said::Done(_) => {}
            }
        }
    }

    fn thing(&self) -> String {
        path(self.key)
    }
}

#[derive(Debug)]
pub(crate) struct KvRead {
    key: usize,
}

pub(crate) fn read(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(KvRead { key: any(chance, model.keys.len())? }))
}

/// Reads of all keys, one after the other.
pub(crate) fn read_all(model: &Model) -> Vec<Box<dyn Deed>> {
    (0..model.keys.len()).map(|key| Box::new(KvRead { key }) as Box<dyn Deed>).collect()
}

impl Deed for KvRead {
    fn asks(&self, _: &Model, server: &TestServer) -> Vec<Ask> {
        vec![server.get(&path(self.key))]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], _: &Round) {
        let what = |answer: &Value| format!("k{} is read as {answer}", self.key);
        match heard[0].said() {
            Said::Done(answer) => {
                let version = answer.body.pointer("/data/metadata/version").and_then(Value::as_u64).unwrap();
                let value = answer.body.pointer("/data/data/v").and_then(Value::as_u64);
                assert!(value.is_some(), "{}", answer.body);
                model.keys[self.key].retain(&what(&answer.body), |state| *state == State { version, value });
            }
            Said::Refused(answer) => {
                assert_eq!(answer.status, 404);
                let version = answer.body.pointer("/data/metadata/version").and_then(Value::as_u64).unwrap_or(0);
                model.keys[self.key].retain(&what(&answer.body), |state| *state == State { version, value: None });
            }
            Said::Full | Said::Unknown => {}
        }
    }

    fn thing(&self) -> String {
        path(self.key)
    }
}

/// Deletes the newest version, or the key with all of them.
#[derive(Debug)]
pub(crate) struct KvDelete {
    key: usize,
    all: bool,
}

pub(crate) fn delete(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(KvDelete { key: any(chance, model.keys.len())?, all: chance.below(3) == 0 }))
}

/// Deletes every key whole.
pub(crate) fn delete_all(model: &Model) -> Vec<Box<dyn Deed>> {
    (0..model.keys.len()).map(|key| Box::new(KvDelete { key, all: true }) as Box<dyn Deed>).collect()
}

impl Deed for KvDelete {
    fn asks(&self, _: &Model, server: &TestServer) -> Vec<Ask> {
        let place = if self.all { "metadata" } else { "data" };
        vec![server.delete(&format!("kv/{place}/k{}", self.key))]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], _: &Round) {
        let key = &mut model.keys[self.key];
        let after = |state: &State| if self.all { NOTHING } else { State { value: None, ..state.clone() } };
        match heard[0].said() {
            Said::Done(_) => {
                let states: Vec<State> = key.may_be.iter().map(after).collect();
                key.may_be.clear();
                key.add_all(states);
            }
            Said::Refused(answer) => panic!("a deletion was refused: {}", answer.body),
            Said::Full => {}
            Said::Unknown => {
                let states: Vec<State> = key.may_be.iter().map(after).collect();
                key.add_all(states);
            }
        }
    }

    fn thing(&self) -> String {
        path(self.key)
    }
}
