//! Names of rows for things that must not be named: HMAC-SHA256 under a key that the mount makes for itself once.

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use daypass_sdk::{Changes, CommitFailure, Cx, Error, Expect, Result};
use tokio::sync::OnceCell;

/// The mount's key, read or made when it is first needed.
#[derive(Default)]
pub(super) struct Ids {
    key: OnceCell<hmac::Key>,
}

impl Ids {
    /// The name that stands for `secret`: 64 hexadecimal digits. Errors: `Internal` when the store fails.
    pub(super) async fn id(&self, cx: &Cx, secret: &str) -> Result<String> {
        let key = self.key.get_or_try_init(|| key(cx)).await?;
        Ok(HEXLOWER.encode(hmac::sign(key, secret.as_bytes()).as_ref()))
    }
}

async fn key(cx: &Cx) -> Result<hmac::Key> {
    let made = cx.entropy.bytes::<32>();
    match cx.store.commit(Changes::new().expect(ROW, Expect::Absent).put(ROW, made.to_vec())).await {
        Ok(()) | Err(CommitFailure::Conflict(_)) => {}
        Err(CommitFailure::Error(error)) => return Err(error),
    }
    let stored = cx.store.get(ROW).await?.ok_or_else(|| Error::internal("the key of the mount's ids is missing"))?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &stored.value))
}

const ROW: &str = "salt";
