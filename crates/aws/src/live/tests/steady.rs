//! Retries, clocks that differ, and connections that end: on simulated time, against the strict fake and against scripted answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_base::{Clock, SystemClock, SystemEntropy};
use daypass_sandbox::{Effect, Options, Rule, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{LOCKED, STAGING, call, root_keys, rule, task, wanted};
use crate::live::{LiveAws, Settings};
use crate::{Aws, Call, ErrorKind, Target};

/// A fake and a client on one simulated clock that begins now, because answers carry the machine's date.
async fn simulated() -> (SimClock, Running, Arc<LiveAws>) {
    let clock = SimClock::at(SystemClock::new().now());
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let sandbox = daypass_sandbox::start(Options::default(), Arc::clone(&shared), Arc::new(SeededEntropy::new(11))).await.unwrap();
    let container = super::container(&sandbox);
    let settings = Settings { endpoint: Some(sandbox.url()), container: Some(container), ..Settings::default() };
    let aws = Arc::new(LiveAws::drawing(shared, Arc::new(SeededEntropy::new(12)), settings));
    (clock, sandbox, aws)
}

/// Story: AWS's clock was looked at only where it had refused a signature, so that a server some minutes off ended the wrong sessions.
#[tokio::test]
async fn awss_clock_is_known_from_any_answer() {
    let ours = SimClock::at(SystemClock::new().now());
    let theirs: Arc<dyn Clock> = Arc::new(SimClock::at(ours.now() + Duration::from_mins(2)));
    let sandbox = daypass_sandbox::start(Options::default(), theirs, Arc::new(SeededEntropy::new(11))).await.unwrap();
    let aws = LiveAws::new(Arc::new(ours), Settings { endpoint: Some(sandbox.url()), ..Settings::default() });
    let target = Target { keys: Some(root_keys()), ..Target::default() };
    assert_eq!(aws.skew(&target), None);
    aws.get_caller_identity(call(&target)).await.unwrap();
    let skew = aws.skew(&target).unwrap().milliseconds();
    assert!((118_900..=120_000).contains(&skew), "{skew}");
}

#[tokio::test]
async fn with_half_of_the_calls_throttled_and_the_rest_slow_no_caller_sees_an_error() {
    const CALLERS: usize = 60;
    const DEADLINE: Duration = Duration::from_secs(90);
    let (clock, sandbox, aws) = simulated().await;
    sandbox.control().add(Rule { rate: Some(0.5), ..rule("AssumeRole", Effect::Throttle, None) }).unwrap();
    sandbox.control().add(Rule { milliseconds: 5_000, ..rule("AssumeRole", Effect::Delay, None) }).unwrap();
    let began = clock.elapsed();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let aws = Arc::clone(&aws);
            tokio::spawn(async move {
                let target = Target::default();
                aws.assume_role(Call::usual(&target, DEADLINE), wanted(STAGING)).await
            })
        })
        .collect();
    let all = async {
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
    };
    clock.while_passing(all).await;
    assert!(clock.elapsed().saturating_sub(began) < DEADLINE);
    let calls = sandbox.control().calls();
    let made = calls.iter().filter(|call| call.action == "AssumeRole").count();
    let throttled = calls.iter().filter(|call| call.error.as_deref() == Some("Throttling")).count();
    assert_eq!(made - throttled, CALLERS);
    assert!((CALLERS / 2..CALLERS * 2).contains(&throttled), "one retry for each refusal, and no more: {throttled}");
}

#[tokio::test]
async fn an_account_that_throttles_everything_is_asked_at_a_bounded_rate_until_the_deadline() {
    const CALLERS: usize = 200;
    const SECONDS: u64 = 10;
    let (clock, sandbox, aws) = simulated().await;
    sandbox.control().add(rule("AssumeRole", Effect::Throttle, None)).unwrap();
    let counted = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (aws, counted) = (Arc::clone(&aws), Arc::clone(&counted));
            tokio::spawn(async move {
                let target = Target::default();
                let error = aws.assume_role(Call::usual(&target, Duration::from_secs(SECONDS)), wanted(STAGING)).await;
                counted.fetch_add(1, Ordering::Relaxed);
                error.unwrap_err()
            })
        })
        .collect();
    let all = async {
        for caller in callers {
            let error = caller.await.unwrap();
            assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Throttled, "Throttling"), "AWS's word is told: {error}");
        }
    };
    clock.while_passing(all).await;
    assert_eq!(counted.load(Ordering::Relaxed), CALLERS);
    // The fake remembers the last 1,024 calls.
    let made = sandbox.control().calls().iter().filter(|call| call.action == "AssumeRole").count();
    let most = CALLERS + 100 + 50 * usize::try_from(SECONDS).unwrap();
    assert!(made > CALLERS && made <= most, "{made} calls");
}

