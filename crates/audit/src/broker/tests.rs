use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use daypass_base::sim::SimClock;
use daypass_base::{Secret, SystemClock};
use serde_json::Value;

use super::*;
use crate::own::OwnFile;

/// A sink that answers as it is told.
struct Scripted {
    answer: Result<(), SinkError>,
    pace: Pace,
    never: bool,
    submitted: Arc<AtomicUsize>,
    lagged: Arc<AtomicBool>,
}

impl Scripted {
    fn taking() -> Self {
        Self { answer: Ok(()), pace: Pace::Well, never: false, submitted: Arc::default(), lagged: Arc::default() }
    }

    fn refusing() -> Self {
        Self { answer: Err(SinkError::Closed), ..Self::taking() }
    }

    fn hanging(pace: Pace) -> Self {
        Self { pace, never: true, ..Self::taking() }
    }
}

impl Sink for Scripted {
    fn submit(&self, _line: Vec<u8>, _share: Share) -> Receipt {
        self.submitted.fetch_add(1, Ordering::Relaxed);
        if self.never { Box::pin(std::future::pending()) } else { Box::pin(std::future::ready(self.answer.clone())) }
    }

    fn reopen(&self) -> Receipt {
        Box::pin(std::future::ready(self.answer.clone()))
    }

    fn close(&self) -> Receipt {
        Box::pin(std::future::ready(Ok(())))
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn lags(&self) {
        self.lagged.store(true, Ordering::Relaxed);
    }

    fn health(&self) -> SinkHealth {
        SinkHealth { pace: self.pace, ..SinkHealth::default() }
    }
}

fn broker() -> Broker {
    Broker::new(Arc::new(SystemClock::new()), SinkLimits::default(), Prefixing::Refused, OwnFiles::default())
}

fn salt() -> Salt {
    Salt::new(&Secret::new(b"salt".to_vec()))
}

fn config(path: &str, file: &str) -> DeviceConfig {
    let options = BTreeMap::from([("file_path".to_owned(), file.to_owned())]);
    DeviceConfig { path: path.to_owned(), device_type: "file".to_owned(), description: String::new(), local: false, options }
}

async fn enable(broker: &Broker, path: &str, file: &Path) -> Result<(), EnableError> {
    broker.install(broker.prepare(config(path, &file.display().to_string()), salt(), SelfTest::Record("test-id")).await?)
}

fn scripted(broker: &Broker, path: &str, sink: Scripted) {
    let device = Device { config: config(path, path), format: Format::default(), salt: salt(), sink: Box::new(sink) };
    broker.install(Prepared(device)).unwrap();
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn without_devices_everything_may_go_on() {
    let broker = broker();
    assert!(!broker.is_enabled());
    broker.log(&Record::default()).await.unwrap();
}

#[tokio::test]
async fn enabling_writes_a_test_record_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let broker = broker();
    let prepared = broker.prepare(config("file", &path.display().to_string()), salt(), SelfTest::Record("test-id")).await.unwrap();
    assert_eq!(prepared.config().path, "file/");
    let test = &lines(&path)[0];
    assert_eq!((&test["request"]["path"], &test["request"]["id"]), (&"sys/audit/test".into(), &"test-id".into()));
    assert!(!broker.is_enabled(), "not before it is stored");
    broker.install(prepared).unwrap();
    broker.log(&Record { error: "first", ..Record::default() }).await.unwrap();
    assert_eq!(lines(&path)[1]["error"], "first");
    assert_eq!(broker.list()[0].options["file_path"], path.display().to_string());
}

#[tokio::test]
async fn a_device_that_does_not_work_is_not_enabled() {
    let broker = broker();
    let error = enable(&broker, "a/", Path::new("/nowhere/audit.log")).await.unwrap_err().to_string();
    let start = "unable to create new audit backend: file sink creation failed for path \"/nowhere/audit.log\": sanity check failed; unable to open \"/nowhere/audit.log\" for writing: ";
    assert!(error.starts_with(start), "{error}");
    let error = enable(&broker, "a/", Path::new("/dev/full")).await.unwrap_err().to_string();
    assert!(error.starts_with("audit backend failed test message: the line was not written: No space left"), "{error}");
    assert!(!broker.is_enabled());
    let mut untested = config("a/", "/dev/full");
    untested.options.insert("skip_test".to_owned(), "1".to_owned());
    assert!(broker.prepare(untested, salt(), SelfTest::Record("id")).await.is_ok());
    assert!(broker.prepare(config("a/", "/dev/full"), salt(), SelfTest::Skip).await.is_ok());
}

#[tokio::test]
async fn mistakes_come_in_vaults_order() {
    let broker = broker();
    enable(&broker, "a", Path::new("discard")).await.unwrap();
    let refusal = async |config: DeviceConfig| broker.prepare(config, salt(), SelfTest::Skip).await.err().map(|error| error.to_string());
    let with = |key: &str, value: &str| {
        let mut config = config("b", "discard");
        config.options.insert(key.to_owned(), value.to_owned());
        config
    };
    let no_options = |device_type: &str| DeviceConfig { device_type: device_type.to_owned(), options: BTreeMap::new(), ..config("b", "") };
    // As recorded in audit-devices.json.
    assert_eq!(refusal(config("a", "discard")).await.unwrap(), "path already in use: invalid configuration");
    assert_eq!(refusal(no_options("bogus")).await.unwrap(), "unknown backend type: \"bogus\": invalid configuration");
    assert_eq!(
        refusal(no_options("file")).await.unwrap(),
        "unable to create new audit backend: \"file_path\" is required: invalid configuration"
    );
    assert_eq!(refusal(with("format", "xml")).await.unwrap(), "file_path already in use: invalid configuration");
    assert_eq!(refusal(with("hmac_accessor", "perhaps")).await.unwrap(), "file_path already in use: invalid configuration");
    assert_eq!(
        refusal(no_options("socket")).await.unwrap(),
        "unable to create new audit backend: \"address\" is required: invalid configuration"
    );
}

#[tokio::test]
async fn two_at_once_for_one_path_cannot_both_be_installed_nor_one_too_many() {
    let broker = broker();
    let prepare = || broker.prepare(config("a/", "discard"), salt(), SelfTest::Skip);
    let (first, second) = (prepare().await.unwrap(), prepare().await.unwrap());
    broker.install(first).unwrap();
    assert_eq!(broker.install(second), Err(EnableError::PathInUse));
    for number in 1..DEVICES_MAX {
        scripted(&broker, &format!("c{number}/"), Scripted::taking());
    }
    assert_eq!(enable(&broker, "z/", Path::new("stdout")).await, Err(EnableError::TooMany));
}

#[tokio::test]
async fn one_device_that_takes_the_record_is_enough_and_none_is_too_few() {
    let broker = broker();
    scripted(&broker, "bad/", Scripted::refusing());
    let failed = broker.log(&Record::default()).await.unwrap_err();
    assert_eq!(failed.to_string(), "no audit device took the record: bad/ the audit device is closed");
    scripted(&broker, "good/", Scripted::taking());
    broker.log(&Record::default()).await.unwrap();
    broker.disable("good").await.unwrap();
    assert!(broker.log(&Record::default()).await.is_err());
    assert_eq!(broker.disable("good").await, None);
    broker.disable("bad/").await.unwrap();
    broker.log(&Record::default()).await.unwrap();
}

/// Polls once; nothing that is ready is left waiting.
async fn now<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test]
async fn a_device_that_is_slow_is_waited_for_a_moment_when_another_has_the_record() {
    let clock = SimClock::default();
    let broker = Broker::new(Arc::new(clock.clone()), SinkLimits::default(), Prefixing::Refused, OwnFiles::default());
    let slow = Scripted::hanging(Pace::Well);
    let lagged = Arc::clone(&slow.lagged);
    scripted(&broker, "slow/", slow);
    scripted(&broker, "good/", Scripted::taking());
    let mut log = Box::pin(broker.log(&Record::default()));
    assert!(now(&mut log).await.is_pending());
    clock.advance(std::time::Duration::from_millis(250));
    assert_eq!(now(&mut log).await, std::task::Poll::Ready(Ok(())));
    assert!(lagged.load(Ordering::Relaxed), "nobody waits for it again");
}

