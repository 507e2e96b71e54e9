//! HTTP/2 by hand, for clients that none would write.

use super::*;

/// A client that writes its own frames.
pub(super) struct Http2(pub(super) tokio_rustls::client::TlsStream<TcpStream>);

impl Http2 {
    /// Begins, and grants `window` bytes of each answer.
    pub(super) async fn speak(stream: tokio_rustls::client::TlsStream<TcpStream>, window: u32) -> Self {
        let mut client = Self(stream);
        client.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.send(4, 0, 0, &[[0, 4].as_slice(), &window.to_be_bytes()].concat()).await;
        client
    }

    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let head = [0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
        self.0.write_all(&[head.as_slice(), payload].concat()).await.unwrap();
    }

    pub(super) async fn ask(&mut self, stream: u8, path: &str) {
        let mut head = Vec::new();
        for (name, value) in [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", "localhost")] {
            for text in [name, value] {
                head.extend_from_slice(if text == name { &[0] } else { &[] });
                head.push(u8::try_from(text.len()).unwrap());
                head.extend_from_slice(text.as_bytes());
            }
        }
        self.send(1, 5, stream, &head).await;
    }

    pub(super) async fn give_up(&mut self, stream: u8) {
        self.send(3, 0, stream, &[0, 0, 0, 8]).await;
        settle().await;
    }

    /// Reads until these bytes of the answer are there.
    pub(super) async fn read(&mut self, bytes: usize) {
        let mut body = Vec::new();
        while body.len() < bytes {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[2])];
            self.0.read_exact(&mut payload).await.unwrap();
            body.extend(payload.into_iter().filter(|_| head[3] == 0));
        }
        settle().await;
    }
}
