//! Logins that are sent on to STS, where nobody answers at some of the places that strangers can choose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use daypass_base::sim::SimClock;
use daypass_base::{Clock, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::api::{Identity, Result};
use crate::live::forward::{Goal, KNOWN, STRANGE};
use crate::live::places::USUAL;
use crate::live::{LiveAws, Settings};
use crate::{ErrorKind, SignedForm, SignedIdentity, Target};

const GOOD: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111111111111:user/x</Arn><UserId>AIDA1</UserId>\
                    <Account>111111111111</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";

/// An STS that says who somebody is, or keeps its connections and says nothing. With the number of connections that it took.
async fn sts(answer: Option<&'static str>) -> (SocketAddr, Arc<AtomicUsize>) {
    sts_while(Arc::new(AtomicBool::new(answer.is_some())), answer.unwrap_or_default()).await
}

/// The same of one that answers over connections which it took while `answers` was set, once over each.
async fn sts_while(answers: Arc<AtomicBool>, body: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, taken) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut kept = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let answers = answers.load(Ordering::Relaxed);
            kept.spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    if answers {
                        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/xml\r\ncontent-length:";
                        return stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (address, taken)
}

/// A client on simulated time, which stands still unless a test says otherwise.
fn simulated() -> (SimClock, Arc<LiveAws>) {
    let clock = SimClock::default();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    (clock, Arc::new(LiveAws::new(shared, Settings::default())))
}

fn goal(address: SocketAddr) -> Goal {
    Goal { origin: format!("http://{address}").parse().unwrap(), configured: false }
}

async fn login(aws: Arc<LiveAws>, goal: Goal) -> Result<Identity> {
    login_by(aws, Target::default(), goal).await
}

async fn login_by(aws: Arc<LiveAws>, target: Target, goal: Goal) -> Result<Identity> {
    let form = SignedForm::Post("Action=GetCallerIdentity".to_owned());
    let signed = SignedIdentity { form, host: "sts".to_owned(), region: "eu-west-1".to_owned(), headers: Vec::new() };
    aws.forward_to(&target, &goal, &signed).await
}

fn logins(aws: &Arc<LiveAws>, address: SocketAddr, number: usize) -> JoinSet<Result<Identity>> {
    let mut all = JoinSet::new();
    for _ in 0..number {
        all.spawn(login(Arc::clone(aws), goal(address)));
    }
    all
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

/// Story: a stranger without any key sent 640 logins that were signed for a region whose STS could not be reached. All logins of all mounts shared 64
/// places, each of those kept one for three attempts, and for a minute and a half nobody could log in.
#[tokio::test]
async fn logins_signed_for_a_region_that_does_not_answer_hold_up_no_others() {
    let (clock, aws) = simulated();
    let (good, _) = sts(Some(GOOD)).await;
    let (mut hanging, mut taken) = (JoinSet::new(), Vec::new());
    for _ in 0..5 {
        let (address, connections) = sts(None).await;
        for _ in 0..66 {
            hanging.spawn(login(Arc::clone(&aws), goal(address)));
        }
        taken.push(connections);
    }
    until(|| taken.iter().all(|taken| taken.load(Ordering::Relaxed) == 2)).await;
    assert_eq!(login(Arc::clone(&aws), goal(good)).await.unwrap().user_id, "AIDA1");
    // Those who wait for a place that did not answer three times find out together, and that they may come again: nothing was sent for them.
    let mut told = Vec::new();
    clock
        .while_passing(async {
            while let Some(ended) = hanging.join_next().await {
                told.push(ended.unwrap().unwrap_err().kind);
            }
        })
        .await;
    assert!(clock.elapsed() < Duration::from_secs(21), "{:?}", clock.elapsed());
    assert!(taken.iter().all(|taken| taken.load(Ordering::Relaxed) == 4), "{taken:?}");
    assert_eq!(told.iter().filter(|kind| **kind == ErrorKind::Throttled).count(), 5 * (66 - 4));
}

#[tokio::test]
async fn whoever_waits_for_a_new_place_goes_on_once_it_answers() {
    let (_clock, aws) = simulated();
    let (good, _) = sts(Some(GOOD)).await;
    let told = logins(&aws, good, 130).join_all().await;
    assert!(told.iter().all(Result::is_ok), "{:?}", told.iter().find(|told| told.is_err()));
}

#[tokio::test]
async fn too_many_logins_for_one_place_are_told_at_once() {
    let (_clock, aws) = simulated();
    let (silent, _) = sts(None).await;
    let mut hanging = logins(&aws, silent, 600);
    let refused = hanging.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!((refused.kind, refused.status), (ErrorKind::Throttled, None));
    assert!(refused.message.ends_with("128 calls to it wait already: try again in a few seconds"), "{refused}");
}

/// Story: who waited was counted for each region alone. A stranger signed logins for ten regions whose STS was slow, 514 for each, and all 4096 requests of the
/// listener waited with them: health checks were told 503.
#[tokio::test]
async fn logins_for_many_strange_places_wait_in_one_line_that_has_an_end() {
    let (_clock, aws) = simulated();
    let mut hanging = JoinSet::new();
    for _ in 0..5 {
        let (silent, _) = sts(None).await;
        for _ in 0..100 {
            hanging.spawn(login(Arc::clone(&aws), goal(silent)));
        }
    }
    for _ in 0..5 * (100 - STRANGE.of_origin) - STRANGE.waiting_in_all {
        let refused = hanging.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!((refused.kind, refused.status), (ErrorKind::Throttled, None));
        assert!(refused.message.ends_with("320 calls to it and to others wait already: try again in a few seconds"), "{refused}");
    }
    assert!(hanging.try_join_next().is_none(), "all others wait");
    let (good, _) = sts(Some(GOOD)).await;
    login(Arc::clone(&aws), goal(good)).await.unwrap();
    for told in logins(&aws, good, 200).join_all().await {
        told.unwrap();
    }
}

/// Every one of them is a request, and whoever asks nobody needs some, too.
#[test]
fn all_calls_together_leave_requests_to_others() {
    // Of the rest an eighth is for calls to identity providers.
    let calls = KNOWN.calls() + STRANGE.calls() + USUAL.calls();
    assert!(calls <= Limits::default().requests / 4 * 3, "{calls}");
    assert!([KNOWN, STRANGE, USUAL].iter().all(|room| room.waiting < room.waiting_in_all), "no origin has the whole line");
}

#[tokio::test]
async fn a_known_place_that_falls_silent_is_a_strange_one() {
    let (clock, aws) = simulated();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n", GOOD.len());
        stream.write_all((head + GOOD).as_bytes()).await.unwrap();
    };
    let (told, ()) = tokio::join!(login(Arc::clone(&aws), goal(address)), answers);
    told.unwrap();
    assert_eq!(aws.forwards.known_number(), 1);
    let error = clock.while_passing(login(Arc::clone(&aws), goal(address))).await.unwrap_err();
    assert!(error.message.ends_with("no answer within 10s"), "{error}");
    assert_eq!(aws.forwards.known_number(), 0);
}

/// Story: one attempt at a known STS that found no answer made it one that nobody knows. All who waited for it went to the shorter line of those, and most were
/// refused there.
#[tokio::test]
async fn one_moment_without_an_answer_sends_nobody_away_who_waits_for_a_known_place() {
    let (clock, aws) = simulated();
    let answers = Arc::new(AtomicBool::new(true));
    let (address, taken) = sts_while(Arc::clone(&answers), GOOD).await;
    let once = || login_by(Arc::clone(&aws), Target { max_retries: Some(0), ..Target::default() }, goal(address));
    once().await.unwrap();
    answers.store(false, Ordering::Relaxed);
    let mut all = JoinSet::new();
    (0..KNOWN.of_origin + 200).for_each(|_| drop(all.spawn(once())));
    until(|| taken.load(Ordering::Relaxed) == 1 + KNOWN.of_origin).await;
    answers.store(true, Ordering::Relaxed);
    let told = clock.while_passing(all.join_all()).await;
    let errors: Vec<_> = told.iter().filter_map(|told| told.as_ref().err()).collect();
    assert!(errors.iter().all(|error| error.message.ends_with("no answer within 10s")), "{errors:?}");
    assert_eq!(errors.len(), KNOWN.of_origin);
    assert!(aws.forwards.knows(&goal(address)), "all of them are of one moment");
    // Then nobody answers one after the other.
    answers.store(false, Ordering::Relaxed);
    for left in [true, true, false] {
        clock.while_passing(once()).await.unwrap_err();
        assert_eq!(aws.forwards.knows(&goal(address)), left);
    }
}

#[tokio::test]
async fn known_places_are_bounded_and_the_newest_stay() {
    let (clock, aws) = simulated();
    let mut last = None;
    for _ in 0..40 {
        let (good, _) = sts(Some(GOOD)).await;
        login(Arc::clone(&aws), goal(good)).await.unwrap();
        clock.advance(Duration::from_secs(1));
        last = Some(good);
    }
    assert_eq!(aws.forwards.known_number(), 32);
    assert!(aws.forwards.knows(&goal(last.unwrap())));
}
