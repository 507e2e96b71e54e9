//! `docs/aws.md` has every field of the aws and ecr engines, as the declarations say it today.

use daypass_testkit::compatibility::first_difference;
use daypass_testkit::fields;

#[tokio::test]
async fn the_page_about_aws_has_every_field_of_its_endpoints() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/aws.md")).unwrap();
    let (made, missing) = fields::page(&page).await;
    assert!(missing.is_empty(), "docs/aws.md has no table of fields for these endpoints: {missing:#?}");
    let stale = first_difference(&page, &made);
    assert!(stale.is_none(), "docs/aws.md is stale: run `cargo xtask generate`. {}", stale.unwrap());
}
