//! A mount that comes and goes: nothing of it is left when it was removed.

use std::collections::BTreeMap;

use daypass_base::Entropy;
use daypass_testkit::{Ask, TestServer};
use serde_json::{Value, json};

use crate::deed::{Chosen, Deed, Round};
use crate::model::Model;
use crate::world::{Heard, Said};

#[derive(Debug, Default)]
pub(crate) struct Scratch {
    state: State,
    /// What may be at each key while it is mounted.
    values: BTreeMap<u64, Vec<Option<u64>>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    Present,
    Unsure,
}

const KEYS: u64 = 2;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Scratching {
    Mount,
    Put(u64, u64),
    Read(u64),
    Unmount,
}

pub(crate) fn any(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let key = chance.below(KEYS);
    let deed = match (model.scratch.state, chance.below(10)) {
        (State::Absent, 0..=6) => Scratching::Mount,
        (State::Unsure, 0..=4) => Scratching::Mount,
        (State::Unsure, _) | (State::Present, 0 | 1) => Scratching::Unmount,
        (_, 2..=5) => Scratching::Put(key, model.number()),
        _ => Scratching::Read(key),
    };
    Some(Box::new(deed))
}

pub(crate) fn unmount() -> Box<dyn Deed> {
    Box::new(Scratching::Unmount)
}

impl Deed for Scratching {
    fn asks(&self, _: &Model, server: &TestServer) -> Vec<Ask> {
        vec![match self {
            Self::Mount => server.put("sys/mounts/scratch", json!({ "type": "kv" })),
            Self::Put(key, value) => server.put(&format!("scratch/s{key}"), json!({ "v": value })),
            Self::Read(key) => server.get(&format!("scratch/s{key}")),
            Self::Unmount => server.delete("sys/mounts/scratch"),
        }]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], _: &Round) {
        let (scratch, said) = (&mut model.scratch, heard[0].said());
        match (self, said) {
            // The mount may be closed already.
            (Self::Unmount, Said::Full) => scratch.state = State::Unsure,
            (_, Said::Full) => {}
            (Self::Mount, Said::Done(_)) => {
                assert_ne!(scratch.state, State::Present, "mounted twice");
                *scratch = Scratch { state: State::Present, values: BTreeMap::new() };
            }
            (Self::Mount, Said::Refused(answer)) => assert_ne!(scratch.state, State::Absent, "{}", answer.body),
            (Self::Unmount, Said::Done(_)) => *scratch = Scratch::default(),
            (Self::Unmount, Said::Refused(answer)) => panic!("{self:?} was refused: {}", answer.body),
            (Self::Mount | Self::Unmount, Said::Unknown) => scratch.state = State::Unsure,
            (Self::Put(key, value), Said::Done(_)) => {
                assert_ne!(scratch.state, State::Absent, "written where nothing is mounted");
                scratch.values.insert(*key, vec![Some(*value)]);
            }
            (Self::Put(key, value), Said::Unknown) => scratch.values.entry(*key).or_insert_with(|| vec![None]).push(Some(*value)),
            (Self::Put(..), Said::Refused(answer)) => assert_ne!(scratch.state, State::Present, "{}", answer.body),
            (Self::Read(_), Said::Unknown) => {}
            (Self::Read(key), Said::Done(_) | Said::Refused(_)) => {
                let seen = heard[0].answer.as_ref().and_then(|answer| answer.body.pointer("/data/v")).and_then(Value::as_u64);
                assert!(scratch.state != State::Absent || seen.is_none(), "read where nothing is mounted");
                if scratch.state == State::Present {
                    let may_be = scratch.values.entry(*key).or_insert_with(|| vec![None]);
                    assert!(may_be.contains(&seen), "s{key} is {seen:?}, but can only be one of {may_be:?}");
                    *may_be = vec![seen];
                }
            }
        }
    }

    fn thing(&self) -> String {
        "scratch".to_owned()
    }
}
