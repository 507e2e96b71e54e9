//! The client against a scripted server: what it sends, what it tries again, and how it words what went wrong.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use daypass_base::sim::SeededEntropy;
use daypass_base::{BoxFuture, Timestamp};

use super::*;

/// Short waits pass at once and are remembered; long ones, the deadlines, never pass.
#[derive(Clone, Default)]
struct Rush(Arc<Mutex<Vec<Duration>>>);

impl Clock for Rush {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(0)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration >= Duration::from_secs(10) {
            return Box::pin(std::future::pending());
        }
        self.0.lock().unwrap().push(duration);
        Box::pin(std::future::ready(()))
    }
}

/// Answers connections one after the other, each request with the next answer; an empty answer closes the connection.
fn serve(answers: Vec<String>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        'connections: for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            loop {
                let Some(request) = read_request(&mut stream) else { continue 'connections };
                let _test_over = sender.send(request);
                match answers.next() {
                    None => return,
                    Some(answer) if answer.is_empty() => continue 'connections,
                    Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
                }
            }
        }
    });
    (address, receiver)
}

fn read_request(stream: &mut std::net::TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Some(head + &String::from_utf8(body).unwrap())
}

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn config(address: &str) -> Config {
    Config {
        address: Address::parse(address).unwrap(),
        token: Some(Secret::from("root")),
        namespace: None,
        wrap_ttl: None,
        headers: HeaderMap::new(),
        tls: tls::Tls::default(),
        proxy: Proxy::default(),
        timeout: Duration::from_mins(1),
        retries_max: 2,
        follow: Follow::Once,
        instead: None,
        program: "daypass".to_owned(),
    }
}

fn client(config: Config) -> (Client, Rush) {
    let clock = Rush::default();
    (Client::new(config, Arc::new(clock.clone()), Arc::new(SeededEntropy::new(1))).unwrap(), clock)
}

