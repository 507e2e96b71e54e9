//! The server's own sessions by web identity, where the first STS endpoint hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_base::{BoxFuture, Clock, Secret, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{STAGING, call};
use crate::live::{LiveAws, Settings};
use crate::{Aws, ErrorKind, StsEndpoint, Target, WebIdentity, WebTokens};

struct Tokens;

impl WebTokens for Tokens {
    fn token(&self) -> BoxFuture<'_, Result<Secret<String>, String>> {
        Box::pin(std::future::ready(Ok(Secret::from("a.b.c"))))
    }
}

/// An STS that gives sessions, and which of them it knows: those from this one on.
#[derive(Default)]
struct Sts {
    sessions: AtomicUsize,
    good_from: AtomicUsize,
}

impl Sts {
    async fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sts = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let sts = Arc::clone(&sts);
                tokio::spawn(async move {
                    while let Some(request) = read(&mut stream).await {
                        stream.write_all(sts.answer(&request).as_bytes()).await.unwrap();
                    }
                });
            }
        });
        url
    }

    fn answer(&self, request: &str) -> String {
        let (status, body) = if request.contains("Action=AssumeRoleWithWebIdentity") {
            let number = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
            let keys =
                format!("<AccessKeyId>ASIAOWN{number}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>");
            let credentials = format!("<Credentials>{keys}<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>");
            let user = "<AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/a/b</Arn><AssumedRoleId>A:b</AssumedRoleId></AssumedRoleUser>";
            let result = format!("<AssumeRoleWithWebIdentityResult>{credentials}{user}</AssumeRoleWithWebIdentityResult>");
            ("200 OK", format!("<AssumeRoleWithWebIdentityResponse>{result}</AssumeRoleWithWebIdentityResponse>"))
        } else if (self.good_from.load(Ordering::Relaxed)..10).any(|number| request.contains(&format!("Credential=ASIAOWN{number}/"))) {
            let result =
                "<GetCallerIdentityResult><Arn>arn:aws:iam::1:user/a</Arn><UserId>U</UserId><Account>1</Account></GetCallerIdentityResult>";
            ("200 OK", format!("<GetCallerIdentityResponse>{result}</GetCallerIdentityResponse>"))
        } else {
            let error = "<Error><Code>AccessDenied</Code><Message>with an explicit deny</Message></Error>";
            ("403 Forbidden", format!("<ErrorResponse>{error}</ErrorResponse>"))
        };
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}

/// A request; `None` when the client has closed.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut part = [0; 4096];
        let size = stream.read(&mut part).await.ok().filter(|size| *size > 0)?;
        text.push_str(std::str::from_utf8(&part[..size]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_ascii_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse::<usize>().unwrap();
            if body.len() >= length {
                return Some(text);
            }
        }
    }
}

/// Story: the server's session was ended by a policy while the first STS endpoint hung. Another one was asked for there first, for ten seconds, of which whoever
/// was refused waits three: each mint failed until the session's own end, an hour or twelve, although the second endpoint answered all the time.
#[tokio::test]
async fn a_session_that_a_policy_ended_is_replaced_where_an_endpoint_answers() {
    let clock = SimClock::at(SystemClock::new().now());
    // Nobody takes what arrives there.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sts = Arc::new(Sts::default());
    let urls = [format!("http://{}", hanging.local_addr().unwrap()), sts.start().await];
    let settings = Settings { region: Some("us-east-1".to_owned()), ..Settings::default() };
    let aws = LiveAws::drawing(Arc::new(clock.clone()), Arc::new(SeededEntropy::new(7)), settings);
    let (role_arn, session_name) = (STAGING.to_owned(), "daypass".to_owned());
    let target = Target {
        sts_endpoints: urls.map(|url| StsEndpoint { url, region: None }).into(),
        web_identity: Some(WebIdentity { role_arn, session_name, name: "a".to_owned(), tokens: Arc::new(Tokens) }),
        max_retries: Some(0),
        ..Target::default()
    };
    clock.while_passing(aws.get_caller_identity(call(&target))).await.unwrap();
    clock.advance(Duration::from_mins(1));
    sts.good_from.store(2, Ordering::Relaxed);
    let began = clock.elapsed();
    clock.while_passing(aws.get_caller_identity(call(&target))).await.unwrap();
    assert_eq!(sts.sessions.load(Ordering::Relaxed), 2);
    let took = clock.elapsed().saturating_sub(began);
    assert!(took < Duration::from_secs(3), "{took:?}");
    // What it is refused for otherwise costs no session each time.
    sts.good_from.store(9, Ordering::Relaxed);
    let refused = clock.while_passing(aws.get_caller_identity(call(&target))).await.unwrap_err();
    assert_eq!((refused.kind, sts.sessions.load(Ordering::Relaxed)), (ErrorKind::Denied, 2));
}
