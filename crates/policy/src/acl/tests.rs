use crate::{Alias, Entity};

use super::*;

fn acl(texts: &[&str]) -> Acl {
    let policies: Vec<Arc<Policy>> =
        texts.iter().enumerate().map(|(index, text)| Arc::new(Policy::parse(&format!("p{index}"), text).unwrap())).collect();
    Acl::compile(&policies, &Identity::default())
}

fn allows(acl: &Acl, operation: Operation, path: &str) -> bool {
    acl.judge(&Question::new(path, operation)).allowed
}

fn sends(acl: &Acl, path: &str, data: Value) -> bool {
    let data = data.as_object().unwrap();
    acl.judge(&Question { data: Some(data), ..Question::new(path, Operation::Update) }).allowed
}

/// The stanzas and answers of the recorded scenario acl-precedence.
#[test]
fn precedence_is_the_recorded_one() {
    use Operation::{Create, Delete, List, Read, Update};
    let acl = acl(&[r#"
        path "m/*" { capabilities = ["read"] }
        path "m/secret/*" { capabilities = ["deny"] }
        path "m/secret/open" { capabilities = ["read"] }
        path "m/+/plus" { capabilities = ["create", "update"] }
        path "m/team-*" { capabilities = ["create", "read", "update"] }
        path "m/team-a/exact" { capabilities = ["delete"] }
        path "m/+/+/two" { capabilities = ["update", "create"] }
        path "m/x/+/two" { capabilities = ["read"] }
        path "m/only-create" { capabilities = ["create"] }
        path "m/only-update" { capabilities = ["update"] }
        path "m/listed/" { capabilities = ["list"] }
        path "m/listed2" { capabilities = ["list"] }"#]);
    for (operation, path, expected) in [
        (Read, "m/any", true),
        (Read, "m/secret/open", true),
        (Read, "m/secret/closed", false),
        (Read, "m/a/plus", false),
        (Read, "m/a/b/plus", true),
        (Read, "m/team-a/k", true),
        (Read, "m/team-a/exact", false),
        (Read, "m/x/y/two", true),
        (Read, "m/q/y/two", false),
        (Update, "m/a/plus", true),
        (Update, "m/a/b/plus", false),
        (Create, "m/team-a/new", true),
        (Update, "m/x/y/two", false),
        (Update, "m/q/y/two", true),
        (Create, "m/only-create", true),
        (Update, "m/only-create", false),
        (List, "m/listed/", true),
        (List, "m/listed2/", true),
        (List, "m/team-a/", false),
        (List, "m/", false),
        (Delete, "m/team-a/exact", true),
        (Delete, "m/team-a/k", false),
        (Read, "other/any", false),
    ] {
        assert_eq!(allows(&acl, operation, path), expected, "{operation:?} {path}");
    }
}

/// The stanzas and answers of the recorded scenario capabilities.
#[test]
fn capabilities_are_the_recorded_ones() {
    let acl = acl(&[r#"
        path "i/a" { capabilities = ["read", "update"] }
        path "i/b/*" { capabilities = ["list", "create", "delete"] }
        path "i/c" { capabilities = ["deny"] }
        path "i/d/+/e" { capabilities = ["patch"] }
        path "i/f" { capabilities = ["sudo", "read"] }"#]);
    for (path, expected) in [
        ("i/a", vec!["read", "update"]),
        ("i/b", vec!["deny"]),
        ("i/b/", vec!["create", "delete", "list"]),
        ("i/b/x/y", vec!["create", "delete", "list"]),
        ("i/c", vec!["deny"]),
        ("i/d/1/e", vec!["patch"]),
        ("i/d/1/2/e", vec!["deny"]),
        ("i/f", vec!["read", "sudo"]),
        ("i/zzz", vec!["deny"]),
    ] {
        assert_eq!(acl.capabilities(path), expected, "{path}");
    }
}

/// The stanzas and answers of the recorded scenario acl-parameters.
#[test]
fn parameters_are_judged_as_recorded() {
    let acl = acl(&[r#"
        path "required" { capabilities = ["update"]  required_parameters = ["bar", "baz"] }
        path "allowed" { capabilities = ["update"]  allowed_parameters = { "bar" = ["one", "pre-*"]  "foo" = [] } }
        path "allowed-any" { capabilities = ["update"]  allowed_parameters = { "bar" = ["one"]  "*" = [] } }
        path "denied" { capabilities = ["update"]  denied_parameters = { "bar" = ["one", "pre-*"]  "gone" = [] } }
        path "denied-all" { capabilities = ["update"]  denied_parameters = { "*" = [] } }
        path "both" { capabilities = ["update"]  allowed_parameters = { "*" = [] }  denied_parameters = { "bar" = ["bad"] } }"#]);
    for (path, data, expected) in [
        ("required", json!({}), false),
        ("required", json!({"bar": "1"}), false),
        ("required", json!({"bar": "1", "baz": "2"}), true),
        ("required", json!({"bar": "", "baz": ""}), true),
        ("required", json!({"BAR": "1", "baz": "2"}), false),
        ("allowed", json!({"bar": "one"}), true),
        ("allowed", json!({"BAR": "two"}), false),
        ("allowed", json!({"bar": "pre-x"}), true),
        ("allowed", json!({"foo": [1]}), true),
        ("allowed", json!({"other": "1"}), false),
        ("allowed", json!({}), true),
        ("allowed", json!({"bar": "one", "other": "1"}), false),
        ("allowed", json!({"bar": 1}), false),
        ("allowed-any", json!({"bar": "two"}), false),
        ("allowed-any", json!({"other": "x"}), true),
        ("denied", json!({"bar": "one"}), false),
        ("denied", json!({"bar": "pre-z"}), false),
        ("denied", json!({"Gone": "1"}), false),
        ("denied", json!({"bar": "two", "other": "x"}), true),
        ("denied-all", json!({}), true),
        ("denied-all", json!({"a": "1"}), false),
        ("both", json!({"bar": "bad"}), false),
        ("both", json!({"bar": "good", "x": "1"}), true),
    ] {
        assert_eq!(sends(&acl, path, data.clone()), expected, "{path} {data}");
    }
}

/// The stanzas and answers of the recorded scenario acl-wrapping-ttl.
#[test]
fn wrapping_limits_are_the_recorded_ones() {
    let acl = acl(&[r#"
        path "min" { capabilities = ["read"]  min_wrapping_ttl = "60s" }
        path "max" { capabilities = ["read"]  max_wrapping_ttl = "120s" }
        path "both" { capabilities = ["read"]  min_wrapping_ttl = 60  max_wrapping_ttl = 120 }"#]);
    for (path, ttl, expected) in [
        ("min", None, false),
        ("max", None, false),
        ("both", None, false),
        ("min", Some(30), false),
        ("min", Some(60), true),
        ("max", Some(120), true),
        ("max", Some(300), false),
        ("both", Some(90), true),
        ("both", Some(300), false),
    ] {
        let verdict = acl.judge(&Question { wrap_ttl: ttl.map(Seconds), ..Question::new(path, Operation::Read) });
        assert_eq!(verdict.allowed, expected, "{path} {ttl:?}");
    }
}

#[test]
fn same_pattern_of_two_policies_unites() {
    let one = r#"path "a" { capabilities = ["read"] min_wrapping_ttl = 60 allowed_parameters = { x = ["1"] y = [] } required_parameters = ["r"] }"#;
    let two = r#"path "/a" { capabilities = ["list"] min_wrapping_ttl = 30 allowed_parameters = { x = ["2"] z = ["3"] y = ["4"] } required_parameters = ["s"] }"#;
    let united = acl(&[one, two]);
    let rule = united.rule_for("a", Operation::Read).unwrap();
    let permissions = rule.permissions();
    assert_eq!(permissions.capabilities.names(), ["list", "read"]);
    assert_eq!(permissions.wrapping_min, Seconds(30));
    assert_eq!(permissions.allowed.values("x").unwrap(), [json!("1"), json!("2")]);
    assert_eq!(permissions.allowed.values("y"), Some(&[][..]));
    assert_eq!(permissions.required, ["r", "s"]);
    assert_eq!(rule.grants().len(), 2);
    let denied = acl(&[one, r#"path "a" { capabilities = ["deny"] }"#, two]);
    assert_eq!(denied.capabilities("a"), ["deny"]);
    let verdict = denied.judge(&Question::new("a", Operation::Read));
    assert_eq!((verdict.reason, verdict.granting().collect::<Vec<_>>()), (Reason::Denied, vec!["p1"]));
}

#[test]
fn verdicts_name_the_policies_that_grant() {
    let acl = acl(&[r#"path "a/*" { capabilities = ["read"] }"#, r#"path "a/*" { capabilities = ["update"] }"#]);
    let verdict = acl.judge(&Question::new("a/b", Operation::Update));
    assert_eq!(verdict.granting().collect::<Vec<_>>(), ["p1"]);
    assert_eq!(verdict.to_string(), "allowed by \"a/*\" of policies p0, p1: granted");
    let verdict = acl.judge(&Question::new("a/b", Operation::Delete));
    assert_eq!(verdict.to_string(), "denied by \"a/*\" of policies p0, p1: capability \"delete\" is not granted");
    assert_eq!(acl.judge(&Question::new("b", Operation::Read)).to_string(), "denied: no pattern matches");
}

#[test]
fn root_and_help_pass_and_sudo_paths_need_sudo() {
    let root = Acl::compile(&[Arc::new(Policy::root())], &Identity::default());
    assert!(root.judge(&Question { sudo_path: true, ..Question::new("sys/raw/x", Operation::Delete) }).allowed);
    assert_eq!(root.capabilities("x"), ["root"]);
    assert_eq!(root.judge(&Question::new("x", Operation::Read)).granting().collect::<Vec<_>>(), ["root"]);
    assert_eq!(Value::from(root.resultant_acl()), json!({"root": true, "chroot_namespace": ""}));
    let plain = acl(&[r#"path "*" { capabilities = ["read"] }"#, r#"path "sys/seal" { capabilities = ["update", "sudo"] }"#]);
    assert!(allows(&plain, Operation::Help, "sys/raw/x") && allows(&plain, Operation::Read, "//x"));
    let verdict = plain.judge(&Question { sudo_path: true, ..Question::new("sys/audit", Operation::Read) });
    assert_eq!(verdict.reason, Reason::MissingCapability(Capability::Sudo));
    assert!(plain.judge(&Question { sudo_path: true, ..Question::new("sys/seal", Operation::Update) }).allowed);
}

#[test]
fn templates_are_filled_per_caller() {
    let text = r#"path "kv/{{identity.entity.name}}/*" { capabilities = ["read"] }
        path "kv/{{identity.entity.aliases.acc.name}}*" { capabilities = ["read", "delete"] }"#;
    let policy = Arc::new(Policy::parse("p", text).unwrap());
    let alias = Alias { mount_accessor: "acc".into(), name: "*".into(), ..Alias::default() };
    let identity = Identity { entity: Some(Entity { name: "ada".into(), aliases: vec![alias], ..Entity::default() }), groups: Vec::new() };
    let acl = Acl::compile(std::slice::from_ref(&policy), &identity);
    assert!(allows(&acl, Operation::Read, "kv/ada/x"));
    assert!(!allows(&acl, Operation::Read, "kv/bob/x"), "a star in a name must not widen the pattern");
    assert!(!allows(&Acl::compile(&[policy], &Identity::default()), Operation::Read, "kv/ada/x"));
}

/// Story: who may write all policies but `admin` wrote `Admin`, and deleted `admin/`. Handlers take these for one name; a deny that is
/// compared to the letter takes them for three (CVE-2026-89322).
#[test]
fn a_deny_holds_for_every_spelling_of_the_name() {
    use Operation::{Delete, List, Read, Update};
    let acl = acl(&[r#"
        path "sys/policies/acl/*" { capabilities = ["read", "update", "delete"] }
        path "sys/policies/acl/admin" { capabilities = ["deny"] }
        path "sys/mounts/*" { capabilities = ["delete"] }
        path "sys/mounts/victim/" { capabilities = ["deny"] }
        path "auth/approle/role/*" { capabilities = ["update", "list"] }
        path "auth/approle/role/Prod/*" { capabilities = ["deny"] }
        path "auth/+/users/*" { capabilities = ["update"] }
        path "auth/+/users/root-+" { capabilities = ["update"] }
        path "auth/+/users/Root" { capabilities = ["deny"] }
        path "identity/entity/name/*" { capabilities = ["update"] }
        path "identity/entity/name/οδος" { capabilities = ["deny"] }"#]);
    for (operation, path) in [
        (Read, "sys/policies/acl/admin"),
        (Update, "sys/policies/acl/Admin"),
        (Delete, "sys/policies/acl/admin/"),
        (Delete, "sys/policies/acl/ADMIN//"),
        (Delete, "sys/mounts/victim"),
        (Delete, "sys/mounts/victim/"),
        (Update, "auth/approle/role/PROD/secret-id"),
        (Update, "auth/approle/role/prod/secret-id"),
        (List, "auth/approle/role/prod/secret-id/"),
        (Update, "auth/userpass/users/rOOt"),
        (Update, "auth/userpass/users/root/"),
        (Update, "identity/entity/name/ ΟΔΟΣ "),
    ] {
        let verdict = acl.judge(&Question::new(path, operation));
        assert_eq!(verdict.reason, Reason::Denied, "{operation:?} {path}");
        assert_eq!(acl.capabilities(path), ["deny"], "{path}");
        assert_eq!(acl.explain(&Question::new(path, operation)).verdict, verdict);
    }
    for (operation, path) in [
        (Update, "sys/policies/acl/admins"),
        (Delete, "sys/mounts/victims/"),
        (Update, "auth/approle/role/Production"),
        (List, "auth/approle/role/"),
        (Update, "auth/userpass/users/root-1"),
        (Update, "identity/entity/name/οδος-1"),
    ] {
        assert!(allows(&acl, operation, path), "{operation:?} {path}");
    }
    let long = format!("sys/policies/acl/{}", "X".repeat(400));
    assert!(allows(&acl, Update, &long));
    let explained = acl.explain(&Question::new("sys/policies/acl/Admin", Update));
    assert_eq!(explained.verdict.to_string(), "denied by \"sys/policies/acl/admin\" of policy p0: the path is denied");
    assert!(explained.found.starts_with("a deny counts for every spelling"));
    assert_eq!(explained.others.len(), 1);
}

/// A deny that folding finds has the precedence of any rule: what is more specific stays granted, what is less is not, and of two that are
/// equal the deny wins.
#[test]
fn folding_a_deny_keeps_precedence() {
    use Operation::{List, Read};
    for (deny, grant, operation, path, expected) in [
        ("kv/prod/*", "kv/*", Read, "kv/PROD/x", false),
        ("kv/prod/*", "kv/PROD/*", Read, "kv/PROD/x", false),
        ("kv/PROD/*", "kv/prod/*", Read, "kv/prod/x", false),
        ("kv/prod/*", "kv/PROD/x*", Read, "kv/PROD/x", true),
        ("kv/prod/*", "kv/PROD/x", Read, "kv/PROD/x", true),
        ("kv/prod/x", "kv/PROD/x", Read, "kv/PROD/x", false),
        ("a*", "A-team/*", Read, "A-team/x", true),
        ("kv/+/x", "kv/*", Read, "kv/b/X", false),
        ("kv/+/x", "kv/b/*", Read, "kv/b/X", true),
        ("kv/+/+/d", "kv/+/c/+", Read, "kv/b/c/d", true),
        ("kv/+/+/d", "kv/+/c/+", Read, "kv/b/c/D", false),
        ("kv/+", "kv/*", Read, "kv/b/", false),
        // Who denies a folder denies its list, not what is read under the same name.
        ("kv/+/", "kv/*", Read, "kv/b", true),
        ("kv/+/", "kv/*", Read, "kv/B/", false),
        ("kv/+/", "kv/+", List, "kv/b/", false),
        ("kv/app/", "kv/app", Read, "kv/app", true),
        ("kv/APP/", "kv/app*", List, "kv/app/", false),
        ("kv/APP/", "kv/app*", Read, "kv/app/", false),
        // Mounts and policies are the same with a slash and without.
        ("sys/mounts/kv/", "sys/mounts/kv", Read, "sys/mounts/kv", false),
        ("sys/mounts/+/", "sys/mounts/*", Read, "sys/mounts/kv", false),
        ("+/mounts/+/", "sys/*", Read, "sys/mounts/kv", true),
        ("sys/policies/acl/Admin/", "sys/policies/acl/*", Read, "sys/policies/acl/admin", false),
        ("sys/leases/lookup/", "sys/leases/lookup", Read, "sys/leases/lookup", true),
        ("kv/*", "kv/b/*", Read, "kv/b/", true),
        // To a template's value that is long in bytes and short in letters nothing is owed.
        ("kv/k/s*", "kv/\u{212a}/*", Read, "kv/\u{212a}/s", false),
        // A list may be granted where reading the key of the same name is denied.
        ("kv/team", "kv/team/", List, "kv/team/", true),
        ("kv/Team", "kv/team", List, "kv/team/", false),
        ("kv/Team/", "kv/team/", List, "kv/team/", false),
    ] {
        let acl =
            acl(&[&format!("path {deny:?} {{ capabilities = [\"deny\"] }}\npath {grant:?} {{ capabilities = [\"read\", \"list\"] }}")
                .replace("\\u{212a}", "\u{212a}")]);
        assert_eq!(allows(&acl, operation, path), expected, "{deny} {grant} {operation:?} {path}");
    }
}

/// Story: a list of `kv/prod/` was granted by `kv/*`, which matches it without the slash, although `kv/prod/*` denies it (CVE-2026-63131).
#[test]
fn a_list_is_denied_where_the_path_with_its_slash_is() {
    for (deny, grant, expected) in [
        ("m/prod/*", "m/*", false),
        ("m/PROD/*", "m/*", false),
        ("m/+/*", "m/+", false),
        ("m/+/", "m/+", false),
        ("m/*", "m/+", false),
        ("m/+/*", "m/*", true),
        ("m/*", "m/pro*", true),
        ("m/prod/*", "m/prod", true),
        ("m/prod", "m/prod/*", false),
    ] {
        let text = format!("path {deny:?} {{ capabilities = [\"deny\"] }}\npath {grant:?} {{ capabilities = [\"list\"] }}");
        let acl = acl(&[&text]);
        assert_eq!(allows(&acl, Operation::List, "m/prod/"), expected, "{deny} {grant}");
        assert_eq!(acl.capabilities("m/prod/") == ["list"], expected, "{deny} {grant}");
    }
}

/// Story: a stanza that denies `kv/{{name}}/private/*` was left out for whoever was called `org/repo` or `*`, so the deny fell away.
#[test]
fn a_deny_that_cannot_be_filled_in_bars_everything_below() {
    let text = r#"path "kv/*" { capabilities = ["read"] }
        path "kv/o*" { capabilities = ["read"] }
        path "kv/{{identity.entity.name}}/private/*" { capabilities = ["deny"] }
        path "kv/{{identity.entity.metadata.team}}/x" { capabilities = ["deny"] }
        path "other/*" { capabilities = ["read"] }"#;
    let policy = Arc::new(Policy::parse("p", text).unwrap());
    let named = |name: &str| {
        let identity = Identity { entity: Some(Entity { name: name.into(), ..Entity::default() }), groups: Vec::new() };
        Acl::compile(std::slice::from_ref(&policy), &identity)
    };
    for name in ["org/repo", "*", "a+b"] {
        let acl = named(name);
        for path in ["kv/org/repo/private/x", "kv/x", "KV/x", "kv/o"] {
            assert_eq!(acl.judge(&Question::new(path, Operation::Read)).reason, Reason::Denied, "{name} {path}");
        }
        assert!(allows(&acl, Operation::Read, "other/x") && !acl.has_any_below("kv/"));
        assert_eq!(acl.resultant_acl()["glob_paths"]["kv/"], json!({"capabilities": ["deny"]}));
        assert_eq!(acl.rule_for("kv/x", Operation::Read).map(Rule::pattern), Some("kv/*"));
    }
    let acl = named("a,b");
    assert!(!allows(&acl, Operation::Read, "kv/a,b/private/x") && allows(&acl, Operation::Read, "kv/a/private/x"));
    assert!(allows(&named(""), Operation::Read, "kv/x"));
}

/// Story: whoever demanded a parameter on `auth/token/create` took the `sudo` away that the same stanza gives.
#[test]
fn sudo_is_seen_whatever_else_is_demanded() {
    let acl = acl(&[r#"
        path "a" { capabilities = ["update", "sudo"] required_parameters = ["x"] min_wrapping_ttl = "1m" }
        path "b" { capabilities = ["sudo", "deny"] }
        path "c" { capabilities = ["sudo"] }
        path "d" { capabilities = ["update"] }"#]);
    for (path, expected) in [("a", true), ("b", false), ("c", true), ("C", false), ("d", false), ("e", false)] {
        assert_eq!(acl.has_sudo(path, Operation::Update), expected, "{path}");
    }
    assert!(Acl::compile(&[Arc::new(Policy::root())], &Identity::default()).has_sudo("x", Operation::Update));
}

#[test]
fn mounts_show_where_anything_below_is_granted() {
    let acl = acl(&[r#"
        path "a/b/c" { capabilities = ["read"] }
        path "d/*" { capabilities = ["deny"] }
        path "e/f*" { capabilities = ["list"] }
        path "x/+/h" { capabilities = ["list"] }
        path "i/+/secret" { capabilities = ["deny"] }"#]);
    for (mount, expected) in [
        ("a/", true),
        ("a/b/", true),
        ("b/", false),
        ("d/", false),
        ("e/", true),
        ("x/g/", true),
        ("x/", true),
        ("y/g/", false),
        ("i/j/", false),
    ] {
        assert_eq!(acl.has_any_below(mount), expected, "{mount}");
    }
}

#[test]
fn resultant_acl_has_vaults_shape() {
    let acl = acl(&[r#"
        path "a" { capabilities = ["update", "read"] max_wrapping_ttl = "1h" }
        path "b/*" { capabilities = ["deny"] }
        path "c/+/d*" { capabilities = ["list"] allowed_parameters = { "x" = ["1"] } }"#]);
    assert_eq!(
        Value::from(acl.resultant_acl()),
        json!({
            "root": false,
            "chroot_namespace": "",
            "exact_paths": {"a": {"capabilities": ["read", "update"], "max_wrapping_ttl": 3600}},
            "glob_paths": {"b/": {"capabilities": ["deny"]}, "c/+/d*": {"capabilities": ["list"], "allowed_parameters": {"x": ["1"]}}},
        })
    );
}

#[test]
fn default_policy_lets_a_token_look_after_itself() {
    let policy = Arc::new(Policy::parse("default", crate::DEFAULT_POLICY).unwrap());
    let identity = Identity { entity: Some(Entity { id: "e1".into(), name: "ada".into(), ..Entity::default() }), groups: Vec::new() };
    let acl = Acl::compile(&[policy], &identity);
    assert_eq!(acl.capabilities("auth/token/lookup-self"), ["read"]);
    assert_eq!(acl.capabilities("sys/capabilities-self"), ["update"]);
    assert_eq!(acl.capabilities("cubbyhole/x"), ["create", "delete", "list", "read", "update"]);
    assert_eq!(acl.capabilities("identity/entity/id/e1"), ["read"]);
    assert_eq!(acl.capabilities("identity/entity/name/bob"), ["deny"]);
    assert_eq!(acl.capabilities("identity/oidc/provider/p/authorize"), ["read", "update"]);
    for path in ["sys/leases/revoke", "auth/token/create", "sys/mounts", "secret/x"] {
        assert_eq!(acl.capabilities(path), ["deny"], "{path}");
    }
}

/// Story: a policy that was written for Vault denied `aws/sts/prod`, or fixed its lifetime, beside a grant of all of `aws/`. daypass has paths to the
/// same credentials that Vault has not, and the policy said nothing of them.
#[test]
fn what_holds_at_a_path_holds_at_another_to_the_same_thing() {
    let acl = acl(&[r#"
        path "aws/*" { capabilities = ["read", "update"] denied_parameters = { "x" = [] } }
        path "aws/sts/prod" { capabilities = ["deny"] }
        path "aws/creds/other" { capabilities = ["deny"] }
        path "aws/sts/fixed" { capabilities = ["read"] allowed_parameters = { "ttl" = ["15m"] } required_parameters = ["ttl"] }
        path "aws/creds/wrapped" { capabilities = ["read"] min_wrapping_ttl = "1m" }"#]);
    let ask = |name: &str, data: Value, wrap: Option<u64>| {
        let (path, others) = (format!("aws/console/{name}"), [format!("aws/sts/{name}"), format!("aws/creds/{name}")]);
        let question = Question {
            data: data.as_object(),
            wrap_ttl: wrap.map(Seconds),
            stands_for: &others.each_ref().map(String::as_str),
            apart: &["destination"],
            ..Question::new(&path, Operation::Read)
        };
        let explained = acl.explain(&question);
        assert_eq!(explained.verdict, acl.judge(&question));
        let found_elsewhere = explained.found.starts_with("it counts for another path");
        assert_eq!(explained.verdict.elsewhere.is_some(), found_elsewhere, "{name}");
        let denied = explained.verdict.reason == Reason::Denied;
        assert_eq!(acl.capabilities_beside(&path, question.stands_for, question.alike, false) == ["deny"], denied, "{name}");
        explained.verdict.to_string()
    };
    let at =
        |rule: &str, path: &str, reason: &str| format!("denied by {rule:?} of policy p0, because it is another way to {path:?}: {reason}");
    let granted = r#"allowed by "aws/*" of policy p0: granted"#;
    assert_eq!(ask("free", json!({}), None), granted);
    assert_eq!(ask("prod", json!({}), None), at("aws/sts/prod", "aws/sts/prod", "the path is denied"));
    assert_eq!(ask("PROD", json!({}), None), at("aws/sts/prod", "aws/sts/PROD", "the path is denied"));
    assert_eq!(ask("other", json!({}), None), at("aws/creds/other", "aws/creds/other", "the path is denied"));
    let fixed = |reason| at("aws/sts/fixed", "aws/sts/fixed", reason);
    assert_eq!(ask("fixed", json!({ "ttl": "15m", "destination": "/ecr" }), None), granted);
    assert_eq!(ask("fixed", json!({}), None), fixed("parameter \"ttl\" is required"));
    assert_eq!(ask("fixed", json!({ "ttl": "1h" }), None), fixed("parameter \"ttl\" is not allowed, or its value is not"));
    assert_eq!(
        ask("fixed", json!({ "ttl": "15m", "role_arn": "" }), None),
        fixed("parameter \"role_arn\" is not allowed, or its value is not")
    );
    assert_eq!(ask("wrapped", json!({}), Some(60)), granted);
    assert_eq!(
        ask("wrapped", json!({}), None),
        at("aws/creds/wrapped", "aws/creds/wrapped", "the answer must be wrapped for 1m0s or longer")
    );
}

/// What is about both paths has been weighed where it was asked: a deny of all that something more specific is granted in denies no more than it did.
#[test]
fn a_rule_about_both_paths_is_weighed_as_ever() {
    let reads = |text: &str, path: &str, other: &str| {
        let acl = acl(&[text]);
        let allowed = acl.judge(&Question { stands_for: &[other], ..Question::new(path, Operation::Read) }).allowed;
        assert_eq!(acl.capabilities_beside(path, &[other], Capabilities::NONE, false) == ["read"], allowed);
        allowed
    };
    let grant = r#"path "aws/container/prod" { capabilities = ["read"] }"#;
    for (deny, expected) in [
        ("aws/*", true),
        ("*", true),
        ("+/+/prod", true),
        ("AWS/*", true),
        ("aws/c*", true),
        ("aws/sts/*", false),
        ("aws/s*", false),
        ("aws/sts/+", false),
    ] {
        let text = format!("{grant} path {deny:?} {{ capabilities = [\"deny\"] }}");
        assert_eq!(reads(&text, "aws/container/prod", "aws/sts/prod"), expected, "{deny}");
    }
    // A demand of the whole mount, too.
    let demand = r#"path "aws/*" { capabilities = ["read"] required_parameters = ["ttl"] }"#;
    assert!(reads(&format!("{grant} {demand}"), "aws/container/prod", "aws/sts/prod"));
    // And a right to the one path is none to the other.
    assert!(!reads(grant, "aws/sts/prod", "aws/container/prod"));
    assert!(
        Acl::compile(&[Arc::new(Policy::root())], &Identity::default())
            .judge(&Question { stands_for: &["b"], ..Question::new("a", Operation::Read) })
            .allowed
    );
}

/// Story: who may do all in `sys/`, but only read at `sys/storage/raft/snapshot`, put a snapshot back at `sys/storage/snapshot`; who may do all in `aws/`, but no more than
/// list `aws/sts/ops` and `aws/creds/ops`, had its credentials at `aws/container/ops`. A right that a narrower rule lacks was no refusal beside it.
#[test]
fn what_a_narrower_rule_takes_away_it_takes_away_at_another_path_to_the_same_thing() {
    use Capability::{Create, Delete, List, Sudo, Update};
    let minting = Capabilities::from_iter([Capability::Read, Update]);
    let acl = acl(&[r#"
        path "sys/*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }
        path "sys/storage/raft/snapshot" { capabilities = ["read", "sudo"] }
        path "sys/rotate" { capabilities = ["update"] }
        path "aws/*" { capabilities = ["read", "update", "list"] }
        path "aws/sts/ops" { capabilities = ["list"] }
        path "aws/creds/writes" { capabilities = ["update"] }
        path "aws/container/own" { capabilities = ["read"] }
        path "aws/sts/own" { capabilities = ["list"] }
        path "own/storage/snapshot" { capabilities = ["read"] }
        path "own/storage/raft/snapshot" { capabilities = ["read", "update"] }"#]);
    let lacks = |capability| Err(Reason::MissingCapability(capability));
    for (path, other, alike, sudo_path, operation, expected) in [
        ("sys/storage/snapshot", "sys/storage/raft/snapshot", Capabilities::NONE, false, Operation::Update, lacks(Update)),
        ("sys/storage/snapshot", "sys/storage/raft/snapshot", Capabilities::NONE, true, Operation::Read, Ok(())),
        ("sys/rotate/keyring", "sys/rotate", Capabilities::NONE, true, Operation::Update, lacks(Sudo)),
        ("sys/rotate/keyring", "sys/rotate", Capabilities::NONE, false, Operation::Update, Ok(())),
        ("sys/rotate/keyring", "sys/rotate", Capabilities::NONE, false, Operation::Create, lacks(Create)),
        ("sys/rotate/keyring", "sys/rotate", Capabilities::NONE, false, Operation::Delete, lacks(Delete)),
        ("aws/console/ops", "aws/sts/ops", minting, false, Operation::Read, lacks(Capability::Read)),
        ("aws/console/ops", "aws/sts/ops", minting, false, Operation::List, Ok(())),
        // Where reading and writing do the same, a right to either is enough.
        ("aws/console/writes", "aws/creds/writes", minting, false, Operation::Read, Ok(())),
        ("aws/console/writes", "aws/creds/writes", minting, false, Operation::List, lacks(List)),
        // And no right to either there is none here, whatever is granted here.
        ("aws/container/own", "aws/sts/own", minting, false, Operation::Read, lacks(Capability::Read)),
        // Elsewhere each operation is a right of its own: a rule about the one path alone is not taken from.
        ("own/storage/raft/snapshot", "own/storage/snapshot", Capabilities::NONE, false, Operation::Update, Ok(())),
        ("own/storage/snapshot", "own/storage/raft/snapshot", Capabilities::NONE, false, Operation::Update, lacks(Update)),
        // Whom nothing is said about there, nothing is taken from.
        ("aws/container/own", "other/own", minting, false, Operation::Read, Ok(())),
    ] {
        let question = Question { stands_for: &[other], alike, sudo_path, ..Question::new(path, operation) };
        let explained = acl.explain(&question);
        let verdict = explained.verdict;
        let judged = if verdict.allowed { Ok(()) } else { Err(verdict.reason) };
        assert_eq!(judged, expected, "{operation:?} {path}");
        assert_eq!(verdict, acl.judge(&question));
        assert_eq!(
            explained.found == "it counts for another path to the same thing: what is denied, demanded or taken away there is so here",
            verdict.elsewhere.is_some()
        );
        // What is shown is what is judged.
        let shown = acl.capabilities_beside(path, &[other], alike, false);
        let needed = operation.needs().map(Capability::as_str).unwrap();
        assert_eq!(shown.contains(&needed) && (!sudo_path || shown.contains(&"sudo")), verdict.allowed, "{operation:?} {path}: {shown:?}");
    }
}

/// Story: a policy for Vault grants all in `sys/`, and at `sys/rotate/*`, which is about `sys/rotate/config` there, no more than writing. `sys/rotate` was refused for
/// want of `sudo` at `sys/rotate/keyring`, which Vault does not have.
#[test]
fn at_vaults_own_path_only_an_exact_rule_takes_a_right_away() {
    let all = r#"path "sys/*" { capabilities = ["update", "sudo"] }"#;
    let writes = r#"{ capabilities = ["update"] }"#;
    for (pattern, vaults) in [("sys/rotate/*", true), ("sys/rotate/+", true), ("sys/rotate/keyring", false), ("sys/rotate", false)] {
        let acl = acl(&[&format!("{all} path {pattern:?} {writes}")]);
        let judged = |path, other, is_vaults| {
            let asked = Question { stands_for: &[other], sudo_path: true, is_vaults, ..Question::new(path, Operation::Update) };
            let allowed = acl.judge(&asked).allowed;
            assert_eq!(
                acl.capabilities_beside(path, &[other], Capabilities::NONE, is_vaults).contains(&"sudo"),
                allowed,
                "{pattern} {path}"
            );
            allowed
        };
        assert_eq!(judged("sys/rotate", "sys/rotate/keyring", true), vaults, "{pattern}");
        assert!(!judged("sys/rotate/keyring", "sys/rotate", false), "{pattern}");
    }
}

/// Story: a policy that demands something of the token role `ci` bound the role `CI`, which is another one here and in Vault; so it was for mounts whose paths
/// differ by case.
#[test]
fn a_narrower_grant_binds_no_other_name_where_case_counts() {
    let acl = acl(&[r#"
        path "auth/*" { capabilities = ["update"] }
        path "auth/token/create/ci" { capabilities = ["update"] required_parameters = ["ttl"] }
        path "auth/github/*" { capabilities = ["read"] }
        path "auth/GitHub/map/teams/dev" { capabilities = ["read"] }
        path "auth/userpass/users/admin" { capabilities = ["read"] }
        path "identity/*" { capabilities = ["update"] }
        path "identity/oidc/key/main" { capabilities = ["read"] }
        path "sys/*" { capabilities = ["update"] }
        path "sys/mounts/kv" { capabilities = ["read"] }
        path "sys/leases/revoke-prefix/aws/*" { capabilities = ["read"] }
        path "sys/policies/password/ci" { capabilities = ["read"] }
        path "sys/policies/acl/ci" { capabilities = ["read"] }
        path "sys/quotas/rate-limit/builds" { capabilities = ["read"] }
        path "sys/audit/file" { capabilities = ["read"] }"#]);
    for (path, expected) in [
        ("auth/token/create/CI", true),
        ("auth/token/create/ci", false),
        ("auth/token/create/ci/", false),
        ("auth/GitHub/config", true),
        ("auth/GitHub/map/teams/Dev", false),
        ("auth/GitHub/map/teams/Ops", true),
        ("auth/userpass/users/Admin", false),
        ("identity/oidc/key/Main", true),
        ("sys/mounts/KV", true),
        ("sys/mounts/kv/", false),
        ("sys/leases/revoke-prefix/AWS/x", true),
        ("sys/policies/password/CI", true),
        ("sys/policies/acl/CI", false),
        ("sys/quotas/rate-limit/Builds", true),
        ("sys/audit/File", true),
    ] {
        assert_eq!(acl.judge(&Question::new(path, Operation::Update)).allowed, expected, "{path}");
    }
}

/// Story: who may write all users but only read `admin` wrote `Admin`, which is the same user to the handler, and took it over. In the same way a policy was
/// replaced.
#[test]
fn a_narrower_grant_holds_for_every_spelling_of_the_name() {
    use Operation::{Delete, List, Read, Update};
    let acl = acl(&[r#"
        path "auth/userpass/users/*" { capabilities = ["create", "update", "read"] }
        path "auth/userpass/users/admin" { capabilities = ["read"] }
        path "auth/userpass/users/admin/*" { capabilities = ["read"] }
        path "auth/userpass/users/Team-*" { capabilities = ["delete"] }
        path "auth/userpass/users/Named" { capabilities = ["update"] }
        path "auth/userpass/users/named" { capabilities = ["read"] }
        path "auth/approle/role/*" { capabilities = ["read", "update", "list"] }
        path "auth/approle/role/prod/*" { capabilities = ["update"] required_parameters = ["cidr_list"] }
        path "sys/policies/acl/*" { capabilities = ["read", "update", "delete", "sudo"] }
        path "sys/policies/acl/adm" { capabilities = ["read", "update"] }
        path "sys/policies/acl/Adm*" { capabilities = ["read", "update", "delete", "sudo"] }
        path "identity/entity/name/*" { capabilities = ["update", "read"] }
        path "identity/entity/name/boss" { capabilities = ["read"] }
        path "kv/*" { capabilities = ["read", "update"] }
        path "kv/admin" { capabilities = ["list"] }"#]);
    for (operation, path, expected) in [
        (Update, "auth/userpass/users/Admin/password", false),
        (Update, "auth/userpass/users/ADMIN", false),
        (Update, "/auth/userpass/users/ admin", false),
        (Read, "auth/userpass/users/Admin", true),
        (Update, "auth/userpass/users/Ann", true),
        // A rule that is wider than the one for the path as it is spelled takes nothing from it, nor any from one of exactly that path.
        (Delete, "auth/userpass/users/Team-x", true),
        (Update, "auth/userpass/users/Named", true),
        (Update, "auth/userpass/users/NAMED", false),
        (Update, "auth/approle/role/PROD/secret-id", false),
        (List, "auth/approle/role/PROD/secret-id/", false),
        (List, "auth/approle/role/Test/secret-id/", true),
        (Delete, "sys/policies/acl/Adm", false),
        (Delete, "sys/policies/acl/adm/", false),
        (Delete, "sys/policies/acl/Other/", true),
        (Update, "sys/policies/acl/Adm", true),
        (Update, "identity/entity/name/BOSS", false),
        (Update, "identity/entity/name/boss ", false),
        (Update, "identity/entity/name/Bob", true),
        // Here the two are two.
        (Update, "kv/Admin", true),
        (Update, "kv/admin", false),
    ] {
        let question = Question::new(path, operation);
        let explained = acl.explain(&question);
        assert_eq!(explained.verdict.allowed, expected, "{operation:?} {path}: {}", explained.verdict);
        assert_eq!(explained.verdict, acl.judge(&question));
        let shown = acl.capabilities(path);
        assert!(
            expected || path.contains("PROD") || !shown.contains(&operation.needs().unwrap().as_str()),
            "{operation:?} {path}: {shown:?}"
        );
        assert!(
            !expected || operation == Update || shown.contains(&operation.needs().unwrap().as_str()),
            "{operation:?} {path}: {shown:?}"
        );
    }
    // What the narrower one demands is demanded, and the right to a path that is protected for root is asked of it, too.
    let sends = json!({ "cidr_list": "10.0.0.0/8" });
    let asked = Question { data: sends.as_object(), ..Question::new("auth/approle/role/Prod/secret-id", Update) };
    assert!(acl.judge(&asked).allowed);
    assert!(!acl.judge(&Question { sudo_path: true, ..Question::new("sys/policies/acl/ADM", Update) }).allowed);
    assert!(acl.has_sudo("sys/policies/acl/ADX", Update) && !acl.has_sudo("sys/policies/acl/ADM", Update));
    let explained = acl.explain(&Question::new("auth/userpass/users/Admin", Update));
    assert_eq!(explained.verdict.to_string(), "denied by \"auth/userpass/users/admin\" of policy p0: capability \"update\" is not granted");
    assert!(explained.found.starts_with("it is narrower, and counts for every spelling"), "{}", explained.found);
    assert_eq!(explained.others.len(), 1);
}
