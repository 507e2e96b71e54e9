//! What is known for sure, what is not, and what must hold: plain lists of things.

use std::collections::BTreeMap;

use daypass_base::{Seconds, Timestamp};

use crate::deed::Round;
use crate::kv::KvKey;
use crate::registers::Register;
use crate::scratch::Scratch;
use crate::world::{Heard, Said};

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) keys: Vec<KvKey>,
    pub(crate) registers: Vec<Register>,
    pub(crate) scratch: Scratch,
    pub(crate) tokens: Vec<Token>,
    pub(crate) wraps: Vec<Wrapped>,
    pub(crate) secrets: Vec<SecretId>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) role_id: String,
    /// The latest moment that the clock ever showed.
    pub(crate) latest: Timestamp,
    /// The last moment a revocation by prefix was asked for at. What was made until then is revoked, by the clock of the server: also what was
    /// made after it at the same moment, or while the clock was put back.
    pub(crate) swept: Timestamp,
    /// The last moment something failed at.
    pub(crate) troubled: Timestamp,
    pub(crate) made: u64,
    /// How often deeds were done, refused or unknown: what a history was made of.
    pub(crate) figures: BTreeMap<String, [u64; 3]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Gone,
    /// Something was to end it, and nobody knows whether it did or will.
    Unsure,
}

/// When something ends: not before `from`, and at `to` for sure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Span {
    /// So many seconds after a moment of the round.
    pub(crate) fn after(round: &Round, seconds: i64) -> Self {
        let seconds = Seconds(u64::try_from(seconds).expect("a lifetime"));
        Self { from: round.started + seconds, to: round.ended + seconds + Seconds(1) }
    }

    /// It ends here or there.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

/// Uses of something that is good for so many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uses {
    pub(crate) total: u64,
    pub(crate) accepted: u64,
    /// Nobody knows whether these were counted.
    pub(crate) unsure: u64,
    /// The last use ends what is used, and refuses whoever still uses it at that moment.
    pub(crate) last_ends: bool,
}

impl Uses {
    pub(crate) fn of(total: u64) -> Self {
        Self { total, accepted: 0, unsure: 0, last_ends: false }
    }

    pub(crate) fn of_token(total: u64) -> Self {
        Self { last_ends: true, ..Self::of(total) }
    }

    /// Counts answers to uses at one moment. `lives`: nothing but the uses may be a reason to refuse one.
    pub(crate) fn count(&mut self, heard: &[Heard], lives: bool, what: &str) {
        let number = |is: fn(&Said<'_>) -> bool| u64::try_from(heard.iter().filter(|heard| is(&heard.said())).count()).unwrap();
        let accepted = number(|said| matches!(said, Said::Done(_)));
        self.accepted += accepted;
        self.unsure += number(|said| matches!(said, Said::Unknown | Said::Full));
        assert!(self.accepted <= self.total, "{what} is good for {} uses and was accepted {} times", self.total, self.accepted);
        let refused = number(|said| matches!(said, Said::Refused(_)));
        if self.last_ends && accepted > 0 && refused > 0 && self.accepted + self.unsure + refused >= self.total {
            // Uses of this moment that were counted and then cut off by the last one: there are none left in any case.
            self.accepted = self.total;
        }
        assert!(!lives || refused == 0 || self.accepted + self.unsure >= self.total, "{what} has uses left and was refused: {self:?}");
    }

    pub(crate) fn may_be_left(&self) -> bool {
        self.accepted < self.total
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) accessor: String,
    pub(crate) path: &'static str,
    pub(crate) parent: Option<usize>,
    pub(crate) batch: bool,
    pub(crate) period: i64,
    pub(crate) ends: Span,
    pub(crate) life: Life,
    pub(crate) uses: Option<Uses>,
}

/// A wrapping token and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct Wrapped {
    pub(crate) text: String,
    pub(crate) value: String,
    pub(crate) ttl: i64,
    pub(crate) ends: Span,
    pub(crate) uses: Uses,
}

#[derive(Debug, Clone)]
pub(crate) struct SecretId {
    pub(crate) text: String,
    pub(crate) accessor: String,
    pub(crate) ends: Span,
    pub(crate) life: Life,
    pub(crate) uses: Uses,
}

#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) id: String,
    /// The access key of an IAM user that was made for it; empty for an STS credential.
    pub(crate) key: String,
    pub(crate) token: Option<usize>,
    pub(crate) ends: Span,
    /// The server's clock when it had been made.
    pub(crate) made: Timestamp,
    pub(crate) life: Life,
}

