//! Over real sockets: the endpoints outside the AWS APIs, limits, and bytes that are no HTTP.

use daypass_base::sim::{SeededEntropy, SimClock};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::cloud::tests::field;
use crate::sigv4::tests::Signer;

struct Served {
    running: Running,
    clock: SimClock,
}

impl Served {
    async fn new() -> Self {
        let clock = SimClock::default();
        let options = Options { allow_short_sessions: true, ..Options::default() };
        let running = start(options, Arc::new(clock.clone()), Arc::new(SeededEntropy::new(9))).await.unwrap();
        Self { running, clock }
    }

    /// Sends bytes, closes the sending side, and gives back all that comes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.running.address()).await.unwrap();
        // The server may answer and close before it has read everything.
        let _sent = stream.write_all(bytes).await.is_ok();
        let mut answer = Vec::new();
        let _closed = stream.read_to_end(&mut answer).await.is_ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Status and body.
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let headers: String = headers.iter().flat_map(|(name, value)| [*name, ": ", *value, "\r\n"]).collect();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:4566\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        let answer = self.raw(text.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), body.to_owned())
    }

    fn variable(&self, name: &str) -> String {
        self.running.environment().into_iter().find(|(found, _)| found == name).unwrap().1
    }

    async fn container(&self) -> Value {
        let path = self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").replace(&self.running.url(), "");
        let token = self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        let (status, body) = self.send("GET", &path, &[("Authorization", &token)], "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn control(&self, order: &Value) -> (u16, String) {
        self.send("POST", "/_sandbox/control", &[("Content-Type", "application/json")], &order.to_string()).await
    }

    async fn who(&self, credential: &Value, token: &str) -> (u16, String) {
        let text = |name: &str| credential[name].as_str().unwrap();
        let signer = Signer::new(text("AccessKeyId"), text("SecretAccessKey"), Some(text(token)), "sts");
        let request = signer.post("Action=GetCallerIdentity&Version=2011-06-15", None, self.clock.now());
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .filter(|(name, _)| *name != "host")
            .collect();
        self.send("POST", "/", &headers, std::str::from_utf8(&request.body).unwrap()).await
    }
}

#[tokio::test]
async fn container_credentials_are_signed_with_and_renewed_at_half_life() {
    let served = Served::new().await;
    let first = served.container().await;
    assert_eq!(
        (first["RoleArn"].as_str(), first["Expiration"].as_str()),
        (Some("arn:aws:iam::999999999999:role/jenkins-task"), Some("2026-01-02T03:19:05Z"))
    );
    let (status, body) = served.who(&first, "Token").await;
    assert_eq!(status, 200, "{body}");
    assert!(field(&body, "Arn").starts_with("arn:aws:sts::999999999999:assumed-role/jenkins-task/"));
    served.clock.advance(Duration::from_secs(449));
    assert_eq!(served.container().await, first);
    served.clock.advance(Duration::from_secs(1));
    assert_ne!(served.container().await, first);
    served.running.control().set_endpoint_lifetime(Duration::from_secs(3));
    assert_eq!(served.container().await["Expiration"], "2026-01-02T03:11:38Z");
    served.running.stop().await;
}

#[tokio::test]
async fn container_endpoint_wants_its_path_and_token() {
    let served = Served::new().await;
    let path = served.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").replace(&served.running.url(), "");
    assert_eq!(served.send("GET", &path, &[], "").await.0, 401);
    assert_eq!(served.send("GET", &path, &[("Authorization", "x")], "").await.0, 401);
    assert_eq!(served.send("GET", "/v2/credentials/x", &[], "").await.0, 404);
    assert_eq!(served.send("POST", &path, &[], "").await.0, 405);
}

#[tokio::test]
async fn instance_metadata_wants_a_token_first() {
    let served = Served::new().await;
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds";
    assert_eq!(served.send("GET", "/latest/meta-data/iam/security-credentials/", &[], "").await.0, 401);
    for (headers, status) in
        [(vec![], 400), (vec![(ttl, "0")], 400), (vec![(ttl, "21601")], 400), (vec![(ttl, "60"), ("X-Forwarded-For", "1.1.1.1")], 403)]
    {
        assert_eq!(served.send("PUT", "/latest/api/token", &headers, "").await.0, status);
    }
    let (status, token) = served.send("PUT", "/latest/api/token", &[(ttl, "60")], "").await;
    assert_eq!(status, 200);
    let with = [("X-aws-ec2-metadata-token", token.as_str())];
    assert_eq!(served.send("GET", "/latest/meta-data/iam/security-credentials/", &with, "").await, (200, "jenkins-task".to_owned()));
    assert_eq!(served.send("GET", "/latest/meta-data/placement/region", &with, "").await, (200, "us-east-1".to_owned()));
    let (_, document) = served.send("GET", "/latest/dynamic/instance-identity/document", &with, "").await;
    assert_eq!(serde_json::from_str::<Value>(&document).unwrap()["accountId"], "999999999999");
    assert!(served.send("GET", "/latest/meta-data/iam/info", &with, "").await.1.contains("instance-profile/jenkins-task"));
    let (_, credential) = served.send("GET", "/latest/meta-data/iam/security-credentials/jenkins-task", &with, "").await;
    let credential: Value = serde_json::from_str(&credential).unwrap();
    assert_eq!((credential["Code"].as_str(), served.who(&credential, "Token").await.0), (Some("Success"), 200));
    assert_eq!(served.send("GET", "/latest/meta-data/iam/security-credentials/other", &with, "").await.0, 404);
    served.clock.advance(Duration::from_mins(1));
    assert_eq!(served.send("GET", "/latest/meta-data/instance-id", &with, "").await.0, 401);
}

