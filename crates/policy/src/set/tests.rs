use std::cell::Cell;
use std::fmt::Write;

use daypass_base::Seconds;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use super::*;
use crate::{Entity, Operation, Question};

/// Everything in one arrangement, as if each stanza had a template.
fn merged(policies: &[Arc<Policy>], identity: &Identity) -> Acl {
    let set = PolicySet {
        shared: Arc::new(Arranged::new(BTreeMap::new(), BTreeMap::new())),
        templated: all(policies).map(|placed| placed.place).collect(),
        policies: policies.to_vec(),
        ..PolicySet::new(policies.to_vec())
    };
    set.acl(identity)
}

fn pattern() -> impl Strategy<Value = String> {
    let values = ["{{identity.entity.name}}", "{{identity.entity.id}}", "{{identity.entity.metadata.m}}", "x{{identity.entity.name}}"];
    let plain = ["a", "b", "A", "xa", "+", "+", "", "sys/mounts"];
    let segment = prop_oneof![3 => prop::sample::select(plain.to_vec()), 1 => prop::sample::select(values.to_vec())];
    let end = prop::sample::select(vec!["", "", "*", "/*", "/", "a*"]);
    let begin = prop::sample::select(vec!["", "", "", "/"]);
    // `+*` is forbidden.
    let text = |(segments, end, begin): (Vec<&str>, &str, &str)| format!("{begin}{}{end}", segments.join("/")).replace("+*", "+/a*");
    let many = (prop::collection::vec(segment, 1..4), end, begin).prop_map(text);
    // Few, so that they often meet.
    let few = ["a/{{identity.entity.name}}", "a/b", "A/b/", "a/+", "{{identity.entity.id}}/+", "a/{{identity.entity.id}}*", "a/a*", "a/*"];
    prop_oneof![1 => many, 1 => prop::sample::select(few.to_vec()).prop_map(str::to_owned)]
}

fn stanza() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec!["read", "list", "update", "create", "sudo"]);
    let words = prop_oneof![3 => prop::collection::vec(words, 1..4), 1 => Just(vec!["deny"])];
    let more = [
        "",
        "",
        "min_wrapping_ttl = 2",
        "max_wrapping_ttl = 5",
        "allowed_parameters = { \"p\" = [1, \"x\"] }",
        "allowed_parameters = { \"p\" = [\"y\", \"x\"] }",
        "denied_parameters = { \"q\" = [] }",
        "required_parameters = [\"p\", \"q\"]",
        "required_parameters = [\"q\", \"r\"]",
    ];
    (pattern(), words, prop::sample::select(more.to_vec()))
        .prop_map(|(pattern, words, more)| format!("path {pattern:?} {{ capabilities = {words:?}\n {more} }}\n"))
}

fn identity() -> impl Strategy<Value = Identity> {
    let value = || prop::sample::select(vec!["a", "b", "A", "ab", " b", "", "a+", "b/a"]).prop_map(str::to_owned);
    (value(), value(), prop::option::of(value())).prop_map(|(id, name, m)| {
        let metadata = m.map(|m| ("m".to_owned(), m)).into_iter().collect();
        Identity { entity: Some(Entity { id, name, metadata, ..Entity::default() }), groups: Vec::new() }
    })
}

fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "A", "B", "xa", "ab", "sys/mounts", " b", ""]);
    (prop::collection::vec(part, 1..4), prop::sample::select(vec!["", "", "/"]))
        .prop_map(|(parts, end)| format!("{}{end}", parts.join("/")))
}

/// All that an explanation says.
fn told(acl: &Acl, question: &Question<'_>) -> String {
    let explained = acl.explain(question);
    let mut out = format!("{:?} {} {}", explained.verdict, explained.found, explained.remark);
    for loser in &explained.others {
        write!(out, "\n{:?}: {}", loser.rule, loser.because).unwrap();
    }
    out
}

