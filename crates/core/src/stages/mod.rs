//! The stages of a request, in the order of the pipeline. Each returns a value that only its module can make and that the next one
//! demands, so that leaving a stage out does not compile. The order stands in `request.rs`.

pub(crate) mod admit;
pub(crate) mod bind;
pub(crate) mod door;
pub(crate) mod factor;
pub(crate) mod identify;
pub(crate) mod intent;
pub(crate) mod judge;
pub(crate) mod parse;
pub(crate) mod record;
pub(crate) mod run;
pub(crate) mod wrap;