#[tokio::test]
async fn a_device_that_lags_is_waited_for_only_when_no_other_has_the_record() {
    let broker = Broker::new(Arc::new(SimClock::default()), SinkLimits::default(), Prefixing::Refused, OwnFiles::default());
    let lagging = Scripted::hanging(Pace::Lagging);
    let submitted = Arc::clone(&lagging.submitted);
    scripted(&broker, "lagging/", lagging);
    scripted(&broker, "good/", Scripted::taking());
    broker.log(&Record::default()).await.unwrap();
    assert_eq!(submitted.load(Ordering::Relaxed), 1, "its log will be complete when it is back");
    // Alone it decides again: nothing goes on without a record.
    broker.disable("good/").await.unwrap();
    scripted(&broker, "bad/", Scripted::refusing());
    assert!(now(&mut Box::pin(broker.log(&Record::default()))).await.is_pending());
}

#[tokio::test]
async fn a_device_that_hangs_is_never_waited_for() {
    let broker = Broker::new(Arc::new(SimClock::default()), SinkLimits::default(), Prefixing::Refused, OwnFiles::default());
    let hung = Scripted::hanging(Pace::Stalled);
    let submitted = Arc::clone(&hung.submitted);
    scripted(&broker, "hung/", hung);
    let refused = |result: Result<(), AuditFailed>| result.unwrap_err().to_string();
    let hangs = "hung/ it hangs: a line has been waiting for longer than 5s";
    assert_eq!(refused(broker.log(&Record::default()).await), format!("no audit device took the record: {hangs}"));
    assert_eq!(submitted.load(Ordering::Relaxed), 0, "a refused request is not queued");
    scripted(&broker, "bad/", Scripted::refusing());
    let both = format!("no audit device took the record: bad/ the audit device is closed; {hangs}");
    assert_eq!(refused(broker.log(&Record::default()).await), both);
    scripted(&broker, "good/", Scripted::taking());
    broker.log(&Record::default()).await.unwrap();
    assert_eq!(submitted.load(Ordering::Relaxed), 2);
    let health = broker.health();
    assert_eq!((health[2].path.as_str(), health[2].sink.pace), ("hung/", Pace::Stalled));
}

