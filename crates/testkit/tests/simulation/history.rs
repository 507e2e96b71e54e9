//! A history: rounds of deeds at the same moment, with faults, deaths and time between them; and its end, when all is well again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daypass_aws::Holding;
use daypass_base::sim::SeededEntropy;
use daypass_base::{Clock, Entropy};
use daypass_storage::Space;
use daypass_storage::evil::{Fault, Step};
use daypass_testkit::TestServer;
use serde_json::json;

use crate::deed::{Chosen, Deed, Round, pick};
use crate::model::{Life, Model};
use crate::registers::{Kind, Register};
use crate::world::{Evil, Heard, Said, World};
use crate::{aws, kv, logins, registers, scratch, sweeps, tokens, wraps};

pub(crate) struct History {
    pub(crate) world: World,
    pub(crate) model: Model,
    chance: Arc<dyn Entropy>,
    steps: Vec<String>,
    before: BTreeSet<String>,
}

const ROUNDS: u64 = 24;

pub(crate) type Plan = fn(&mut Model, &dyn Entropy) -> Chosen;

/// What can be done, and how often one is chosen.
const PLANS: [(u64, Plan); 20] = [
    (5, kv::put),
    (3, kv::read),
    (2, kv::delete),
    (2, registers::set),
    (2, registers::look),
    (3, scratch::any),
    (6, tokens::make),
    (5, tokens::r#use),
    (3, tokens::renew),
    (3, tokens::revoke),
    (2, tokens::keep),
    (3, wraps::wrap),
    (4, wraps::unwrap),
    (3, logins::make),
    (4, logins::log_in),
    (1, logins::destroy),
    (5, aws::mint),
    (2, aws::look),
    (2, aws::renew),
    (2, aws::revoke),
];

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut role_id = String::new();
        let world = World::new(seed, async |server: &TestServer| role_id = prepare(server).await);
        let model = Model {
            keys: vec![kv::KvKey::default(); 4],
            registers: vec![
                Register::new(Kind::Policy(0), None),
                Register::new(Kind::Policy(1), None),
                Register::new(Kind::Description, Some(0)),
                Register::new(Kind::RoleUses, None),
            ],
            role_id,
            ..Model::default()
        };
        let before = world.keys().into_iter().collect();
        Self { world, model, chance: Arc::new(SeededEntropy::new(seed)), steps: Vec::new(), before }
    }

    pub(crate) fn steps(&self) -> &[String] {
        &self.steps
    }

    /// Tells it. Gives a hash of all that was answered.
    pub(crate) fn tell(&mut self) -> u64 {
        for _ in 0..ROUNDS {
            let deeds = self.choose();
            self.worsen();
            self.round(deeds);
            self.between();
        }
        self.end();
        self.world.hash()
    }

    fn choose(&mut self) -> Vec<Box<dyn Deed>> {
        let chance = Arc::clone(&self.chance);
        let mut deeds: Vec<Box<dyn Deed>> = Vec::new();
        for _ in 0..pick(&*chance, &[1, 2, 3, 4, 6]) {
            let mut at = chance.below(PLANS.iter().map(|(weight, _)| weight).sum::<u64>() + 1);
            let plan = PLANS.iter().find(|(weight, _)| {
                at.checked_sub(*weight).is_none_or(|left| {
                    at = left;
                    false
                })
            });
            let chosen = plan.map_or(sweeps::any as Plan, |(_, plan)| *plan)(&mut self.model, &*chance);
            if let Some(deed) = chosen
                && (deed.thing().is_empty() || deeds.iter().all(|other| other.thing() != deed.thing()))
            {
                deeds.push(deed);
            }
        }
        deeds
    }

    /// Plans what goes wrong.
    fn worsen(&mut self) {
        let chance = &self.chance;
        let per_mille = if chance.below(5) == 0 { pick(&**chance, &[50, 300]) } else { 0 };
        self.world.trouble.per_mille.store(per_mille, Ordering::Relaxed);
        if chance.below(2) == 0 {
            return;
        }
        for _ in 0..=chance.below(2) {
            let (calls, far) = (self.world.evil().calls(), 1 + chance.below(12));
            let step = if chance.below(3) == 0 { Step::Read(calls.reads + far) } else { Step::Write(calls.writes + far) };
            let fault = match chance.below(9) {
                0 | 1 => Fault::Fail,
                2 | 3 => Fault::LoseAnswer,
                4 => Fault::Delay(Duration::from_millis(pick(&**chance, &[20, 700, 40_000]))),
                5 => Fault::CrashBefore,
                6 => Fault::CrashAfter,
                _ => Fault::Full,
            };
            self.steps.push(format!("{fault:?} at {step:?}"));
            self.world.evil().at(step, fault);
        }
    }

    /// Does all of these at the same moment.
    pub(crate) fn round(&mut self, deeds: Vec<Box<dyn Deed>>) {
        let mut round =
            Round { started: self.world.now(), tokens: self.model.tokens.len(), leases: self.model.leases.len(), ..Round::default() };
        let struck = self.world.struck();
        let mut asks = Vec::new();
        let mut shares = Vec::new();
        for deed in &deeds {
            self.steps.push(format!("{} {deed:?}", self.world.now()));
            let own = deed.asks(&self.model, self.world.server());
            shares.push(own.len());
            asks.extend(own);
            round.ending.extend(deed.may_end(&self.model));
            round.sweeping |= deed.sweeps();
        }
        let heard = self.world.send(asks);
        round.ended = self.world.now();
        round.calm = self.world.struck() == struck;
        if !round.calm {
            self.model.troubled = self.model.troubled.max(round.ended);
        }
        self.model.latest = self.model.latest.max(round.ended);
        let statuses: Vec<u16> = heard.iter().map(Heard::status).collect();
        self.steps.push(format!("    {statuses:?}{}", if round.calm { "" } else { ", not calm" }));
        for heard in &heard {
            let fine = matches!(heard.said(), Said::Done(_) | Said::Refused(_));
            assert!(!round.calm || fine, "nothing failed, but this was answered: {:?}", heard.answer);
        }
        let mut rest = heard.as_slice();
        let mut told = Vec::new();
        for (deed, share) in deeds.iter().zip(shares) {
            let (own, others) = rest.split_at(share);
            told.push((deed, own));
            rest = others;
        }
        // What is made at the same moment as something is ended is there before it, for the model.
        told.sort_by_key(|(deed, _)| deed.sweeps() || !deed.may_end(&self.model).is_empty());
        for (deed, own) in told {
            self.model.count(&format!("{deed:?}"), own);
            deed.learn(&mut self.model, own, &round);
        }
        self.whole();
    }

    /// Death and time.
    fn between(&mut self) {
        let chance = Arc::clone(&self.chance);
        if self.world.evil().crashed() || chance.below(16) == 0 {
            self.restart();
        }
        if chance.below(2) == 0 {
            self.heal();
        }
        match chance.below(8) {
            0..=3 => {}
            7 => {
                let back = Duration::from_millis(pick(&*chance, &[300, 5_000]));
                self.steps.push(format!("back by {back:?}"));
                let clock = self.world.clock();
                clock.jump_to(clock.now() - back);
            }
            _ => {
                let by = Duration::from_secs(pick(&*chance, &[1, 10, 61, 300, 1_800, 7_200, 90_000]));
                self.pass(by);
            }
        }
    }

    fn restart(&mut self) {
        self.steps.push("the process dies and another one starts".to_owned());
        let chance = Arc::clone(&self.chance);
        let mean = |evil: &Evil, _attempt: u64| {
            if chance.below(3) == 0 {
                let fault = pick(&*chance, &[Fault::Fail, Fault::CrashBefore, Fault::CrashAfter, Fault::LoseAnswer]);
                evil.at(Step::Call(1 + chance.below(20)), fault);
            }
        };
        self.world.restart(mean);
        self.model.troubled = self.model.troubled.max(self.world.now());
    }

    /// Another process, where the last one died; nothing goes wrong while it starts.
    pub(crate) fn recover(&mut self) {
        if self.world.evil().crashed() {
            self.steps.push("the process dies and another one starts".to_owned());
            self.world.restart(|_, _| {});
            self.model.troubled = self.model.troubled.max(self.world.now());
        }
    }

    pub(crate) fn heal(&mut self) {
        self.world.evil().heal();
        self.world.trouble.per_mille.store(0, Ordering::Relaxed);
    }

    /// Time goes on.
    pub(crate) fn pass(&mut self, by: Duration) {
        let (started, struck) = (self.world.now(), self.world.struck());
        self.world.pass(by);
        self.steps.push(format!("{started} {by:?} pass"));
        self.model.latest = self.model.latest.max(self.world.now());
        if self.world.struck() != struck || self.world.is_due() {
            self.model.troubled = self.model.troubled.max(self.world.now());
        }
        if self.world.evil().crashed() {
            self.restart();
        }
        self.model.settle(self.world.now());
        self.whole();
    }

    /// What holds at every moment: each IAM user has a lease or a note, and each lease that surely lives has its user.
    fn whole(&self) {
        let users = self.world.made_users();
        let leases = self.world.rows(Space::Lease).iter().filter(|key| key.first() == Some(&b'l')).count();
        let notes = self.world.rows(Space::Config).iter().filter(|key| key.windows(4).any(|part| part == b"wal/")).count();
        assert!(users.len() <= leases + notes, "{} users, {leases} leases and {notes} notes", users.len());
        let now = self.world.now();
        let round = Round { started: now, ended: now, ..Round::default() };
        let keys: BTreeSet<String> = users.iter().flat_map(|user| self.world.aws().holdings(user)).filter_map(key_of).collect();
        for (at, lease) in self.model.leases.iter().enumerate().filter(|(_, lease)| !lease.key.is_empty()) {
            assert!(!self.model.lease_surely_lives(at, &round) || keys.contains(&lease.key), "{lease:?} lives without its user");
            assert!(lease.life != Life::Gone || !keys.contains(&lease.key), "{lease:?} is over and its user is there");
        }
    }

    /// Nothing fails any more: everything is as it was promised, and with time nothing is left of what ended.
    pub(crate) fn end(&mut self) {
        self.steps.push("all is well".to_owned());
        self.heal();
        self.recover();
        self.one_by_one(kv::read_all);
        self.one_by_one(registers::look_all);
        self.one_by_one(tokens::use_all);
        self.one_by_one(aws::look_all);
        self.one_by_one(wraps::unwrap_all);
        for (times, seconds) in [(20, 60), (12, 600), (26, 3_600), (3, 86_400)] {
            for _ in 0..times {
                self.pass(Duration::from_secs(seconds));
            }
        }
        // What was parked after many failures waits for a person: here that person is.
        self.one_by_one(|_| vec![sweeps::all_of_aws()]);
        self.one_by_one(kv::delete_all);
        self.one_by_one(registers::remove_all);
        self.one_by_one(|_| vec![scratch::unmount()]);
        // The marker of a revocation by prefix stays as long as the longest lease could.
        for seconds in [61, 61, 61, 61, 61, 61, 40 * 86_400, 61] {
            self.pass(Duration::from_secs(seconds));
        }
        let mints = |key: &String| key.starts_with("Config core/mints/");
        let after: BTreeSet<String> = self.world.keys().into_iter().filter(|key| !mints(key)).collect();
        let left: Vec<&String> = after.difference(&self.before).collect();
        let lost: Vec<&String> = self.before.difference(&after).collect();
        assert!(left.is_empty() && lost.is_empty(), "left over: {left:#?}, lost: {lost:#?}");
        assert_eq!(self.world.made_users(), Vec::<String>::new(), "users without a lease");
        for at in 0..self.model.tokens.len() {
            self.model.tokens[at].life = Life::Gone;
        }
        self.one_by_one(tokens::use_all);
    }

    fn one_by_one(&mut self, deeds: impl Fn(&Model) -> Vec<Box<dyn Deed>>) {
        for deed in deeds(&self.model) {
            self.round(vec![deed]);
        }
    }
}

fn key_of(holding: Holding) -> Option<String> {
    if let Holding::AccessKey(id) = holding { Some(id) } else { None }
}

async fn prepare(server: &TestServer) -> String {
    let all = r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }"#;
    server.policy("everything", all).await;
    server.put("sys/mounts/kv", json!({ "type": "kv", "options": { "version": "2" } })).await.ok();
    server.seconds(5).await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    server.put("sys/auth/approle/tune", json!({ "user_lockout_config": { "lockout_disable": true } })).await.ok();
    server.put("auth/approle/role/r", json!({ "token_ttl": "10m", "token_max_ttl": "1h", "token_policies": "everything" })).await.ok();
    aws::prepare(server).await;
    server.get("auth/approle/role/r/role-id").await.ok().text("/data/role_id")
}
