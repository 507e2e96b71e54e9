//! An engine that lends numbers and keeps a book of what was lent and given back: stored leases without an AWS.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::BoxFuture;
use daypass_sdk::{Cx, Endpoint, Engine, Error, Factory, Json, LeaseInfo, LeaseTerms, Leased, Operation, Renewal, Result, Room, Seconds};
use daypass_testkit::Setup;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What became of the numbers; outlives restarts, as AWS does.
#[derive(Default)]
pub(crate) struct Book {
    lent: Mutex<Vec<u64>>,
    /// Every return, also a second one of the same number.
    returned: Mutex<Vec<u64>>,
    /// How often a return was tried.
    tries: Mutex<u32>,
    /// So many returns are refused from now on.
    refusals: Mutex<u32>,
    /// So many returns never end from now on.
    hanging: Mutex<u32>,
    /// Returns of this mount never end, while one is named.
    hanging_mount: Mutex<Option<&'static str>>,
    /// Returns of this mount take so long, while one is named.
    busy_mount: Mutex<Option<(&'static str, Duration)>>,
    /// Regular work of this mount never ends, while one is named.
    hanging_work: Mutex<Option<&'static str>>,
    /// How often regular work was begun, by mount.
    worked: Mutex<Vec<String>>,
}

impl Book {
    /// Numbers that are still out, in order.
    pub(crate) fn out(&self) -> Vec<u64> {
        let returned = self.returned.lock();
        self.lent.lock().iter().filter(|number| !returned.contains(number)).copied().collect()
    }

    /// How many numbers were ever lent.
    pub(crate) fn lent(&self) -> usize {
        self.lent.lock().len()
    }

    pub(crate) fn tries(&self) -> u32 {
        *self.tries.lock()
    }

    pub(crate) fn hang(&self, times: u32) {
        *self.hanging.lock() = times;
    }

    pub(crate) fn hang_mount(&self, path: Option<&'static str>) {
        *self.hanging_mount.lock() = path;
    }

    pub(crate) fn busy_mount(&self, path: &'static str, each: Duration) {
        *self.busy_mount.lock() = Some((path, each));
    }

    pub(crate) fn hang_work(&self, path: Option<&'static str>) {
        *self.hanging_work.lock() = path;
    }

    /// How often the mount's regular work was begun.
    pub(crate) fn worked(&self, path: &str) -> usize {
        self.worked.lock().iter().filter(|worked| *worked == path).count()
    }

    pub(crate) fn refuse(&self, times: u32) {
        *self.refusals.lock() = times;
    }
}

/// Everything was given back.
pub(crate) const NOTHING: [u64; 0] = [];

/// A setup whose servers can mount `lender`, and its book.
pub(crate) fn setup() -> (Setup, Arc<Book>) {
    let book = Arc::<Book>::default();
    let kept = Arc::clone(&book);
    let setup = Setup::default().engine(move || {
        let (room, book) = (Arc::new(Room::<Lender>::new()), Arc::clone(&kept));
        let build = move |_: &_| Ok(room.mount(Lender { book: Arc::clone(&book) }));
        Factory { kind: "lender", auth: false, summary: "Lends numbers", built_from: &[], build: Box::new(build) }
    });
    (setup, book)
}

struct Lender {
    book: Arc<Book>,
}

/// How to lend.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Terms {
    /// Lifetime in seconds.
    #[serde(default)]
    ttl: Seconds,
    /// Longest lifetime with renewals, in seconds.
    #[serde(default)]
    max_ttl: Seconds,
}

/// A note of the mount's own.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Note {
    /// Its name.
    name: String,
    /// What it says.
    #[serde(default)]
    text: String,
}

async fn lend(lender: Arc<Lender>, cx: Cx, terms: Terms) -> Result<Leased> {
    // 53 bits: whole numbers in every JSON reader.
    let number = cx.entropy.below(1 << 53);
    lender.book.lent.lock().push(number);
    let terms = LeaseTerms { ttl: terms.ttl, max_ttl: terms.max_ttl, renewable: true };
    Ok(Leased::stored(json!({ "number": number }), terms, json!({ "number": number })))
}

async fn write(_: Arc<Lender>, cx: Cx, note: Note) -> Result<()> {
    cx.store.put_json(&format!("note/{}", note.name), &note.text).await
}

async fn read(_: Arc<Lender>, cx: Cx, note: Note) -> Result<Json<Value>> {
    let text: Option<String> = cx.store.get_json(&format!("note/{}", note.name)).await?;
    Ok(Json(json!({ "text": text.ok_or_else(Error::not_found)? })))
}

impl Engine for Lender {
    const SUMMARY: &'static str = "Lends numbers.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![
            Endpoint::at(["lend"]).summary("Lend a number.").on(Operation::Read, lend).on(Operation::Update, lend),
            Endpoint::at(["note/{name}"]).summary("A note.").on(Operation::Read, read).on(Operation::Update, write),
        ]
    }

    fn tick(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            self.book.worked.lock().push(cx.mount.path.clone());
            let hangs = self.book.hanging_work.lock().is_some_and(|path| cx.mount.path == path);
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }

    fn revoke(self: Arc<Self>, cx: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            *self.book.tries.lock() += 1;
            {
                let mut refusals = self.book.refusals.lock();
                if *refusals > 0 {
                    *refusals -= 1;
                    return Err(Error::failed("the counter is closed"));
                }
            }
            let busy = *self.book.busy_mount.lock();
            if let Some((_, each)) = busy.filter(|(path, _)| lease.id.starts_with(path)) {
                cx.clock.sleep(each).await;
            }
            let hangs = {
                let mut hanging = self.book.hanging.lock();
                let hangs = *hanging > 0;
                *hanging = hanging.saturating_sub(1);
                hangs || self.book.hanging_mount.lock().is_some_and(|path| lease.id.starts_with(path))
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            self.book.returned.lock().extend(lease.internal["number"].as_u64());
            Ok(())
        })
    }

    fn renew(self: Arc<Self>, _: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(std::future::ready(Ok(Renewal { terms: lease.terms, period: Seconds::ZERO, internal: None, groups: None })))
    }
}
