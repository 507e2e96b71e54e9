//! The exporter against a collector on loopback, on a clock that the tests move.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;

use daypass_base::Timestamp;
use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_base::trace::{Fact, Parent, Span, SpanKind, Trace, TraceCounts, Traces};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::proto::{ExportRequest, ExportResponse, PartialSuccess, SpanMessage, Value};

/// What a collector was sent.
#[derive(Clone)]
struct Seen {
    head: String,
    request: ExportRequest,
    /// On the simulated clock.
    at: Duration,
    connection: usize,
}

/// A collector that answers as it is told to, and with 200 from then on.
struct Collector {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    async fn answering(clock: &SimClock, answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        let (all, clock) = (Arc::clone(&seen), clock.clone());
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let (all, clock, answers) = (Arc::clone(&all), clock.clone(), Arc::clone(&answers));
                tokio::spawn(async move {
                    while let Some((head, body)) = one_request(&mut stream).await {
                        let request = ExportRequest::decode(&body[..]).unwrap();
                        all.lock().unwrap().push(Seen { head, request, at: clock.elapsed(), connection });
                        let next = answers.lock().unwrap().pop_front().unwrap_or(OK);
                        if next == SILENCE {
                            std::future::pending::<()>().await;
                        }
                        stream.write_all(next.as_bytes()).await.unwrap();
                        if next.contains("connection: close") {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for so many batches.
    async fn batches(&self, wanted: usize) -> Vec<Seen> {
        until(|| self.seen.lock().unwrap().len() >= wanted).await;
        self.seen()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
const OK_AND_OVER: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const BAD: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 6\r\n\r\nsecret";
const MOVED: &str = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n";
const BUSY_FOR_SEVEN: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
/// No answer at all.
const SILENCE: &str = "";

/// Yields until this holds; the time of the simulation stands still unless somebody else moves it.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

async fn one_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

struct Started {
    clock: SimClock,
    queue: Arc<Queue>,
    exporter: Exporter,
}

fn started(clock: &SimClock, address: SocketAddr) -> Started {
    let settings = Settings {
        endpoint: Endpoint::parse(&format!("http://{address}/v1/traces?team=a")).unwrap(),
        headers: Headers::parse("authorization=Bearer%20abc").unwrap(),
        version: "1.2.3".to_owned(),
    };
    let (queue, exporter) = start(settings, Arc::new(clock.clone()), Arc::new(SeededEntropy::new(1)));
    Started { clock: clock.clone(), queue, exporter }
}

impl Started {
    fn tell(&self, traces: usize) {
        for number in 0..traces {
            self.queue.ended(trace(u8::try_from(number % 250).unwrap() + 1));
        }
    }

    fn counts(&self) -> (u64, u64) {
        let TraceCounts { sent, dropped } = self.queue.counts();
        (sent, dropped)
    }

    /// Lets time pass until as many spans were sent and dropped.
    async fn come_to(&self, sent: u64, dropped: u64) {
        self.clock.while_passing(until(|| self.counts() == (sent, dropped))).await;
    }
}

/// A request and one of its stages.
fn trace(id: u8) -> Trace {
    let request = Span {
        id: [id; 8],
        parent: Parent::Remote([9; 8]),
        name: Cow::Borrowed("GET /v1/a/{name}"),
        kind: SpanKind::Server,
        began: Timestamp::from_nanos(1_000),
        took: Duration::from_nanos(500),
        failed: true,
        facts: vec![("http.response.status_code", Fact::Number(500)), ("http.route", Fact::Text("/v1/a/{name}".to_owned()))],
    };
    let stage = Span {
        id: [id.wrapping_add(1); 8],
        parent: Parent::Own([id; 8]),
        name: Cow::Borrowed("run"),
        kind: SpanKind::Internal,
        began: Timestamp::from_nanos(1_100),
        failed: false,
        facts: Vec::new(),
        ..request.clone()
    };
    Trace { id: [id; 16], spans: vec![request, stage] }
}

fn between(one: &Seen, other: &Seen) -> Duration {
    other.at.saturating_sub(one.at)
}

fn spans(seen: &Seen) -> &[SpanMessage] {
    &seen.request.resource_spans[0].scope_spans[0].spans
}

#[tokio::test]
async fn what_has_ended_is_sent_together_a_little_later() {
    let clock = SimClock::default();
    let collector = Collector::answering(&clock, &[]).await;
    let started = started(&clock, collector.address);
    started.tell(2);
    let seen = clock.while_passing(collector.batches(1)).await;
    assert!(seen[0].at >= BATCH_AFTER && spans(&seen[0]).len() == 4);
    let head = seen[0].head.to_lowercase();
    assert!(head.starts_with("post /v1/traces?team=a http/1.1\r\n"), "{head}");
    for line in ["content-type: application/x-protobuf\r\n", "authorization: bearer abc\r\n", &format!("host: {}\r\n", collector.address)] {
        assert!(head.contains(line), "{head}");
    }
    let resource = &seen[0].request.resource_spans[0].resource.as_ref().unwrap().attributes;
    let named = resource.iter().map(|one| (one.key.as_str(), one.value.clone().unwrap().value.unwrap())).collect::<Vec<_>>();
    assert_eq!(named, [("service.name", Value::Text("daypass".to_owned())), ("service.version", Value::Text("1.2.3".to_owned()))]);
    let [request, stage, ..] = spans(&seen[0]) else { panic!("two spans and more") };
    assert_eq!((&request.trace_id[..], &request.span_id[..], &request.parent_span_id[..]), (&[1; 16][..], &[1; 8][..], &[9; 8][..]));
    assert_eq!((request.kind, request.start_time_unix_nano, request.end_time_unix_nano, request.flags), (2, 1_000, 1_500, 0x301));
    assert_eq!((request.status.as_ref().map(|status| status.code), request.attributes.len()), (Some(2), 2));
    assert_eq!((&stage.parent_span_id[..], stage.kind, stage.flags, stage.status.is_none()), (&[1; 8][..], 1, 0x101, true));
    started.come_to(4, 0).await;
    started.exporter.end().await;
}

#[tokio::test]
async fn a_full_batch_does_not_wait_and_none_is_larger_than_the_limit() {
    let clock = SimClock::default();
    let collector = Collector::answering(&clock, &[]).await;
    let started = started(&clock, collector.address);
    started.tell(600);
    let seen = collector.batches(2).await;
    assert!(seen.iter().all(|seen| seen.at.is_zero() && (BATCH_MAX - 20..=BATCH_MAX).contains(&spans(seen).len())));
    let seen = clock.while_passing(collector.batches(3)).await;
    assert!(seen[2].at >= BATCH_AFTER);
    assert_eq!(seen.iter().map(|seen| spans(seen).len()).sum::<usize>(), 1_200);
    assert!(seen.iter().all(|seen| seen.connection == 0), "one connection does for all");
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again_when_it_says() {
    let clock = SimClock::default();
    let collector = Collector::answering(&clock, &[BUSY_FOR_SEVEN, BUSY]).await;
    let started = started(&clock, collector.address);
    started.tell(1);
    let seen = clock.while_passing(collector.batches(3)).await;
    assert!(between(&seen[0], &seen[1]) >= Duration::from_secs(7));
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&between(&seen[1], &seen[2])), "its own wait where nothing was said");
    assert!(seen.iter().all(|one| one.request == seen[0].request));
    started.come_to(2, 0).await;
}

#[tokio::test]
async fn what_is_not_taken_in_the_end_is_dropped_and_counted() {
    let clock = SimClock::default();
    let collector = Collector::answering(&clock, &[BUSY, BUSY, BUSY, BUSY, BUSY, BAD, MOVED]).await;
    let started = started(&clock, collector.address);
    started.tell(1);
    started.come_to(0, 2).await;
    assert_eq!(collector.seen().len(), 5);
    started.tell(2);
    started.come_to(0, 6).await;
    assert_eq!(collector.seen().len(), 6, "a refusal is not asked again");
    started.tell(1);
    started.come_to(0, 8).await;
    assert_eq!(collector.seen().len(), 7, "nor is a redirect followed");
    started.tell(1);
    started.come_to(2, 8).await;
}

#[tokio::test]
async fn spans_that_the_collector_did_not_want_are_counted() {
    let clock = SimClock::default();
    let body = ExportResponse { partial_success: Some(PartialSuccess { rejected_spans: 3 }) }.encode_to_vec();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", body.len(), String::from_utf8(body).unwrap()).leak();
    let collector = Collector::answering(&clock, &[answer]).await;
    let started = started(&clock, collector.address);
    started.tell(2);
    started.come_to(1, 3).await;
}

#[tokio::test]
async fn a_silent_collector_costs_no_more_than_its_limit_and_a_full_queue_nothing() {
    let clock = SimClock::default();
    let collector = Collector::answering(&clock, &[SILENCE]).await;
    let started = started(&clock, collector.address);
    started.tell(1);
    clock.while_passing(collector.batches(1)).await;
    // The task waits for an answer: nobody empties the queue, and nobody is made to wait for that.
    started.tell(QUEUE_MAX + 10);
    assert_eq!(started.counts(), (0, 20));
    let seen = clock.while_passing(collector.batches(2)).await;
    assert!(between(&seen[0], &seen[1]) >= Duration::from_secs(10));
    assert_eq!((seen[1].connection, &seen[1].request), (1, &seen[0].request), "asked again, on a new connection");
    started.come_to(2 + 2 * u64::try_from(QUEUE_MAX).unwrap(), 20).await;
}

#[tokio::test]
async fn a_connection_that_was_closed_at_rest_is_replaced() {
    let clock = SimClock::default();
    let collector = Collector::answering(&clock, &[OK_AND_OVER]).await;
    let started = started(&clock, collector.address);
    for (batch, sent) in [(1, 2), (2, 4), (3, 6)] {
        started.tell(1);
        clock.while_passing(collector.batches(batch)).await;
        started.come_to(sent, 0).await;
    }
    let connections: Vec<_> = collector.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 1]);
}

#[tokio::test]
async fn the_last_traces_are_sent_when_the_server_ends() {
    let clock = SimClock::default();
    let collector = Collector::answering(&clock, &[]).await;
    let Started { queue, exporter, .. } = started(&clock, collector.address);
    for _ in 0..700 {
        queue.ended(trace(1));
    }
    // The clock stands: nothing waits for the age of a batch.
    exporter.end().await;
    assert_eq!(queue.counts(), TraceCounts { sent: 1_400, dropped: 0 });
    assert_eq!(clock.elapsed(), Duration::ZERO);
    queue.ended(trace(1));
    assert_eq!(queue.counts().dropped, 2, "too late");
}

#[tokio::test]
async fn a_server_ends_soon_whatever_the_collector_does() {
    let clock = SimClock::default();
    let collector = Collector::answering(&clock, &[SILENCE]).await;
    let silent = started(&clock, collector.address);
    silent.tell(1);
    clock.while_passing(collector.batches(1)).await;
    let began = clock.elapsed();
    clock.while_passing(silent.exporter.end()).await;
    assert!(clock.elapsed().saturating_sub(began) < FLUSH_MAX + Duration::from_secs(1));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = started(&clock, closed);
    gone.tell(1_000);
    let began = clock.elapsed();
    clock.while_passing(gone.exporter.end()).await;
    assert!(clock.elapsed().saturating_sub(began) < FLUSH_MAX, "nothing is tried again");
    assert_eq!(gone.queue.counts(), TraceCounts { sent: 0, dropped: 2_000 });
}
