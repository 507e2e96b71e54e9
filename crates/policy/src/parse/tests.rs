use super::*;

fn error(text: &str) -> PolicyError {
    Policy::parse("p", text).unwrap_err()
}

fn parsed(text: &str) -> Policy {
    Policy::parse("p", text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn mistakes_have_vaults_texts() {
    for (text, expected) in [
        (r#"path "a" { capabilities = ["fly"] }"#, r#"path "a": invalid capability "fly""#),
        (r#"path "a" { policy = "god" }"#, r#"path "a": invalid policy "god""#),
        (r#"pathh "a" { capabilities = ["read"] }"#, "1 error occurred:\n\t* invalid key \"pathh\" on line 0\n\n"),
        (r#"path "a" { capabilitie = ["read"] }"#, "1 error occurred:\n\t* path \"a\": invalid key \"capabilitie\" on line 1\n\n"),
        (
            "path \"a\" {\n  x = 1\n  y = 2\n}",
            "2 errors occurred:\n\t* path \"a\": invalid key \"x\" on line 2\n\t* path \"a\": invalid key \"y\" on line 3\n\n",
        ),
        (r#"path "a+*" { capabilities = ["read"] }"#, r#"path "a+*": invalid use of wildcards ('+*' is forbidden)"#),
        (r#"path "/a/+*" { capabilities = ["read"] }"#, r#"path "a/+*": invalid use of wildcards ('+*' is forbidden)"#),
        (
            r#"path "a" { capabilities = ["read"] min_wrapping_ttl = "2h" max_wrapping_ttl = "1h" }"#,
            "max_wrapping_ttl cannot be less than min_wrapping_ttl",
        ),
        (r#"path "a" { min_wrapping_ttl = "soon" }"#, r#"error parsing min_wrapping_ttl: time: invalid duration "soon""#),
        (r#"path "a/{{b" { capabilities = ["read"] }"#, "failed to validate policy templating: unbalanced templating characters"),
        (r#"{"pathh": {"a": {"capabilities": ["read"]}}}"#, "1 error occurred:\n\t* invalid key \"pathh\" on line 1\n\n"),
        ("path \"a\" { capabilities = [\"read\" }", "At 1:35: error parsing list, expected comma or list end, got: RBRACE"),
    ] {
        assert_eq!(error(text).to_string(), format!("failed to parse policy: {expected}"), "{text}");
    }
    for text in [
        r#"path "a" { capabilities = "read" }"#,
        r#"path "a" { allowed_parameters = ["x"] }"#,
        r#"path "a" { required_parameters = [true] }"#,
    ] {
        assert!(error(text).to_string().starts_with("failed to parse policy: path \"a\": "), "{text}");
    }
}

#[test]
fn all_mistakes_are_collected_with_their_places() {
    let text = "nam = 1\npath \"a\" {\n  capabilitys = [\"read\"]\n  capabilities = [\"fly\", \"read\", \"swim\"]\n}\npath \"b/+*\" { max_wrapping_ttl = true }\n";
    let error = error(text);
    assert_eq!(
        error.report(),
        "1:1: invalid key \"nam\", did you mean \"name\"?\n\
         3:3: path \"a\": invalid key \"capabilitys\", did you mean \"capabilities\"?\n\
         4:19: path \"a\": invalid capability \"fly\"\n\
         4:34: path \"a\": invalid capability \"swim\"\n\
         6:1: path \"b/+*\": invalid use of wildcards ('+*' is forbidden)\n\
         6:34: error parsing max_wrapping_ttl: a duration was expected, not a bool"
    );
    assert_eq!(error.to_string(), "failed to parse policy: 1 error occurred:\n\t* invalid key \"nam\" on line 1\n\n");
}

#[test]
fn policy_without_paths_is_no_mistake() {
    assert!(parsed("name = \"x\"").stanzas().is_empty());
    assert!(parsed("# nothing\n").stanzas().is_empty());
    assert!(error("5").to_string().starts_with("failed to parse policy: At 1:1: "));
}

#[test]
fn bare_label_is_a_pattern() {
    assert_eq!(parsed("path a { }").stanzas()[0].pattern(), "a");
    assert_eq!(parsed("path { policy = \"read\" }").stanzas()[0].pattern(), "path");
}

#[test]
fn deny_ends_the_reading_of_a_stanza() {
    let policy = parsed(r#"path "a" { capabilities = ["read", "deny", "fly"] min_wrapping_ttl = "soon" }"#);
    assert_eq!(policy.stanzas()[0].permissions(), &Permissions::deny());
    assert!(Policy::parse("p", r#"path "a" { capabilities = ["fly", "deny"] }"#).is_err());
}

#[test]
fn legacy_words_become_capabilities() {
    for (word, expected) in [
        ("deny", vec!["deny"]),
        ("read", vec!["list", "read"]),
        ("write", vec!["create", "delete", "list", "read", "update"]),
        ("sudo", vec!["create", "delete", "list", "read", "sudo", "update"]),
    ] {
        let policy = parsed(&format!("path \"a\" {{ policy = \"{word}\" }}"));
        assert_eq!(policy.stanzas()[0].permissions().capabilities.names(), expected);
    }
}

#[test]
fn all_keys_are_read() {
    let policy = parsed(
        r#"path "a" {
            comment = "why"
            capabilities = ["create", "patch", "subscribe", "recover"]
            allowed_parameters = { "Bar" = ["one", 2, true] "*" = [] }
            denied_parameters { gone = [] }
            required_parameters = ["Foo"]
            min_wrapping_ttl = 60
            max_wrapping_ttl = "1h"
            control_group = { factor "x" { } }
        }"#,
    );
    let permissions = policy.stanzas()[0].permissions();
    assert_eq!(permissions.capabilities.names(), ["create", "patch", "recover", "subscribe"]);
    assert_eq!(permissions.allowed.values("BAR").map(<[_]>::len), Some(3));
    assert!(permissions.allowed.has_all());
    assert_eq!(permissions.denied.values("gone"), Some(&[][..]));
    assert_eq!(permissions.required, ["foo"]);
    assert_eq!((permissions.wrapping_min, permissions.wrapping_max), (Seconds(60), Seconds(3600)));
    assert_eq!(policy.warnings(), ["path \"a\": control_group on line 9 has no effect on this server"]);
}

#[test]
fn json_says_the_same() {
    let hcl = parsed("path \"a/b\" { capabilities = [\"create\"] }\npath \"c\" { allowed_parameters = { x = [] } }");
    for text in [
        r#"{"path": {"a/b": {"capabilities": ["create"]}, "c": {"allowed_parameters": {"x": []}}}}"#,
        r#"{"path": [{"a/b": {"capabilities": ["create"]}}, {"c": [{"allowed_parameters": {"x": []}}]}]}"#,
    ] {
        let json = parsed(text);
        let shape =
            |policy: &Policy| policy.stanzas().iter().map(|s| (s.pattern().to_owned(), s.permissions().clone())).collect::<Vec<_>>();
        assert_eq!(shape(&json), shape(&hcl), "{text}");
    }
    assert!(error(r#"{"path": {"a": "x"}}"#).to_string().contains("an object was expected"));
    assert!(error(r#"{"path": 5}"#).to_string().contains("an object was expected"));
}

#[test]
fn duplicates_add_up_and_warn() {
    let policy = parsed("path \"a\" {\n capabilities = [\"read\"]\n capabilities = [\"list\"]\n}");
    assert_eq!(policy.stanzas()[0].permissions().capabilities.names(), ["list", "read"]);
    assert_eq!(policy.warnings().len(), 1);
}

#[test]
fn short_wrapping_limits_stay_limits() {
    let policy = parsed(r#"path "a" { max_wrapping_ttl = "500ms" min_wrapping_ttl = "0s" }"#);
    assert_eq!(policy.stanzas()[0].permissions().wrapping_max, Seconds(1));
    assert_eq!(policy.stanzas()[0].permissions().wrapping_min, Seconds::ZERO);
    assert!(error(r#"path "a" { max_wrapping_ttl = -5 }"#).to_string().contains("cannot provide negative value '-5'"));
}

#[test]
fn limits_are_kept() {
    let many = "path \"a\" { }\n".repeat(limits::PATHS_MAX + 1);
    assert!(error(&many).to_string().contains("10001 paths, the limit is 10000"));
    let long = format!("path \"{}\" {{ }}", "x".repeat(5000));
    assert!(error(&long).to_string().contains("the limit is 4096"));
    assert!(error(&"#".repeat(2 << 20)).to_string().contains("the limit is 1048576"));
}

#[test]
fn built_in_texts_are_whole() {
    let default = parsed(crate::DEFAULT_POLICY);
    assert!(default.is_templated() && default.warnings().is_empty());
    assert_eq!(default.stanzas().len(), 18);
    assert_eq!(parsed(crate::RESPONSE_WRAPPING_POLICY).stanzas().len(), 2);
}
