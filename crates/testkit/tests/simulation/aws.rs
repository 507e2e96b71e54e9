//! Credentials from AWS: STS sessions whose leases end, and IAM users that are there while their lease lives and gone after it.

use daypass_base::Entropy;
use daypass_testkit::{Answer, Ask, TestServer};
use serde_json::{Value, json};

use crate::deed::{Chosen, Deed, Round, any, late, pick};
use crate::model::{Lease, Life, Model, Span};
use crate::world::{Heard, Said};

const USERS: &str = "aws/creds/ci";
const STS: &str = "aws/sts/deploy";
pub(crate) const ROOT_USER: &str = "root-of-the-mount";

/// An earlier attempt deleted the user and could not store that: while the user is young, AWS is not believed that it is gone, and the
/// revocation is refused. The expiry worker comes back to it.
pub(crate) fn is_not_yet(answer: &Answer) -> bool {
    answer.text("/errors/0").contains("is not found at AWS yet")
}

/// A mount with a role of each kind.
pub(crate) async fn prepare(server: &TestServer) {
    server.aws().add_user(ROOT_USER);
    let key = server.aws().add_key(ROOT_USER).unwrap();
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    server.put("aws/config/root", json!({ "access_key": key.id, "secret_key": key.secret.expose(), "region": "eu-west-1" })).await.ok();
    server.put("aws/config/lease", json!({ "lease": "30m", "lease_max": "2h" })).await.ok();
    let user = json!({ "credential_type": "iam_user", "policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess", "iam_groups": "builders" });
    server.put("aws/roles/ci", user).await.ok();
    let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/deploy" });
    server.put("aws/roles/deploy", role).await.ok();
}

/// A credential.
#[derive(Debug)]
pub(crate) struct Mint {
    token: Option<usize>,
    user: bool,
}

pub(crate) fn mint(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let token = if chance.below(3) == 0 { None } else { late(chance, model.tokens.len()) };
    let token = token.filter(|token| model.tokens[*token].uses.is_none());
    Some(Box::new(Mint { token, user: chance.below(3) > 0 }))
}

impl Deed for Mint {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let ask = if self.user { server.get(USERS) } else { server.put(STS, json!({ "ttl": "15m" })) };
        vec![match self.token {
            Some(token) => ask.token(&model.tokens[token].text),
            None => ask,
        }]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        match (heard[0].said(), self.token) {
            (Said::Done(answer), token) => {
                if let Some(token) = token {
                    model.accepted(token, round, "a credential");
                }
                let lifetime = answer.number("/lease_duration");
                let key = if self.user { answer.text("/data/access_key") } else { String::new() };
                // The lease of a batch token hangs on the token's parent, and is at an end with it.
                let token = token.and_then(|token| if model.tokens[token].batch { model.tokens[token].parent } else { Some(token) });
                let life = model.newborn(round);
                model.leases.push(Lease { id: answer.lease(), key, token, ends: Span::after(round, lifetime), made: round.ended, life });
            }
            (Said::Refused(answer), Some(token)) if answer.status == 403 => model.refused(token, round, "a credential"),
            (Said::Refused(answer), token) => {
                // AWS's refusals come as 400, and so does that of a token that ended meanwhile.
                let lives = token.is_none_or(|token| model.surely_lives(token, round));
                assert!(!round.calm || !lives, "{}", answer.body);
            }
            (Said::Full | Said::Unknown, _) => {}
        }
    }
}

#[derive(Debug)]
pub(crate) struct LookAtLease {
    at: usize,
}

pub(crate) fn look(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(LookAtLease { at: any(chance, model.leases.len())? }))
}

pub(crate) fn look_all(model: &Model) -> Vec<Box<dyn Deed>> {
    (0..model.leases.len()).map(|at| Box::new(LookAtLease { at }) as Box<dyn Deed>).collect()
}

impl Deed for LookAtLease {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        vec![server.put("sys/leases/lookup", json!({ "lease_id": model.leases[self.at].id }))]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let (lease, lives) = (&model.leases[self.at], model.lease_surely_lives(self.at, round));
        match heard[0].said() {
            Said::Done(_) => assert!(lease.life != Life::Gone, "{lease:?} is over and is shown"),
            Said::Refused(answer) => assert!(!lives, "{lease:?} lives and is not shown: {}", answer.body),
            Said::Full | Said::Unknown => {}
        }
    }
}

#[derive(Debug)]
pub(crate) struct RenewLease {
    at: usize,
    increment: i64,
}

pub(crate) fn renew(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let at = late(chance, model.leases.len())?;
    let increment = pick(chance, &[60, 3600]);
    (!model.leases[at].key.is_empty()).then(|| Box::new(RenewLease { at, increment }) as Box<dyn Deed>)
}

impl Deed for RenewLease {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        vec![server.put("sys/leases/renew", json!({ "lease_id": model.leases[self.at].id, "increment": self.increment }))]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let lives = model.lease_surely_lives(self.at, round);
        let lease = &mut model.leases[self.at];
        match heard[0].said() {
            Said::Done(answer) => {
                assert!(lease.life != Life::Gone && lease.ends.to > round.started, "{lease:?} is over and was renewed");
                lease.ends = Span::after(round, answer.number("/lease_duration"));
            }
            Said::Refused(answer) => assert!(!lives || !round.calm, "{lease:?} lives and was not renewed: {}", answer.body),
            Said::Full => {}
            // Not beyond its maximum, but that is not known here.
            Said::Unknown => lease.ends = lease.ends.or(Span { from: round.started, to: Span::after(round, self.increment).to }),
        }
    }

    fn thing(&self) -> String {
        format!("lease {}", self.at)
    }
}

#[derive(Debug)]
pub(crate) struct RevokeLease {
    at: usize,
    later: bool,
}

pub(crate) fn revoke(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(RevokeLease { at: late(chance, model.leases.len())?, later: chance.below(3) == 0 }))
}

impl Deed for RevokeLease {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let mut body = json!({ "lease_id": model.leases[self.at].id });
        if self.later {
            body["sync"] = Value::Bool(false);
        }
        vec![server.put("sys/leases/revoke", body)]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let lease = &mut model.leases[self.at];
        match heard[0].said() {
            Said::Done(_) if self.later && !lease.key.is_empty() => {
                lease.ends = Span { from: round.started, to: lease.ends.to.min(round.ended) };
                if lease.life == Life::Alive {
                    lease.life = Life::Unsure;
                }
            }
            Said::Done(_) => lease.life = Life::Gone,
            Said::Refused(answer) => {
                // AWS's refusals come as 400.
                assert!(!round.calm || is_not_yet(answer), "{lease:?} cannot be revoked: {}", answer.body);
                if lease.life == Life::Alive {
                    lease.life = Life::Unsure;
                }
            }
            Said::Full | Said::Unknown => {
                if lease.life == Life::Alive {
                    lease.life = Life::Unsure;
                }
            }
        }
    }

    fn thing(&self) -> String {
        format!("lease {}", self.at)
    }

    fn sweeps(&self) -> bool {
        true
    }
}
