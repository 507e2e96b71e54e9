//! Where a connection stands, and how long it may stand there.
//!
//! One time stamp and one phase per connection, changed by whoever moves it on (bytes read, request begun, answer done) and looked at
//! by the connection's own task. That costs a keep-alive request two looks at the clock and no timer of its own.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daypass_base::{Clock, Receipt};

use crate::Limits;
use crate::delivery::Deliveries;
use crate::request::Running;
use crate::unsent::Unsent;

/// The state of one connection.
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    /// In its lower half, requests whose answer is not yet there, and those whose answer has no end of its own, with [`LEAVING`]; in its upper half, how many of
    /// them have begun and have come in whole, so that one number says whether any did since it was looked at.
    requests: AtomicU64,
    /// Answers that are there and not yet taken by HTTP in full.
    untaken: AtomicU32,
    phase: AtomicU8,
    /// Since when that phase lasts, on the clock's monotonic time.
    since_ms: AtomicU64,
    /// Bytes were given to the socket's writer and not yet flushed.
    unflushed: AtomicBool,
    /// Answers without an end of their own that are being sent.
    streams: AtomicU32,
    unsent: Unsent,
    /// When the server began to stop.
    finishing: At,
    /// Since when a head is there in part. Over HTTP/1 that is a phase; over HTTP/2 other requests may be under way.
    half_head: At,
    /// When a client went on that gets no more time for it: with a piece of a body, or with its handshake.
    went_on: At,
    /// Requests in flight whose client lets wait for the body.
    unfinished: AtomicU32,
    /// A body was left unread: the client may still be sending.
    unread: AtomicBool,
    /// Made for the first answer whose arrival somebody waits to hear of.
    deliveries: OnceLock<Arc<Deliveries>>,
    /// The newest stream of HTTP/2 that the client has begun.
    newest_stream: AtomicU32,
}

/// What a connection is waiting for while no request is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its first request.
    First,
    /// The rest of a request's head.
    Head,
    /// Its next request.
    Idle,
}

/// A connection that can be closed for others, as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) spare: Spare,
    /// Since when nothing has moved.
    pub(crate) since: Duration,
    requests: u64,
}

/// How readily a connection can be closed when others want its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spare {
    /// Nobody is disturbed.
    Quiet,
    /// Half a handshake, half a request, or an answer that is not taken, has not moved for a while.
    Stuck,
}

/// What is to be done with a connection now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A request is in flight; its own limits hold. Look again at this time.
    Busy(Duration),
    /// It took too long.
    Cut,
    /// Its buffers can be given back.
    Park,
    /// Look again at this time.
    Wait(Duration),
}

