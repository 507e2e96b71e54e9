//! `login -method=oidc`: a person logs in on the provider's page, whose answer comes to a listener here.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Clock, Entropy, SystemClock, SystemEntropy};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cli::loopback::{self, Caller, Patience};
use crate::cli::{Failure, clean_path};
use crate::client::answer::Answer;
use crate::client::{Call, Client};
use crate::show;
use crate::show::value::Value;

/// How long the provider's page may take: servers forget the login after that.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// How long one connection may take, with a head or without: browsers connect ahead of what they ask for.
const CONNECTION_MAX: Duration = Duration::from_secs(5);
const PATIENCE: Patience = Patience { head: CONNECTION_MAX, whole: CONNECTION_MAX };
/// Connections at one time.
const CONNECTIONS_MAX: usize = 16;
/// Longest form that a provider posts, in bytes.
const FORM_BYTES_MAX: usize = 128 * 1024;
const CALLBACK: &str = "/oidc/callback";
const PAGE: &str = "<!DOCTYPE html><title>Login</title><p>The answer has arrived. Go back to your terminal; this window can be closed.</p>";

/// What a login needs to know.
struct Wanted {
    role: String,
    listen: String,
    redirect_uri: String,
    skip_browser: bool,
}

/// What the provider sent.
struct Came {
    fields: BTreeMap<String, String>,
    posted: bool,
}

/// Logs a person in. `given` are the arguments of the command line, as Vault's has them.
pub(super) fn log_in(client: &Client, mount: &str, given: &Value) -> Result<Answer, Failure> {
    let wanted = Wanted::of(given);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failure(&error.to_string()))?;
    let listener = runtime.block_on(TcpListener::bind(&wanted.listen)).map_err(|error| {
        failure(&format!("cannot listen on {}: {error}", wanted.listen))
            .hint("port=N takes another port; the role must allow its redirect URI")
    })?;
    let entropy: &dyn Entropy = &SystemEntropy;
    let nonce = entropy.base62(40);
    let begin = Value::map([
        ("role", Value::text(&*wanted.role)),
        ("redirect_uri", Value::text(&*wanted.redirect_uri)),
        ("client_nonce", Value::text(&*nonce)),
    ]);
    let api = format!("auth/{}/oidc", clean_path(mount));
    let call = Call::new(Method::PUT, format!("{api}/auth_url")).body(begin).without_token();
    let answer = client.know(call).map_err(|error| Failure::api("Error authenticating", error))?;
    let url = answer.map(|answer| answer.data().text_at("auth_url").to_owned()).unwrap_or_default();
    if url.is_empty() {
        let (role, uri) = (&wanted.role, &wanted.redirect_uri);
        let text = format!("Unable to authorize role {role:?} with redirect_uri {uri:?}. Check Vault logs for more information.");
        return Err(failure(&text).hint("allowed_redirect_uris of the role must have this redirect_uri"));
    }
    let browser = if wanted.skip_browser { None } else { open(&url) };
    let how = if browser.is_some() { "Launching browser to:" } else { "Open the following link in your browser:" };
    show::note(&format!(
        "Complete the login via your OIDC provider. {how}\n\n    {url}\n\n\nWaiting for OIDC authentication to complete...\n"
    ));
    let came = runtime.block_on(wait(listener)).ok_or_else(|| failure("no answer came within five minutes"))?;
    if let Some(mut browser) = browser {
        // Gone by now, or the person's own.
        let _ended_or_not = browser.try_wait();
    }
    finish(client, &api, &came, &nonce)
}

fn finish(client: &Client, api: &str, came: &Came, nonce: &str) -> Result<Answer, Failure> {
    let field = |name: &str| came.fields.get(name).map(String::as_str).unwrap_or_default();
    if !field("error").is_empty() {
        let plain: String =
            format!("{} {}", field("error"), field("error_description")).chars().filter(|c| !c.is_control()).take(400).collect();
        return Err(failure(&format!("the provider says: {}", plain.trim_end())));
    }
    let path = format!("{api}/callback");
    let mut call = Call::new(Method::GET, path.clone()).query("state", field("state")).query("client_nonce", nonce).without_token();
    if came.posted {
        let body = ["state", "code", "id_token"].map(|name| (name, Value::text(field(name))));
        let post = Call::new(Method::POST, path).body(Value::map(body)).without_token();
        client.call(&post).map_err(|error| Failure::api("Error authenticating", error))?;
    } else {
        call = call.query("code", field("code"));
    }
    let answer = client.ask(&call).map_err(|error| Failure::api("Error authenticating", error))?;
    answer.ok_or_else(|| failure("Vault returned no token"))
}

impl Wanted {
    fn of(given: &Value) -> Self {
        let or =
            |name: &str, usual: &str| given.get(name).and_then(Value::as_text).filter(|text| !text.is_empty()).unwrap_or(usual).to_owned();
        let port = or("port", "8250");
        let host = or("listenaddress", "localhost");
        let (method, callback_host, callback_port) =
            (or("callbackmethod", "http"), or("callbackhost", "localhost"), or("callbackport", &port));
        Self {
            role: or("role", ""),
            listen: format!("{host}:{port}"),
            redirect_uri: format!("{method}://{callback_host}:{callback_port}{CALLBACK}"),
            skip_browser: matches!(or("skip_browser", "false").as_str(), "true" | "1" | "t" | "T" | "TRUE" | "True"),
        }
    }
}

