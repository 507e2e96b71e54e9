//! Answers that go on while the log does: `sys/monitor`. Each is a task that this owns, and that ends with its reader, with its token or its
//! right, when the server is sealed and when it stops. [`Reader`] looks at token and right, for snapshots too.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Clock, Download, Secret};
use daypass_policy::{Operation, Question};
use daypass_sdk::{Cx, Error, Kind, Result};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::log::Lines;
use crate::node::Unsealed;
use crate::tokens::SPENT;

/// All that run.
#[derive(Debug)]
pub(crate) struct Monitors {
    /// `None` once they were ended: none begins after that.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Default for Monitors {
    fn default() -> Self {
        Self { tasks: Mutex::new(Some(JoinSet::new())) }
    }
}

/// Who reads, for as long as the token is good.
pub(crate) struct Reader {
    pub(crate) token: Secret<String>,
    /// What it reads: `sys/monitor`.
    pub(crate) path: String,
    pub(crate) unsealed: Weak<Unsealed>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Monitors {
    /// Begins one. Errors: `TooMany`, and `Sealed` when the server is about to stop.
    pub(crate) fn begin(&self, reader: Reader, follow: impl FnOnce() -> Lines) -> Result<Download> {
        let mut tasks = self.tasks.lock();
        let tasks = tasks.as_mut().ok_or_else(crate::node::sealed)?;
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= AT_ONCE {
            let text = format!("{AT_ONCE} monitors follow the log already and that is the limit: end one of them, or try again later");
            return Err(Error::new(Kind::TooMany, text));
        }
        let (pieces, body) = mpsc::channel(PIECES);
        tasks.spawn(pass_on(reader.refused(), follow(), pieces));
        Ok(Download::endless(body))
    }

    /// Ends all of them, for good.
    pub(crate) async fn end(&self) {
        let tasks = self.tasks.lock().take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
    }
}

async fn pass_on(refused: impl Future<Output = ()>, mut lines: Lines, pieces: mpsc::Sender<Bytes>) {
    let mut refused = std::pin::pin!(refused);
    let mut line = None;
    loop {
        tokio::select! {
            biased;
            () = &mut refused => return,
            room = pieces.reserve(), if line.is_some() => match (room, line.take()) {
                (Ok(room), Some(line)) => room.send(line),
                (Ok(_), None) => {}
                (Err(_reader_gone), _) => return,
            },
            next = lines.next(), if line.is_none() => match next {
                Some(next) => line = Some(next),
                None => return,
            },
            () = pieces.closed() => return,
        }
    }
}

impl Reader {
    /// Who sent this request. Errors: `Internal`.
    pub(crate) fn of(cx: &Cx, unsealed: &Arc<Unsealed>, clock: &Arc<dyn Clock>) -> Result<Self> {
        let token = cx.request.presented.clone().ok_or_else(|| Error::internal("an answer that goes on, for a request without a token"))?;
        Ok(Self { token, path: cx.request.path.clone(), unsealed: Arc::downgrade(unsealed), clock: Arc::clone(clock) })
    }

    /// Resolves when it may read no longer, which is looked at from now on.
    pub(crate) fn refused(self) -> impl Future<Output = ()> + Send + 'static {
        let mut look = self.clock.sleep(LOOK_AT_TOKEN);
        async move {
            loop {
                look.await;
                if !self.may_read().await {
                    return;
                }
                look = self.clock.sleep(LOOK_AT_TOKEN);
            }
        }
    }

    /// Whether the last use of its token was taken, as by the request that is being answered.
    pub(crate) async fn is_spent(&self, unsealed: &Unsealed) -> Result<bool> {
        let (known, _) = unsealed.tokens.find(&self.token).await?;
        Ok(known.is_some_and(|known| known.row.num_uses == SPENT))
    }

    /// Whether the token still is good, and may still read this.
    async fn may_read(&self) -> bool {
        let Some(unsealed) = self.unsealed.upgrade() else { return false };
        match self.judge(&unsealed).await {
            Ok(may) => may,
            Err(error) => {
                tracing::warn!(%error, "an answer that goes on ends: the rights of its token cannot be told any more");
                false
            }
        }
    }

    async fn judge(&self, unsealed: &Unsealed) -> Result<bool> {
        let (known, config_version) = unsealed.tokens.find(&self.token).await?;
        let Some(known) = known else { return Ok(false) };
        let authority = unsealed.authority(&known.row, config_version).await?;
        let others = unsealed.table.load().stands_for(&self.path);
        let paths = others.as_strs();
        Ok(authority.acl.judge(&others.told(&paths, Question::new(&self.path, Operation::Read))).allowed)
    }
}

/// Monitors at one time.
const AT_ONCE: usize = 8;
/// Lines on their way to one client, besides those that wait in the log.
const PIECES: usize = 16;
/// How often the token of a reader is looked at.
const LOOK_AT_TOKEN: Duration = Duration::from_secs(5);
