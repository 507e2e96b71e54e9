//! Names of rows for things that must not be named: HMAC-SHA256 under a key that the mount makes for itself once.

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use daypass_sdk::{Cx, Result};
use tokio::sync::OnceCell;

use crate::auth::mount_key::mount_key;

/// The mount's key, read or made when it is first needed.
#[derive(Default)]
pub(super) struct Ids {
    key: OnceCell<hmac::Key>,
}

impl Ids {
    /// The name that stands for `secret`: 64 hexadecimal digits. Errors: `Internal` when the store fails.
    pub(super) async fn id(&self, cx: &Cx, secret: &str) -> Result<String> {
        let key = self.key.get_or_try_init(|| mount_key(cx, ROW)).await?;
        Ok(HEXLOWER.encode(hmac::sign(key, secret.as_bytes()).as_ref()))
    }
}

const ROW: &str = "salt";
