use super::*;

fn read(text: &str) -> Document {
    let (document, errors) = parse(text);
    assert!(errors.is_empty(), "{text:?}: {errors:?}");
    document
}

fn mistakes(text: &str) -> Vec<String> {
    parse(text).1.iter().map(ToString::to_string).collect()
}

#[test]
fn policy_on_one_line_is_read() {
    let document = read(r#"path "kv/*" { capabilities = ["read", "list",] min_wrapping_ttl = "60s" max_wrapping_ttl = 120 }"#);
    let block = document.blocks("path").next().unwrap();
    assert_eq!(block.labels, ["kv/*"]);
    assert_eq!(block.get("capabilities").unwrap().value.as_list().unwrap().len(), 2);
    assert_eq!(block.get("max_wrapping_ttl").unwrap().value.as_int(), Some(120));
    assert_eq!(block.get("capabilities").unwrap().assign_line(), 1);
    assert_eq!(document.items[0].assign_line(), 0);
}

#[test]
fn heredocs_lose_their_indent_only_with_a_minus() {
    let text = "a = <<EOT\n  one\n    two\n  EOT\nb = <<-EOT\n  one\n    two\n  EOT\n";
    let document = read(text);
    assert_eq!(document.items[0].value.as_str(), Some("  one\n    two\n  "));
    assert_eq!(document.items[1].value.as_str(), Some("one\n  two\n"));
}

#[test]
fn numbers_come_in_all_of_gos_forms() {
    let document = read("a = 0x1F\nb = 017\nc = -1.5e3\nd = 1.\ne = true");
    assert_eq!(document.items[0].value.as_int(), Some(31));
    assert_eq!(document.items[1].value.as_int(), Some(15));
    assert_eq!(document.items[2].value.kind, Kind::Float(-1500.0));
    assert_eq!(document.items[3].value.kind, Kind::Float(1.0));
    assert_eq!(document.items[4].value.as_bool(), Some(true));
}

#[test]
fn all_mistakes_are_reported_with_their_places() {
    let text = "a = [1, 2\nb = 08\nc = \"x\\q\"\nd {\n  e = f\n  g = 1\n}\nh = 2\n";
    assert_eq!(
        mistakes(text),
        [
            "At 2:1: error parsing list, expected comma or list end, got: IDENT",
            "At 2:5: 08 is no whole number that fits in 64 bits",
            "At 3:5: illegal char escape \\q",
            "At 5:7: a value was expected, got: IDENT",
        ]
    );
    let (document, _) = parse(text);
    assert_eq!(document.items.last().map(Item::name), Some("h"));
    assert_eq!(document.blocks("d").next().and_then(|d| d.get("g").map(Item::line)), Some(6));
}

#[test]
fn columns_count_characters() {
    assert_eq!(mistakes("é = \"日本\" ?"), ["At 1:10: illegal char '?'"]);
}

#[test]
fn blocks_are_the_same_in_json() {
    let hcl = read("listener \"tcp\" { address = \"a\" }\nlistener \"tcp\" { address = \"b\" }");
    let json = [
        r#"{"listener": [{"tcp": {"address": "a"}}, {"tcp": {"address": "b"}}]}"#,
        r#"{"listener": {"tcp": [{"address": "a"}, {"address": "b"}]}}"#,
        r#"{"listener": {"tcp": {"address": "a"}}, "listener": {"tcp": {"address": "b"}}}"#,
    ];
    let shape = |document: &Document| -> Vec<(String, String)> {
        document.blocks("listener").map(|b| (b.labels.join(" "), b.get("address").unwrap().value.as_text().unwrap())).collect()
    };
    for text in json {
        assert_eq!(shape(&read(text)), shape(&hcl), "{text}");
    }
}

#[test]
fn json_must_be_whole() {
    assert!(
        mistakes(r#"{"path": {"a": {"capabilities": ["read"]} "b": {"capabilities": ["deny"]}}}"#)[0]
            .contains("expected: COMMA | RBRACE got: STRING")
    );
    assert_eq!(mistakes(r#"{"a": 1"#), ["At 1:8: expected: COMMA | RBRACE got: EOF"]);
    assert_eq!(mistakes(r#"{"a": 1} x"#), ["At 1:10: \"x\" is no JSON value"]);
    assert_eq!(read(r#"{"a": [1, true, [2],],}"#).items[0].value.as_list().unwrap().len(), 3);
}

#[test]
fn duplicates_are_found_at_every_depth() {
    let found = read("a = 1\nb { c = 1\nc = 2 }\nb { c = 3 }\na = 2").duplicates();
    let places: Vec<String> = found.iter().map(|d| format!("{} {}", d.key, d.at)).collect();
    assert_eq!(places, ["c 3:1", "a 5:1"]);
}

#[test]
fn limits_end_the_reading() {
    let deep = format!("a = {}", "[".repeat(100_000));
    assert_eq!(mistakes(&deep), ["At 1:69: nested deeper than 64 levels"]);
    let deep = "{\"a\":".repeat(100_000);
    assert_eq!(mistakes(&deep), ["At 1:321: nested deeper than 64 levels"]);
    let wide = format!("a = [{}]", "1,".repeat(300_000));
    assert_eq!(mistakes(&wide).len(), 1);
    assert!(mistakes(&wide)[0].ends_with("more than 200000 values"));
    assert!(mistakes(&"x".repeat(2 << 20))[0].contains("2097152 bytes"));
    assert_eq!(mistakes(&"?\n".repeat(1000)).len(), 20);
}

#[test]
fn values_become_json() {
    let document = read("a \"b\" \"c\" { d = [1, 1.5, true, \"x\"] }");
    let value = Value { kind: Kind::Object(document.items), at: Position::START };
    assert_eq!(value.to_json(), serde_json::json!({"a": {"b": {"c": {"d": [1, 1.5, true, "x"]}}}}));
}
