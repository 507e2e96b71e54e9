//! Revocation of all below a prefix.

use daypass_base::Entropy;
use daypass_testkit::{Ask, TestServer};
use serde_json::{Value, json};

use crate::aws::is_not_yet;
use crate::deed::{Chosen, Deed, Round, pick};
use crate::logins::LOGIN;
use crate::model::{Life, Model};
use crate::tokens::CREATE;
use crate::world::{Heard, Said};

#[derive(Debug)]
pub(crate) struct Sweep {
    prefix: &'static str,
    later: bool,
}

pub(crate) fn any(_: &mut Model, chance: &dyn Entropy) -> Chosen {
    let prefix = pick(chance, &["aws", "aws/creds/ci", "aws/sts/deploy", CREATE, LOGIN, "auth/approle"]);
    Some(Box::new(Sweep { prefix, later: chance.below(3) == 0 }))
}

pub(crate) fn all_of_aws() -> Box<dyn Deed> {
    Box::new(Sweep { prefix: "aws", later: false })
}

impl Sweep {
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn tokens(&self, model: &Model) -> Vec<usize> {
        // A batch token is stored nowhere: no prefix finds it.
        (0..model.tokens.len()).filter(|at| self.covers(model.tokens[*at].path) && !model.tokens[*at].batch).collect()
    }
}

impl Deed for Sweep {
    fn asks(&self, _: &Model, server: &TestServer) -> Vec<Ask> {
        let body = if self.later { json!({ "sync": false }) } else { Value::Null };
        vec![server.put(&format!("sys/leases/revoke-prefix/{}", self.prefix), body)]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let done = match heard[0].said() {
            Said::Done(_) => true,
            Said::Refused(answer) => {
                assert!(!round.calm || is_not_yet(answer), "{}", answer.body);
                false
            }
            Said::Full | Said::Unknown => false,
        };
        model.swept = model.swept.max(round.ended);
        for token in self.tokens(model) {
            // What is made at the same moment may come after it.
            let life = if done && token < round.tokens { Life::Gone } else { Life::Unsure };
            if life == Life::Gone && self.later {
                // It is refused at once; its children go when the worker comes by.
                model.end(token, Life::Unsure);
                model.weaken(token, Life::Gone);
            } else {
                model.end(token, life);
            }
        }
        for at in 0..model.leases.len() {
            let lease = &mut model.leases[at];
            if self.covers(lease.id.rsplit_once('/').map_or("", |(path, _)| path)) && lease.life != Life::Gone {
                let signed = lease.key.is_empty();
                // A prefix covers what was signed until then by the server's clock: where that was put back between the two, it may miss some.
                let before = !signed || lease.made <= round.started;
                let gone = done && at < round.leases && before && (!self.later || signed);
                lease.life = if gone { Life::Gone } else { Life::Unsure };
            }
        }
    }

    fn may_end(&self, model: &Model) -> Vec<usize> {
        self.tokens(model).into_iter().flat_map(|token| model.family(token)).collect()
    }

    fn sweeps(&self) -> bool {
        true
    }

    fn thing(&self) -> String {
        format!("sweep {}", self.prefix)
    }
}
