//! Traces: what is told of a request that has ended, what never is, and who decides whether it is told at all.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use daypass_base::trace::{Fact, Parent, Ratio, Span, SpanKind, Trace, TraceCounts, Traces};
use daypass_core::Traced;
use daypass_sdk::{Cx, Endpoint, Engine, Error, Factory, Operation, Room};
use daypass_testkit::{Answer, Setup, TestServer};
use parking_lot::Mutex;
use serde_json::json;

/// Keeps what it is told.
#[derive(Default)]
struct Kept(Mutex<Vec<Trace>>);

impl Traces for Kept {
    fn ended(&self, trace: Trace) {
        self.0.lock().push(trace);
    }

    fn counts(&self) -> TraceCounts {
        TraceCounts { sent: 7, dropped: 3 }
    }
}

struct Watched {
    server: TestServer,
    kept: Arc<Kept>,
}

impl Watched {
    async fn start(share: f64) -> Self {
        Self::of(Setup::default(), share).await
    }

    async fn of(setup: Setup, share: f64) -> Self {
        let kept = Arc::new(Kept::default());
        let traced = Traced { sink: Arc::clone(&kept) as Arc<_>, ratio: Ratio::of(share).unwrap() };
        Self { server: setup.traced(traced).start().await, kept }
    }

    fn taken(&self) -> Vec<Trace> {
        std::mem::take(&mut self.kept.0.lock())
    }

    /// The only trace since the last look.
    fn only(&self) -> Trace {
        let [trace] = self.taken().try_into().expect("one trace");
        trace
    }
}