impl Pace {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let since_ms = AtomicU64::new(millis(clock.elapsed()));
        Self {
            clock,
            requests: AtomicU64::new(0),
            untaken: AtomicU32::new(0),
            phase: AtomicU8::new(Phase::First as u8),
            since_ms,
            unflushed: AtomicBool::new(false),
            streams: AtomicU32::new(0),
            unsent: Unsent::default(),
            finishing: At::default(),
            half_head: At::default(),
            went_on: At::default(),
            unfinished: AtomicU32::new(0),
            unread: AtomicBool::new(false),
            deliveries: OnceLock::new(),
            newest_stream: AtomicU32::new(0),
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Bytes of a request came in over HTTP/1, not only empty lines. Over HTTP/2 they may as well be a ping, so this is not called there.
    pub(crate) fn bytes_read(&self) {
        if self.is_between_requests() && self.phase() != Phase::Head {
            self.enter(Phase::Head);
        }
    }

    /// The first byte of a TLS handshake is there: more of them buy no time.
    pub(crate) fn handshake_begun(&self) {
        self.goes_on_for_no_time();
        self.phase.store(Phase::Head as u8, Ordering::Relaxed);
    }

    /// The handshake is over. The time for the first request has begun before it.
    pub(crate) fn handshake_over(&self) {
        self.goes_on_for_no_time();
        self.phase.store(Phase::First as u8, Ordering::Relaxed);
    }

    fn goes_on_for_no_time(&self) {
        self.went_on.set(self.clock.elapsed());
    }

    /// Bytes of an answer went out over HTTP/1: a slow reader that reads is no idle one.
    pub(crate) fn bytes_written(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
        self.goes_on();
    }

    fn goes_on(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Idle);
        }
    }

    pub(crate) fn unsent(&self) -> &Unsent {
        &self.unsent
    }

    /// Until when the client must have taken an answer of so many bytes that has room which others may want.
    pub(crate) fn to_be_taken_until(&self, bytes: usize, limits: &Limits) -> Duration {
        let seconds = u64::try_from(bytes.div_ceil(BYTES_A_SECOND_MIN)).unwrap_or(u64::MAX);
        self.clock.elapsed().saturating_add(limits.idle_timeout).saturating_add(Duration::from_secs(seconds))
    }

    /// HTTP got a piece of this answer, which has to be taken `until` then at the latest.
    pub(crate) fn piece_given(&self, answer: u32, until: Option<Duration>) {
        self.unsent.given(answer, self.clock.elapsed(), until);
    }

    /// HTTP let go of a piece of this answer: it is written, or given up.
    pub(crate) fn piece_written(&self, answer: u32) {
        self.unsent.written(answer, self.clock.elapsed());
        self.goes_on();
    }

    /// The server is about to stop: answers without an end of their own have one now.
    pub(crate) fn finish(&self) {
        self.finishing.set(self.clock.elapsed());
    }

    /// Bytes wait to go out, and no time is granted for that.
    pub(crate) fn write_blocked(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn flushed(&self) {
        self.unflushed.store(false, Ordering::Relaxed);
    }

    /// Marks a body that will not be read to its end.
    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(crate) fn left_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// HTTP has an answer whose arrival somebody waits to hear of.
    pub(crate) fn hand_over(&self, receipt: Receipt) {
        self.deliveries.get_or_init(Arc::default).hand_over(receipt, self.newest_stream.load(Ordering::Relaxed));
    }

    /// HTTP has had its turn, in which it wrote what it could.
    pub(crate) fn turn_over(&self, running: &Arc<Running>) {
        if let Some(deliveries) = self.deliveries()
            && !self.unflushed.load(Ordering::Relaxed)
        {
            deliveries.written(&self.clock, running);
        }
    }

    /// The client has begun this stream of HTTP/2, and none after it.
    pub(crate) fn stream_begun(&self, newest: u32) {
        self.newest_stream.store(newest, Ordering::Relaxed);
    }

    pub(crate) fn deliveries(&self) -> Option<&Arc<Deliveries>> {
        self.deliveries.get()
    }

    /// Whether an answer goes on for as long as the client listens.
    pub(crate) fn is_streaming(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }

    /// Nothing is read of a request and nothing is left to write: closing now disturbs nobody.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_between_requests() && self.phase() != Phase::Head && self.half_head.get().is_none() && !self.is_held()
    }

    /// A part of a head is there over HTTP/2: more of it buys no time.
    pub(crate) fn half_a_head(&self) {
        if self.half_head.get().is_none() {
            self.half_head.set(self.clock.elapsed());
        }
    }

    /// There is no part of a head over HTTP/2.
    pub(crate) fn no_half_head(&self) {
        if self.half_head.get().is_some() {
            self.half_head.clear();
        }
    }

    /// Whether the connection can be closed for others. `None`: a request that has come in is not yet answered, or something moved just now.
    pub(crate) fn spare(&self, now: Duration) -> Option<Stand> {
        let requests = self.requests.load(Ordering::Acquire);
        let in_flight = in_flight(requests);
        // What has not come in whole is worked on by nobody.
        if in_flight > 0 && self.unfinished.load(Ordering::Acquire) != in_flight {
            return None;
        }
        let since = self.moved();
        let (spare, after) = if self.is_quiet() { (Spare::Quiet, QUIET_FOR) } else { (Spare::Stuck, STUCK_FOR) };
        (now.saturating_sub(since) >= after).then_some(Stand { spare, since, requests })
    }

    /// Takes leave, if nothing has moved since then: no request begins any more, and none that has not come in whole is answered. The number alone excludes
    /// that one began or came in since, whenever the time is looked at.
    pub(crate) fn leave(&self, stand: &Stand) -> bool {
        let leaving = stand.requests | LEAVING;
        self.moved() == stand.since && self.requests.compare_exchange(stand.requests, leaving, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// When something moved last.
    fn moved(&self) -> Duration {
        [self.half_head.get(), self.went_on.get()].into_iter().flatten().fold(self.since(), Duration::max)
    }

    fn in_flight(&self) -> u32 {
        in_flight(self.requests.load(Ordering::Relaxed))
    }

    fn is_between_requests(&self) -> bool {
        self.in_flight() == 0 && self.untaken.load(Ordering::Relaxed) == 0
    }

    /// How much longer a connection may wait for its next byte.
    pub(crate) fn patience(&self, limits: &Limits) -> Duration {
        self.cut_at(limits).saturating_sub(self.clock.elapsed())
    }

    /// When a connection that nothing happens on is cut.
    pub(crate) fn cut_at(&self, limits: &Limits) -> Duration {
        let allowed = if self.phase() == Phase::Idle { limits.idle_timeout } else { limits.header_timeout };
        let cut = self.since() + allowed;
        // Whoever is told of the end and says no more would have it waited for.
        [self.end(limits), self.half_head_until(limits)].into_iter().flatten().fold(cut, Duration::min)
    }

    /// When a server that stops waits no more for a client; `None` before that, and while something of an answer is still taken.
    fn end(&self, limits: &Limits) -> Option<Duration> {
        self.finishing.get().filter(|_| !self.is_held()).map(|stop| stop.max(self.since()) + limits.linger)
    }

    /// When the rest of a head over HTTP/2 must have come.
    fn half_head_until(&self, limits: &Limits) -> Option<Duration> {
        self.half_head.get().map(|since| since + limits.header_timeout)
    }

    /// Something of an answer waits to be taken.
    fn is_held(&self) -> bool {
        self.unsent.is_some() || self.unflushed.load(Ordering::Relaxed) || self.untaken.load(Ordering::Relaxed) > 0
    }

    fn since(&self) -> Duration {
        Duration::from_millis(self.since_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn verdict(&self, limits: &Limits) -> Verdict {
        let now = self.clock.elapsed();
        let in_flight = self.in_flight();
        let only_streams = in_flight > 0 && self.streams.load(Ordering::Relaxed) == in_flight;
        let ending = only_streams && self.finishing.get().is_some();
        // Whatever else is under way: a client that reads all answers but one could have that one held for ever.
        let unread = self.unsent.cut_at(if ending { limits.linger } else { limits.idle_timeout });
        // Nobody works on what has not come: waiting for it would only hold up the end.
        let only_unfinished = in_flight > 0 && self.unfinished.load(Ordering::Relaxed) == in_flight;
        let end = self.end(limits).filter(|_| only_unfinished);
        let cut = [unread, self.half_head_until(limits), end].into_iter().flatten().min();
        if cut.is_some_and(|cut| now >= cut) {
            return Verdict::Cut;
        }
        if in_flight > 0 {
            // A stream of HTTP/2 may end without a word to whoever looks.
            return Verdict::Busy(cut.unwrap_or(now + limits.idle_timeout));
        }
        let cut = cut.map_or(self.cut_at(limits), |cut| cut.min(self.cut_at(limits)));
        if now >= cut {
            return Verdict::Cut;
        }
        if self.phase() != Phase::Idle || self.is_held() {
            return Verdict::Wait(cut);
        }
        let park = self.since() + limits.park_after;
        if now >= park { Verdict::Park } else { Verdict::Wait(park.min(cut)) }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::First,
            1 => Phase::Head,
            _ => Phase::Idle,
        }
    }

    fn enter(&self, phase: Phase) {
        self.since_ms.store(millis(self.clock.elapsed()), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

/// A request in flight, from its head until its answer is there, or to the end of an answer that goes on.
pub(crate) struct InFlight {
    pace: Arc<Pace>,
}

impl InFlight {
    /// `None` where the connection is being closed: it is not to be begun.
    pub(crate) fn begin(pace: &Arc<Pace>) -> Option<Self> {
        let before = pace.requests.fetch_add(MOVED + 1, Ordering::AcqRel);
        (before & LEAVING == 0).then(|| Self { pace: Arc::clone(pace) })
    }

    /// All of it has come that will come. False where the connection is being closed: it is not to be answered.
    pub(crate) fn has_come(&self) -> bool {
        self.pace.requests.fetch_add(MOVED, Ordering::AcqRel) & LEAVING == 0
    }

    /// The whole answer is there: what remains is up to the client, who is given no more time for it than an idle one.
    pub(crate) fn answered(self) -> Untaken {
        self.pace.untaken.fetch_add(1, Ordering::Relaxed);
        Untaken { pace: Arc::clone(&self.pace) }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // The phase first: whoever sees no request in flight must see when that began.
        self.pace.enter(Phase::Idle);
        self.pace.requests.fetch_sub(1, Ordering::Release);
    }
}

/// An answer that HTTP has not yet taken. Over HTTP/2 the client's window may let it wait.
pub(crate) struct Untaken {
    pace: Arc<Pace>,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.pace.enter(Phase::Idle);
        self.pace.untaken.fetch_sub(1, Ordering::Release);
    }
}

/// An answer that goes on for as long as the client listens.
pub(crate) struct Streaming {
    pace: Arc<Pace>,
}

impl Streaming {
    pub(crate) fn begin(pace: &Arc<Pace>) -> Self {
        pace.streams.fetch_add(1, Ordering::Relaxed);
        Self { pace: Arc::clone(pace) }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.pace.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request whose client lets wait for its body.
pub(crate) struct Unfinished {
    pace: Arc<Pace>,
    /// What came since it last counted as going on.
    bytes: usize,
}

impl Unfinished {
    pub(crate) fn begin(pace: &Arc<Pace>) -> Self {
        // Over HTTP/2 one more that does not come is no reason to spare the others.
        if pace.unfinished.load(Ordering::Relaxed) == 0 {
            pace.goes_on_for_no_time();
        }
        pace.unfinished.fetch_add(1, Ordering::Release);
        Self { pace: Arc::clone(pace), bytes: 0 }
    }

    /// So many bytes of the body came. Only when they are enough does it go on.
    pub(crate) fn piece_came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= GOES_ON_BYTES {
            self.bytes = 0;
            self.pace.goes_on_for_no_time();
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.pace.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A moment on the monotonic clock, or none: milliseconds and one.
#[derive(Default)]
struct At(AtomicU64);

impl At {
    fn get(&self) -> Option<Duration> {
        self.0.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis)
    }

    fn set(&self, at: Duration) {
        self.0.store(millis(at).saturating_add(1), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The requests in flight among [`Pace::requests`]: very many where the connection is being closed.
fn in_flight(requests: u64) -> u32 {
    u32::try_from(requests % MOVED).unwrap_or(u32::MAX)
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// How fast such an answer is to be taken. Its client has an idle time besides: the kernel's buffer hides for a while what is taken and what is not.
const BYTES_A_SECOND_MIN: usize = 64 * 1024;
/// Of [`Pace::requests`]: the connection is closed for others. Whoever begins a request sees it, or has changed the number before.
const LEAVING: u64 = 1 << 31;
/// One more of what its upper half counts, which may begin anew.
const MOVED: u64 = 1 << 32;
/// A connection is idle for so long before others may have its place: clients that send one request after the other keep theirs, and newcomers come to send their first.
const QUIET_FOR: Duration = Duration::from_secs(1);
/// A slow network is not a client that does nothing.
const STUCK_FOR: Duration = Duration::from_secs(5);
/// So much of a body must come in that time, or it is stuck: a byte now and then kept a connection for ever. Far below any link on which a login succeeds.
const GOES_ON_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use daypass_base::sim::SimClock;

    use super::*;

    #[test]
    fn a_connection_is_judged_by_what_it_waits_for() {
        let clock = SimClock::default();
        let limits = Limits { park_after: Duration::from_secs(2), ..Limits::default() };
        let pace = Arc::new(Pace::new(Arc::new(clock.clone())));
        let after = |seconds| {
            clock.advance(Duration::from_secs(seconds));
            pace.verdict(&limits)
        };
        assert_eq!(after(9), Verdict::Wait(Duration::from_secs(10)), "no first request yet");
        pace.bytes_read();
        assert_eq!(after(9), Verdict::Wait(Duration::from_secs(19)), "its head has 10 s of its own");
        pace.bytes_read();
        assert_eq!(after(1), Verdict::Cut, "more bytes of the same head buy no time");
        let request = InFlight::begin(&pace).unwrap();
        assert!(matches!(after(1_000), Verdict::Busy(_)));
        let answer = request.answered();
        assert!(matches!(after(299), Verdict::Wait(_)), "its buffers hold what waits for the client");
        drop(answer);
        assert!(matches!(after(1), Verdict::Wait(_)));
        assert_eq!(after(1), Verdict::Park);
        pace.bytes_written();
        assert!(matches!(after(299), Verdict::Wait(_)) && !pace.is_quiet(), "a slow reader keeps its buffers");
        assert_eq!(after(1), Verdict::Cut);
        pace.flushed();
        assert!(pace.is_quiet());
    }

    fn quiet_at(seconds: u64) -> (SimClock, Arc<Pace>) {
        let clock = SimClock::default();
        let pace = Arc::new(Pace::new(Arc::new(clock.clone())));
        clock.advance(Duration::from_secs(seconds));
        (clock, pace)
    }

    /// Story: whoever took leave looked at the time first and at the requests then. One that began and was answered in between lost its answer.
    #[test]
    fn nobody_takes_leave_of_a_connection_on_which_a_request_began_meanwhile() {
        let (clock, pace) = quiet_at(10);
        let stand = pace.spare(clock.elapsed()).unwrap();
        drop(InFlight::begin(&pace).unwrap().answered());
        // As if it had been looked at before.
        pace.since_ms.store(millis(stand.since), Ordering::Relaxed);
        assert!(!pace.leave(&stand));
        let stand = pace.spare(clock.elapsed()).unwrap();
        assert!(pace.leave(&stand) && InFlight::begin(&pace).is_none() && pace.spare(clock.elapsed()).is_none());
    }

    #[test]
    fn a_body_comes_in_or_its_connection_goes() {
        for comes in [false, true] {
            let (clock, pace) = quiet_at(100);
            let request = InFlight::begin(&pace).unwrap();
            assert_eq!(pace.spare(clock.elapsed()), None, "it may be worked on");
            let mut body = Unfinished::begin(&pace);
            body.piece_came(GOES_ON_BYTES - 1);
            clock.advance(Duration::from_secs(4));
            body.piece_came(1);
            clock.advance(Duration::from_secs(4));
            assert_eq!(pace.spare(clock.elapsed()), None, "it went on");
            body.piece_came(GOES_ON_BYTES - 1);
            clock.advance(Duration::from_secs(1));
            let stand = pace.spare(clock.elapsed()).unwrap();
            assert_eq!((stand.spare, stand.since.as_secs()), (Spare::Stuck, 104), "too little came since");
            if comes {
                drop(body);
                assert!(request.has_come() && !pace.leave(&stand) && pace.spare(clock.elapsed()).is_none());
            } else {
                assert!(pace.leave(&stand) && !request.has_come());
            }
        }
    }

    #[test]
    fn a_further_body_that_does_not_come_is_no_movement() {
        let (clock, pace) = quiet_at(100);
        let _requests = [InFlight::begin(&pace).unwrap(), InFlight::begin(&pace).unwrap()];
        let _first = Unfinished::begin(&pace);
        clock.advance(Duration::from_secs(4));
        let _second = Unfinished::begin(&pace);
        clock.advance(Duration::from_secs(1));
        assert_eq!(pace.spare(clock.elapsed()).map(|stand| stand.since.as_secs()), Some(100));
    }

    /// Story: what HTTP/2 had of an answer, and a head that had just come, counted as quiet.
    #[test]
    fn an_answer_that_is_not_sent_and_half_a_head_over_http2_are_not_quiet() {
        let (clock, pace) = quiet_at(2);
        let quiet = pace.spare(clock.elapsed()).unwrap();
        assert_eq!(quiet.spare, Spare::Quiet);
        pace.half_a_head();
        assert!(!pace.leave(&quiet) && pace.spare(clock.elapsed() + Duration::from_secs(4)).is_none());
        assert_eq!(pace.spare(clock.elapsed() + Duration::from_secs(5)).unwrap().spare, Spare::Stuck);
        let (clock, pace) = quiet_at(2);
        pace.piece_given(0, None);
        assert!(!pace.is_quiet() && pace.spare(clock.elapsed()).is_none());
    }

    #[test]
    fn a_handshake_is_not_quiet_and_takes_none_of_the_time_for_the_first_request() {
        let limits = Limits::default();
        let (clock, pace) = quiet_at(4);
        pace.handshake_begun();
        assert_eq!(pace.spare(clock.elapsed() + Duration::from_secs(4)), None);
        clock.advance(Duration::from_secs(3));
        pace.handshake_over();
        assert_eq!(pace.verdict(&limits), Verdict::Wait(limits.header_timeout));
        let [soon, later] = [900, 1_000].map(|ms| pace.spare(clock.elapsed() + Duration::from_millis(ms)));
        assert!(soon.is_none() && later.is_some_and(|stand| stand.spare == Spare::Quiet));
    }
}