#[tokio::test]
async fn control_and_calls_work_over_http() {
    let served = Served::new().await;
    assert_eq!(served.send("GET", "/_sandbox/health", &[], "").await.0, 200);
    let credential = served.container().await;
    let (status, body) =
        served.control(&json!({"rules": [{"service": "sts", "effect": "throttle", "times": 1}, {"effect": "drop", "times": 1}]})).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(served.who(&credential, "Token").await.0, 400);
    assert_eq!(served.who(&credential, "Token").await.0, 0);
    assert_eq!(served.who(&credential, "Token").await.0, 200);
    let calls: Value = serde_json::from_str(&served.send("GET", "/_sandbox/calls", &[], "").await.1).unwrap();
    assert_eq!((calls["calls"][0]["error"].as_str(), calls["calls"][1]["error"].as_str()), (Some("Throttling"), None));
    for (order, part) in [
        (json!({"rulez": []}), "unknown field"),
        (json!({"rules": [{"effect": "explode"}]}), "unknown variant"),
        (json!({"rules": [{"effect": "drop", "rate": 2}]}), "rate must be"),
        (json!({"rules": [{"effect": "drop", "times": 0}]}), "times must be"),
        (json!({"provider": {"account": "1", "url": "https://x", "audiences": [], "jwks": {"keys": []}}}), "not in this world"),
        (json!({"provider": {"account": "111111111111", "url": "x", "audiences": [], "jwks": {"keys": []}}}), "must begin with https://"),
    ] {
        let (status, body) = served.control(&order).await;
        assert!(status == 400 && body.contains(part), "{body}");
    }
    let (status, _) = served.control(&json!({"clear": true, "forget_calls": true, "limit_sessions": 5, "endpoint_lifetime": 30, "key_delay": 1, "provider": {"account": "111111111111", "url": "https://x", "audiences": ["a"], "jwks": {"keys": []}}})).await;
    assert_eq!((status, served.running.control().calls().len()), (200, 0));
    assert_eq!(served.send("POST", "/_sandbox/control", &[("Content-Type", "text/plain")], "{}").await.0, 415);
    assert_eq!(served.send("GET", "/_sandbox/x", &[], "").await.0, 404);
}

#[tokio::test]
async fn bodies_and_parameters_have_limits() {
    let served = Served::new().await;
    assert_eq!(served.send("POST", "/", &[], &"x".repeat(BODY_BYTES_MAX + 1)).await.0, 413);
    let (status, body) = served.send("POST", "/", &[], &"a=b&".repeat(2000)).await;
    assert!(status == 400 && body.contains("more than 1024 parameters"), "{status} {body}");
    let (status, body) = served.send("POST", "/", &[], "Action=%zz").await;
    assert!(status == 400 && body.contains("MalformedQueryString"), "{body}");
}

#[tokio::test]
async fn bytes_of_any_kind_do_not_bring_it_down() {
    let served = Served::new().await;
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(77));
    for round in 0..100_u64 {
        let mut bytes = match round % 4 {
            0 => Vec::new(),
            1 => b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 64\r\n\r\n".to_vec(),
            2 => b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: AWS4-HMAC-SHA256 ".to_vec(),
            _ => b"GET /?".to_vec(),
        };
        bytes.extend(entropy.bytes::<64>());
        bytes.extend_from_slice(b"\r\n\r\n");
        let mut stream = TcpStream::connect(served.running.address()).await.unwrap();
        let _sent = stream.write_all(&bytes).await.is_ok();
        let _closed = stream.shutdown().await.is_ok();
        let mut answer = Vec::new();
        let _ended = stream.read_to_end(&mut answer).await.is_ok();
    }
    assert_eq!(served.send("GET", "/_sandbox/health", &[], "").await.0, 200);
}

#[tokio::test]
async fn addresses_and_bad_worlds_are_told() {
    let served = Served::new().await;
    assert_eq!(served.variable("AWS_ENDPOINT_URL"), format!("http://127.0.0.1:{}", served.running.address().port()));
    let taken = Options { listen: served.running.address(), ..Options::default() };
    let error = start(taken, Arc::new(SimClock::default()), Arc::new(SeededEntropy::new(1))).await.err().unwrap();
    assert!(error.to_string().contains("cannot listen on 127.0.0.1"), "{error}");
    let anywhere = Options {
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        world: World::default().in_region("eu-west-1"),
        ..Options::default()
    };
    let running = start(anywhere, Arc::new(SimClock::default()), Arc::new(SeededEntropy::new(1))).await.unwrap();
    assert!(running.url().starts_with("http://127.0.0.1:"));
    assert!(running.environment().contains(&("AWS_REGION".to_owned(), "eu-west-1".to_owned())));
    running.stop().await;
}
