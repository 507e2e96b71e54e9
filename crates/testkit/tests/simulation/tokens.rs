//! Tokens: what was revoked or ended is never accepted again, nor one with a limit more often than that; what lives is not refused.

use daypass_base::Entropy;
use daypass_testkit::{Ask, TestServer};
use serde_json::{Value, json};

use crate::deed::{Chosen, Deed, Round, any, late, pick};
use crate::model::{Life, Model, Span, Token, Uses};
use crate::world::{Heard, Said};

pub(crate) const CREATE: &str = "auth/token/create";

/// A new token, of another one or of the root token.
#[derive(Debug)]
pub(crate) struct Make {
    parent: Option<usize>,
    ttl: i64,
    period: i64,
    uses: u64,
    batch: bool,
}

pub(crate) fn make(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let parent = if chance.below(3) == 0 { None } else { late(chance, model.tokens.len()) };
    // A limited token spends its uses on nothing else than what is counted.
    let parent = parent.filter(|parent| model.tokens[*parent].uses.is_none());
    let mut made = Make { parent, ttl: pick(chance, &[30, 120, 600, 3600, 86_400]), period: 0, uses: 0, batch: false };
    match chance.below(8) {
        0 => made.batch = true,
        1 | 2 => made.uses = pick(chance, &[1, 2, 3]),
        3 => made.period = pick(chance, &[60, 1800]),
        _ => {}
    }
    Some(Box::new(made))
}

impl Deed for Make {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let mut body = json!({ "policies": ["everything"], "ttl": format!("{}s", self.ttl), "renewable": true });
        if self.period > 0 {
            body["period"] = json!(format!("{}s", self.period));
        }
        if self.uses > 0 {
            body["num_uses"] = json!(self.uses);
        }
        if self.batch {
            body["type"] = json!("batch");
            body["renewable"] = json!(false);
        }
        let ask = server.put(CREATE, body);
        vec![match self.parent {
            Some(parent) => ask.token(&model.tokens[parent].text),
            None => ask,
        }]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        match (heard[0].said(), self.parent) {
            (Said::Done(answer), parent) => {
                if let Some(parent) = parent {
                    model.accepted(parent, round, "a child");
                }
                let lifetime = answer.number("/auth/lease_duration");
                model.tokens.push(Token {
                    text: answer.token(),
                    accessor: answer.text("/auth/accessor"),
                    path: CREATE,
                    parent,
                    batch: self.batch,
                    period: self.period,
                    ends: Span::after(round, lifetime),
                    life: model.newborn(round),
                    uses: (self.uses > 0).then_some(Uses::of_token(self.uses)),
                });
            }
            (Said::Refused(answer), Some(parent)) => {
                if answer.status == 400
                    && model.tokens[parent].batch
                    && answer.text("/errors/0") == "batch tokens cannot create more tokens"
                {
                    return;
                }
                model.refused(parent, round, "a child");
            }
            (Said::Refused(answer), None) => panic!("{}", answer.body),
            (Said::Full | Said::Unknown, _) => {}
        }
    }
}

/// Uses of a token at one moment.
#[derive(Debug)]
pub(crate) struct Use {
    token: usize,
    times: usize,
}

pub(crate) fn r#use(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let token = late(chance, model.tokens.len())?;
    let times = if model.tokens[token].uses.is_some() { pick(chance, &[1, 2, 4]) } else { 1 };
    Some(Box::new(Use { token, times }))
}

/// One look at every token that has no limit.
pub(crate) fn use_all(model: &Model) -> Vec<Box<dyn Deed>> {
    (0..model.tokens.len()).map(|token| Box::new(Use { token, times: 1 }) as Box<dyn Deed>).collect()
}

impl Deed for Use {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let token = &model.tokens[self.token];
        (0..self.times).map(|_| server.get("auth/token/lookup-self").token(&token.text)).collect()
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let lives = model.surely_lives(self.token, round);
        for heard in heard {
            match heard.said() {
                Said::Done(_) => model.accepted(self.token, round, "a look-up"),
                Said::Refused(answer) => {
                    assert_eq!(answer.status, 403, "{}", answer.body);
                    if model.tokens[self.token].uses.is_none() {
                        model.refused(self.token, round, "a look-up");
                    }
                }
                Said::Full | Said::Unknown => {}
            }
        }
        if let Some(uses) = model.tokens[self.token].uses.as_mut() {
            uses.count(heard, lives, &format!("token {}", self.token));
            let (spent, maybe) = (!uses.may_be_left(), uses.accepted + uses.unsure >= uses.total);
            if spent {
                model.end(self.token, Life::Gone);
            } else if maybe {
                model.end(self.token, Life::Unsure);
            }
        }
    }

    fn may_end(&self, model: &Model) -> Vec<usize> {
        if model.tokens[self.token].uses.is_some() { model.family(self.token) } else { Vec::new() }
    }

    fn thing(&self) -> String {
        format!("token {}", self.token)
    }
}

#[derive(Debug)]
pub(crate) struct Renew {
    token: usize,
    increment: i64,
    itself: bool,
}