#[tokio::test]
async fn every_device_counts_its_lines_and_files_their_room() {
    let folder = tempfile::tempdir().unwrap();
    let broker = broker();
    enable(&broker, "file/", &folder.path().join("audit.log")).await.unwrap();
    let mut full = config("full/", "/dev/full");
    full.options.insert("skip_test".to_owned(), "true".to_owned());
    broker.install(broker.prepare(full, salt(), SelfTest::Skip).await.unwrap()).unwrap();
    broker.log(&Record::default()).await.unwrap();
    let health = broker.health();
    let (file, full) = (health[0].sink, health[1].sink);
    assert_eq!((file.accepted, file.failed, file.failing, file.queued_lines, file.queued_bytes), (2, 0, false, 0, 0));
    let space = file.space.unwrap();
    assert!(space.free <= space.total && space.total > 0, "{space:?}");
    assert_eq!((full.accepted, full.failed, full.failing, full.space), (0, 1, true, None));
    assert_eq!((health[0].path.as_str(), health[0].device_type.as_str()), ("file/", "file"));
}

#[tokio::test]
async fn a_socket_device_must_reach_its_peer_to_be_enabled_and_gets_lines() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let broker = broker();
    let socket = |address: &str| {
        let options = BTreeMap::from([("address".to_owned(), address.to_owned())]);
        DeviceConfig { device_type: "socket".to_owned(), options, ..config("socket", "") }
    };
    broker.install(broker.prepare(socket(&address), salt(), SelfTest::Record("test-id")).await.unwrap()).unwrap();
    broker.log(&Record { error: "first", ..Record::default() }).await.unwrap();
    assert!(broker.close().await.is_empty());
    drop(broker.disable("socket").await);
    let text = std::io::read_to_string(listener.accept().unwrap().0).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["request"]["id"], &lines[1]["error"]), (2, &"test-id".into(), &"first".into()));
    drop(listener);
    let error = broker.prepare(socket(&address), salt(), SelfTest::Record("test-id")).await.err().unwrap().to_string();
    let start = format!("audit backend failed test message: the line was not written: no connection to {address:?}: ");
    assert!(error.starts_with(&start), "{error}");
}

