use std::sync::Arc;

use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_base::{Clock, Entropy};

use super::{Claims, Facts, Template};

fn filled(template: &str) -> Result<String, String> {
    filled_with(template, Claims::Absent)
}

fn filled_with(template: &str, claims: Claims<'_>) -> Result<String, String> {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::default());
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
    let facts = Facts {
        kind: "IAM",
        display_name: "token-terraform",
        policy_name: "ecr-staging",
        claims,
        quote: Ok,
        clock: &clock,
        entropy: &entropy,
    };
    Template::parse(template)?.fill(&facts)
}

#[test]
fn functions_do_what_vaults_do() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{ .DisplayName }}-{{.PolicyName}}", "token-terraform-ecr-staging"),
        ("{{ .DisplayName | truncate 5 }}", "token"),
        ("{{ truncate 5 .DisplayName | uppercase }}", "TOKEN"),
        ("{{ \"ABC\" | lowercase }}", "abc"),
        ("{{ replace \"-\" \"_\" .PolicyName }}", "ecr_staging"),
        ("{{ .PolicyName | replace `-` `+` }}", "ecr+staging"),
        ("{{ \"abc\" | sha256 | truncate 8 }}", "ba7816bf"),
        ("{{ \"abc\" | base64 }}", "YWJj"),
        ("{{ unix_time }}", "1767323045"),
        ("{{ unix_time_millis }}", "1767323045000"),
        ("{{ timestamp \"2006-01-02T15:04:05Z\" }}", "2026-01-02T03:04:05Z"),
        ("{{ timestamp \"Mon Jan _2 3:04PM 06 .000\" }}", "Fri Jan  2 3:04AM 26 .000"),
        ("{{ printf \"%s/%d/%v/%%\" .Type 5 true }}", "IAM/5/true/%"),
        ("{{ printf \"%-4s|%04d|%.2s\" \"a\" 7 \"abc\" }}", "a   |0007|ab"),
        ("{{ if eq .Type \"STS\" }}s{{ else if eq .Type \"IAM\" }}i{{ else }}n{{ end }}", "i"),
        ("{{ if (not (eq .Type \"STS\")) }}no{{ end }}", "no"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("a  {{- \"-\" -}}  b", "a-b"),
        ("{{ (printf \"%s-%s\" (.DisplayName) (.PolicyName) | truncate 42) }}", "token-terraform-ecr-staging"),
    ] {
        assert_eq!(filled(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn random_is_base62_of_the_length_asked() {
    let text = filled("{{ random 20 }}").unwrap();
    assert!(text.len() == 20 && text.chars().all(|c| c.is_ascii_alphanumeric()), "{text}");
    assert_ne!(filled("{{ random 20 }}{{ random 20 }}").map(|text| text.split_at(20).0 == text.split_at(20).1), Ok(true));
    assert_eq!(filled("{{ uuid }}").unwrap().len(), 36);
}

#[test]
fn a_hash_marks_what_was_cut() {
    let long = filled("{{ truncate_sha256 12 \"abcdefghijklmnop\" }}").unwrap();
    assert!(long.starts_with("abcd") && long.len() == 12, "{long}");
    assert_eq!(filled("{{ truncate_sha256 12 \"short\" }}").as_deref(), Ok("short"));
    assert!(filled("{{ truncate_sha256 8 \"abcdefghijklmnop\" }}").is_err());
}

#[test]
fn what_is_not_understood_is_refused_with_a_reason() {
    for (template, reason) in [
        ("{{ .Nope }}", "there is no field .Nope"),
        ("{{ shout .Type }}", "function \"shout\" not defined"),
        ("{{ if .Type }}x", "no {{end}}"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ else }}", "unexpected {{else}}"),
        ("{{ range .Type }}{{ end }}", "{{range}} is not supported"),
        ("{{ $x }}", "variables"),
        ("{{ .Type", "unclosed action"),
        ("{{ \"a }}", "unterminated quoted string"),
        ("{{ (unix_time }}", "unclosed left paren"),
        ("{{ unix_time) }}", "unexpected right paren"),
        ("{{ }}", "missing value"),
        ("{{ truncate 5 }}", "wrong number of args for truncate: want 2 got 1"),
        ("{{ .Type 5 }}", "only a function takes arguments"),
        ("{{ 5 | .Type }}", "must be a function"),
        ("{{ } }}", "unexpected '}'"),
        ("{{ random 0 }}", "random takes a length of 1"),
        ("{{ random -1 }}", "random takes a length of 1"),
        ("{{ truncate 0 .Type }}", "max length must be > 0 but was 0"),
        ("{{ printf \"%s\" }}", "more verbs than arguments"),
        ("{{ printf \"x\" 1 }}", "fewer verbs than arguments"),
        ("{{ printf \"%d\" .Type }}", "cannot show"),
        ("{{ printf \"%999999s\" .Type }}", "width"),
    ] {
        let error = filled(template).expect_err(template);
        assert!(error.contains(reason), "{template}: {error}");
    }
}

#[test]
fn size_and_depth_are_limited() {
    assert!(filled(&"x".repeat(5000)).is_err());
    let deep = format!("{{{{ {}unix_time{} }}}}", "(".repeat(40), ")".repeat(40));
    assert!(filled(&deep).unwrap_err().contains("nested deeper"));
    let nested = format!("{}{}", "{{if true}}".repeat(40), "{{end}}".repeat(40));
    assert!(filled(&nested).unwrap_err().contains("nested deeper"));
    assert!(filled(&"{{ random 1000 }}".repeat(5)).unwrap_err().contains("more than 4096 bytes"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_fall_over(text in "[ -~{}|()\"`.a-z]{0,80}") {
        let _any = filled(&text);
        let _wrapped = filled(&format!("{{{{{text}}}}}"));
    }
}

#[test]
fn claims_are_what_the_login_proved_and_a_missing_one_is_an_error() {
    let claims = [("repository", "acme/app"), ("https://x/y", "z")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let filled = |template| filled_with(template, Claims::Of(&claims));
    assert_eq!(filled("{{ .Claims.repository | replace \"/\" \"-\" }}").as_deref(), Ok("acme-app"));
    assert_eq!(filled("{{ index .Claims \"https://x/y\" | uppercase }}{{ (index .Claims \"repository\") }}").as_deref(), Ok("Zacme/app"));
    assert!(filled("{{ if eq .Claims.ref \"main\" }}a{{ end }}").unwrap_err().contains("proved no \"ref\""));
    for broken in ["{{ .Claims }}", "{{ .Claims.a-b }}", "{{ index .Claims }}", "{{ index .Type \"a\" }}", "{{ index .Claims 5 }}"] {
        assert!(filled(broken).is_err(), "{broken}");
    }
    assert!(filled_with("{{ .Claims.x }}", Claims::Absent).unwrap_err().contains("there are no claims here"));
    assert_eq!(filled_with("{{ .Claims.x }}", Claims::Any).as_deref(), Ok("claim"));
}
