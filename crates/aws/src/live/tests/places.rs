//! Places of calls: what an endpoint that hangs leaves to others, and what is told of a call that finds none.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daypass_base::Clock;
use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_dial::{Place, Share};
use tokio::net::TcpListener;

use super::{calls, root_keys, sandbox, wanted};
use crate::ecr::AuthorizationToken;
use crate::live::places::USUAL;
use crate::live::{LiveAws, Settings};
use crate::{Aws, AwsError, Call, Ecr, ErrorKind, Iam, StsEndpoint, Target};

fn live(endpoint: &str, clock: &SimClock) -> LiveAws {
    let settings = Settings { endpoint: Some(endpoint.to_owned()), ..Settings::default() };
    LiveAws::drawing(Arc::new(clock.clone()), Arc::new(SeededEntropy::new(5)), settings)
}

fn target() -> Target {
    Target { keys: Some(root_keys()), max_retries: Some(0), ..Target::default() }
}

/// So many calls under way that have no answer.
fn hanging<'a>(aws: &'a LiveAws, share: &Arc<Share>, calls: usize) -> Vec<Place<'a>> {
    std::iter::repeat_with(|| aws.queues.usual.take_now(share).unwrap()).take(calls).collect()
}

/// As many calls behind them as may wait.
fn line<'a>(aws: &'a LiveAws, share: &'a Arc<Share>) -> Vec<Pin<Box<dyn Future<Output = ()> + 'a>>> {
    let wait = || Box::pin(async { drop(aws.queues.usual.take(share).await) }) as Pin<Box<dyn Future<Output = ()> + 'a>>;
    std::iter::repeat_with(wait).take(USUAL.waiting).collect()
}

