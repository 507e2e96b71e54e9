//! Documents, patterns and conditions.

use proptest::prelude::*;
use serde_json::json;

use super::*;

struct Pairs(Vec<(&'static str, Vec<&'static str>)>);

impl Facts for Pairs {
    fn values(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(name, _)| *name == key).flat_map(|(_, values)| values.iter().map(|value| (*value).to_owned())).collect()
    }
}

fn document(value: &Value) -> Document {
    Document::from_value(value, Use::Identity).unwrap()
}

fn holds(operator: &str, key: &str, value: &Value, facts: Vec<(&'static str, Vec<&'static str>)>) -> bool {
    let text = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {operator: {key: value}}}});
    document(&text).judge("s3:x", "r", &Pairs(facts)) == Verdict::Allowed
}

#[test]
fn deny_wins_and_silence_is_no_permission() {
    let document = document(&json!({"Statement": [
        {"Effect": "Allow", "Action": ["ecr:*", "STS:assume*"], "Resource": "*"},
        {"Effect": "Deny", "Action": "ecr:Delete*", "Resource": "arn:aws:ecr:*:*:repository/prod-?"},
        {"Effect": "Allow", "NotAction": ["iam:*", "sts:*", "ecr:*"], "NotResource": "arn:secret"},
    ]}));
    let none = Pairs(Vec::new());
    for (action, resource, verdict) in [
        ("ecr:GetAuthorizationToken", "*", Verdict::Allowed),
        ("sts:AssumeRole", "arn:aws:iam::1:role/x", Verdict::Allowed),
        ("ecr:DeleteRepository", "arn:aws:ecr:us-east-1:1:repository/prod-1", Verdict::Denied),
        ("ecr:DeleteRepository", "arn:aws:ecr:us-east-1:1:repository/prod-12", Verdict::Allowed),
        ("iam:GetUser", "*", Verdict::Silent),
        ("s3:GetObject", "*", Verdict::Allowed),
        ("s3:GetObject", "arn:secret", Verdict::Silent),
    ] {
        assert_eq!(document.judge(action, resource, &none), verdict, "{action} {resource}");
    }
}

#[test]
fn conditions_compare_as_documented() {
    let one = |value| vec![("k", vec![value])];
    for (operator, value, facts, expected) in [
        ("StringEquals", json!("a"), one("a"), true),
        ("StringEquals", json!(["b", "a"]), one("a"), true),
        ("StringEquals", json!("A"), one("a"), false),
        ("StringEqualsIgnoreCase", json!("A"), one("a"), true),
        ("StringEquals", json!("a*"), one("ab"), false),
        ("StringLike", json!("a*"), one("ab"), true),
        ("StringNotLike", json!("a*"), one("ab"), false),
        ("StringEquals", json!("a"), vec![], false),
        ("StringEqualsIfExists", json!("a"), vec![], true),
        ("StringNotEquals", json!("a"), vec![], true),
        ("ArnLike", json!("arn:aws:iam::*:role/*"), one("arn:aws:iam::1:role/x/y"), true),
        ("ArnLike", json!("arn:aws:*:role/x"), one("arn:aws:iam::1:role/x"), false),
        ("ArnEquals", json!("arn:aws:iam::1:role/x"), one("arn:aws:iam::1:role/x"), true),
        ("ArnNotEquals", json!("arn:aws:iam::1:role/x"), one("arn:aws:iam::1:role/y"), true),
        ("Bool", json!(true), one("true"), true),
        ("Null", json!("true"), vec![], true),
        ("Null", json!("false"), vec![], false),
        ("NumericLessThanEquals", json!(5), one("5"), true),
        ("NumericGreaterThan", json!("5"), one("5"), false),
        ("DateLessThan", json!("2026-01-02T00:00:00Z"), one("2026-01-01T23:59:59Z"), true),
        ("DateGreaterThan", json!("2026-01-02T00:00:00Z"), one("2026-01-01T23:59:59Z"), false),
        ("IpAddress", json!("10.0.0.0/8"), one("10.9.8.7"), true),
        ("IpAddress", json!("0.0.0.0/0"), one("10.9.8.7"), true),
        ("NotIpAddress", json!("10.0.0.0/8"), one("11.0.0.1"), true),
        ("IpAddress", json!("10.0.0.0/99"), one("10.0.0.1"), false),
        ("ForAllValues:StringEquals", json!(["a", "b"]), vec![("k", vec!["a", "b"])], true),
        ("ForAllValues:StringEquals", json!(["a"]), vec![("k", vec!["a", "b"])], false),
        ("ForAllValues:StringEquals", json!(["a"]), vec![], true),
        ("ForAnyValue:StringEquals", json!(["a"]), vec![("k", vec!["a", "b"])], true),
        ("ForAnyValue:StringEquals", json!(["a"]), vec![], false),
    ] {
        assert_eq!(holds(operator, "K", &value, facts), expected, "{operator} {value}");
    }
}

