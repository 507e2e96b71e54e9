//! The revocation of one token, with all that descends from it and hangs on it.
//!
//! It can stop after every step and be begun anew: what is gone is not met twice, and what was begun is marked, refused and due. So it stops when the
//! server is being sealed, and when its turn is over. A row that is damaged keeps those above it from going, and nothing else: what descends from it and hangs
//! on it is found without it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daypass_base::Clock;
use daypass_sdk::{Error, Result, TokenId};

use super::{AT_ONCE, PAGE, cubbyhole_prefix};
use crate::ids;
use crate::node::{Inner, Unsealed};
use crate::rows::config_key;
use crate::together::at_most;
use crate::tokens::{Begun, Cause, Mark, TokenRow};

/// How far a revocation came.
#[derive(Debug)]
pub(super) enum Far {
    Done,
    /// All is done that could be: a damaged row keeps the rest, this one first of all.
    Held(Damaged),
    /// Something is left: it is to be begun anew.
    More,
    /// The turn was over before, or the server is being sealed.
    NotBegun,
}

/// A token whose row does not open.
#[derive(Debug)]
pub(crate) struct Damaged {
    pub(crate) id: TokenId,
    pub(crate) error: Error,
}

/// What becomes of rows that do not open, when all below them is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfDamaged {
    /// They go: a person wants it.
    Forget,
    Keep,
}

/// How much is done before others have their turn. Those who share one share what it allows.
pub(crate) struct Turn {
    limited: bool,
    changes: AtomicUsize,
    /// Counted from the first change: to come back to where it was takes as long as it takes.
    until: OnceLock<Duration>,
}

impl Turn {
    /// For who waits until all is done.
    pub(crate) fn endless() -> Self {
        Self { limited: false, changes: AtomicUsize::new(0), until: OnceLock::new() }
    }

    /// For who has other things to do.
    pub(crate) fn short() -> Self {
        Self { limited: true, ..Self::endless() }
    }

    fn count(&self, changes: usize, clock: &dyn Clock) {
        if changes > 0 {
            self.changes.fetch_add(changes, Ordering::Relaxed);
            self.until.get_or_init(|| clock.elapsed() + TURN);
        }
    }

    fn is_over(&self, clock: &dyn Clock) -> bool {
        let late = || self.until.get().is_some_and(|until| *until <= clock.elapsed());
        self.limited && (self.changes.load(Ordering::Relaxed) >= CHANGES || late())
    }
}

/// A token on the way to the ends of the tree.
#[derive(Clone, Copy)]
struct Line {
    id: TokenId,
    cause: Cause,
    /// Its children up to this one were seen to.
    after: Option<TokenId>,
}

struct Tree {
    /// Those to be seen to, the next one last; each above its children.
    lines: Vec<Line>,
    /// Those with something below that cannot be read. They stay, refused, and so do those above them.
    stuck: HashSet<TokenId>,
    damaged: Option<Damaged>,
    rule: OfDamaged,
}

/// What became of a child.
enum Child {
    /// It stays for that; all below it is gone.
    Damaged(Damaged),
    /// How much was changed for it.
    Gone(usize),
    /// It is marked or damaged, and more hangs on it than is removed in passing. How much was changed.
    Grown(TokenId, usize),
}

/// What became of a token that nothing but its cubbyhole hangs on any more.
enum End {
    /// It stays for that.
    Damaged(Damaged),
    /// How much was changed for it.
    Gone(usize),
    /// A page of its cubbyhole went, of so many rows; there may be more.
    More(usize),
}

/// Revokes a token, its children first, and sets its leases to end now. One that is gone already, or whose `cause` holds no more, is no error.
/// The cause is not asked of a row that does not open: whoever names such a token knows from an index that its time has come. Nobody can use it, so that
/// it was not renewed since.
pub(super) async fn token(inner: &Arc<Inner>, unsealed: &Unsealed, id: TokenId, cause: Cause, rule: OfDamaged, turn: &Turn) -> Result<Far> {
    let over = || unsealed.is_stopping() || turn.is_over(&*inner.clock);
    if over() {
        return Ok(Far::NotBegun);
    }
    let mut tree = Tree { lines: vec![Line { id, cause, after: None }], stuck: HashSet::new(), damaged: None, rule };
    let mut changes = 0;
    while let Some(line) = tree.lines.last().copied() {
        let made = tree.step(inner, unsealed, line).await?;
        turn.count(made, &*inner.clock);
        changes += made;
        // A turn that others used up still does something: a line that is deep is found again from the top each time.
        if !tree.lines.is_empty() && (unsealed.is_stopping() || changes > 0 && over()) {
            return Ok(Far::More);
        }
    }
    Ok(tree.damaged.map_or(Far::Done, Far::Held))
}

impl Tree {
    /// Sees to one page of what hangs on a token, or to its end. Returns how much was changed.
    async fn step(&mut self, inner: &Arc<Inner>, unsealed: &Unsealed, line: Line) -> Result<usize> {
        let Some(Begun { row, mark }) = unsealed.tokens.begin_revocation(line.id, line.cause).await? else {
            self.lines.pop();
            return Ok(0);
        };
        let children = unsealed.tokens.children(line.id, line.after, PAGE).await?;
        let made = match children.last() {
            Some(last) => self.page(inner, unsealed, Line { after: Some(*last), ..line }, children).await?,
            None => self.end(inner, unsealed, line, row).await?,
        };
        Ok(made + usize::from(mark == Mark::Ours))
    }