fn fact(span: &Span, name: &str) -> Option<String> {
    span.facts.iter().find(|(known, _)| *known == name).map(|(_, fact)| match fact {
        Fact::Number(number) => number.to_string(),
        Fact::Text(text) => text.clone(),
    })
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn a_mint_is_told_with_its_stages_and_what_aws_was_asked() {
    let watched = Watched::start(1.0).await;
    watched.server.mount_aws("aws").await;
    watched.taken();
    let began = daypass_base::Clock::now(watched.server.clock());
    let answer = watched.server.get("aws/creds/deploy").await.ok();
    let trace = watched.only();
    let names: Vec<&str> = trace.spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["GET /v1/aws/creds/{name}", "identify", "audit", "run", "STS.AssumeRole"]);
    let [request, identify, audit, run, sts] = trace.spans.as_slice() else { panic!("five spans") };
    assert_eq!((request.kind, request.parent, request.failed, request.began), (SpanKind::Server, Parent::None, false, began));
    for stage in [identify, audit, run] {
        assert_eq!((stage.kind, stage.parent, stage.facts.len()), (SpanKind::Internal, Parent::Own(request.id), 0));
    }
    assert_eq!((sts.kind, sts.parent, sts.failed), (SpanKind::Client, Parent::Own(run.id), false));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "/v1/aws/creds/{name}"),
        ("daypass.mount.type", "aws"),
        ("daypass.mount.path", "aws/"),
    ] {
        assert_eq!(fact(request, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(fact(request, "daypass.request_id"), Some(answer.text("/request_id")));
    assert_eq!(fact(sts, "rpc.service").zip(fact(sts, "rpc.method")), Some(("STS".to_owned(), "AssumeRole".to_owned())));
    let mut ids: Vec<[u8; 8]> = trace.spans.iter().map(|span| span.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == 5 && !ids.contains(&[0; 8]) && trace.id != [0; 16]);
}

#[tokio::test]
async fn a_caller_that_keeps_its_trace_finds_the_request_in_it() {
    let watched = Watched::start(0.0).await;
    watched.server.get("sys/mounts").header("traceparent", &format!("00-{TRACE}-{CALLER}-01")).await.ok();
    let trace = watched.only();
    assert_eq!(data_encoding::HEXLOWER.encode(&trace.id), TRACE);
    let Parent::Remote(parent) = trace.spans[0].parent else { panic!("a remote parent") };
    assert_eq!(data_encoding::HEXLOWER.encode(&parent), CALLER);
}

#[tokio::test]
async fn a_caller_that_does_not_keep_its_trace_is_not_overruled() {
    let watched = Watched::start(1.0).await;
    watched.server.get("sys/mounts").header("traceparent", &format!("00-{TRACE}-{CALLER}-00")).await.ok();
    assert_eq!(watched.taken(), []);
    watched.server.get("sys/mounts").header("traceparent", &format!("00-{TRACE}-{CALLER}-1")).await.ok();
    let trace = watched.only();
    assert!(trace.spans[0].parent == Parent::None && data_encoding::HEXLOWER.encode(&trace.id) != TRACE, "a bad header is none");
}

/// Story: a stranger who sent the header of a trace with each request had all of them traced, whatever share the operator wanted: the collector's bill was his to
/// make, and the queue was full when others' spans came.
#[tokio::test]
async fn a_stranger_does_not_decide_what_is_traced() {
    let watched = Watched::start(0.0).await;
    let caller = format!("00-{TRACE}-{CALLER}-01");
    watched.server.get("sys/health").nobody().header("traceparent", &caller).await.ok();
    watched.server.get("sys/mounts").token("hvs.wrong").header("traceparent", &caller).await.refused(403);
    assert_eq!(watched.taken(), []);
    let some = Watched::start(0.25).await;
    for trace in ["00000000000000000000000000000001", "ffffffffffffffffffffffffffffffff"] {
        for _ in 0..200 {
            some.server.get("sys/health").nobody().header("traceparent", &format!("00-{trace}-{CALLER}-01")).await;
        }
        let traced = some.taken().len();
        assert!((25..75).contains(&traced), "{traced}: no id is always traced");
    }
    let all = Watched::start(1.0).await;
    all.server.get("sys/mounts").token("hvs.wrong").header("traceparent", &caller).await.refused(403);
    assert_eq!(data_encoding::HEXLOWER.encode(&all.only().id), TRACE, "where all are traced, so is this one, in its caller's trace");
}

#[tokio::test]
async fn of_the_others_the_configured_share_is_traced() {
    let watched = Watched::start(0.25).await;
    for _ in 0..1_000 {
        watched.server.get("sys/health").nobody().await;
    }
    let traced = watched.taken().len();
    assert!((200..300).contains(&traced), "{traced}");
    let none = Watched::start(0.0).await;
    none.server.get("sys/mounts").await.ok();
    assert_eq!(none.taken(), []);
}

/// Everything that a client sends is put where it might be told, and looked for in all that is.
#[tokio::test]
async fn nothing_that_a_client_sent_is_told() {
    let watched = Watched::start(1.0).await;
    let server = &watched.server;
    server.put("sys/mounts/kept", json!({ "type": "kv", "options": { "version": "2" } })).await.ok();
    server.put("kept/data/hunter2-path/below", json!({ "data": { "hunter2-key": "hunter2-value" } })).await.ok();
    server.get("kept/data/hunter2-path/below?version=1&x=hunter2-query").header("x-vault-request", "hunter2-header").await.ok();
    server.list("kept/metadata/hunter2-path").await.ok();
    let token = server.token(json!({ "policies": ["default"], "display_name": "hunter2", "meta": { "a": "hunter2-meta" } })).await;
    server.get("kept/data/hunter2-path/below").token(&token).await.refused(403);
    server.get("hunter2-mount/that/is/none").await.refused(404);
    server.get("kept/data/hunter2%zz").await;
    server.ask("HUNTER2", "kept/data/a").await.refused(405);
    server.put("auth/token/lookup", json!({ "token": "hvs.hunter2" })).await;
    let caller = format!("00-{TRACE}-{CALLER}-01");
    server.get("sys/mounts").header("traceparent", &caller).header("tracestate", "hunter2=state").header("baggage", "a=hunter2").await.ok();
    let told = format!("{:?}", watched.taken());
    assert!(!told.to_lowercase().contains("hunter2"), "{told}");
    for secret in [server.root(), &token] {
        assert!(!told.contains(secret));
    }
    assert!(told.contains("/v1/kept/data/{path}") && told.contains("_OTHER"), "{told}");
}

#[tokio::test]
async fn what_is_refused_before_it_led_anywhere_is_told_as_that() {
    let watched = Watched::start(1.0).await;
    watched.server.get("nowhere/at/all").await.refused(404);
    let trace = watched.only();
    assert_eq!((trace.spans[0].name.as_ref(), fact(&trace.spans[0], "http.route")), ("GET", None));
    assert!(fact(&trace.spans[0], "daypass.request_id").is_some_and(|id| id.len() == 36));
    watched.server.ask("BREW", "a").await.refused(405);
    let trace = watched.only();
    assert_eq!((trace.spans.len(), trace.spans[0].name.as_ref()), (1, "_OTHER"));
    assert_eq!(fact(&trace.spans[0], "http.response.status_code").as_deref(), Some("405"));
    watched.server.get("sys/health").nobody().await.ok();
    let trace = watched.only();
    assert_eq!((trace.spans.len(), trace.spans[0].name.as_ref()), (1, "GET /v1/sys/health"));
    assert_eq!(fact(&trace.spans[0], "daypass.mount.type").as_deref(), Some("system"));
}

/// An engine that takes its time, or fails.
struct Slow;

/// What may be asked.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Wanted {
    /// `never` or `broken`; else the number of seconds.
    how: String,
}

async fn wait(_: Arc<Slow>, cx: Cx, wanted: Wanted) -> Result<(), Error> {
    let seconds = match wanted.how.as_str() {
        "never" => return std::future::pending().await,
        "broken" => return Err(Error::internal("it broke")),
        number => number.parse().unwrap_or_default(),
    };
    cx.asking("Sleep", "Sleep", async {
        cx.clock.sleep(Duration::from_secs(seconds)).await;
        Ok(())
    })
    .await
}

impl Engine for Slow {
    const SUMMARY: &'static str = "Takes its time.";
    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![Endpoint::at(["wait/{how}"]).summary("Wait.").on(Operation::Read, wait)]
    }
}