/// Shows a page in the browser, if there is something to show it.
fn open(url: &str) -> Option<Child> {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return None;
    }
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

/// Waits for the provider's answer; other requests (a browser asks for an icon) are told that nothing is there.
async fn wait(listener: TcpListener) -> Option<Came> {
    let clock = Arc::new(SystemClock::new());
    // Side by side: browsers open connections ahead of what they ask for, and say nothing on them.
    let serve = loopback::until(&listener, &clock, CONNECTIONS_MAX, |caller| serve(caller, Arc::clone(&clock)));
    tokio::select! {
        came = serve => Some(came),
        () = clock.sleep(WAIT_MAX) => None,
    }
}

/// Serves one connection, for a moment only: those that say nothing must not keep the answer out. Ends once its page is sent.
async fn serve(caller: Caller, clock: Arc<SystemClock>) -> Option<Came> {
    let (sender, mut came) = mpsc::channel(1);
    loopback::connection(caller, clock, PATIENCE, move |request| answer(request, sender.clone())).await;
    came.try_recv().ok()
}

async fn answer(request: Request<Incoming>, came: mpsc::Sender<Came>) -> Response<Full<Bytes>> {
    let fields = match (request.uri().path(), request.method()) {
        (CALLBACK, &Method::GET) => Some((parsed(request.uri().query().unwrap_or_default()), false)),
        (CALLBACK, &Method::POST) => {
            let body = Limited::new(request.into_body(), FORM_BYTES_MAX).collect().await;
            body.ok().map(|body| (parsed(&String::from_utf8_lossy(&body.to_bytes())), true))
        }
        _ => None,
    };
    let mut response = Response::new(Full::from(PAGE));
    if let Some((fields, posted)) = fields.filter(|(fields, _)| fields.contains_key("state")) {
        // A second answer has no use.
        let _first_wins = came.try_send(Came { fields, posted });
    } else {
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        *response.body_mut() = Full::default();
    }
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// The fields of a query or a form; of one that stands twice the first counts.
fn parsed(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
        fields.entry(decoded(name)).or_insert_with(|| decoded(value));
    }
    fields
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(*other),
        }
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn failure(why: &str) -> Failure {
    Failure::server(format!("Error authenticating: {why}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn the_arguments_are_vaults() {
        let wanted = Wanted::of(&Value::Map(Vec::new()));
        assert_eq!((wanted.listen.as_str(), wanted.redirect_uri.as_str()), ("localhost:8250", "http://localhost:8250/oidc/callback"));
        let given = [
            ("port", "9000"),
            ("listenaddress", "0.0.0.0"),
            ("callbackhost", "me.example"),
            ("callbackport", "443"),
            ("callbackmethod", "https"),
        ];
        let wanted = Wanted::of(&Value::map(given.map(|(name, value)| (name, Value::text(value)))));
        assert_eq!((wanted.listen.as_str(), wanted.redirect_uri.as_str()), ("0.0.0.0:9000", "https://me.example:443/oidc/callback"));
        assert!(!wanted.skip_browser);
    }

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let fields = parsed("state=a%20b+c&code=x%2Fy&code=z&odd=%zz&lone");
        assert_eq!(
            fields.into_iter().collect::<Vec<_>>(),
            [("code".to_owned(), "x/y".to_owned()), ("odd".to_owned(), "%zz".to_owned()), ("state".to_owned(), "a b c".to_owned()),]
        );
    }

    /// One request to the listener, and the status that came back.
    async fn ask(address: std::net::SocketAddr, request: String) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn connections_that_say_nothing_do_not_hold_the_answer_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = SystemClock::new();
        let waiting = tokio::spawn(wait(listener));
        let mut silent = Vec::new();
        for _ in 1..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let began = clock.elapsed();
        assert_eq!(ask(address, format!("GET {CALLBACK}?state=s&code=c HTTP/1.1\r\nhost: x\r\n\r\n")).await, "200");
        assert_eq!(waiting.await.unwrap().unwrap().fields["code"], "c");
        assert!(clock.elapsed().saturating_sub(began) < CONNECTION_MAX, "it came before any of them was given up");
    }

    #[tokio::test]
    async fn the_first_answer_of_the_provider_counts_and_nothing_else() {
        let form = "state=s&id_token=t";
        let posted = format!("POST {CALLBACK} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{form}", form.len());
        let answers = [(format!("GET {CALLBACK}?state=s&code=c HTTP/1.1\r\nhost: x\r\n\r\n"), "code", false), (posted, "id_token", true)];
        for (request, name, by_post) in answers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let waiting = tokio::spawn(wait(listener));
            for other in ["/favicon.ico", "/oidc/callback", "/oidc/callback?code=c", "/oidc/callback/x?state=s"] {
                assert_eq!(ask(address, format!("GET {other} HTTP/1.1\r\nhost: x\r\n\r\n")).await, "404", "{other}");
            }
            assert_eq!(ask(address, request).await, "200");
            let came = waiting.await.unwrap().unwrap();
            assert_eq!((came.fields["state"].as_str(), came.fields.contains_key(name), came.posted), ("s", true, by_post));
        }
    }
}
