//! `sys/config/ui/custom-messages`: what user interfaces show to people, before or after they log in; and how they ask for it.
//!
//! Messages are rows of their own, read when somebody asks. Those for people who have not logged in are for everybody: no secrets in them.

use std::sync::Arc;

use daypass_base::{Brief, Timestamp};
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Reply, Result};
use daypass_storage::{Batch, Condition, Key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Sys;
use super::mounts::Nothing;
use crate::ids;
use crate::node::{Unsealed, core_key};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["config/ui/custom-messages/?"])
            .summary("List the messages that user interfaces show, or add one.")
            .on(Operation::List, list)
            .on(Operation::Update, create),
        Endpoint::at(["config/ui/custom-messages/{id}"])
            .summary("Show, change or remove a message that user interfaces show.")
            .on(Operation::Read, read)
            .on(Operation::Update, update)
            .on(Operation::Delete, delete),
        Endpoint::at(["internal/ui/authenticated-messages/?"])
            .summary("List the messages for people who have logged in.")
            .public()
            .on(Operation::Read, for_users)
            .on(Operation::List, for_users),
        Endpoint::at(["internal/ui/unauthenticated-messages/?"])
            .summary("List the messages for people who have not logged in.")
            .public()
            .on(Operation::Read, for_all)
            .on(Operation::List, for_all),
    ]
}

/// A message as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Message {
    title: String,
    #[serde(rename = "type")]
    kind: String,
    authenticated: bool,
    /// Base64, as it came.
    message: String,
    start_time: Timestamp,
    end_time: Option<Timestamp>,
    /// A title and where it leads.
    link: Option<Map<String, Value>>,
    options: Option<Map<String, Value>>,
}

impl Message {
    fn is_active(&self, now: Timestamp) -> bool {
        self.start_time <= now && self.end_time.is_none_or(|end| now < end)
    }
}

/// Which messages.
#[derive(Debug, Deserialize, JsonSchema)]
struct Filter {
    /// Only those that are shown now, or only those that are not.
    active: Option<bool>,
    /// Only those for people who have logged in, or only the others.
    authenticated: Option<bool>,
    /// Only those of this type: `banner` or `modal`.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A message by its id.
#[derive(Debug, Deserialize, JsonSchema)]
struct ById {
    /// The message's id.
    id: String,
}

/// A message as it is to be.
#[derive(Debug, Deserialize, JsonSchema)]
struct MessageParams {
    /// The message's id; a new one has none yet.
    #[serde(default)]
    id: String,
    /// What stands above it.
    title: Option<String>,
    /// `banner` or `modal`; `banner` unless given.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Whether it is for people who have logged in; true unless given. Others are shown to everybody.
    authenticated: Option<bool>,
    /// The text, in base64.
    message: Option<String>,
    /// When it begins to be shown: `2026-01-02T03:04:05Z`.
    start_time: Option<String>,
    /// When it is shown no longer; never unless given.
    end_time: Option<String>,
    /// One title and the address that it leads to: `{"more": "https://example.com"}`.
    link: Option<Map<String, Value>>,
    /// What the user interface wants to keep with it.
    options: Option<Map<String, Value>>,
}

/// Errors: `NotFound` when there is none.
async fn list(sys: Arc<Sys>, cx: Cx, filter: Filter) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let now = cx.clock.now();
    let fits = |message: &Message| {
        filter.active.is_none_or(|active| active == message.is_active(now))
            && filter.authenticated.is_none_or(|authenticated| authenticated == message.authenticated)
            && filter.kind.as_ref().is_none_or(|kind| kind.is_empty() || *kind == message.kind)
    };
    let info = |message: &Message| {
        json!({
            "title": message.title, "type": message.kind, "authenticated": message.authenticated, "active": message.is_active(now),
            "start_time": message.start_time, "end_time": message.end_time,
        })
    };
    listed(&unsealed, fits, info).await
}

