//! Logins whose certificates responders of OCSP are asked about: who is asked, when, and what a login makes of the answers.

use std::collections::BTreeMap;
use std::sync::Mutex;

use daypass_idp::Answer as HttpAnswer;
use daypass_idp::responder::{OcspAnswer, OcspStatus, der};
use daypass_sdk::Timestamp;
use rcgen::CustomExtension;

use super::*;

const URL: &str = "http://ocsp.acme.example/";
const OTHER: &str = "http://other.acme.example/";

/// An extension that names a responder.
fn names(url: &str) -> impl Fn(&mut CertificateParams) {
    let access = der(0x30, &[&der(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1]]), &der(0x86, &[url.as_bytes()])]);
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], der(0x30, &[&access]));
    move |params| params.custom_extensions.push(extension.clone())
}

fn numbered_at(serial: u8, url: &str) -> impl FnOnce(&mut CertificateParams) {
    let (number, url) = (numbered(serial), names(url));
    move |params| {
        number(params);
        url(params);
    }
}

/// A house whose responders speak for one authority. What is not in the list of a responder is good.
struct Asked {
    house: House,
    ca: Arc<Ca>,
    says: Arc<Mutex<BTreeMap<u8, OcspStatus>>>,
}

impl Asked {
    async fn new(more: Value) -> Self {
        let asked = Self { house: House::new(), ca: Arc::new(Ca::root("root")), says: Arc::default() };
        let mut fields = json!({"ocsp_enabled": true, "ocsp_max_retries": 0});
        for (name, value) in more.as_object().into_iter().flatten() {
            fields[name] = value.clone();
        }
        asked.house.trust("ci", &asked.ca.made(), fields).await;
        asked.answers(URL);
        asked
    }

    fn answers(&self, url: &str) {
        let (says, clock) = (Arc::clone(&self.says), self.house.bench.clock.clone());
        answers(&self.house.idp, url, Arc::clone(&self.ca), move |serial, answer| {
            answer.status = says.lock().unwrap().get(&serial).copied().unwrap_or(OcspStatus::Good);
            (answer.this_update, answer.produced) = (daypass_base::Clock::now(&clock), daypass_base::Clock::now(&clock));
            answer.next_update = Some(answer.this_update + std::time::Duration::from_mins(30));
        });
    }

    fn says(&self, serial: u8, status: OcspStatus) {
        self.says.lock().unwrap().insert(serial, status);
    }

    fn issue(&self, serial: u8) -> Made {
        self.ca.issue_with("runner", numbered_at(serial, URL))
    }

    async fn login(&mut self, serial: u8) -> Answer {
        let made = self.issue(serial);
        self.house.login(&[&made]).await
    }

    async fn change(&self, fields: Value) {
        let answer = self.house.bench.call("POST", "certs/ci", fields).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// How often responders were asked since the last look.
    fn count(&self) -> usize {
        self.house.idp.asked().len()
    }
}

/// A responder that signs with an authority's key what `change` makes of "good".
fn answers(idp: &ScriptedIdp, url: &str, ca: Arc<Ca>, change: impl Fn(u8, &mut OcspAnswer) + Send + Sync + 'static) {
    idp.answers_by(url, move |asked| {
        let mut answer = OcspAnswer::good(&asked.bytes, Timestamp::from_seconds(NOW));
        change(answer.cert_id.last().copied().unwrap(), &mut answer);
        let body = answer.signed(|bytes| ca.sign(bytes)).into();
        HttpAnswer { status: 200, content_type: "application/ocsp-response".to_owned(), body }
    });
}

#[tokio::test]
async fn who_is_good_is_let_in_and_who_was_revoked_is_not() {
    let mut asked = Asked::new(json!({})).await;
    assert_eq!(asked.login(7).await.status, 200);
    let questions = asked.house.idp.asked();
    assert_eq!((questions.len(), questions[0].url.as_str()), (1, URL));
    asked.says(8, OcspStatus::Revoked);
    House::refuses(&asked.login(8).await, REVOKED);
    asked.says(9, OcspStatus::Unknown);
    House::refuses(&asked.login(9).await, "OCSP: the responder does not know the certificate");
}

#[tokio::test]
async fn nobody_is_asked_for_whom_nothing_would_let_in() {
    let mut asked = Asked::new(json!({"allowed_common_names": "runner", "bound_cidrs": "127.0.0.0/8"})).await;
    let stranger = Ca::root("root").issue_with("runner", numbered_at(7, URL));
    House::refuses(&asked.house.login(&[&stranger]).await, UNKNOWN);
    let other = asked.ca.issue_with("other", numbered_at(7, URL));
    House::refuses(&asked.house.login(&[&other]).await, UNFIT);
    asked.house.bench.remote = Some(std::net::IpAddr::from([10, 1, 2, 3]));
    assert_eq!(asked.login(7).await.status, 403);
    assert_eq!(asked.count(), 0);
}

/// Story: whoever kept the line of calls to identity providers full, as strangers can, had certificates let in whose responders nobody asked.
#[tokio::test]
async fn that_too_many_wait_to_ask_lets_nobody_in() {
    let mut asked = Asked::new(json!({"ocsp_fail_open": true})).await;
    asked.house.idp.is_crowded(URL);
    let answer = asked.login(7).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.body["errors"][0].as_str().unwrap().contains("OCSP: ocsp.acme.example was not asked"), "{answer:?}");
    asked.answers(URL);
    assert_eq!(asked.login(7).await.status, 200);
}