#[tokio::test]
async fn refusals_are_final_also_in_a_storm() {
    let (clock, sandbox, aws) = simulated().await;
    let target = Target::default();
    let denied = clock.while_passing(aws.assume_role(call(&target), wanted(LOCKED))).await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::Denied);
    let malformed = clock.while_passing(aws.assume_role(call(&target), wanted("arn:aws:iam::111111111111:user/x"))).await;
    assert!(matches!(malformed.unwrap_err().kind, ErrorKind::Malformed | ErrorKind::Denied));
    assert_eq!(super::calls(&sandbox, "AssumeRole"), 2);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_put_right_by_awss() {
    let sandbox = super::sandbox(Arc::new(SystemClock::new())).await;
    let target = Target { keys: Some(root_keys()), ..Target::default() };
    for wrong in [Duration::from_hours(3), Duration::ZERO] {
        let clock = SimClock::at(SystemClock::new().now() + wrong);
        let settings = Settings { endpoint: Some(sandbox.url()), ..Settings::default() };
        let aws = LiveAws::new(Arc::new(clock), settings);
        let before = super::calls(&sandbox, "GetCallerIdentity");
        for _ in 0..3 {
            aws.get_caller_identity(call(&target)).await.unwrap();
        }
        let extra = usize::from(!wrong.is_zero());
        assert_eq!(super::calls(&sandbox, "GetCallerIdentity") - before, 3 + extra, "refused once, and right from then on");
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    let sandbox = super::sandbox(Arc::new(SystemClock::new())).await;
    let aws = task(&sandbox, Arc::new(SystemClock::new()));
    let target = Target::default();
    for _ in 0..5 {
        aws.assume_role(call(&target), wanted(STAGING)).await.unwrap();
    }
    let clients = aws.clients(&target).await;
    assert_eq!(clients.sts[0].as_ref().unwrap().wire.at_rest(), 1);
}

/// A socket belongs to the runtime that opened it: used on another one, each of its events would wake both.
#[test]
fn a_connection_is_used_again_on_its_own_runtime_alone() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (servers, first, second) =
        (tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(), runtime(), runtime());
    let clock = SimClock::default();
    let (address, answered) = servers.block_on(scripted_at_once(2));
    let (aws, target) = live(address, &clock);
    for (runtime, expected) in [(&first, vec![1]), (&second, vec![1, 1]), (&first, vec![2, 1]), (&second, vec![2, 2])] {
        runtime.block_on(aws.get_caller_identity(call(&target))).unwrap();
        assert_eq!(*answered.lock().unwrap(), expected);
    }
}

