//! Removing what is over: instances whose tokens are all gone, denied role tags that could give none. Once an hour, and when asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daypass_sdk::{
    Changes, CommitFailure, Cx, Endpoint, Entry, Error, Json, Operation, Outcome, Reply, Result, Seconds, Timestamp, from_json,
};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{accesslist, denylist};
use crate::auth::aws::AwsAuth;
use crate::readable::readable;

/// A list that is tidied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Access,
    Deny,
}

impl List {
    fn rows(self) -> &'static str {
        match self {
            Self::Access => accesslist::ROWS,
            Self::Deny => denylist::ROWS,
        }
    }

    fn config_row(self) -> &'static str {
        match self {
            Self::Access => "config/tidy/identity-accesslist",
            Self::Deny => "config/tidy/roletag-denylist",
        }
    }

    /// What holds where nothing is configured: things stay for three days or half a year after they are over.
    fn usual(self) -> TidyConfig {
        let safety_buffer = match self {
            Self::Access => Seconds(259_200),
            Self::Deny => Seconds(15_552_000),
        };
        TidyConfig { safety_buffer, disable_periodic_tidy: false }
    }
}

/// When to tidy next.
#[derive(Default)]
pub(in crate::auth::aws) struct Schedule {
    access: Round,
    deny: Round,
}

#[derive(Default)]
struct Round {
    /// Somebody asked for it, with this buffer.
    wanted: Mutex<Option<Seconds>>,
    /// Seconds on the monotonic clock at which the last round began.
    last: AtomicU64,
}

/// What is stored.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct TidyConfig {
    safety_buffer: Seconds,
    disable_periodic_tidy: bool,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// The fields of a configuration; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
struct ConfigFields {
    /// How long an entry stays after it is over, in seconds or as a duration. Example: `72h`.
    safety_buffer: Option<Seconds>,
    /// Tidy only when it is asked for. Example: `false`.
    disable_periodic_tidy: Option<bool>,
}

/// How to tidy once.
#[derive(Deserialize, JsonSchema)]
struct TidyFields {
    /// How long an entry stays after it is over, in seconds or as a duration; by default what is configured. Example: `72h`.
    safety_buffer: Option<Seconds>,
}

pub(super) fn endpoints() -> [Endpoint<AwsAuth>; 4] {
    [
        config_endpoint(List::Access, ["config/tidy/identity-accesslist", "config/tidy/identity-whitelist"])
            .summary("When the list of instances is tidied."),
        config_endpoint(List::Deny, ["config/tidy/roletag-denylist", "config/tidy/roletag-blacklist"])
            .summary("When the list of denied role tags is tidied."),
        tidy_endpoint(List::Access, ["tidy/identity-accesslist", "tidy/identity-whitelist"]).summary("Tidy the list of instances."),
        tidy_endpoint(List::Deny, ["tidy/roletag-denylist", "tidy/roletag-blacklist"]).summary("Tidy the list of denied role tags."),
    ]
}