/// Errors: `BadRequest`, with Vault's texts.
async fn create(sys: Arc<Sys>, cx: Cx, params: MessageParams) -> Result<Json<Value>> {
    let (_, unsealed) = sys.way.open()?;
    let message = checked(params)?;
    if all(&unsealed).await?.len() >= MESSAGES_MAX {
        return Err(Error::bad_request(format!(
            "failed to create custom message: there are {MESSAGES_MAX} messages already; delete one first"
        )));
    }
    let id = ids::uuid(&*cx.entropy);
    let batch = Batch::new().require(key(&id), Condition::Absent);
    unsealed.rows.commit(unsealed.rows.put_json(batch, key(&id), &message)?).await?;
    let mut shown = shown(&id, &message, cx.clock.now());
    // As Vault has it: the title comes back only when it is asked for.
    shown.remove("title");
    Ok(Json(shown.into()))
}

/// Errors: `NotFound`.
async fn read(sys: Arc<Sys>, cx: Cx, params: ById) -> Result<Json<Value>> {
    let (_, unsealed) = sys.way.open()?;
    let (message, _) = unsealed.rows.get_json::<Message>(&key(&params.id)).await?.ok_or_else(Error::not_found)?;
    Ok(Json(shown(&params.id, &message, cx.clock.now()).into()))
}

/// Errors: `NotFound`, and `BadRequest` with Vault's texts.
async fn update(sys: Arc<Sys>, cx: Cx, params: MessageParams) -> Result<Json<Value>> {
    let (_, unsealed) = sys.way.open()?;
    let id = params.id.clone();
    let message = checked(params)?;
    let decide = |stored: Option<Message>| stored.map(|_before| Some(message.clone())).ok_or_else(Error::not_found);
    unsealed.rows.change(&key(&id), &Batch::new(), decide).await?;
    Ok(Json(json!({
        "id": id, "active": message.is_active(cx.clock.now()), "start_time": message.start_time, "end_time": message.end_time,
        "type": message.kind, "authenticated": message.authenticated,
    })))
}

async fn delete(sys: Arc<Sys>, _cx: Cx, params: ById) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    unsealed.rows.commit(Batch::new().delete(key(&params.id))).await?;
    Ok(())
}

/// For whoever has a token, whatever its policies. Errors: `NotFound` for all others, as when there are none.
async fn for_users(sys: Arc<Sys>, cx: Cx, _: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    if cx.request.caller.token_type.is_empty() {
        return Err(Error::not_found());
    }
    active(&unsealed, cx.clock.now(), true).await
}

async fn for_all(sys: Arc<Sys>, cx: Cx, _: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    active(&unsealed, cx.clock.now(), false).await
}

async fn active(unsealed: &Unsealed, now: Timestamp, authenticated: bool) -> Result<Reply> {
    let info = |message: &Message| {
        json!({
            "title": message.title, "type": message.kind, "authenticated": message.authenticated, "message": message.message,
            "link": message.link, "options": message.options, "start_time": message.start_time, "end_time": message.end_time,
        })
    };
    listed(unsealed, |message| message.is_active(now) && message.authenticated == authenticated, info).await
}

async fn listed(unsealed: &Unsealed, fits: impl Fn(&Message) -> bool, info: impl Fn(&Message) -> Value) -> Result<Reply> {
    let fitting: Vec<(String, Message)> = all(unsealed).await?.into_iter().filter(|(_, message)| fits(message)).collect();
    if fitting.is_empty() {
        return Err(Error::not_found());
    }
    let info: Map<String, Value> = fitting.iter().map(|(id, message)| (id.clone(), info(message))).collect();
    let keys: Vec<String> = fitting.into_iter().map(|(id, _)| id).collect();
    Ok(Reply::json(json!({ "keys": keys, "key_info": info })))
}

/// All of them, in the order of their ids.
async fn all(unsealed: &Unsealed) -> Result<Vec<(String, Message)>> {
    let (mut all, mut after): (Vec<(String, Message)>, Option<Vec<u8>>) = (Vec::new(), None);
    loop {
        let page = unsealed.rows.scan(&key(""), after.as_deref(), MESSAGES_MAX).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after = Some(last.bytes.to_vec());
        for (at, plain) in page {
            let id = at.bytes.get(key("").bytes.len()..).map(|id| String::from_utf8_lossy(id).into_owned());
            all.push((id.unwrap_or_default(), crate::rows::parse(&at, &plain.value)?));
        }
    }
}

