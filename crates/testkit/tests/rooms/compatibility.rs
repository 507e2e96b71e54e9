//! `docs/compatibility.md` is what a server says today.

use daypass_testkit::compatibility::{first_difference, page};

#[tokio::test]
async fn the_page_about_compatibility_is_what_the_server_says() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let reference = read("tests/compatibility/vault-1.21.txt");
    let made = page(&reference, &read("tests/compatibility/different.txt"), &read("tests/conformance/differences.txt")).await;
    let stale = first_difference(&read("docs/compatibility.md"), &made);
    assert!(stale.is_none(), "docs/compatibility.md is stale: run `cargo xtask generate`. {}", stale.unwrap());
}