fn config_endpoint(list: List, at: [&'static str; 2]) -> Endpoint<AwsAuth> {
    Endpoint::at(at)
        .help("Entries that are over are removed once an hour, when the buffer has passed.")
        .exists(move |_: Arc<AwsAuth>, cx: Cx, _: NoParams| async move { Ok(cx.store.get(list.config_row()).await?.is_some()) })
        .on(Operation::Read, move |_: Arc<AwsAuth>, cx: Cx, _: NoParams| read(cx, list))
        .on(Operation::Update, move |_: Arc<AwsAuth>, cx: Cx, fields: ConfigFields| write(cx, list, fields))
        .on(Operation::Delete, move |_: Arc<AwsAuth>, cx: Cx, _: NoParams| async move { cx.store.delete(list.config_row()).await })
}

fn tidy_endpoint(list: List, at: [&'static str; 2]) -> Endpoint<AwsAuth> {
    Endpoint::at(at)
        .help("Removes the entries that are over, within a minute and in the background.")
        .on(Operation::Update, move |engine: Arc<AwsAuth>, cx: Cx, fields: TidyFields| want(engine, cx, list, fields))
}

async fn read(cx: Cx, list: List) -> Result<Json<Value>> {
    let config: TidyConfig = cx.store.get_json(list.config_row()).await?.ok_or_else(Error::not_found)?;
    Ok(Json(json!({ "safety_buffer": config.safety_buffer, "disable_periodic_tidy": config.disable_periodic_tidy })))
}

async fn write(cx: Cx, list: List, fields: ConfigFields) -> Result<()> {
    let decide = |stored: Option<TidyConfig>| {
        let mut config = stored.unwrap_or_else(|| list.usual());
        config.safety_buffer = fields.safety_buffer.unwrap_or(config.safety_buffer);
        config.disable_periodic_tidy = fields.disable_periodic_tidy.unwrap_or(config.disable_periodic_tidy);
        Ok(config)
    };
    cx.store.change(list.config_row(), decide).await.map(drop)
}

async fn want(engine: Arc<AwsAuth>, cx: Cx, list: List, fields: TidyFields) -> Result<Reply> {
    let configured = config_of(&cx, list).await?.safety_buffer;
    *engine.tidy.round(list).wanted.lock() = Some(fields.safety_buffer.unwrap_or(configured));
    Ok(Reply::from(Outcome::Accepted)
        .warn("Tidy operation successfully started. Any information from the operation will be printed to Vault's server logs."))
}

async fn config_of(cx: &Cx, list: List) -> Result<TidyConfig> {
    Ok(cx.store.get_json(list.config_row()).await?.unwrap_or_else(|| list.usual()))
}

impl Schedule {
    fn round(&self, list: List) -> &Round {
        match list {
            List::Access => &self.access,
            List::Deny => &self.deny,
        }
    }

    /// Removes what is over, when its time has come.
    pub(in crate::auth::aws) async fn tick(&self, cx: &Cx) -> Result<()> {
        for list in [List::Access, List::Deny] {
            let round = self.round(list);
            let wanted = round.wanted.lock().take();
            let now = cx.clock.elapsed().as_secs();
            if wanted.is_none() && now.saturating_sub(round.last.load(Ordering::Acquire)) < ROUND_SECONDS {
                continue;
            }
            let config = config_of(cx, list).await?;
            round.last.store(now, Ordering::Release);
            if wanted.is_some() || !config.disable_periodic_tidy {
                remove(cx, list, wanted.unwrap_or(config.safety_buffer)).await?;
            }
        }
        Ok(())
    }
}

/// What every entry has.
#[derive(Deserialize)]
struct Ends {
    expiration_time: Timestamp,
}

async fn remove(cx: &Cx, list: List, buffer: Seconds) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let names = cx.store.list_page(list.rows(), after.as_deref(), PAGE).await?;
        let Some(last) = names.last() else { return Ok(()) };
        after = Some(last.clone());
        let rows: Vec<String> = names.iter().map(|name| format!("{}{name}", list.rows())).collect();
        let now = cx.clock.now();
        let ends = |(row, entry): (&String, Option<Result<Entry>>)| {
            Some(entry?.and_then(|entry| Ok((from_json::<Ends>(row, &entry.value)?, entry))))
        };
        let found = rows.iter().zip(cx.store.get_each(&rows).await?).map(ends).collect();
        for (row, (ends, entry)) in readable(cx, &rows, found) {
            if ends.expiration_time + buffer > now {
                continue;
            }
            match cx.store.commit(Changes::new().unchanged(row.to_owned(), Some(&entry)).delete(row.to_owned())).await {
                // Changed meanwhile: the next round sees to it.
                Ok(()) | Err(CommitFailure::Conflict(_)) => {}
                Err(CommitFailure::Error(error)) => return Err(error),
            }
        }
    }
}

/// Names per look.
const PAGE: usize = 1000;
/// Time between two rounds: seconds.
const ROUND_SECONDS: u64 = 3600;
