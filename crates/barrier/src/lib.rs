//! The barrier: what is stored is encrypted here, and only here. No other crate names an AEAD.
//!
//! Owns the keys: shares or a key file open the root key ([`seal`], [`keyfile`]), the root key opens the keyring ([`keyring`]), the
//! keyring's terms seal values and its MAC root makes keyed hashes ([`barrier`]). [`shamir`] is the arithmetic of shares.
//!
//! Never stores anything and never speaks to anyone: each change is handed to the caller as bytes to commit, and takes effect
//! when the caller says that they are committed. The only file it touches is the key file of an unattended start.

pub mod barrier;
pub mod keyfile;
pub mod keyring;
pub mod pgp;
mod primitive;
pub mod rekey;
pub mod seal;
pub mod shamir;

pub use barrier::{Barrier, InstallError, OpenError, Purpose, Rotation, SealError, TermStatus};
pub use keyfile::{KeyFile, KeyFileError};
pub use keyring::{Keyring, KeyringError, RootKey};
pub use pgp::{PgpError, Recipient};
pub use rekey::{NewSeal, Rekeyed, rekey};
pub use seal::{
    Initialised, Opened, Progress, Seal, SealConfig, SealConfigError, SealKey, SealType, SealingError, Step, Under, UnsealError, Unsealing,
    initialise, open_root, rewrap,
};
pub use shamir::{ShamirError, Share};
pub use zeroize::Zeroizing;
