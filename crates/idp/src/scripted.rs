//! Identity providers of a test: they answer from a script, and remember what they were asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use daypass_base::BoxFuture;
use serde_json::Value;

use crate::{Answer, Ask, Idp, IdpError, Payload, Proof, Result, Trust};

/// A script: answers by URL. Whoever is not in it cannot be reached.
#[derive(Default)]
pub struct ScriptedIdp {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Script>,
    asked: Vec<Asked>,
}

/// How a URL answers.
#[derive(Clone)]
enum Script {
    By(Arc<dyn Fn(&Asked) -> Answer + Send + Sync>),
    With(Result<Answer>),
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The whole URL.
    pub url: String,
    /// Fields of a form.
    pub form: BTreeMap<String, String>,
    /// A JSON body.
    pub json: String,
    /// A body of bytes.
    pub bytes: Vec<u8>,
    /// `Basic name:password`, `Bearer token`, or empty.
    pub proof: String,
    /// Who is trusted.
    pub trust: Trust,
}

impl ScriptedIdp {
    /// This URL answers with this JSON from now on.
    pub fn answers(&self, url: &str, body: &Value) {
        self.answers_raw(url, 200, "application/json", &body.to_string());
    }

    /// This URL answers with exactly this from now on.
    pub fn answers_raw(&self, url: &str, status: u16, content_type: &str, body: &str) {
        let answer = Answer { status, content_type: content_type.to_owned(), body: Bytes::from(body.to_owned()) };
        self.state().answers.insert(url.to_owned(), Script::With(Ok(answer)));
    }

    /// This URL answers from now on with what `make` makes of each request.
    pub fn answers_by(&self, url: &str, make: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        self.state().answers.insert(url.to_owned(), Script::By(Arc::new(make)));
    }

    /// From now on too many wait for this URL already.
    pub fn is_crowded(&self, url: &str) {
        let host = url.split('/').nth(2).unwrap_or_default().to_owned();
        let detail = "256 calls to it wait already: try again in a few seconds".to_owned();
        self.state().answers.insert(url.to_owned(), Script::With(Err(IdpError::Crowded { host, detail, slow: false })));
    }

    /// This URL cannot be reached from now on.
    pub fn is_down(&self, url: &str) {
        self.state().answers.remove(url);
    }

    /// Everything that was asked since the last look.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idp for ScriptedIdp {
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Answer>> {
        let mut asked = Asked {
            url: ask.url.as_str().to_owned(),
            form: BTreeMap::new(),
            json: String::new(),
            bytes: Vec::new(),
            // A test compares it.
            proof: match &ask.proof {
                Proof::Basic(name, password) => format!("Basic {name}:{}", password.expose()),
                Proof::Bearer(token) => format!("Bearer {}", token.expose()),
                Proof::Nothing => String::new(),
            },
            trust: ask.trust,
        };
        match &ask.payload {
            // A test compares them.
            Payload::Form(fields) => {
                asked.form = fields.iter().map(|(name, value)| ((*name).to_owned(), value.expose().clone())).collect();
            }
            Payload::Bytes { bytes, .. } => asked.bytes.clone_from(bytes),
            Payload::Json(text) => asked.json.clone_from(text.expose()),
            Payload::Nothing => {}
        }
        let mut state = self.state();
        let host = ask.url.host().to_owned();
        let nobody = || Err(IdpError::Unreachable { host: host.clone(), detail: "the script has nobody there".to_owned() });
        let script = state.answers.get(&asked.url).cloned().map(|script| match script {
            Script::By(make) => Ok(make(&asked)),
            Script::With(answer) => answer,
        });
        let answer = match script {
            None => nobody(),
            Some(Ok(answer)) if (300..400).contains(&answer.status) => Err(IdpError::Redirected { host, status: answer.status }),
            Some(answer) => answer,
        };
        state.asked.push(asked);
        drop(state);
        Box::pin(async move {
            // Whoever asks at the same moment gets a chance to.
            tokio::task::yield_now().await;
            answer
        })
    }
}