/// So many connections side by side, each of which is answered as often as it likes.
async fn scripted_at_once(connections: usize) -> (SocketAddr, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&answered);
    tokio::spawn(async move {
        for number in 0..connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            seen.lock().unwrap().push(0);
            tokio::spawn(async move {
                while read_request(&mut stream).await {
                    seen.lock().unwrap()[number] += 1;
                    stream.write_all(identity().as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, answered)
}

/// Answers `GetCallerIdentity` as scripted: per connection, how many requests it answers before it closes.
async fn scripted(script: Vec<Vec<String>>) -> (SocketAddr, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let (seen, mut script) = (Arc::clone(&answered), VecDeque::from(script));
    tokio::spawn(async move {
        while let (Some(answers), Ok((mut stream, _))) = (script.pop_front(), listener.accept().await) {
            seen.lock().unwrap().push(0);
            for answer in answers {
                if !read_request(&mut stream).await {
                    break;
                }
                *seen.lock().unwrap().last_mut().unwrap() += 1;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (address, answered)
}

/// Reads a request to its end; false when the client has closed.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    while !text.ends_with(b"Action=GetCallerIdentity&Version=2011-06-15") {
        let mut part = [0; 1024];
        let size = stream.read(&mut part).await.unwrap();
        if size == 0 {
            return false;
        }
        text.extend_from_slice(&part[..size]);
    }
    true
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn identity() -> String {
    let result =
        "<GetCallerIdentityResult><Arn>arn:aws:iam::1:user/a</Arn><UserId>U</UserId><Account>1</Account></GetCallerIdentityResult>";
    http("200 OK", "", &format!("<GetCallerIdentityResponse>{result}</GetCallerIdentityResponse>"))
}

fn live(address: SocketAddr, clock: &SimClock) -> (LiveAws, Target) {
    let settings = Settings { endpoint: Some(format!("http://{address}")), ..Settings::default() };
    let target = Target { keys: Some(root_keys()), ..Target::default() };
    (LiveAws::drawing(Arc::new(clock.clone()), Arc::new(SystemEntropy), settings), target)
}

#[tokio::test]
async fn a_connection_that_its_peer_closed_at_rest_costs_nothing_but_a_new_one() {
    let clock = SimClock::default();
    let (address, answered) = scripted(vec![vec![identity()], vec![identity(), identity()]]).await;
    let (aws, mut target) = live(address, &clock);
    target.max_retries = Some(0);
    for _ in 0..3 {
        let own = aws.get_caller_identity(call(&target)).await.unwrap();
        assert_eq!((own.account.as_str(), own.arn.as_str()), ("1", "arn:aws:iam::1:user/a"));
        // So that the end of the connection arrives.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(*answered.lock().unwrap(), [1, 2]);
}

#[tokio::test]
async fn connections_that_rested_for_long_are_not_used() {
    let clock = SimClock::default();
    let (address, answered) = scripted(vec![vec![identity(), identity()], vec![identity(), identity()]]).await;
    let (aws, target) = live(address, &clock);
    aws.get_caller_identity(call(&target)).await.unwrap();
    clock.advance(Duration::from_secs(89));
    aws.get_caller_identity(call(&target)).await.unwrap();
    clock.advance(Duration::from_secs(91));
    aws.get_caller_identity(call(&target)).await.unwrap();
    assert_eq!(*answered.lock().unwrap(), [2, 1]);
    let wire = Arc::clone(&aws.clients(&target).await.sts[0].as_ref().unwrap().wire);
    assert_eq!(wire.at_rest(), 1);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(91));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(wire.at_rest(), 0, "and are closed without anybody's call");
}

/// Story: a NAT gateway failed over and forgot all connections. A mint waited ten seconds on the one that was used last, then on the next one, which was as
/// dead, and failed.
#[tokio::test]
async fn after_a_connection_that_went_dead_none_of_its_age_is_tried() {
    let clock = SimClock::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (failed_over, unanswered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (over, count) = (Arc::clone(&failed_over), Arc::clone(&unanswered));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (over, count, is_old) = (Arc::clone(&over), Arc::clone(&count), !over.load(Ordering::Relaxed));
            tokio::spawn(async move {
                while read_request(&mut stream).await {
                    if is_old && over.load(Ordering::Relaxed) {
                        count.fetch_add(1, Ordering::Relaxed);
                    } else {
                        stream.write_all(identity().as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    let (aws, target) = live(address, &clock);
    let call = call(&target);
    let (one, two, three) = tokio::join!(aws.get_caller_identity(call), aws.get_caller_identity(call), aws.get_caller_identity(call));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    let wire = Arc::clone(&aws.clients(&target).await.sts[0].as_ref().unwrap().wire);
    assert_eq!(wire.at_rest(), 3);
    failed_over.store(true, Ordering::Relaxed);
    // Whoever has little time says nothing about a connection.
    let hurried = Call::usual(&target, Duration::from_secs(2));
    clock.while_passing(aws.get_caller_identity(hurried)).await.unwrap_err();
    assert_eq!(wire.at_rest(), 2);
    let began = clock.elapsed();
    clock.while_passing(aws.get_caller_identity(call)).await.unwrap();
    let took = clock.elapsed().saturating_sub(began);
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(13), "{took:?}");
    assert_eq!((unanswered.load(Ordering::Relaxed), wire.at_rest()), (2, 1));
}

#[tokio::test]
async fn an_answer_that_closes_its_connection_is_an_answer() {
    let clock = SimClock::default();
    let closing = identity().replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let (address, answered) = scripted(vec![vec![closing], vec![identity()]]).await;
    let (aws, target) = live(address, &clock);
    for _ in 0..2 {
        aws.get_caller_identity(call(&target)).await.unwrap();
    }
    assert_eq!(*answered.lock().unwrap(), [1, 1]);
}

/// Story: the role of the server's own identity was deleted and made again. AWS did not know the session any more, and the server went on with it for up
/// to an hour.
#[tokio::test]
async fn an_identity_that_aws_does_not_know_is_looked_for_again_once() {
    let sandbox = super::sandbox(Arc::new(SystemClock::new())).await;
    let unknown = || {
        let error =
            "<Error><Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid.</Message></Error>";
        http("403 Forbidden", "", &format!("<ErrorResponse>{error}</ErrorResponse>"))
    };
    let (address, answered) = scripted(vec![vec![unknown(), identity(), unknown(), unknown()]]).await;
    let container = Some(super::container(&sandbox));
    let settings = Settings { endpoint: Some(format!("http://{address}")), container, ..Settings::default() };
    let (aws, own) = (LiveAws::new(Arc::new(SystemClock::new()), settings), Target::default());
    aws.get_caller_identity(call(&own)).await.unwrap();
    let error = aws.get_caller_identity(call(&own)).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Denied, "InvalidClientTokenId"));
    assert_eq!(*answered.lock().unwrap(), [4]);
    // Keys of a configuration are what they are.
    let (address, answered) = scripted(vec![vec![unknown(), identity()]]).await;
    let (aws, target) = live(address, &SimClock::default());
    aws.get_caller_identity(call(&target)).await.unwrap_err();
    assert_eq!(*answered.lock().unwrap(), [1]);
}

#[tokio::test]
async fn retry_after_is_kept_to() {
    let clock = SimClock::default();
    let (address, _) = scripted(vec![vec![http("503 Busy", "Retry-After: 10\r\n", "<html>come again</html>"), identity()]]).await;
    let (aws, target) = live(address, &clock);
    let began = clock.elapsed();
    let patient = Call::usual(&target, Duration::from_mins(2));
    clock.while_passing(aws.get_caller_identity(patient)).await.unwrap();
    let took = clock.elapsed().saturating_sub(began);
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(12), "{took:?}");

    let (address, _) = scripted(vec![vec![http("503 Busy", "Retry-After: 30\r\n", "<html>come again</html>")]]).await;
    let (aws, target) = live(address, &clock);
    let hurried = Call::usual(&target, Duration::from_secs(10));
    let error = aws.get_caller_identity(hurried).await.unwrap_err();
    assert_eq!((error.kind, error.status, error.code.as_str()), (ErrorKind::Unreachable, Some(503), "InternalFailure"), "told at once");
}

#[tokio::test]
async fn what_is_no_answer_of_awss_is_told_and_not_repeated() {
    let clock = SimClock::default();
    let (address, _) = scripted(vec![vec![http("200 OK", "x-amzn-requestid: r-7\r\n", "<html>hotel wifi</html>"), identity()]]).await;
    let (aws, target) = live(address, &clock);
    let error = aws.get_caller_identity(call(&target)).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str(), error.status), (ErrorKind::Other, "SerializationError", Some(200)));
    let huge = "x".repeat(300 * 1024);
    let (address, _) = scripted(vec![vec![http("200 OK", "", &huge)]]).await;
    let (aws, mut target) = live(address, &clock);
    target.max_retries = Some(0);
    let error = aws.get_caller_identity(call(&target)).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unreachable && error.message.contains("longer than the limit of 262144 bytes"), "{error}");
}
