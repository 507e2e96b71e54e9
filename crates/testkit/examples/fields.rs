//! Prints `docs/aws.md` with its tables of fields made anew, for `cargo xtask generate`.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a tool for a person at a terminal")]

use daypass_testkit::fields;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/aws.md")).expect("the page lies in the repository");
    print!("{}", fields::page(&page).await.0);
}