#[test]
fn policy_variables_are_filled_in_new_documents_only() {
    let statement = json!({"Effect": "Allow", "Action": "iam:GetUser", "Resource": "arn:aws:iam::1:user/${aws:username}"});
    let facts = Pairs(vec![("aws:username", vec!["bob"])]);
    let new = document(&json!({"Version": "2012-10-17", "Statement": [statement]}));
    assert_eq!(new.judge("iam:GetUser", "arn:aws:iam::1:user/bob", &facts), Verdict::Allowed);
    assert_eq!(new.judge("iam:GetUser", "arn:aws:iam::1:user/eve", &facts), Verdict::Silent);
    assert_eq!(new.judge("iam:GetUser", "arn:aws:iam::1:user/bob", &Pairs(Vec::new())), Verdict::Silent);
    let old = document(&json!({"Statement": [statement]}));
    assert_eq!(old.judge("iam:GetUser", "arn:aws:iam::1:user/bob", &facts), Verdict::Silent);
}

#[test]
fn malformed_documents_are_refused_in_the_words_of_aws() {
    let allow = |extra: &str| format!(r#"{{"Statement":[{{"Effect":"Allow"{extra}}}]}}"#);
    for (text, used, part) in [
        ("{".to_owned(), Use::Identity, "Syntax errors in policy."),
        ("{".to_owned(), Use::Trust, "This policy contains invalid Json"),
        ("[]".to_owned(), Use::Identity, "Syntax errors"),
        (r#"{"Version":"2020-01-01","Statement":[]}"#.to_owned(), Use::Identity, "must contain a valid version string"),
        (r#"{"Version":"2012-10-17"}"#.to_owned(), Use::Identity, "Syntax errors"),
        (allow(""), Use::Identity, "must contain actions"),
        (allow(r#","Action":"s3:*""#), Use::Identity, "must contain resources"),
        (allow(r#","Action":"everything","Resource":"*""#), Use::Identity, "prefaced by a vendor"),
        (allow(r#","Action":"s3:*","Resource":"*","Principal":"*""#), Use::Identity, "should not specify a principal"),
        (allow(r#","Action":"sts:AssumeRole""#), Use::Trust, "Missing required field Principal"),
        (allow(r#","Action":"sts:AssumeRole","Principal":"*","Resource":"*""#), Use::Trust, "Has prohibited field Resource"),
        (allow(r#","Action":"s3:*","Principal":"*""#), Use::Trust, "may only specify STS AssumeRole actions"),
        (
            allow(r#","Action":"s3:*","Resource":"*","Condition":{"StringSimilar":{"a":"b"}}"#),
            Use::Identity,
            "Invalid Condition type : StringSimilar.",
        ),
        (allow(r#","Action":"s3:*","Resource":"*","Extra":1"#), Use::Identity, "Syntax errors"),
    ] {
        let fault = Document::parse(&text, used).unwrap_err();
        assert_eq!(fault.code, "MalformedPolicyDocument");
        assert!(fault.message.contains(part), "{text}: {}", fault.message);
    }
}

/// The obvious way, which is too slow for hostile patterns.
fn plain_like(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), None) => plain_like(rest, text),
        (Some(('*', rest)), Some((_, tail))) => plain_like(rest, text) || plain_like(pattern, tail),
        (Some((wanted, rest)), Some((found, tail))) => (*wanted == '?' || wanted == found) && plain_like(rest, tail),
        _ => false,
    }
}

proptest! {
    #[test]
    fn patterns_match_as_the_obvious_way_does(pattern in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(like(&pattern, &text), plain_like(&chars(&pattern), &chars(&text)));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[\\[\\]{}\":,a-zA-Z* ]{0,120}") {
        let _either = Document::parse(&text, Use::Identity).is_ok();
        let _either = Document::parse(&text, Use::Trust).is_ok();
    }
}

#[test]
fn hostile_patterns_end_soon() {
    assert!(!like(&"*a".repeat(500), &"a".repeat(499)));
    assert!(like(&"*a".repeat(500), &"a".repeat(5000)));
}