/// Story: nearly every token has the policy `default`, which names its owner, and so each caller had all its policies arranged anew. What is
/// the same for everybody is shared now, and no answer may change by that.
#[test]
fn what_is_shared_and_what_is_filled_in_judge_as_one() {
    let config = Config { cases: 3_000, max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let operation = prop::sample::select(vec![Operation::Read, Operation::List, Operation::Update, Operation::Delete]);
    let request = (path(), operation, prop::sample::select(vec![json!({}), json!({"p": "x", "q": 1}), json!({"p": 1})]), 0_u64..7);
    let policies = prop::collection::vec(prop::collection::vec(stanza(), 1..6), 1..4);
    let (allowed, denied, twins, barred) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |counter: &Cell<u32>, is: bool| counter.set(counter.get() + u32::from(is));
    let result = runner.run(&(policies, identity(), prop::collection::vec(request, 12)), |(policies, identity, requests)| {
        let parse = |(number, stanzas): (usize, &Vec<String>)| Arc::new(Policy::parse(&format!("p{number}"), &stanzas.concat()).unwrap());
        let policies: Vec<Arc<Policy>> = policies.iter().enumerate().map(parse).collect();
        let set = PolicySet::new(policies.clone());
        let (split, whole) = (set.acl(&identity), merged(&policies, &identity));
        prop_assert!(split.bytes() <= size_of::<Acl>() + set.fill_bytes() * 2);
        prop_assert_eq!(split.resultant_acl(), whole.resultant_acl());
        for (path, operation, data, ttl) in &requests {
            let question =
                Question { data: data.as_object(), wrap_ttl: (*ttl > 0).then_some(Seconds(*ttl)), ..Question::new(path, *operation) };
            prop_assert_eq!(told(&split, &question), told(&whole, &question), "{:?}", question);
            prop_assert_eq!(split.capabilities(path), whole.capabilities(path));
            prop_assert_eq!(split.has_any_below(path), whole.has_any_below(path), "{}", path);
            prop_assert_eq!(split.has_sudo(path, *operation), whole.has_sudo(path, *operation));
            let verdict = split.judge(&question);
            count(&allowed, verdict.allowed);
            count(&denied, verdict.reason == crate::Reason::Denied);
        }
        count(&twins, split.own_rules().any(|rule| set.shared.of_pattern(rule.pattern()).is_some()));
        count(&barred, split.has_barred());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let counted = [&allowed, &denied, &twins, &barred].map(Cell::get);
    assert!(counted.iter().all(|count| *count > 100), "too few allowed, denied, united, barred: {counted:?}");
}

/// Story: with ten thousand rules in a policy each caller took eight megabytes of memory, for the two stanzas of `default` that name it.
#[test]
fn a_caller_takes_memory_for_what_is_its_own() {
    let stanzas: String = (0..9_900).map(|number| format!("path \"kv/team{number}/*\" {{ capabilities = [\"read\"] }}\n")).collect();
    let large = Arc::new(Policy::parse("large", &stanzas).unwrap());
    let default = Arc::new(Policy::parse("default", crate::DEFAULT_POLICY).unwrap());
    let set = PolicySet::new(vec![default, large]);
    let ask = |name: &str| {
        let entity = Entity { id: name.into(), name: name.into(), ..Entity::default() };
        set.acl(&Identity { entity: Some(entity), groups: Vec::new() })
    };
    let (one, other) = (ask("one"), ask("other"));
    assert!(one.bytes() < 8 << 10 && set.fill_bytes() < 8 << 10 && set.bytes() > 4 << 20, "{} {}", one.bytes(), set.bytes());
    for (acl, name) in [(&one, "one"), (&other, "other")] {
        let reads = |path: &str| acl.judge(&Question::new(path, Operation::Read)).allowed;
        assert!(reads("kv/team9000/x") && reads(&format!("identity/entity/id/{name}")) && !reads("identity/entity/id/third"));
    }
}
