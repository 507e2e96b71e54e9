//! An answer that goes on: the server's log, a snapshot.

use std::time::Duration;

use http::header::LOCATION;
use http_body_util::{BodyExt as _, Limited};

use super::{BODY_BYTES_MAX, Call, Client, Error, Follow, Reply, Trouble, connect, innermost, no_answer_within, redirected};

impl Client {
    /// Makes a request whose answer goes on for as long as the server likes, and gives its pieces as they come. Ends with the answer, with
    /// Ctrl-C (also while `piece` waits), and when `piece` says that nobody reads any more. The answer begins within `begun`, or within the client's time
    /// limit where that is longer; once it has begun, no time limit holds.
    pub(crate) fn follow(&self, call: &Call, begun: Duration, piece: impl AsyncFnMut(&[u8]) -> bool) -> Result<Followed, Error> {
        if let Some(instead) = self.config.instead {
            return Err(Error::Instead(instead.render(&self.config, call)));
        }
        let limit = self.config.timeout.max(begun);
        let followed = async {
            let begun = tokio::select! {
                begun = self.begin(call) => begun.map_err(|trouble| self.unreached(call, trouble))?,
                () = self.clock.sleep(limit) => return Err(self.unreached(call, no_answer_within(limit))),
            };
            match begun {
                Begun::Refused(reply) => Err(Error::Api(self.refusal(call, &reply))),
                Begun::Streaming(body) => pass_on(body, piece).await.map_err(|trouble| self.unreached(call, trouble)),
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                followed = followed => followed,
                _ = tokio::signal::ctrl_c() => Ok(Followed::Interrupted),
            }
        })
    }

    /// Does work that takes long, unless Ctrl-C comes first: then `None`, at once, and nobody waits for the work. After [`Client::follow`] the
    /// process no longer ends with Ctrl-C by itself, so work that is not done here would not hear of it.
    pub(crate) fn unless_interrupted<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        // A thread that nobody joins: the process ends without it.
        std::thread::spawn(move || {
            let _interrupted = done.send(work());
        });
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                Ok(()) = tokio::signal::ctrl_c() => None,
                result = result => result.ok(),
            }
        })
    }

    /// An answer up to its body, after one redirect at most.
    async fn begin(&self, call: &Call) -> Result<Begun, Trouble> {
        let mut address = self.config.address.clone();
        let mut target = call.path_and_query(&address);
        let mut may_follow = self.config.follow == Follow::Once;
        loop {
            let broken = |error: hyper::Error| Trouble::new(innermost(&error));
            // It is the answer that may take longer.
            let mut connection = tokio::select! {
                opened = connect::open(&self.config, &address) => opened?,
                () = self.clock.sleep(self.config.timeout) => return Err(no_answer_within(self.config.timeout)),
            };
            connection.sender.ready().await.map_err(broken)?;
            let request = self.request(&connection, &address, &target, call)?;
            let answer = connection.sender.send_request(request).await.map_err(broken)?;
            let status = answer.status().as_u16();
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
            if status < 300 {
                return Ok(Begun::Streaming(answer.into_body()));
            }
            if let Some(location) = location.as_ref().filter(|_| may_follow && matches!(status, 301 | 302 | 307 | 308)) {
                (address, target) = redirected(&address, location)?;
                may_follow = false;
                continue;
            }
            let too_long = |error: Box<dyn std::error::Error + Send + Sync>| Trouble::new(format!("reading the answer: {error}"));
            let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await.map_err(too_long)?.to_bytes();
            return Ok(Begun::Refused(Reply { status, body, location }));
        }
    }
}

/// How a request whose answer goes on came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// With the answer.
    ToItsEnd,
    /// Nobody reads any more.
    Unread,
    /// The person pressed Ctrl-C.
    Interrupted,
}

/// What came of a request whose answer goes on.
enum Begun {
    Refused(Reply),
    Streaming(hyper::body::Incoming),
}

async fn pass_on(mut body: hyper::body::Incoming, mut piece: impl AsyncFnMut(&[u8]) -> bool) -> Result<Followed, Trouble> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::new(innermost(&error)))?;
        if let Some(bytes) = frame.data_ref()
            && !piece(bytes).await
        {
            return Ok(Followed::Unread);
        }
    }
    Ok(Followed::ToItsEnd)
}