async fn begin(line: &mut [Pin<Box<dyn Future<Output = ()> + '_>>]) {
    for waiting in line {
        tokio::select! { biased; () = waiting => panic!("there was a place"), () = std::future::ready(()) => {} }
    }
}

fn endpoint(url: &str) -> StsEndpoint {
    StsEndpoint { url: url.to_owned(), region: Some("us-east-1".to_owned()) }
}

#[tokio::test]
async fn a_call_that_finds_no_place_names_the_endpoint_when_its_time_is_up() {
    let clock = SimClock::default();
    let (aws, target) = (live("http://127.0.0.1:1", &clock), target());
    let share = aws.queues.usual.share("http://127.0.0.1:1");
    let held = hanging(&aws, &share, USUAL.of_origin);
    let call = Call::usual(&target, Duration::from_secs(5));
    let told = |error: AwsError| {
        assert!(error.is_crowded(), "{error}");
        let begins = "Post \"http://127.0.0.1:1";
        assert!(
            error.message.starts_with(begins) && error.message.contains("not sent: 384 calls to it, or 1024 in all, may be under way"),
            "{error}"
        );
    };
    let began = clock.elapsed();
    told(clock.while_passing(aws.get_caller_identity(call)).await.unwrap_err());
    let took = clock.elapsed().saturating_sub(began).as_secs();
    assert!((5..7).contains(&took), "{took}");
    told(clock.while_passing(aws.list_group_policies(call, "ci")).await.unwrap_err());
    told(clock.while_passing(aws.get_authorization_token(call, AuthorizationToken::default())).await.unwrap_err());
    drop(held);
    let error = clock.while_passing(aws.get_caller_identity(call)).await.unwrap_err();
    assert!(!error.message.contains("not sent"), "{error}");
}

/// Story: there was no end to the line of mints. While an STS hung, each waited until its request's time was over, and after 4096 of them the listener
/// answered nobody.
#[tokio::test]
async fn a_mint_that_finds_a_long_line_is_told_at_once() {
    let clock = SimClock::default();
    let (aws, target) = (live("http://127.0.0.1:1", &clock), target());
    let share = aws.queues.usual.share("http://127.0.0.1:1");
    let _held = hanging(&aws, &share, USUAL.of_origin);
    let mut line = line(&aws, &share);
    begin(&mut line).await;
    let error = aws.get_caller_identity(Call::usual(&target, Duration::from_secs(5))).await.unwrap_err();
    assert!(error.is_crowded(), "{error}");
    let text = "Post \"http://127.0.0.1:1\": not sent: 640 calls to it wait already: try again in a few seconds";
    assert!(error.message.ends_with(text), "{error}");
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

/// Story: the first of two endpoints hung. Each mint that found its line full was refused at once, and nobody asked the second one, which was free.
#[tokio::test]
async fn a_mint_that_finds_a_long_line_goes_to_the_next_endpoint() {
    let clock = SimClock::at(daypass_base::SystemClock::new().now());
    let sandbox = sandbox(Arc::new(clock.clone())).await;
    let first = "http://127.0.0.1:1";
    let aws = live(&sandbox.url(), &clock);
    let target = Target { sts_endpoints: vec![endpoint(first), endpoint(&sandbox.url())], ..target() };
    let (clients, share) = (aws.clients(&target).await, aws.queues.usual.share(first));
    let _held = hanging(&aws, &share, USUAL.of_origin);
    let mut of_first = line(&aws, &share);
    begin(&mut of_first).await;
    let call = Call::usual(&target, Duration::from_secs(5));
    aws.get_caller_identity(call).await.unwrap();
    assert_eq!((calls(&sandbox, "GetCallerIdentity"), clients.good.load(Ordering::Relaxed)), (1, 1));

    // Where the other one has no place free, nobody waits in a second line: whoever comes again may have more luck.
    let other = aws.queues.usual.share(&sandbox.url());
    let _of_other = hanging(&aws, &other, USUAL.of_origin);
    clients.good.store(0, Ordering::Relaxed);
    let error = aws.get_caller_identity(call).await.unwrap_err();
    assert!(error.is_crowded() && error.message.contains("none of 2 endpoints answers; Post"), "{error}");
}

/// Story: all calls shared one number of places. While mints held each of them at an STS that hung, no IAM user was deleted, and its lease was parked. Then
/// deletions had places of their own, and waited for the mints before they began: to see who has the name, and which account is asked.
#[tokio::test]
async fn what_is_taken_back_needs_no_place_that_mints_hold() {
    let clock = SimClock::at(daypass_base::SystemClock::new().now());
    let sandbox = sandbox(Arc::new(clock.clone())).await;
    let (aws, target) = (live(&sandbox.url(), &clock), target());
    let shares: Vec<_> = ["a", "b", "c"].into_iter().map(|origin| aws.queues.usual.share(origin)).collect();
    let last = USUAL.all - 2 * USUAL.of_origin;
    let held: Vec<_> = shares.iter().zip([USUAL.of_origin, USUAL.of_origin, last]).flat_map(|(s, n)| hanging(&aws, s, n)).collect();
    let call = Call::usual(&target, Duration::from_secs(5));
    let back = Call::taking_back(&target, Duration::from_secs(5));
    let gone = |error: AwsError| assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    gone(clock.while_passing(aws.delete_user(call, "nobody")).await.unwrap_err());
    gone(clock.while_passing(aws.get_user(call, Some("nobody"))).await.unwrap_err());
    clock.while_passing(aws.get_caller_identity(back)).await.unwrap();
    let role = wanted("arn:aws:iam::111111111111:role/nobody");
    let refused = clock.while_passing(aws.assume_role(back, role)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
    let error = clock.while_passing(aws.get_caller_identity(call)).await.unwrap_err();
    assert!(error.message.contains("not sent"), "{error}");
    drop(held);
    clock.while_passing(aws.get_caller_identity(call)).await.unwrap();
}

#[tokio::test]
async fn who_waited_at_an_endpoint_that_hangs_goes_where_others_were_answered() {
    let clock = SimClock::at(daypass_base::SystemClock::new().now());
    let sandbox = sandbox(Arc::new(clock.clone())).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = format!("http://{}", silent.local_addr().unwrap());
    let aws = live(&sandbox.url(), &clock);
    let target = Target { sts_endpoints: vec![endpoint(&first), endpoint(&sandbox.url())], ..target() };
    let clients = aws.clients(&target).await;
    let share = aws.queues.usual.share(&first);
    let mut held = hanging(&aws, &share, USUAL.of_origin);
    let call = Call::usual(&target, Duration::from_mins(1));
    let others = async {
        // One of those under way is answered by the other endpoint, and gives its place back.
        tokio::task::yield_now().await;
        clients.good.store(1, Ordering::Relaxed);
        held.pop();
    };
    let (own, ()) = tokio::join!(aws.get_caller_identity(call), others);
    own.unwrap();
    assert_eq!(calls(&sandbox, "GetCallerIdentity"), 1);
    tokio::select! {
        biased;
        _ = silent.accept() => panic!("the one that hangs was asked"),
        () = std::future::ready(()) => {}
    }
}