pub(crate) fn renew(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let token = late(chance, model.tokens.len())?;
    let of = &model.tokens[token];
    let itself = of.uses.is_none() && chance.below(2) == 0;
    let increment = pick(chance, &[10, 300, 7200]);
    (!of.batch).then(|| Box::new(Renew { token, increment, itself }) as Box<dyn Deed>)
}

impl Deed for Renew {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let token = &model.tokens[self.token];
        vec![if self.itself {
            server.put("auth/token/renew-self", json!({ "increment": self.increment })).token(&token.text)
        } else {
            server.put("auth/token/renew", json!({ "token": token.text, "increment": self.increment }))
        }]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        match heard[0].said() {
            Said::Done(answer) => {
                model.accepted(self.token, round, "a renewal");
                model.tokens[self.token].ends = Span::after(round, answer.number("/auth/lease_duration"));
            }
            Said::Refused(_) => model.refused(self.token, round, "a renewal"),
            Said::Full => {}
            Said::Unknown => {
                let token = &mut model.tokens[self.token];
                let wish = if token.period > 0 { token.period } else { self.increment };
                token.ends = token.ends.or(Span::after(round, wish));
            }
        }
    }

    /// Where time passes while others are at work, a short increment is over before they are done.
    fn may_end(&self, model: &Model) -> Vec<usize> {
        if model.tokens[self.token].period == 0 && self.increment < 60 { model.family(self.token) } else { Vec::new() }
    }

    fn thing(&self) -> String {
        format!("renewal {}", self.token)
    }
}

#[derive(Debug)]
pub(crate) struct Revoke {
    token: usize,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ByAccessor,
    ByText,
    Itself,
    SparingChildren,
}

pub(crate) fn revoke(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let token = late(chance, model.tokens.len())?;
    let way = pick(chance, &[Way::ByAccessor, Way::ByText, Way::ByText, Way::Itself, Way::SparingChildren]);
    let of = &model.tokens[token];
    let way = if of.uses.is_some() && way == Way::Itself { Way::ByText } else { way };
    (!of.batch).then(|| Box::new(Revoke { token, way }) as Box<dyn Deed>)
}

impl Deed for Revoke {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let token = &model.tokens[self.token];
        vec![match self.way {
            Way::ByAccessor => server.put("auth/token/revoke-accessor", json!({ "accessor": token.accessor })),
            Way::ByText => server.put("auth/token/revoke", json!({ "token": token.text })),
            Way::Itself => server.put("auth/token/revoke-self", Value::Null).token(&token.text),
            Way::SparingChildren => server.put("auth/token/revoke-orphan", json!({ "token": token.text })),
        }]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let sparing = self.way == Way::SparingChildren;
        match heard[0].said() {
            Said::Done(_) if sparing => {
                model.weaken(self.token, Life::Gone);
                self.cut_off(model, round);
            }
            Said::Done(_) => model.end(self.token, Life::Gone),
            Said::Refused(_) => {
                // Another of the same moment may have been first; it says what became of the family.
                let alone = round.ending.is_subset(&model.family(self.token).into_iter().collect());
                let expected = alone && self.would_live(model, round);
                assert!(!expected, "token {} lives and cannot be revoked", self.token);
                model.end(self.token, Life::Unsure);
            }
            Said::Full | Said::Unknown => model.end(self.token, Life::Unsure),
        }
    }

    fn may_end(&self, model: &Model) -> Vec<usize> {
        model.family(self.token)
    }

    fn thing(&self) -> String {
        format!("token {}", self.token)
    }
}

impl Revoke {
    fn would_live(&self, model: &Model, round: &Round) -> bool {
        let nothing_else =
            Round { ending: std::collections::BTreeSet::new(), started: round.started, ended: round.ended, ..Round::default() };
        model.surely_lives(self.token, &nothing_else)
    }

    /// Children live on without a parent; batch tokens name theirs for good.
    fn cut_off(&self, model: &mut Model, round: &Round) {
        let children: Vec<usize> = (0..model.tokens.len()).filter(|at| model.tokens[*at].parent == Some(self.token)).collect();
        for child in children {
            if model.tokens[child].batch {
                model.end(child, Life::Gone);
            } else if child >= round.tokens {
                // Made at the same moment: before the others were cut off, or after.
                model.end(child, Life::Unsure);
            } else {
                model.tokens[child].parent = None;
            }
        }
    }
}

/// Something in a token's own cubbyhole: it goes with the token.
#[derive(Debug)]
pub(crate) struct Keep {
    token: usize,
}

pub(crate) fn keep(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let token = any(chance, model.tokens.len())?;
    let of = &model.tokens[token];
    (of.uses.is_none() && !of.batch).then(|| Box::new(Keep { token }) as Box<dyn Deed>)
}

impl Deed for Keep {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        vec![server.put("cubbyhole/mine", json!({ "a": "b" })).token(&model.tokens[self.token].text)]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        match heard[0].said() {
            Said::Done(_) => model.accepted(self.token, round, "a write"),
            Said::Refused(_) => model.refused(self.token, round, "a write"),
            Said::Full | Said::Unknown => {}
        }
    }
}