#[tokio::test]
async fn without_an_answer_nobody_is_let_in_unless_that_is_said() {
    let mut asked = Asked::new(json!({})).await;
    asked.house.idp.is_down(URL);
    House::cannot_tell(&asked.login(7).await, "OCSP: ocsp.acme.example cannot be reached");
    asked.change(json!({"ocsp_fail_open": true})).await;
    assert_eq!(asked.login(7).await.status, 200);
    for status in [500, 503, 404] {
        asked.house.idp.answers_raw(URL, status, "text/plain", "");
        assert_eq!(asked.login(7).await.status, 200, "{status}");
    }
    // A revocation counts all the same, and so does an answer that somebody made up.
    asked.answers(URL);
    asked.says(8, OcspStatus::Revoked);
    House::refuses(&asked.login(8).await, REVOKED);
    asked.says(9, OcspStatus::Unknown);
    assert_eq!(asked.login(9).await.status, 200);
    answers(&asked.house.idp, URL, Arc::new(Ca::root("root")), |_, _| {});
    House::refuses(&asked.login(10).await, "OCSP: ocsp.acme.example: its answer is not signed by the issuer");
    for (status, body) in [(200, "<html>"), (302, "")] {
        asked.house.idp.answers_raw(URL, status, "text/html", body);
        House::refuses(&asked.login(10).await, "OCSP: ocsp.acme.example");
    }
}

#[tokio::test]
async fn an_old_good_cannot_be_repeated_once_it_has_ended() {
    let mut asked = Asked::new(json!({})).await;
    answers(&asked.house.idp, URL, Arc::clone(&asked.ca), |_, _| {});
    assert_eq!(asked.login(7).await.status, 200);
    asked.house.bench.advance(3_600);
    House::refuses(&asked.login(7).await, "its answer is out of date");
}

#[tokio::test]
async fn an_answer_over_the_oldest_age_is_none() {
    let mut asked = Asked::new(json!({"ocsp_this_update_max_age": "10m"})).await;
    answers(&asked.house.idp, URL, Arc::clone(&asked.ca), |_, _| {});
    assert_eq!(asked.login(7).await.status, 200);
    assert_eq!(asked.login(7).await.status, 200);
    assert_eq!(asked.count(), 1);
    asked.house.bench.advance(601);
    House::refuses(&asked.login(7).await, "older than ocsp_this_update_max_age (600s)");
    assert_eq!(asked.count(), 1, "what is kept ages too");
}

#[tokio::test]
async fn one_responder_after_the_other_is_asked_until_one_knows() {
    let mut asked = Asked::new(json!({"ocsp_servers_override": [OTHER, URL]})).await;
    assert_eq!(asked.login(7).await.status, 200, "the first cannot be reached");
    assert_eq!(asked.house.idp.asked().iter().map(|one| one.url.as_str()).collect::<Vec<_>>(), [OTHER, URL]);
    answers(&asked.house.idp, OTHER, Arc::clone(&asked.ca), |_, answer| answer.status = OcspStatus::Unknown);
    assert_eq!(asked.login(8).await.status, 200, "the first does not know it");
    answers(&asked.house.idp, OTHER, Arc::clone(&asked.ca), |_, _| {});
    asked.says(9, OcspStatus::Revoked);
    assert_eq!(asked.login(9).await.status, 200, "the first knows it, and nobody else is asked");
}