impl Model {
    /// A value that no other is like.
    pub(crate) fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn line(&self, token: usize) -> impl Iterator<Item = &Token> {
        std::iter::successors(Some(&self.tokens[token]), |token| token.parent.map(|parent| &self.tokens[parent]))
    }

    /// A token and all that descend from it.
    pub(crate) fn family(&self, token: usize) -> Vec<usize> {
        let is_of = |at: usize| std::iter::successors(Some(at), |at| self.tokens[*at].parent).any(|at| at == token);
        (token..self.tokens.len()).filter(|at| is_of(*at)).collect()
    }

    /// Nothing may refuse it: it is alive, with all its ancestors, until after the round, whatever the clock showed before.
    pub(crate) fn surely_lives(&self, token: usize, round: &Round) -> bool {
        let after = round.ended.max(self.latest);
        !round.ending.contains(&token)
            && self.tokens[token].uses.is_none_or(|uses| uses.accepted + uses.unsure < uses.total)
            && self.line(token).all(|token| token.life == Life::Alive && token.ends.from > after)
    }

    /// Nothing may accept it.
    ///
    /// The end of a parent ends its children when the expiry worker comes by, so it does not count here.
    pub(crate) fn surely_dead(&self, token: usize, round: &Round) -> bool {
        // What another deed of the same moment ends may come before that end.
        let gone = self.tokens[token].life == Life::Gone && !round.ending.contains(&token);
        gone || self.tokens[token].ends.to <= round.started
    }

    /// An answer shows that a token was accepted.
    pub(crate) fn accepted(&self, token: usize, round: &Round, what: &str) {
        assert!(!self.surely_dead(token, round), "{what}: token {token} is over and was accepted: {:?}", self.tokens[token]);
    }

    /// An answer shows that a token was refused.
    pub(crate) fn refused(&mut self, token: usize, round: &Round, what: &str) {
        assert!(!self.surely_lives(token, round), "{what}: token {token} lives and was refused: {:?}", self.tokens[token]);
        // What is over while it could still last is over for good. Of something that ends at this very moment, the deed that ends it tells.
        if !round.ending.contains(&token)
            && self.tokens[token].ends.from > round.ended.max(self.latest)
            && self.tokens[token].uses.is_none()
        {
            self.tokens[token].life = Life::Gone;
        }
    }

    /// What is known of the life of something that was just made.
    pub(crate) fn newborn(&self, round: &Round) -> Life {
        if round.started <= self.swept { Life::Unsure } else { Life::Alive }
    }

    /// A token and its descendants were ended, or may have been.
    pub(crate) fn end(&mut self, token: usize, life: Life) {
        for at in self.family(token) {
            self.weaken(at, life);
        }
    }

    pub(crate) fn weaken(&mut self, token: usize, life: Life) {
        if self.tokens[token].life != Life::Gone {
            self.tokens[token].life = life;
        }
    }

    pub(crate) fn lease_surely_lives(&self, at: usize, round: &Round) -> bool {
        let lease = &self.leases[at];
        let after = round.ended.max(self.latest);
        !round.sweeping
            && lease.life == Life::Alive
            && lease.ends.from > after
            && lease.token.is_none_or(|token| self.surely_lives(token, round))
    }

    /// Everything is settled at this moment, and nothing failed since it came due: what ended is gone, with all that hung on it.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        for at in 0..self.tokens.len() {
            let Token { ends, batch, .. } = self.tokens[at];
            // Nobody remembers the end of a batch token: it is over while the clock says so.
            if !batch && ends.to <= now && self.troubled < ends.from {
                self.end(at, Life::Gone);
            }
        }
        for lease in &mut self.leases {
            if lease.ends.to <= now && self.troubled < lease.ends.from {
                lease.life = Life::Gone;
            }
        }
    }

    pub(crate) fn count(&mut self, deed: &str, heard: &[Heard]) {
        let name = deed.split([' ', '(']).next().unwrap_or_default().to_owned();
        let figures = self.figures.entry(name).or_default();
        for heard in heard {
            let at = match heard.said() {
                Said::Done(_) => 0,
                Said::Refused(_) => 1,
                Said::Full | Said::Unknown => 2,
            };
            figures[at] += 1;
        }
    }
}
