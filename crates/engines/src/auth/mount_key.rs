//! The key that a mount makes for itself once, for HMACs that it alone can make.

use aws_lc_rs::hmac;
use daypass_sdk::{Changes, CommitFailure, Cx, Error, Expect, Result};

/// The key at `row`, read, or made when it is first needed. Errors: `Internal` when the store fails.
pub(super) async fn mount_key(cx: &Cx, row: &str) -> Result<hmac::Key> {
    let mut stored = cx.store.get(row).await?;
    if stored.is_none() {
        // To the sealed store.
        let made = cx.entropy.bytes::<32>();
        match cx.store.commit(Changes::new().expect(row, Expect::Absent).put(row, made.to_vec())).await {
            // Somebody else may have made it: it is there now.
            Ok(()) | Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
        stored = cx.store.get(row).await?;
    }
    let stored = stored.ok_or_else(|| Error::internal("the key of the mount is missing"))?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &stored.value))
}
