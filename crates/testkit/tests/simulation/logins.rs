//! AppRole: a secret id logs in as often as it may, and not once it was destroyed.

use daypass_base::Entropy;
use daypass_testkit::{Ask, TestServer};
use serde_json::json;

use crate::deed::{Chosen, Deed, Round, late, pick};
use crate::model::{Life, Model, SecretId, Span, Token, Uses};
use crate::world::{Heard, Said};

pub(crate) const LOGIN: &str = "auth/approle/login";

#[derive(Debug)]
pub(crate) struct MakeSecret {
    uses: u64,
    ttl: i64,
}

pub(crate) fn make(_: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(MakeSecret { uses: pick(chance, &[1, 2, 3]), ttl: pick(chance, &[120, 3600]) }))
}

impl Deed for MakeSecret {
    fn asks(&self, _: &Model, server: &TestServer) -> Vec<Ask> {
        let body = json!({ "num_uses": self.uses, "ttl": format!("{}s", self.ttl) });
        vec![server.put("auth/approle/role/r/secret-id", body)]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        if let Said::Done(answer) = heard[0].said() {
            model.secrets.push(SecretId {
                text: answer.text("/data/secret_id"),
                accessor: answer.text("/data/secret_id_accessor"),
                ends: Span::after(round, self.ttl),
                life: Life::Alive,
                uses: Uses::of(self.uses),
            });
        }
    }
}

/// Logins with a secret id at one moment.
#[derive(Debug)]
pub(crate) struct LogIn {
    at: usize,
    times: usize,
}

pub(crate) fn log_in(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(LogIn { at: late(chance, model.secrets.len())?, times: pick(chance, &[1, 1, 2, 4]) }))
}

impl Deed for LogIn {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let body = json!({ "role_id": model.role_id, "secret_id": model.secrets[self.at].text });
        (0..self.times).map(|_| server.put(LOGIN, body.clone()).nobody()).collect()
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let (latest, what, newborn) = (model.latest, format!("secret id {}", self.at), model.newborn(round));
        let secret = &mut model.secrets[self.at];
        let lives = secret.life == Life::Alive && secret.ends.from > round.ended.max(latest);
        let over = secret.life == Life::Gone || secret.ends.to <= round.started;
        secret.uses.count(heard, lives, &what);
        for heard in heard {
            match heard.said() {
                Said::Done(answer) => {
                    assert!(!over, "{what} is over and was accepted");
                    let lifetime = answer.number("/auth/lease_duration");
                    model.tokens.push(Token {
                        text: answer.token(),
                        accessor: answer.text("/auth/accessor"),
                        path: LOGIN,
                        parent: None,
                        batch: false,
                        period: 0,
                        ends: Span::after(round, lifetime),
                        life: newborn,
                        uses: None,
                    });
                }
                Said::Refused(answer) => assert_eq!(answer.status, 400, "{}", answer.body),
                Said::Full | Said::Unknown => {}
            }
        }
    }

    fn thing(&self) -> String {
        format!("secret {}", self.at)
    }
}

#[derive(Debug)]
pub(crate) struct Destroy {
    at: usize,
    by_accessor: bool,
}

pub(crate) fn destroy(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(Destroy { at: late(chance, model.secrets.len())?, by_accessor: chance.below(2) == 0 }))
}

impl Deed for Destroy {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let secret = &model.secrets[self.at];
        vec![if self.by_accessor {
            server.put("auth/approle/role/r/secret-id-accessor/destroy", json!({ "secret_id_accessor": secret.accessor }))
        } else {
            server.put("auth/approle/role/r/secret-id/destroy", json!({ "secret_id": secret.text }))
        }]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let latest = model.latest;
        let secret = &mut model.secrets[self.at];
        let lives = secret.life == Life::Alive
            && secret.ends.from > round.ended.max(latest)
            && secret.uses.accepted + secret.uses.unsure < secret.uses.total;
        match heard[0].said() {
            Said::Done(_) => secret.life = Life::Gone,
            Said::Refused(answer) => assert!(!lives, "secret id {} lives and cannot be destroyed: {}", self.at, answer.body),
            Said::Full => {}
            Said::Unknown if secret.life == Life::Alive => secret.life = Life::Unsure,
            Said::Unknown => {}
        }
    }

    fn thing(&self) -> String {
        format!("secret {}", self.at)
    }
}