fn shown(id: &str, message: &Message, now: Timestamp) -> Map<String, Value> {
    let shown = json!({
        "id": id, "title": message.title, "type": message.kind, "authenticated": message.authenticated, "message": message.message,
        "start_time": message.start_time, "end_time": message.end_time, "link": message.link, "options": message.options,
        "active": message.is_active(now),
    });
    if let Value::Object(shown) = shown { shown } else { Map::new() }
}

/// A message from what was sent. Errors: `BadRequest`, with Vault's texts where it has them.
fn checked(params: MessageParams) -> Result<Message> {
    let missing = |name: &str| Error::bad_request(format!("missing {name} parameter value"));
    let title = params.title.filter(|title| !title.is_empty()).ok_or_else(|| missing("title"))?;
    let message = params.message.filter(|message| !message.is_empty()).ok_or_else(|| missing("message"))?;
    let kind = params.kind.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "banner".to_owned());
    if !["banner", "modal"].contains(&kind.as_str()) {
        return Err(Error::bad_request(format!("invalid type parameter value: {:?} is neither \"banner\" nor \"modal\"", Brief(&kind))));
    }
    if data_encoding::BASE64.decode(message.as_bytes()).is_err() {
        return Err(Error::bad_request("invalid message parameter value, must be base64 encoded"));
    }
    let start_time = time("start_time", params.start_time)?.ok_or_else(|| missing("start_time"))?;
    let end_time = time("end_time", params.end_time)?;
    if let Some(end) = end_time.filter(|end| *end <= start_time) {
        return Err(Error::bad_request(format!("invalid end_time parameter value: {end} is not after start_time {start_time}")));
    }
    let options = params.options;
    let sizes = [
        ("title", title.len(), TITLE_BYTES_MAX),
        ("message", message.len(), MESSAGE_BYTES_MAX),
        ("options", length(options.as_ref()), OPTIONS_BYTES_MAX),
    ];
    if let Some((name, bytes, most)) = sizes.into_iter().find(|(_, bytes, most)| bytes > most) {
        return Err(Error::bad_request(format!("invalid {name} parameter value: {bytes} bytes are over the limit of {most} bytes")));
    }
    let authenticated = params.authenticated.unwrap_or(true);
    Ok(Message { title, kind, authenticated, message, start_time, end_time, link: link(params.link)?, options })
}

fn time(name: &str, text: Option<String>) -> Result<Option<Timestamp>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.parse::<i64>().map(Timestamp::from_seconds);
    let parsed = seconds.or_else(|_no_number| text.parse());
    parsed.map(Some).map_err(|why| Error::bad_request(format!("invalid {name} parameter value: {why}")))
}

/// Vault's rules for a link, with its texts.
fn link(link: Option<Map<String, Value>>) -> Result<Option<Map<String, Value>>> {
    let Some(link) = link else { return Ok(None) };
    if link.len() > 1 {
        return Err(Error::bad_request("invalid number of elements in link parameter value; only a single element can be provided"));
    }
    let Some((title, address)) = link.iter().next() else { return Ok(None) };
    let Some(address) = address.as_str() else {
        return Err(Error::bad_request(format!("invalid url for {:?} key in link parameter value", Brief(title))));
    };
    match (title.is_empty(), address.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => Err(Error::bad_request("missing title key in link parameter value")),
        (false, true) => Err(Error::bad_request(format!("missing url for {:?} key in link parameter value", Brief(title)))),
        (false, false) if title.len() + address.len() > TITLE_BYTES_MAX => {
            Err(Error::bad_request(format!("invalid link parameter value: it is over the limit of {TITLE_BYTES_MAX} bytes")))
        }
        (false, false) => Ok(Some(link)),
    }
}

fn length(options: Option<&Map<String, Value>>) -> usize {
    options.map_or(0, |options| serde_json::to_vec(options).map_or(0, |text| text.len()))
}

fn key(id: &str) -> Key {
    core_key(&format!("ui-messages/{id}"))
}

/// As many as Vault takes.
const MESSAGES_MAX: usize = 100;
const TITLE_BYTES_MAX: usize = 2_048;
const MESSAGE_BYTES_MAX: usize = 32_768;
const OPTIONS_BYTES_MAX: usize = 4_096;
