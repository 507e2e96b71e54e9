//! Prints `docs/compatibility.md` for `cargo xtask generate`.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a tool for a person at a terminal")]

use daypass_testkit::compatibility;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let read = |path: &str| {
        std::fs::read_to_string(format!("{}/../../tests/{path}", env!("CARGO_MANIFEST_DIR"))).expect("the list lies in the repository")
    };
    let (reference, different) = (read("compatibility/vault-1.21.txt"), read("compatibility/different.txt"));
    print!("{}", compatibility::page(&reference, &different, &read("conformance/differences.txt")).await);
}
