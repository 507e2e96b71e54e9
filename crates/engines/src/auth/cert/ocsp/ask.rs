//! Asking responders, and what a login makes of what they say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::Places;
use daypass_idp::{Ask, Idp, Payload, Proof, Trust as TlsTrust, Url};
use daypass_sdk::{Cx, Error, Kind, Result, Seconds};
use tokio::task::JoinSet;
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::super::chain::Path;
use super::super::crl::Crl;
use super::super::login::unfit;
use super::super::trusted::Origin;
use super::super::{Cert, config, crls};
use super::kept::Outcome;
use super::settings::{Responders, SERVERS_MAX};
use super::signer::Signer;
use super::verify::{Question, Told, Trouble, Trust, judge};
use super::wire::{Status, question};
use crate::hash::sha256;

/// One certificate of a verified chain.
struct Subject {
    serial: Vec<u8>,
    issuer: Signer,
    servers: Vec<Url>,
}

/// What one login needs for asking.
struct Asker<'a> {
    cert: &'a Cert,
    cx: &'a Cx,
    responders: &'a Responders,
    lists: Vec<Arc<Crl>>,
    cache_size: usize,
}

/// The places of those who wait for what responders say.
pub(in super::super) fn places() -> Places {
    Places::new(PLACES_MAX, PLACES_OF_ONE_MAX)
}

/// Fails with `BadRequest` unless responders say that the certificates of a verified chain are good; with `Failed` when nobody answers, or not now; with
/// `TooMany` where too many wait for that.
pub(in super::super) async fn check(cert: &Cert, cx: &Cx, responders: &Responders, path: &Path) -> Result<()> {
    // Whatever `ocsp_fail_open` says: else whoever takes all places would let in what was revoked.
    let _place = cert.asking.take(cx.request.remote).ok_or_else(crowded)?;
    let cache_size = config::find(cx).await?.ocsp_cache_size();
    let asker = Asker { cert, cx, responders, lists: crls::all(cx).await?, cache_size };
    let all = async {
        for (place, (own, issuer)) in path.links().enumerate() {
            asker.accepts(own, issuer, place == 0).await?;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        done = all => done,
        () = cx.clock.sleep(ASKING_MAX) => asker.passed_over(&Trouble::Busy(format!("nobody answered within {ASKING_MAX:?}"))),
    }
}

impl Asker<'_> {
    /// Whether one certificate is good, or may pass. Errors: `BadRequest`; `Failed` when nobody could be asked.
    async fn accepts(&self, own: &[u8], issuer: &[u8], is_client: bool) -> Result<()> {
        let named = named_by(own);
        // An authority whose certificate names nobody cannot be asked about; lists are there for it.
        if !is_client && named.as_ref().is_ok_and(Vec::is_empty) {
            return Ok(());
        }
        let servers = if self.responders.instead.is_empty() { named } else { Ok(self.responders.instead.clone()) };
        let told = match servers.and_then(|servers| Subject::read(own, issuer, servers)) {
            Ok(subject) => self.told(&subject).await,
            Err(why) => Err(Trouble::Wrong(why)),
        };
        match told {
            Ok(Told { status: Status::Good, .. }) => Ok(()),
            Ok(Told { status: Status::Revoked, .. }) => Err(unfit("a certificate was revoked")),
            Ok(Told { status: Status::Unknown, .. }) => {
                self.passed_over(&Trouble::Excused("the responder does not know the certificate".to_owned()))
            }
            Err(trouble) => self.passed_over(&trouble),
        }
    }

    /// What is known of a certificate, or is told now.
    async fn told(&self, subject: &Subject) -> Outcome {
        let key = subject.key(self.responders);
        let (kept, now) = (&self.cert.kept, self.cx.clock.moment());
        if let Some(told) = kept.find(&key, now)
            && self.is_young(&told)
        {
            return Ok(told);
        }
        let told = kept.together(key, self.ask(subject)).await?;
        if !self.is_young(&told) {
            return Err(Trouble::Wrong(format!("its answer is older than ocsp_this_update_max_age ({}s)", self.responders.max_age.0)));
        }
        kept.keep(key, told, now, self.cache_size);
        Ok(told)
    }

    fn is_young(&self, told: &Told) -> bool {
        let max = self.responders.max_age;
        max.is_zero() || self.cx.clock.now().since(told.this_update) <= max.duration()
    }

    /// Asks all responders, or one after the other until one knows. Whoever is busy is asked again after the others, and later each time.
    async fn ask(&self, subject: &Subject) -> Outcome {
        let nonce: [u8; NONCE_BYTES] = self.cx.entropy.bytes();
        let request = question(&subject.issuer, &subject.serial, &nonce);
        let (mut outcomes, mut pending, mut busy) = (Vec::new(), subject.servers.clone(), Vec::new());
        for round in 0..=self.responders.retries {
            if round > 0 {
                self.cx.clock.sleep((FIRST_PAUSE * (1 << round.min(4))).min(LONGEST_PAUSE)).await;
            }
            busy.clear();
            let (mut asked, mut later) = (JoinSet::new(), Vec::new());
            while !pending.is_empty() || !asked.is_empty() {
                let more = pending.drain(..if self.responders.all { pending.len() } else { pending.len().min(1) }).collect::<Vec<_>>();
                for url in more {
                    let call = call(Arc::clone(&self.cert.idp), url, self.responders.trust.clone(), request.clone());
                    asked.spawn(call);
                }
                let (url, answer) = match asked.join_next().await {
                    Some(Ok(done)) => done,
                    // One that was lost has not agreed.
                    Some(Err(error)) => {
                        outcomes.push(Err(Trouble::Busy(error.to_string())));
                        continue;
                    }
                    None => break,
                };
                match answer.and_then(|bytes| self.judged(subject, &nonce, &bytes, &url)) {
                    // One that says so is enough.
                    Ok(told) if told.status == Status::Revoked => return Ok(told),
                    Ok(told) if told.status == Status::Good && !self.responders.all => return Ok(told),
                    Err(Trouble::Busy(why)) => {
                        busy.push(Err(Trouble::Busy(why)));
                        later.push(url);
                    }
                    outcome => outcomes.push(outcome),
                }
            }
            pending = later;
            if pending.is_empty() {
                break;
            }
        }
        outcomes.append(&mut busy);
        if self.responders.all { agreed(outcomes) } else { best(outcomes) }
    }

    fn judged(&self, subject: &Subject, nonce: &[u8], bytes: &[u8], url: &Url) -> Outcome {
        let question = Question { issuer: &subject.issuer, serial: &subject.serial, nonce };
        let revoked = |origin: &Origin| self.lists.iter().any(|list| list.names(origin));
        let trust = Trust { named: &self.responders.named, revoked: &revoked };
        judge(bytes, &question, &trust, self.cx.clock.now()).map_err(|trouble| trouble.of(url.host()))
    }

    /// Whether a login goes on without an answer: where the entry says so, and nobody could be asked or knows. Never after an answer that cannot be
    /// believed, nor where nobody was asked. Errors: `BadRequest`; `Failed` where asking again may help, so that nobody takes it for good; `TooMany` where nobody was
    /// asked.
    fn passed_over(&self, trouble: &Trouble) -> Result<()> {
        let mount = &self.cx.mount.path;
        match trouble {
            Trouble::Busy(why) | Trouble::Excused(why) if self.responders.fail_open => {
                tracing::warn!(%mount, why, "a certificate was let in without an answer of OCSP, as ocsp_fail_open says");
                Ok(())
            }
            Trouble::Busy(why) | Trouble::Crowded(why) | Trouble::Excused(why) | Trouble::Wrong(why) => {
                tracing::warn!(%mount, why, "a certificate was not let in: no answer of OCSP says that it is good");
                let refused = unfit(&format!("OCSP: {why}"));
                Err(match trouble {
                    Trouble::Crowded(_) => crate::auth::crowded::later(refused),
                    Trouble::Busy(_) => Error { kind: Kind::Failed, ..refused },
                    _ => refused,
                })
            }
        }
    }
}