#[tokio::test]
async fn where_all_are_asked_all_have_to_agree() {
    let mut asked = Asked::new(json!({"ocsp_servers_override": [OTHER, URL], "ocsp_query_all_servers": true})).await;
    House::cannot_tell(&asked.login(7).await, "other.acme.example cannot be reached");
    answers(&asked.house.idp, OTHER, Arc::clone(&asked.ca), |_, _| {});
    assert_eq!(asked.login(7).await.status, 200);
    asked.says(8, OcspStatus::Revoked);
    House::refuses(&asked.login(8).await, REVOKED);
    asked.says(9, OcspStatus::Unknown);
    House::refuses(&asked.login(9).await, "does not know the certificate");
    asked.change(json!({"ocsp_fail_open": true})).await;
    assert_eq!(asked.login(9).await.status, 200);
    asked.house.idp.is_down(OTHER);
    assert_eq!(asked.login(10).await.status, 200);
    House::refuses(&asked.login(8).await, REVOKED);
    answers(&asked.house.idp, OTHER, Arc::new(Ca::root("root")), |_, _| {});
    House::refuses(&asked.login(11).await, "not signed by the issuer");
}

#[tokio::test]
async fn whoever_cannot_be_reached_is_asked_again_and_not_for_ever() {
    let mut asked = Asked::new(json!({"ocsp_max_retries": 2})).await;
    asked.house.idp.answers_raw(URL, 503, "text/plain", "");
    let clock = asked.house.bench.clock.clone();
    House::cannot_tell(&clock.while_passing(asked.login(7)).await, "ocsp.acme.example answered 503");
    assert_eq!(asked.count(), 3);
    asked.house.idp.answers_raw(URL, 400, "text/plain", "");
    House::refuses(&clock.while_passing(asked.login(7)).await, "ocsp.acme.example answered 400");
    assert_eq!(asked.count(), 1);
}

#[tokio::test]
async fn what_was_told_is_kept_until_it_ends() {
    let mut asked = Asked::new(json!({})).await;
    let made = asked.issue(7);
    for _ in 0..3 {
        assert_eq!(asked.house.login(&[&made]).await.status, 200);
    }
    assert_eq!(asked.count(), 1);
    asked.says(7, OcspStatus::Revoked);
    asked.house.bench.advance(1_800);
    for _ in 0..3 {
        House::refuses(&asked.house.login(&[&made]).await, REVOKED);
    }
    assert_eq!(asked.count(), 1, "a revocation is kept as well");
    asked.change(json!({"ocsp_fail_open": true})).await;
    House::refuses(&asked.house.login(&[&made]).await, REVOKED);
    assert_eq!(asked.count(), 1, "under other settings everything is asked anew");
}

#[tokio::test]
async fn no_more_is_kept_than_the_configuration_says() {
    let mut asked = Asked::new(json!({})).await;
    assert_eq!(asked.house.bench.call("POST", "config", json!({"ocsp_cache_size": 2})).await.status, 204);
    for serial in [1, 2, 3] {
        assert_eq!(asked.login(serial).await.status, 200);
        asked.house.bench.advance(1);
    }
    assert_eq!(asked.count(), 3);
    for (serial, asks) in [(3, 0), (2, 0), (1, 1)] {
        assert_eq!(asked.login(serial).await.status, 200);
        assert_eq!(asked.count(), asks, "{serial}");
    }
}

#[tokio::test]
async fn logins_at_one_moment_share_one_question() {
    let mut asked = Asked::new(json!({})).await;
    let made = asked.issue(7);
    asked.house.bench.client_chain = Some(Arc::new(ClientChain::of([made.der.as_slice()]).unwrap()));
    let login = || asked.house.bench.call("POST", "login", json!({}));
    let (one, two, three) = tokio::join!(login(), login(), login());
    assert_eq!((one.status, two.status, three.status), (200, 200, 200));
    assert_eq!(asked.count(), 1);
}

