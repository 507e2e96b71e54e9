//! The memory that requests over HTTP/2, bodies and answers may take: a connection has room of its own, and all have more together. Each of the three has a
//! part of that: what strangers can have much of for little traffic takes the place of nothing else.

use std::sync::Arc;

use http::uri::{self, Authority, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Limits;
use crate::wire::Protocol;

/// A request without its body.
pub(crate) type Head = http::request::Parts;

/// The room that all connections of a listener have together ([`Limits::all_bodies_bytes`]), in KiB.
pub(crate) struct OfAll {
    /// Of requests over HTTP/2 without their bodies, until their answers are taken: a few bytes on the wire make one.
    heads: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    answers_bytes: usize,
    /// Of `heads`, for one connection.
    heads_of_one: usize,
    /// Places for heads over HTTP/2 of which another frame is to bring the rest. Nobody counts what HTTP keeps of one meanwhile, which a byte on the wire may
    /// make a hundred of. Clients send one so only when it is longer than 16 KiB, and the rest right behind it.
    pub(crate) open_heads: Arc<Semaphore>,
}

impl OfAll {
    pub(crate) fn new(limits: &Limits) -> Self {
        // A body of the very limit finds room in the half that bodies have.
        let all = limits.all_bodies_bytes.max(in_steps(limits.body_bytes).saturating_mul(2));
        let of_streams = usize::try_from(limits.streams).unwrap_or(usize::MAX).saturating_mul(STREAM_WITH_HEAD_BYTES);
        // Where an eighth is little, all the streams of a few connections would use it up: a quarter then, at the cost of answers.
        let (bodies, heads) = (all / 2, (all / 8).max(of_streams.saturating_mul(CONNECTIONS_MIN).min(all / 4)));
        let answers_bytes = (all - bodies - heads) / 1024 * 1024;
        let heads_of_one = (heads / CONNECTIONS_MIN).max(of_streams).min(heads);
        let open_heads = (all / OPEN_HEADS_PART / OPEN_HEAD_BYTES).clamp(OPEN_HEADS_MIN, Semaphore::MAX_PERMITS);
        Self {
            heads: of_bytes(heads),
            bodies: of_bytes(bodies),
            answers: of_bytes(answers_bytes),
            answers_bytes,
            heads_of_one,
            open_heads: Arc::new(Semaphore::new(open_heads)),
        }
    }
}

/// What one connection may have.
pub(crate) struct Own {
    room: Arc<Semaphore>,
    /// Of the room that all have for heads; `None` over HTTP/1, where that is not used.
    heads: Option<Arc<Semaphore>>,
}

impl Own {
    pub(crate) fn new(protocol: Protocol, of_all: &OfAll) -> Self {
        match protocol {
            Protocol::Http1 => Self { room: of_bytes(OWN_BYTES), heads: None },
            Protocol::Http2 => Self { room: of_bytes(OWN_HTTP2_BYTES), heads: Some(of_bytes(of_all.heads_of_one)) },
        }
    }
}

/// A request's share of the room, and then its answer's.
pub(crate) struct Room {
    own: Arc<Own>,
    of_all: Arc<OfAll>,
    /// What it takes by itself, which over HTTP/1 is nothing, and the bytes of that which its body may have, and then its answer.
    head: Share,
    spare: usize,
    /// What else its body takes, and then its answer.
    content: Share,
}

impl Room {
    /// Nothing yet.
    pub(crate) fn new(own: &Arc<Own>, of_all: &Arc<OfAll>) -> Self {
        Self { own: Arc::clone(own), of_all: Arc::clone(of_all), head: Share::default(), spare: 0, content: Share::default() }
    }

    /// Takes what a request over HTTP/2 needs, with a small body and a small answer, or says that there is no room for it.
    pub(crate) fn take_head(&mut self, head: &Head) -> bool {
        self.spare = SMALL_BYTES;
        self.grow_head(held_by(head) + SMALL_BYTES)
    }

    /// Takes what the stream of a request needs that found no room, for the answer that says so; one that has room needs no more.
    pub(crate) fn take_stream(&mut self) -> bool {
        self.grow_head(STREAM_BYTES)
    }

    fn grow_head(&mut self, bytes: usize) -> bool {
        self.head.grow_to(bytes, [&self.own.room, &self.of_all.heads], self.own.heads.as_ref())
    }

    /// Whether there is room for a body of so many bytes by now, which takes none of it.
    pub(crate) fn is_there_for(&self, body: usize) -> bool {
        let free = self.own.room.available_permits().saturating_add(self.of_all.bodies.available_permits());
        body.saturating_sub(self.spare).div_ceil(1024) <= free
    }

    /// Takes what a body of so many bytes needs, or says that there is no room for it. Never waits: bodies that wait for each other's room would all stand
    /// still.
    pub(crate) fn grow_to(&mut self, body: usize) -> bool {
        self.content.grow_to(in_steps(body.saturating_sub(self.spare)), [&self.own.room, &self.of_all.bodies], None)
    }

    /// Makes it the room of the request's answer, or says that there is none for it. One that is larger than all the room of answers takes all of that.
    pub(crate) fn turn_to_answer(&mut self, bytes: usize) -> bool {
        self.leave_body();
        self.spare = self.head.bytes.saturating_sub(STREAM_BYTES);
        let too_much = self.spare.saturating_sub(bytes) / 1024 * 1024;
        // Less is not worth the trouble: it is back in a moment.
        if too_much >= STREAM_BYTES {
            self.head.give_back(too_much);
            self.spare -= too_much;
        }
        let more = in_steps(bytes.saturating_sub(self.spare)).min(self.of_all.answers_bytes);
        self.content.grow_to(more, [&self.own.room, &self.of_all.answers], None)
    }

    /// Gives back what its body took.
    pub(crate) fn leave_body(&mut self) {
        self.content = Share::default();
    }

    /// Whether a part of its body, or of its answer, has room that others may want.
    pub(crate) fn is_of_all(&self) -> bool {
        let [_own, of_all] = &self.content.permits;
        of_all.is_some()
    }
}

#[derive(Default)]
struct Share {
    /// Of a connection's own room, and of the room that all have.
    permits: [Option<OwnedSemaphorePermit>; 2],
    /// Of what the connection may have of the latter.
    part: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Share {
    /// `part` bounds what is taken of the second room.
    fn grow_to(&mut self, bytes: usize, [own, of_all]: [&Arc<Semaphore>; 2], part: Option<&Arc<Semaphore>>) -> bool {
        let more = bytes.saturating_sub(self.bytes).div_ceil(1024);
        if more == 0 {
            return true;
        }
        let permits = u32::try_from(more).unwrap_or(u32::MAX);
        let take = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_many_owned(permits).ok();
        let [have_own, have_of_all] = &mut self.permits;
        if let Some(permit) = take(own) {
            add(have_own, permit);
        } else {
            let of_part = part.map(take);
            if of_part.as_ref().is_some_and(Option::is_none) {
                return false;
            }
            let Some(permit) = take(of_all) else { return false };
            add(have_of_all, permit);
            if let Some(permit) = of_part.flatten() {
                add(&mut self.part, permit);
            }
        }
        self.bytes += more * 1024;
        true
    }

    fn give_back(&mut self, bytes: usize) {
        let mut left = bytes / 1024;
        if let Some(part) = &mut self.part {
            drop(part.split(left.min(part.num_permits())));
        }
        // What others may want first.
        for have in self.permits.iter_mut().rev().flatten() {
            let back = left.min(have.num_permits());
            drop(have.split(back));
            left -= back;
        }
        self.bytes -= bytes;
    }
}

fn add(have: &mut Option<OwnedSemaphorePermit>, permit: OwnedSemaphorePermit) {
    match have {
        Some(have) => have.merge(permit),
        none => *none = Some(permit),
    }
}

/// In steps, so that a body in many small pieces does not ask each time.
fn in_steps(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(if bytes <= STEP_BYTES { 1024 } else { STEP_BYTES }).unwrap_or(bytes)
}

fn of_bytes(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((bytes / 1024).min(Semaphore::MAX_PERMITS)))
}

/// About how many bytes a request over HTTP/2 takes without its body: headers may be far smaller on the wire, and any text of its first line may be long.
fn held_by(head: &Head) -> usize {
    let uri = &head.uri;
    let line = [head.method.as_str(), uri.authority().map_or("", Authority::as_str), uri.path(), uri.query().unwrap_or_default()];
    let headers = head.headers.iter().map(|(name, value)| HEADER_BYTES + name.as_str().len() + value.len());
    STREAM_BYTES + line.into_iter().map(str::len).chain(headers).sum::<usize>()
}

/// The same in memory of its own, as headers are. HTTP/2 cuts it from what was read from the socket with it, which is 8 to 16 KiB that it would keep alive.
pub(crate) fn apart(uri: &Uri) -> Option<Uri> {
    let mut parts = uri::Parts::default();
    parts.scheme = uri.scheme().cloned();
    parts.authority = uri.authority().map(|authority| authority.as_str().parse()).transpose().ok()?;
    parts.path_and_query = uri.path_and_query().map(|path| path.as_str().parse()).transpose().ok()?;
    Uri::from_parts(parts).ok()
}

/// What each connection may hold of bodies whatever others hold, and of an answer as well: bounded by the number of connections alone.
pub(crate) const OWN_BYTES: usize = 64 * 1024;
/// As much for both together over HTTP/2, with the requests themselves: some sixteen small ones. Terraform has ten under way on a connection.
const OWN_HTTP2_BYTES: usize = 2 * OWN_BYTES;
/// So many connections it takes at least to use up the room for heads, where that has place for all their streams: in the least room, ten.
const CONNECTIONS_MIN: usize = 16;
/// About what HTTP may keep of a head that is not whole: 190 KiB were measured, of 1,800 headers without values.
const OPEN_HEAD_BYTES: usize = 192 * 1024;
/// Of all room. It takes none of what others have.
const OPEN_HEADS_PART: usize = 32;
const OPEN_HEADS_MIN: usize = 8;
const STEP_BYTES: usize = 64 * 1024;
/// A body of so many bytes finds room where its request has found it, and so does an answer.
const SMALL_BYTES: usize = 1024;
/// About what a stream takes by itself: its state, its task and what runs in it. With the five headers of a client's request 3.7 KiB were measured.
const STREAM_BYTES: usize = 4 * 1024;
/// What a request of a proxy takes that has many under way on its connection: some 8 KiB, and more where clients' tokens are long.
const STREAM_WITH_HEAD_BYTES: usize = 12 * 1024;
/// About what a header takes beside its name and its value, with room that a growing map keeps ahead.
const HEADER_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: http::request::Builder) -> Head {
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_answer_takes_over_the_room_of_its_request_and_gives_back_what_is_too_much() {
        let limits = Limits { all_bodies_bytes: 2 << 20, body_bytes: 1, streams: 1, ..Limits::default() };
        let all = Arc::new(OfAll::new(&limits));
        let own = Arc::new(Own::new(Protocol::Http2, &all));
        let left = || (own.room.available_permits(), [&all.heads, &all.bodies, &all.answers].map(|room| room.available_permits()));
        let new = || Room::new(&own, &all);
        let mut room = new();
        assert!(room.take_head(&head(http::Request::post("/small"))) && room.grow_to(SMALL_BYTES) && !room.is_of_all());
        assert_eq!(left(), (128 - 6, [256, 1024, 768]), "a small request needs nothing that others could want");
        assert!(room.is_there_for(900 << 10) && room.grow_to(900 << 10) && room.is_of_all());
        assert!(!room.is_there_for(300 << 10));
        assert!(room.turn_to_answer(100) && !room.is_of_all());
        assert_eq!(left(), (128 - 6, [256, 1024, 768]));
        assert!(room.turn_to_answer(700 << 10) && room.is_of_all());
        assert!(!new().turn_to_answer(200 << 10), "there is no room for another large one");
        assert!(new().turn_to_answer(20 << 10), "but for a small one");
        let mut body = new();
        assert!(body.grow_to(900 << 10), "and for a body");
        drop((room, body));
        assert_eq!(left(), (128, [256, 1024, 768]));
        assert!(new().turn_to_answer(5 << 20), "one that is larger than the room has it alone");
    }

    /// Story: over HTTP/2 a path may be as long as all headers together, and was counted as if it were empty.
    #[test]
    fn each_text_of_a_head_is_counted_and_kept_for_no_longer_than_its_request_runs() {
        let limits = Limits { all_bodies_bytes: 1 << 20, body_bytes: 1, ..Limits::default() };
        let long = "x".repeat(40 << 10);
        for request in [
            http::Request::get(format!("https://localhost/{long}")),
            http::Request::get(format!("https://localhost/?{long}")),
            http::Request::get(format!("https://{long}/")),
            http::Request::get("/").header("via", &long),
            http::Request::builder().method(long.as_str()).uri("/"),
        ] {
            let all = Arc::new(OfAll::new(&limits));
            let own = Arc::new(Own::new(Protocol::Http2, &all));
            let mut room = Room::new(&own, &all);
            assert!(room.take_head(&head(request)));
            let left = || own.room.available_permits();
            assert!((46..=47).contains(&(128 - left())), "{}", left());
            assert!(room.turn_to_answer(100));
            assert_eq!(left(), 128 - 5);
        }
    }

    /// Story: a header's value is counted as long as it is and takes a byte on the wire where it came before. Six connections took all the room that requests
    /// over HTTP/2 have, for 80 KB each half minute, and a proxy that has a hundred of them under way on its connection was told 503.
    #[test]
    fn one_connection_takes_a_sixteenth_of_the_room_for_heads_beside_its_own() {
        let limits = Limits { all_bodies_bytes: 256 << 20, body_bytes: 1, ..Limits::default() };
        let all = Arc::new(OfAll::new(&limits));
        let long = "x".repeat(59 << 10);
        let begin_all = |own: &Arc<Own>| {
            let begin = || {
                let mut room = Room::new(own, &all);
                room.take_head(&head(http::Request::get("/").header("via", &long))).then_some(room)
            };
            std::iter::repeat_with(begin).map_while(|room| room).collect::<Vec<_>>()
        };
        let greedy = Arc::new(Own::new(Protocol::Http2, &all));
        let held = begin_all(&greedy);
        let kib = 32 << 10;
        assert!(all.heads.available_permits() >= kib - kib / 16, "{}", all.heads.available_permits());
        assert!((30..=34).contains(&held.len()), "{}", held.len());
        // What is given back for an answer is there again.
        let mut answered = held;
        assert!(answered.iter_mut().all(|room| room.turn_to_answer(100)));
        assert!(begin_all(&greedy).len() >= 25);
        drop(answered);
        assert_eq!((greedy.room.available_permits(), all.heads.available_permits()), (128, kib));
        assert_eq!(greedy.heads.as_ref().unwrap().available_permits(), kib / 16);
    }

    /// Story: a sixteenth of the least room were 512 KiB, and the 81st request of a proxy was told 503 where 128 are granted.
    #[test]
    fn one_connection_has_room_for_all_the_streams_that_it_is_granted() {
        let limits = Limits { all_bodies_bytes: 64 << 20, ..Limits::default() };
        let all = Arc::new(OfAll::new(&limits));
        let long = "x".repeat(6 << 10);
        let begin_all = || {
            let own = Arc::new(Own::new(Protocol::Http2, &all));
            let begin = || {
                let mut room = Room::new(&own, &all);
                room.take_head(&head(http::Request::get("/").header("x-vault-token", &long))).then_some(room)
            };
            std::iter::repeat_with(begin).map_while(|room| room).collect::<Vec<_>>()
        };
        let connections: Vec<_> = std::iter::repeat_with(begin_all).take(10).collect();
        for held in &connections {
            assert!(held.len() >= 128, "{}", held.len());
        }
        assert_eq!(all.bodies.available_permits(), 32 << 10);
        assert_eq!(all.answers_bytes, 16 << 20, "what heads have more of than an eighth answers have less");
        assert_eq!(OfAll::new(&Limits::default()).answers_bytes, 192 << 20);
    }

    #[test]
    fn a_uri_is_the_same_in_memory_of_its_own() {
        for text in ["https://localhost:8200/v1/a%20b?list=true&x", "/v1/ü", "*", "localhost:80", "https://localhost"] {
            let uri: Uri = text.parse().unwrap();
            let copy = apart(&uri).unwrap();
            assert_eq!((&copy, copy.to_string()), (&uri, uri.to_string()));
        }
    }

    #[test]
    fn a_limit_of_any_size_is_a_room() {
        for body_bytes in [0, 1, 100_000, (32 << 20) + 1, usize::MAX] {
            let all = Arc::new(OfAll::new(&Limits { body_bytes, all_bodies_bytes: 0, ..Limits::default() }));
            let none = Arc::new(Own { room: of_bytes(0), heads: None });
            let mut room = Room::new(&none, &all);
            assert!(body_bytes == usize::MAX || room.grow_to(body_bytes), "{body_bytes}");
        }
    }
}
