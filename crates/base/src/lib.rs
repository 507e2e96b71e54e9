//! Words that every crate shares: units, time, chance, secrets, the wire envelope, lenient decoding and HCL.
//!
//! Owns no state and does no input or output beyond asking the operating system for time and randomness.
//! Nothing here may know about HTTP, storage or AWS. Start at [`units`] and [`lenient`].

pub mod brief;
pub mod causes;
pub mod client_chain;
pub mod clock;
pub mod connections;
pub mod download;
pub mod duration;
pub mod entropy;
pub mod hcl;
pub mod lenient;
pub mod limits;
pub mod nested;
pub mod percent;
pub mod places;
pub mod rare;
pub mod receipt;
pub mod recent;
pub mod secret;
pub mod sim;
pub mod tally;
pub mod trace;
pub mod units;
pub mod upload;
pub mod weight;
pub mod whole;
pub mod wire;

pub use brief::Brief;
pub use causes::causes;
pub use client_chain::ClientChain;
pub use clock::{Clock, Moment, SystemClock};
pub use connections::Connections;
pub use download::Download;
pub use entropy::{Entropy, SystemEntropy};
pub use limits::Limits;
pub use places::{Place, Places};
pub use rare::Rare;
pub use receipt::{Delivery, Fate, Receipt};
pub use recent::Recent;
pub use secret::Secret;
pub use tally::Tally;
pub use units::{Seconds, Timestamp};
pub use upload::Upload;
pub use weight::Weight;

/// A boxed future that can move between threads; what object-safe traits return here.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