#[test]
fn requests_carry_what_vault_wants() {
    let (address, requests) = serve(vec![answer(204, ""), answer(200, r#"{"data":{"keys":["a"]}}"#)]);
    let (client, _) = client(Config { namespace: Some("ns/".into()), wrap_ttl: Some("5m0s".into()), ..config(&address) });
    assert!(client.write("kv1/a b", Some(Value::map([("k", Value::text("v"))]))).unwrap().is_none());
    let sent = requests.recv().unwrap();
    assert!(sent.starts_with("put /v1/kv1/a%20b http/1.1\r\n"), "{sent}");
    for line in ["x-vault-request: true", "x-vault-token: root", "x-vault-namespace: ns/", "x-vault-wrap-ttl: 5m0s", "content-length: 9"] {
        assert!(sent.contains(&format!("{line}\r\n")), "{line} in {sent}");
    }
    assert!(sent.ends_with("{\"k\":\"v\"}"), "{sent}");
    assert!(!sent.contains("content-type"), "{sent}");
    // The second request goes over the same connection.
    assert_eq!(client.list("kv1").unwrap().unwrap().data().unwrap().texts_at("keys"), ["a"]);
    assert!(requests.recv().unwrap().starts_with("get /v1/kv1?list=true http/1.1\r\n"));
}

#[test]
fn server_errors_are_tried_three_times_with_growing_waits() {
    let (address, requests) = serve(vec![answer(503, "{}"), answer(429, "{}"), answer(200, r#"{"data":{"a":1}}"#)]);
    let (client, clock) = client(config(&address));
    assert_eq!(client.read("a", &[]).unwrap().unwrap().data().unwrap().get("a").unwrap().go(), "1");
    assert_eq!(requests.try_iter().count(), 3);
    let waits = clock.0.lock().unwrap();
    assert!(waits[0] >= Duration::from_secs(1) && waits[0] < Duration::from_millis(1500), "{waits:?}");
    assert!(waits[1] >= Duration::from_secs(2) && waits[1] < Duration::from_secs(3), "{waits:?}");
}

#[test]
fn not_implemented_and_refusals_are_not_tried_again() {
    for status in [400, 403, 404, 501] {
        let (address, requests) = serve(vec![answer(status, r#"{"errors":["no"]}"#)]);
        let (client, _) = client(config(&address));
        assert_eq!(client.write("a", None).unwrap_err().status(), Some(status));
        assert_eq!(requests.try_iter().count(), 1);
    }
}

#[test]
fn a_connection_that_died_idle_is_replaced() {
    let (address, requests) = serve(vec![answer(204, ""), String::new(), answer(204, "")]);
    let (client, clock) = client(config(&address));
    client.write("a", None).unwrap();
    client.write("b", None).unwrap();
    assert_eq!(requests.try_iter().count(), 3);
    assert!(clock.0.lock().unwrap().is_empty(), "no wait was needed");
}

#[test]
fn errors_are_worded_as_gos_client_words_them() {
    let (address, _requests) = serve(vec![answer(403, r#"{"errors":["permission denied"]}"#), answer(400, "plain text")]);
    let (client, _) = client(config(&address));
    let text = client.read("secret/x", &[]).unwrap_err().to_string();
    assert_eq!(text, format!("Error making API request.\n\nURL: GET {address}/v1/secret/x\nCode: 403. Errors:\n\n* permission denied"));
    let text = client.write("secret/x", None).unwrap_err().to_string();
    assert!(text.ends_with("Code: 400. Raw Message:\n\nplain text"), "{text}");
}

#[test]
fn nothing_found_is_no_error_but_a_deleted_version_is_shown() {
    let deleted = r#"{"data":{"data":null,"metadata":{"version":1}}}"#;
    let (address, _requests) = serve(vec![answer(404, r#"{"errors":[]}"#), answer(404, deleted), answer(404, "")]);
    let (client, _) = client(config(&address));
    assert!(client.read("a", &[]).unwrap().is_none());
    assert!(client.read("a", &[]).unwrap().is_some());
    assert!(client.read("a", &[]).unwrap().is_none());
}

#[test]
fn one_redirect_is_followed_with_method_and_body() {
    let (target, received) = serve(vec![answer(204, "")]);
    let moved = format!("HTTP/1.1 307 X\r\nLocation: {target}/v1/a?x=1\r\nContent-Length: 0\r\n\r\n");
    let (address, _requests) = serve(vec![moved.clone()]);
    let (follower, _) = client(config(&address));
    follower.write("a", Some(Value::map([("k", Value::text("v"))]))).unwrap();
    let sent = received.recv().unwrap();
    assert!(sent.starts_with("put /v1/a?x=1 ") && sent.ends_with("{\"k\":\"v\"}"), "{sent}");
    let (address, _requests) = serve(vec![moved]);
    let (stayer, _) = client(Config { follow: Follow::Never, ..config(&address) });
    assert_eq!(stayer.exchange(&Call::new(Method::PUT, "a")).unwrap().status, 307);
}

#[test]
fn a_redirect_out_of_tls_is_refused() {
    let from = Address::parse("https://a:8200").unwrap();
    assert_eq!(redirected(&from, "http://b/v1/x").unwrap_err().text, "http: redirect would cause protocol downgrade");
    assert_eq!(redirected(&from, "/v1/y?z").unwrap().1, "/v1/y?z");
}

#[test]
fn a_refused_connection_comes_with_a_hint() {
    let (client, _) = client(Config { retries_max: 0, ..config("http://127.0.0.1:1") });
    let error = client.read("a", &[]).unwrap_err();
    assert_eq!(error.to_string(), "Get \"http://127.0.0.1:1/v1/a\": dial tcp 127.0.0.1:1: connect: connection refused");
    assert!(error.hint().unwrap().contains("VAULT_ADDR"));
}

#[test]
fn tls_to_a_plain_server_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let mut hello = [0; 4096];
        let _client_hello = stream.read(&mut hello);
    });
    let tls = tls::Tls { skip_verify: true, ..tls::Tls::default() };
    let (client, clock) = client(Config { tls, ..config(&address) });
    let error = client.read("a", &[]).unwrap_err();
    assert!(error.to_string().ends_with("http: server gave HTTP response to HTTPS client"), "{error}");
    assert_eq!(error.hint().unwrap(), format!("this server speaks plain HTTP: export VAULT_ADDR={}", address.replace("https", "http")));
    assert!(clock.0.lock().unwrap().is_empty(), "trying again would not help");
    server.join().unwrap();
}

#[test]
fn a_token_that_no_header_can_carry_is_not_shown() {
    let (address, _requests) = serve(vec![]);
    let (client, _) = client(Config { token: Some(Secret::from("s3cret\ntoken")), retries_max: 0, ..config(&address) });
    let text = client.read("a", &[]).unwrap_err().to_string();
    assert!(text.contains("the token contains characters") && !text.contains("s3cret"), "{text}");
}

#[test]
fn plain_http_goes_through_a_proxy_with_the_whole_url() {
    let (proxy, requests) = serve(vec![answer(204, "")]);
    let always = Proxy { always: Some(proxy.replace("http://", "http://u:p@")), ..Proxy::default() };
    let (client, _) = client(Config { proxy: always, ..config("http://vault.invalid:8200") });
    client.write("a", None).unwrap();
    let sent = requests.recv().unwrap();
    assert!(sent.starts_with("put http://vault.invalid:8200/v1/a http/1.1\r\n"), "{sent}");
    assert!(sent.contains("host: vault.invalid:8200\r\n") && sent.contains("proxy-authorization: basic dtpw"), "{sent}");
}

#[test]
fn tls_goes_through_a_proxy_by_connect() {
    let refusal = "HTTP/1.1 407 X\r\nContent-Length: 0\r\n\r\n".to_owned();
    let (proxy, requests) = serve(vec![refusal]);
    let (client, _) =
        client(Config { proxy: Proxy { https: Some(proxy), ..Proxy::default() }, retries_max: 0, ..config("https://vault.invalid") });
    let text = client.write("a", None).unwrap_err().to_string();
    assert!(text.contains("CONNECT answered 407"), "{text}");
    assert!(requests.recv().unwrap().starts_with("connect vault.invalid:443 http/1.1\r\n"));
}

#[test]
fn curl_and_policy_texts_keep_the_token_out() {
    let make = |instead| client(Config { instead: Some(instead), ..config("http://h:1") }).0;
    let body = Value::map([("b", Value::text("it's"))]);
    let Err(Error::Instead(text)) = make(Instead::Curl).write("kv/a", Some(body)) else { panic!("it was sent") };
    let wanted =
        r#"curl -X PUT -H "X-Vault-Request: true" -H "X-Vault-Token: $(daypass print token)" -d '{"b":"it'"'"'s"}' "http://h:1/v1/kv/a""#;
    assert_eq!(text, wanted);
    let Err(Error::Instead(text)) = make(Instead::Policy).delete("sys/audit/file", &[]) else { panic!("it was sent") };
    assert_eq!(text, "path \"sys/audit/file\" {\n  capabilities = [\"delete\", \"sudo\"]\n}");
}

#[test]
fn an_endless_answer_is_cut_off() {
    let endless = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", BODY_BYTES_MAX * 2) + &"x".repeat(BODY_BYTES_MAX + 1);
    let (address, _requests) = serve(vec![endless]);
    let (client, _) = client(Config { retries_max: 0, ..config(&address) });
    assert!(client.read("a", &[]).unwrap_err().to_string().contains("reading the answer"));
}

/// Story: after a snapshot had come in, its verification (ten seconds a gigabyte) did not hear Ctrl-C: the handler of the transfer was still in force.
#[test]
fn work_that_takes_long_ends_with_ctrl_c_also_after_a_transfer() {
    let (client, _) = client(config("http://127.0.0.1:1"));
    // As after a transfer: from here on the signal no longer ends the process.
    client.runtime.block_on(async { drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).unwrap()) });
    assert_eq!(client.unless_interrupted(|| 7), Some(7));
    let (interrupted, is_interrupted) = channel::<()>();
    let never = move || {
        // Again and again, since the listener may not be there yet.
        while is_interrupted.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT).unwrap();
            std::thread::yield_now();
        }
    };
    assert_eq!(client.unless_interrupted(never), None);
    drop(interrupted);
}

/// Story: a command that had ended left `daypass run` waiting for the name of a server that no resolver answered for: the next credential had been asked for.
#[test]
fn the_end_waits_for_no_name_that_is_still_looked_up() {
    let (client, _) = client(config("http://127.0.0.1:1"));
    let ((begin, begun), (end, ending), (tell, told)) = (channel(), channel(), channel());
    let looking_up = move || {
        begin.send(()).unwrap();
        tell.send(ending.recv_timeout(Duration::from_secs(20)).is_ok()).unwrap();
    };
    client.work(async { drop(tokio::task::spawn_blocking(looking_up)) });
    begun.recv().unwrap();
    drop(client);
    end.send(()).unwrap();
    assert!(told.recv().unwrap(), "the client's end came before that of the look-up");
}

/// Remembers every wait; none passes.
#[derive(Default)]
struct Still(Mutex<Vec<Duration>>);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(0)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.lock().unwrap().push(duration);
        Box::pin(std::future::pending())
    }
}

/// Story: a server that takes longer than a minute to write its state beside its store was never given the time, and each try began from nothing.
#[test]
fn an_answer_that_begins_late_is_waited_for_as_long_as_its_verb_says() {
    let (address, _requests) = serve(vec![answer(200, "all of it")]);
    let clock = Arc::new(Still::default());
    let config = Config { timeout: Duration::from_secs(5), ..config(&address) };
    let client = Client::new(config, Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(SeededEntropy::new(1))).unwrap();
    let mut taken = Vec::new();
    let followed = client.follow(&Call::get("sys/storage/raft/snapshot"), Duration::from_hours(1), async |piece: &[u8]| {
        taken.extend_from_slice(piece);
        true
    });
    assert_eq!((followed.unwrap(), taken.as_slice()), (Followed::ToItsEnd, &b"all of it"[..]));
    // For the answer, and for the connection, which takes no longer than that of any other verb.
    assert_eq!(*clock.0.lock().unwrap(), [Duration::from_hours(1), Duration::from_secs(5)]);
}
