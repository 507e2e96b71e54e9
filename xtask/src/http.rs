//! The little HTTP that this tool speaks itself: one request, one answer, plain TCP to this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::free;

/// One answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends one request and reads the whole answer. `headers` are complete lines.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[String], body: &str) -> Result<Answer, String> {
    let failed = |e: std::io::Error| format!("{method} http://{address}{path}: {e}");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(failed)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{method} http://{address}{path}: no HTTP answer"))?;
    let status =
        head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| format!("{method} http://{address}{path}: no status"))?;
    Ok(Answer { status, body: body.to_owned() })
}

/// A port that nobody listens on right now.
pub(crate) fn free_port() -> Result<u16, String> {
    free::address().map(|address| address.port()).map_err(|e| format!("no free port: {e}"))
}

/// That port if nobody listens on it, else another.
pub(crate) fn port_or_free(wanted: u16) -> Result<u16, String> {
    if TcpListener::bind(("127.0.0.1", wanted)).is_ok() { Ok(wanted) } else { free_port() }
}
