//! Things with one value that is written, read and removed: policies, settings of a mount and of a role.

use daypass_base::Entropy;
use daypass_testkit::{Ask, TestServer};
use serde_json::json;

use crate::deed::{Chosen, Deed, Round, any};
use crate::model::Model;
use crate::world::{Heard, Said};

#[derive(Debug, Clone)]
pub(crate) struct Register {
    pub(crate) kind: Kind,
    /// One of these; `None` where there is nothing.
    may_be: Vec<Option<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Policy(u8),
    /// `description` of the KV mount.
    Description,
    /// `secret_id_num_uses` of a role.
    RoleUses,
}

impl Register {
    pub(crate) fn new(kind: Kind, value: Option<u64>) -> Self {
        Self { kind, may_be: vec![value] }
    }
}

impl Kind {
    fn write(self, server: &TestServer, value: u64) -> Ask {
        match self {
            Self::Policy(number) => {
                let text = format!(r#"path "v{value}" {{ capabilities = ["read"] }}"#);
                server.put(&format!("sys/policies/acl/p{number}"), json!({ "policy": text }))
            }
            Self::Description => server.put("sys/mounts/kv/tune", json!({ "description": format!("v{value}") })),
            Self::RoleUses => server.put("auth/approle/role/other", json!({ "secret_id_num_uses": value })),
        }
    }

    fn read(self, server: &TestServer) -> Ask {
        match self {
            Self::Policy(number) => server.get(&format!("sys/policies/acl/p{number}")),
            Self::Description => server.get("sys/mounts/kv/tune"),
            Self::RoleUses => server.get("auth/approle/role/other/secret-id-num-uses"),
        }
    }

    fn remove(self, server: &TestServer) -> Option<Ask> {
        match self {
            Self::Policy(number) => Some(server.delete(&format!("sys/policies/acl/p{number}"))),
            Self::Description => None,
            Self::RoleUses => Some(server.delete("auth/approle/role/other")),
        }
    }

    fn value(self, answer: &daypass_testkit::Answer) -> u64 {
        match self {
            Self::Policy(_) => {
                let text = answer.text("/data/policy");
                text.trim_start_matches("path \"v").split('"').next().unwrap().parse().unwrap()
            }
            Self::Description => answer.text("/data/description").trim_start_matches('v').parse().unwrap_or(0),
            Self::RoleUses => u64::try_from(answer.number("/data/secret_id_num_uses")).unwrap(),
        }
    }
}

/// Writes a value, or removes it.
#[derive(Debug)]
pub(crate) struct Set {
    at: usize,
    value: Option<u64>,
}

pub(crate) fn set(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let at = any(chance, model.registers.len())?;
    let value = (chance.below(3) > 0 || model.registers[at].kind == Kind::Description).then(|| model.number());
    Some(Box::new(Set { at, value }))
}

pub(crate) fn remove_all(model: &Model) -> Vec<Box<dyn Deed>> {
    let removable = |at: &usize| model.registers[*at].kind != Kind::Description;
    (0..model.registers.len()).filter(removable).map(|at| Box::new(Set { at, value: None }) as Box<dyn Deed>).collect()
}

impl Deed for Set {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let kind = model.registers[self.at].kind;
        self.value.map(|value| kind.write(server, value)).or_else(|| kind.remove(server)).into_iter().collect()
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], _: &Round) {
        let register = &mut model.registers[self.at];
        match heard[0].said() {
            Said::Done(_) => register.may_be = vec![self.value],
            Said::Refused(answer) => panic!("{self:?} was refused: {}", answer.body),
            Said::Full => {}
            Said::Unknown => register.may_be.push(self.value),
        }
    }

    fn thing(&self) -> String {
        format!("register {}", self.at)
    }
}

#[derive(Debug)]
pub(crate) struct Look {
    at: usize,
}

pub(crate) fn look(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(Look { at: any(chance, model.registers.len())? }))
}

pub(crate) fn look_all(model: &Model) -> Vec<Box<dyn Deed>> {
    (0..model.registers.len()).map(|at| Box::new(Look { at }) as Box<dyn Deed>).collect()
}

impl Deed for Look {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        vec![model.registers[self.at].kind.read(server)]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], _: &Round) {
        let register = &mut model.registers[self.at];
        let seen = match heard[0].said() {
            Said::Done(answer) => Some(register.kind.value(answer)),
            Said::Refused(answer) => {
                assert_eq!(answer.status, 404, "{}", answer.body);
                None
            }
            Said::Full | Said::Unknown => return,
        };
        assert!(register.may_be.contains(&seen), "{:?} is {seen:?}, but can only be one of {:?}", register.kind, register.may_be);
        register.may_be = vec![seen];
    }

    fn thing(&self) -> String {
        format!("register {}", self.at)
    }
}
