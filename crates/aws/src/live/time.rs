//! The SDK's time is our clock's time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_async::time::TimeSource;
use daypass_base::{BoxFuture, Clock};

/// A [`Clock`] as the SDK wants it: for signatures, expiry, and the waits between attempts.
#[derive(Clone)]
pub(crate) struct SdkClock(pub(crate) Arc<dyn Clock>);

impl std::fmt::Debug for SdkClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SdkClock")
    }
}

impl SdkClock {
    pub(crate) fn system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.0.now().nanos()).unwrap_or(0))
    }
}

impl TimeSource for SdkClock {
    fn now(&self) -> SystemTime {
        self.system_time()
    }
}

impl AsyncSleep for SdkClock {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(Waiting(Mutex::new(self.0.sleep(duration))))
    }
}

/// The SDK wants futures that may be shared between threads; a mutex that is never waited for makes one.
struct Waiting(Mutex<BoxFuture<'static, ()>>);

impl Future for Waiting {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}