    /// Those without children of their own go at once, several at a time; the others have their turn next.
    async fn page(&mut self, inner: &Arc<Inner>, unsealed: &Unsealed, line: Line, children: Vec<TokenId>) -> Result<usize> {
        let parent = line.id;
        if let Some(last) = self.lines.last_mut() {
            *last = line;
        }
        let (mut made, rule) = (0, self.rule);
        for child in at_most(AT_ONCE, children.into_iter().map(|child| childless(inner, unsealed, parent, child, rule))).await {
            match child? {
                Child::Gone(changes) => made += changes,
                Child::Grown(id, changes) => {
                    made += changes;
                    self.lines.push(Line { id, cause: Cause::ChildOf(parent), after: None });
                }
                Child::Damaged(damaged) => self.note(Cause::ChildOf(parent), damaged),
            }
        }
        if self.lines.len() > DEPTH_MAX {
            return Err(Error::failed(format!("a token has more than {DEPTH_MAX} descendants in one line")));
        }
        Ok(made)
    }

    /// A token whose children are gone, all but those that are damaged.
    async fn end(&mut self, inner: &Arc<Inner>, unsealed: &Unsealed, line: Line, row: Result<Box<TokenRow>>) -> Result<usize> {
        let loosened = loosen_leases(inner, unsealed, line.id).await?;
        if loosened > 0 {
            return Ok(loosened);
        }
        if self.stuck.remove(&line.id) {
            self.lines.pop();
            self.hold_up(line.cause);
            return Ok(0);
        }
        match finish(unsealed, line.id, line.cause, row, self.rule, PAGE).await? {
            End::More(changes) => Ok(changes),
            End::Gone(changes) => {
                self.lines.pop();
                Ok(changes)
            }
            End::Damaged(damaged) => {
                self.lines.pop();
                self.note(line.cause, damaged);
                Ok(0)
            }
        }
    }

    fn note(&mut self, cause: Cause, damaged: Damaged) {
        self.damaged.get_or_insert(damaged);
        self.hold_up(cause);
    }

    /// What is revoked for that cause stays.
    fn hold_up(&mut self, cause: Cause) {
        self.stuck.extend(cause.parent());
    }
}

/// Revokes a child that has no children, few leases and little in its cubbyhole.
async fn childless(inner: &Arc<Inner>, unsealed: &Unsealed, parent: TokenId, child: TokenId, rule: OfDamaged) -> Result<Child> {
    let cause = Cause::ChildOf(parent);
    let Some(Begun { row, mark }) = unsealed.tokens.begin_revocation(child, cause).await? else {
        // An edge whose child is gone, left by a crash between two steps; or the child was made an orphan meanwhile.
        unsealed.tokens.drop_edge(parent, child).await?;
        return Ok(Child::Gone(1));
    };
    let marked = usize::from(mark == Mark::Ours);
    if !unsealed.tokens.children(child, None, 1).await?.is_empty() || loosen_leases(inner, unsealed, child).await? >= PAGE {
        return Ok(Child::Grown(child, marked));
    }
    while loosen_leases(inner, unsealed, child).await? > 0 {}
    Ok(match finish(unsealed, child, cause, row, rule, IN_PASSING).await? {
        End::Damaged(damaged) => Child::Damaged(damaged),
        End::Gone(changes) => Child::Gone(changes),
        End::More(changes) => Child::Grown(child, marked + changes),
    })
}

/// A page of the cubbyhole of a token whose revocation has begun, that has no children any more and no leases; with the last page the token goes.
async fn finish(unsealed: &Unsealed, id: TokenId, cause: Cause, row: Result<Box<TokenRow>>, rule: OfDamaged, page: usize) -> Result<End> {
    let row = match row {
        Err(error) if rule == OfDamaged::Keep => return Ok(End::Damaged(Damaged { id, error })),
        row => row,
    };
    let cleared = unsealed.rows.clear_page(&config_key(cubbyhole_prefix(id)), page).await?;
    if cleared >= page {
        return Ok(End::More(cleared));
    }
    match row {
        Ok(row) => unsealed.tokens.finish_revocation(id, &row).await?,
        Err(error) => {
            tracing::warn!(accessor_begins = %ids::encode_id(&id.0), %error, "a damaged token is removed by force");
            unsealed.tokens.forget(id, cause.parent()).await?;
        }
    }
    Ok(End::Gone(cleared + 1))
}

/// Sets a page of a token's leases to end now: the expiry worker revokes them at once, with retries, so that a token with many leases, or an AWS that
/// does not answer, does not hold up the request. Returns how many there were.
async fn loosen_leases(inner: &Arc<Inner>, unsealed: &Unsealed, id: TokenId) -> Result<usize> {
    let leases = unsealed.leases.of_token(id, PAGE).await?;
    let (count, now) = (leases.len(), inner.clock.now());
    let loosened = at_most(AT_ONCE, leases.into_iter().map(|lease| unsealed.leases.loosen(id, lease, now))).await;
    loosened.into_iter().collect::<Result<()>>()?;
    Ok(count)
}

/// Changes in one turn: less than half a second on an ordinary disk.
const CHANGES: usize = 2_000;
const TURN: Duration = Duration::from_millis(500);
/// Rows of a child's cubbyhole that go with it; of a larger one a page has a step of its own, since children go many in one step.
const IN_PASSING: usize = 16;
const DEPTH_MAX: usize = 1_000_000;