/// Story: there was no end to the logins with one certificate that waited while a responder let wait, and each kept one of the turns that a listener has for all
/// its requests.
#[tokio::test]
async fn no_more_wait_for_a_responder_than_leave_the_server_to_the_rest() {
    let mut asked = Asked::new(json!({"ocsp_fail_open": true})).await;
    let made = asked.issue(7);
    asked.house.bench.client_chain = Some(Arc::new(ClientChain::of([made.der.as_slice()]).unwrap()));
    let login = || Box::pin(asked.house.bench.call("POST", "login", json!({})));
    let mut waiting = Vec::new();
    for _ in 0..256 {
        let mut one = login();
        assert!(one.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
        waiting.push(one);
    }
    assert_eq!(login().await.status, 429, "whatever ocsp_fail_open says");
    drop(waiting);
    assert_eq!(login().await.status, 200, "who gives up leaves a place");
}

#[tokio::test]
async fn authorities_between_are_asked_about_where_they_name_a_responder() {
    let mut asked = Asked::new(json!({})).await;
    for (url, asks) in [(Some(URL), 2), (None, 1)] {
        let between = asked.ca.below("between", |params| {
            numbered(9)(params);
            if let Some(url) = url {
                names(url)(params);
            }
        });
        let between = Arc::new(between);
        answers(&asked.house.idp, OTHER, Arc::clone(&between), |_, _| {});
        let runner = between.issue_with("runner", numbered_at(7, OTHER));
        let chain = [&runner, &between.made()];
        assert_eq!(asked.house.login(&chain).await.status, 200);
        assert_eq!(asked.count(), asks);
        if url.is_some() {
            asked.says(9, OcspStatus::Revoked);
            asked.house.bench.advance(1_800);
            House::refuses(&asked.house.login(&chain).await, REVOKED);
            asked.count();
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_trusted_by_itself_is_asked_about_by_its_issuer() {
    let mut asked = Asked::new(json!({})).await;
    let (made, root) = (asked.issue(7), asked.ca.made());
    let alone = asked.house.try_trust("one", &made, json!({"ocsp_enabled": true})).await;
    House::refuses(&alone, "nobody can be asked about this certificate without that of its issuer");
    let with = |issuer: &Made| Made { der: made.der.clone(), pem: format!("{}{}", made.pem, issuer.pem) };
    let wrong = asked.house.try_trust("one", &with(&Ca::root("root").made()), json!({"ocsp_enabled": true})).await;
    House::refuses(&wrong, "nobody can be asked about this certificate");
    asked.house.trust("one", &with(&root), json!({"ocsp_enabled": true, "ocsp_max_retries": 0})).await;
    assert_eq!(asked.house.login_by("one", &[&made]).await.status, 200);
    assert_eq!(asked.count(), 1);
    asked.says(7, OcspStatus::Revoked);
    asked.house.bench.advance(1_800);
    House::refuses(&asked.house.login_by("one", &[&made]).await, REVOKED);
}

#[tokio::test]
async fn a_certificate_that_names_nobody_is_let_in_only_where_the_entry_names_somebody() {
    let mut asked = Asked::new(json!({"ocsp_fail_open": true})).await;
    let plain = asked.ca.issue_with("runner", numbered(7));
    House::refuses(&asked.house.login(&[&plain]).await, "names no responder, and ocsp_servers_override is empty");
    for (url, text) in [
        ("http://127.0.0.1:8200/", "names a responder on this machine"),
        ("http://169.254.169.254/latest/", "leads to this machine or its link"),
        ("http://user:word@ocsp.acme.example/", "a user name in it is not supported"),
        ("ldap://ocsp.acme.example/", "names no responder"),
    ] {
        let made = asked.ca.issue_with("runner", numbered_at(7, url));
        House::refuses(&asked.house.login(&[&made]).await, text);
    }
    assert_eq!(asked.count(), 0);
    asked.change(json!({"ocsp_servers_override": URL})).await;
    assert_eq!(asked.house.login(&[&plain]).await.status, 200);
    let unusable = asked.ca.issue_with("runner", numbered_at(8, "http://127.0.0.1:8200/"));
    assert_eq!(asked.house.login(&[&unusable]).await.status, 200);
    assert_eq!(asked.count(), 2);
}

#[tokio::test]
async fn another_signer_counts_for_the_entry_that_names_it_alone() {
    let mut asked = Asked::new(json!({})).await;
    let signer = Arc::new(Ca::root("ocsp"));
    let name = x509_parser::parse_x509_certificate(&signer.made().der).unwrap().1.subject().as_raw().to_vec();
    answers(&asked.house.idp, URL, Arc::clone(&signer), move |_, answer| {
        answer.responder = daypass_idp::responder::OcspResponder::Name(name.clone());
    });
    let (made, root) = (asked.issue(7), asked.ca.made());
    let more = json!({"ocsp_enabled": true, "ocsp_max_retries": 0, "ocsp_ca_certificates": signer.made().pem});
    asked.house.trust("named", &root, more).await;
    assert_eq!(asked.house.login_by("named", &[&made]).await.status, 200);
    House::refuses(&asked.house.login_by("ci", &[&made]).await, "not signed by the issuer");
}