async fn slow() -> Watched {
    let make = || Factory {
        kind: "slow",
        auth: false,
        summary: "Takes its time.",
        built_from: &[],
        build: Box::new(|_| Ok(Arc::new(Room::new()).mount(Slow))),
    };
    let watched = Watched::of(Setup::default().engine(make), 1.0).await;
    watched.server.put("sys/mounts/slow", json!({ "type": "slow" })).await.ok();
    watched.taken();
    watched
}

#[tokio::test]
async fn times_are_measured_and_an_error_of_the_server_is_one() {
    let watched = slow().await;
    let clock = watched.server.clock().clone();
    clock.while_passing(watched.server.get("slow/wait/3").into_future()).await.ok();
    let trace = watched.only();
    let [request, identify, _, run, call] = trace.spans.as_slice() else { panic!("five spans") };
    for span in [request, run, call] {
        assert!((Duration::from_secs(3)..Duration::from_secs(4)).contains(&span.took), "{span:?}");
    }
    assert!(identify.took < Duration::from_secs(1) && call.began >= run.began && run.began >= request.began);
    watched.server.get("slow/wait/broken").await.refused(500);
    let trace = watched.only();
    assert!(trace.spans[0].failed && fact(&trace.spans[0], "error.type").as_deref() == Some("500"), "{trace:?}");
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_a_trace_without_an_answer() {
    let watched = slow().await;
    let mut asked = watched.server.get("slow/wait/never").into_future();
    poll_fn(|cx| {
        assert!(asked.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    assert_eq!(watched.taken(), []);
    drop(asked);
    let trace = watched.only();
    let names: Vec<&str> = trace.spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["GET /v1/slow/wait/{how}", "identify", "audit"]);
    assert_eq!((fact(&trace.spans[0], "http.response.status_code"), trace.spans[0].failed), (None, false));
}

#[tokio::test]
async fn what_became_of_traces_is_a_metric_only_where_there_are_some() {
    let watched = Watched::start(0.0).await;
    let shown = |answer: Answer| answer.body.as_str().expect("a text").to_owned();
    let text = shown(watched.server.get("sys/metrics?format=prometheus").await.ok());
    assert!(text.contains("\ndaypass_trace_spans_sent 7\n") && text.contains("\ndaypass_trace_spans_dropped 3\n"), "{text}");
    let without = TestServer::start().await;
    assert!(!shown(without.get("sys/metrics?format=prometheus").await.ok()).contains("daypass_trace"));
}