#[tokio::test]
async fn a_log_that_is_moved_away_goes_on_in_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let broker = broker();
    enable(&broker, "file/", &path).await.unwrap();
    std::fs::rename(&path, &moved).unwrap();
    assert!(broker.reopen().await.is_empty());
    assert!(path.exists(), "SIGHUP makes the new file at once");
    broker.log(&Record { error: "new", ..Record::default() }).await.unwrap();
    assert_eq!((lines(&moved).len(), lines(&path).len()), (1, 1));
    assert!(broker.close().await.is_empty());
    assert!(broker.log(&Record::default()).await.is_err(), "closed fails closed");
}

#[tokio::test]
async fn a_known_value_can_be_looked_for() {
    let broker = broker();
    enable(&broker, "file", Path::new("discard")).await.unwrap();
    assert_eq!(broker.hash("file", "hello").unwrap(), salt().hash("hello"));
    assert_eq!(broker.hash("file/", "hello").unwrap(), salt().hash("hello"));
    assert_eq!(broker.hash("file", "").unwrap_err().to_string(), "the \"input\" parameter is empty");
    assert_eq!(broker.hash("none", "x").unwrap_err().to_string(), "unknown audit backend \"none/\"");
}

#[tokio::test]
async fn configured_headers_are_followed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let broker = broker();
    enable(&broker, "file/", &path).await.unwrap();
    broker.set_headers(HeaderRules::new(BTreeMap::from([("x-build".to_owned(), crate::HeaderRule { hmac: false })])));
    let headers = vec![("X-Build", "17"), ("User-Agent", "curl")];
    broker
        .log(&Record { request: RequestRecord { headers: Some(&headers), ..RequestRecord::default() }, ..Record::default() })
        .await
        .unwrap();
    assert_eq!(lines(&path)[1]["request"]["headers"], serde_json::json!({"user-agent": ["curl"], "x-build": ["17"]}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_all_get_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let broker = Arc::new(broker());
    enable(&broker, "file/", &path).await.unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|task| {
            let broker = Arc::clone(&broker);
            tokio::spawn(async move {
                for round in 0..20 {
                    let id = format!("{task}-{round}");
                    broker
                        .log(&Record { request: RequestRecord { id: &id, ..RequestRecord::default() }, ..Record::default() })
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let ids: std::collections::BTreeSet<String> =
        lines(&path).iter().map(|line| line["request"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1001);
}

/// Story: a device could be enabled on the server's own key file. Lines of JSON stood behind the key, and the server did not start any more.
#[tokio::test]
async fn no_device_writes_to_a_file_of_the_servers_own() {
    let folder = tempfile::tempdir().unwrap();
    let own = |name: &str, what, harm| OwnFile { path: folder.path().join(name), what, harm };
    let files = OwnFiles::new(vec![own("key", "seal key", Harm::Fatal), own("log", "log file", Harm::Mixed)]);
    let broker = Broker::new(Arc::new(SystemClock::new()), SinkLimits::default(), Prefixing::Refused, files);
    std::fs::write(folder.path().join("key"), "secret").unwrap();
    std::fs::hard_link(folder.path().join("key"), folder.path().join("audit.log")).unwrap();
    let at = |name: &str| config("a/", folder.path().join(name).to_str().unwrap());
    let prepared = |name: &str, test| broker.prepare(at(name), salt(), test);
    for name in ["key", "audit.log", "log"] {
        let refused = prepared(name, SelfTest::Record("id")).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains("of this server") && refused.ends_with("a file of its own: invalid configuration"), "{refused}");
    }
    // Of those that were enabled before, only what would destroy the server is left out.
    assert!(prepared("audit.log", SelfTest::Skip).await.is_err());
    assert!(prepared("log", SelfTest::Skip).await.is_ok());
    assert_eq!(std::fs::read_to_string(folder.path().join("key")).unwrap(), "secret");
}
