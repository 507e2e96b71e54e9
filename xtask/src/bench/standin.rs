//! An STS that answers every request after the same time with the same credentials: what a mint costs beside waiting.
//!
//! One thread per connection, which sleeps: it hardly works itself, so that it takes little from what is measured.

use super::peer::certificate;
use crate::http;
use crate::process::end_tree;
use crate::project::Project;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Longest header line and body that are read.
const PART_MAX: u64 = 64 * 1024;
/// A thread needs little: it reads, sleeps and writes.
const STACK: usize = 128 * 1024;

/// All that stand for STS while something is measured.
pub(crate) struct StandIns {
    /// Lets wait, as a distant STS does.
    pub(crate) slow: SocketAddr,
    /// Answers at once, over TLS: nginx in front of another.
    pub(crate) tls: SocketAddr,
    /// The certificate to trust there.
    pub(crate) authority: PathBuf,
    nginx: Child,
}

impl StandIns {
    pub(crate) fn start(project: &Project, delay: Duration) -> Result<Self, String> {
        let mut log = project.log("bench/nginx")?;
        let (slow, at_once) = (StandIn::start(delay)?.address, StandIn::start(Duration::ZERO)?.address);
        let tls = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let (authority, key) = certificate(project, &mut log)?;
        let config = project.work.join("bench-nginx.conf");
        let text = nginx(&project.work, (at_once, tls), (&authority, &key));
        std::fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
        let nginx = log.spawn(Command::new("nginx").arg("-c").arg(&config))?;
        let standins = Self { slow, tls, authority, nginx };
        let began = Instant::now();
        while TcpStream::connect(tls).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err(format!("nginx did not listen; see {}", log.path().display()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(standins)
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        end_tree(&mut self.nginx);
    }
}

/// One process that ends what is TLS and hands on the rest; no connection is closed for the number of its requests.
fn nginx(work: &Path, (to, listens): (SocketAddr, SocketAddr), (cert, key): (&Path, &Path)) -> String {
    let (work, cert, key) = (work.display(), cert.display(), key.display());
    let many = "keepalive_requests 1000000000";
    format!(
        "daemon off;\nmaster_process off;\npid {work}/bench-nginx.pid;\nerror_log stderr warn;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {work}/bench-nginx;\n  proxy_temp_path {work}/bench-nginx;\n  \
         fastcgi_temp_path {work}/bench-nginx;\n  uwsgi_temp_path {work}/bench-nginx;\n  scgi_temp_path {work}/bench-nginx;\n  \
         upstream sts {{ server {to}; keepalive 64; {many}; }}\n  \
         server {{\n    listen {listens} ssl;\n    ssl_certificate {cert};\n    ssl_certificate_key {key};\n    \
         ssl_protocols TLSv1.2 TLSv1.3;\n    {many};\n    keepalive_timeout 3600s;\n    \
         location / {{ proxy_pass http://sts; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n  }}\n}}\n"
    )
}

/// Serves until the process ends.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
}

impl StandIn {
    pub(crate) fn start(delay: Duration) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("the stand-in for STS cannot listen: {e}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let answer: Arc<[u8]> = answer()?.into_bytes().into();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                // Without a thread the connection is closed, which the load reports.
                drop(thread::Builder::new().stack_size(STACK).spawn(move || serve(&stream, delay, &answer)));
            }
        });
        Ok(Self { address })
    }
}

fn serve(stream: &TcpStream, delay: Duration, answer: &[u8]) {
    // A delayed answer would be measured as waiting of the server's.
    drop(stream.set_nodelay(true));
    let mut reader = BufReader::new(stream);
    while read_request(&mut reader).is_some() {
        thread::sleep(delay);
        let mut stream = stream;
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// Reads one request to its end; `None` when there is no more.
fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<()> {
    let mut size = 0;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(PART_MAX).read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            size = value.trim().parse().ok().filter(|size| *size <= PART_MAX)?;
        }
    }
    let read = std::io::copy(&mut reader.take(size), &mut std::io::sink()).ok()?;
    (read == size).then_some(())
}

/// Credentials as long as AWS's, which live for an hour.
fn answer() -> Result<String, String> {
    let output = Command::new("date").args(["-u", "-d", "+1 hour", "+%Y-%m-%dT%H:%M:%SZ"]).output();
    let end = output.map_err(|e| format!("date: {e}"))?.stdout;
    let end = String::from_utf8_lossy(&end).trim().to_owned();
    let (secret, token) = ("x".repeat(40), "y".repeat(800));
    let credentials = format!(
        "<AccessKeyId>ASIABENCHBENCHBENCH0</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
         <Expiration>{end}</Expiration>"
    );
    let user = "<AssumedRoleId>AROABENCH:b</AssumedRoleId><Arn>arn:aws:sts::111111111111:assumed-role/bench/b</Arn>";
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>{user}</AssumedRoleUser>\
         <Credentials>{credentials}</Credentials></AssumeRoleResult><ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000\
         </RequestId></ResponseMetadata></AssumeRoleResponse>"
    );
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n", body.len());
    Ok(head + &body)
}