impl Subject {
    /// Errors: what is wrong with the certificate.
    fn read(own: &[u8], issuer: &[u8], servers: Vec<Url>) -> Result<Self, String> {
        if servers.is_empty() {
            return Err("the certificate names no responder, and ocsp_servers_override is empty".to_owned());
        }
        let issuer = Signer::read(issuer).map_err(|why| format!("the certificate of the issuer cannot be read: {why}"))?;
        let der = rustls_pki_types::CertificateDer::from(own);
        let parsed = EndEntityCert::try_from(&der).map_err(|error| error.to_string())?;
        Ok(Self { serial: parsed.serial().to_vec(), issuer, servers })
    }

    fn key(&self, responders: &Responders) -> [u8; 32] {
        let parts: [&[u8]; 4] = [&responders.fingerprint, &sha256(&self.issuer.name), &sha256(&self.issuer.key), &self.serial];
        sha256(&parts.concat())
    }
}

/// The responders that a certificate names. Errors: it names too many, or one that cannot be asked.
fn named_by(own: &[u8]) -> Result<Vec<Url>, String> {
    let (_, parsed) = X509Certificate::from_der(own).map_err(|_its_text_says_no_more| "it is no X.509 certificate".to_owned())?;
    let mut out = Vec::new();
    for extension in parsed.extensions() {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { continue };
        for one in access.iter().filter(|one| one.access_method.to_id_string() == ID_AD_OCSP) {
            let GeneralName::URI(text) = &one.access_location else { continue };
            // Other ways to ask are never spoken.
            if !text.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http")) {
                continue;
            }
            let url = Url::parse_of_signed(text).map_err(|why| format!("the responder that the certificate names: {why}"))?;
            if url.is_local() {
                return Err("the certificate names a responder on this machine, which only ocsp_servers_override may".to_owned());
            }
            out.push(url);
        }
    }
    if out.len() > SERVERS_MAX { Err(format!("the certificate names more than {SERVERS_MAX} responders")) } else { Ok(out) }
}

/// Asks one responder once. Owns everything, so that several can be asked at one moment.
async fn call(idp: Arc<dyn Idp>, url: Url, trust: TlsTrust, request: Vec<u8>) -> (Url, Result<Bytes, Trouble>) {
    let payload = Payload::Bytes { kind: "application/ocsp-request", wanted: "application/ocsp-response", bytes: request };
    let ask = Ask { url: url.clone(), payload, proof: Proof::Nothing, trust, deadline: ONE_CALL };
    let answer = match idp.ask(ask).await {
        Ok(answer) if answer.status == 200 => Ok(answer.body),
        Ok(answer) if answer.status >= 500 || answer.status == 429 => {
            Err(Trouble::Busy(format!("{} answered {}", url.host(), answer.status)))
        }
        Ok(answer) => Err(Trouble::Excused(format!("{} answered {}", url.host(), answer.status))),
        // Its own line, in which only those stand whose certificates name it: it is as if it did not answer.
        Err(error @ daypass_idp::IdpError::Crowded { slow: true, .. }) => Err(Trouble::Busy(error.to_string())),
        Err(error @ daypass_idp::IdpError::Crowded { .. }) => Err(Trouble::Crowded(error.to_string())),
        Err(error @ daypass_idp::IdpError::Unreachable { .. }) => Err(Trouble::Busy(error.to_string())),
        Err(error) => Err(Trouble::Wrong(error.to_string())),
    };
    (url, answer)
}

impl Trouble {
    fn of(self, host: &str) -> Self {
        let named = |why: String| format!("{host}: {why}");
        match self {
            Self::Busy(why) => Self::Busy(named(why)),
            Self::Crowded(why) => Self::Crowded(named(why)),
            Self::Excused(why) => Self::Excused(named(why)),
            Self::Wrong(why) => Self::Wrong(named(why)),
        }
    }

    /// What says most of what is wrong comes last.
    fn weight(&self) -> u8 {
        match self {
            Self::Busy(_) => 0,
            Self::Excused(_) => 1,
            Self::Crowded(_) => 2,
            Self::Wrong(_) => 3,
        }
    }
}

/// Where one answer is enough and none says "good": that a certificate is not known, else the worst trouble.
fn best(outcomes: Vec<Outcome>) -> Outcome {
    let known = outcomes.iter().find(|outcome| outcome.is_ok()).cloned();
    known.unwrap_or_else(|| worst(outcomes).map_or_else(|| Err(nobody()), Err))
}

/// Where all have to agree: "good" until the first of them ends.
fn agreed(outcomes: Vec<Outcome>) -> Outcome {
    if let Some(unknown) = outcomes.iter().find(|outcome| matches!(outcome, Ok(told) if told.status == Status::Unknown)).cloned()
        && outcomes.iter().all(|outcome| !matches!(outcome, Err(Trouble::Crowded(_) | Trouble::Wrong(_))))
    {
        return unknown;
    }
    let told: Vec<Told> = outcomes.iter().filter_map(|outcome| outcome.clone().ok()).collect();
    if let Some(trouble) = worst(outcomes) {
        return Err(trouble);
    }
    let open = told.iter().find(|told| told.next_update.is_none());
    open.or_else(|| told.iter().min_by_key(|told| told.next_update)).copied().ok_or_else(nobody)
}

fn worst(outcomes: Vec<Outcome>) -> Option<Trouble> {
    outcomes.into_iter().filter_map(Outcome::err).max_by_key(Trouble::weight)
}

fn crowded() -> Error {
    let text = format!(
        "{PLACES_MAX} logins wait for what OCSP says of their certificates, or {PLACES_OF_ONE_MAX} from this address, which is the limit: try again in a moment"
    );
    Error::new(Kind::TooMany, text).retry_after(Seconds(1))
}

fn nobody() -> Trouble {
    Trouble::Busy("nobody was asked".to_owned())
}

/// For all asking of one login.
const ASKING_MAX: Duration = Duration::from_secs(20);
/// Logins of one mount that may take so long: an eighth of the requests that a listener answers at one time. Those with the same certificate share one call,
/// so the places for calls do not bound them.
const PLACES_MAX: usize = 512;
/// Those of them from one address: build servers begin hundreds of jobs at once.
const PLACES_OF_ONE_MAX: usize = 256;
/// For one call.
const ONE_CALL: Duration = Duration::from_secs(5);
/// Before a responder is asked again: this doubled, and doubled each time after.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// RFC 9654, section 2.1.
const NONCE_BYTES: usize = 32;
const ID_AD_OCSP: &str = "1.3.6.1.5.5.7.48.1";
