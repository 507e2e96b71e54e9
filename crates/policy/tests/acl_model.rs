//! The compiled [`Acl`] judges as a slow model does that is written straight from the rules of the Vault documentation:
//! it keeps a flat list of stanzas and tries every one on every request.
//!
//! `DAYPASS_CASES` sets how many policy sets are tried.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test helpers may fail loudly")]

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daypass_base::Seconds;
use daypass_policy::{Acl, Identity, Operation, Policy, Question, Reason};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

/// A stanza as the generator makes it.
#[derive(Debug, Clone, Default)]
struct Stanza {
    pattern: String,
    words: BTreeSet<&'static str>,
    allowed: BTreeMap<&'static str, Vec<&'static str>>,
    denied: BTreeMap<&'static str, Vec<&'static str>>,
    required: BTreeSet<&'static str>,
    min: u64,
    max: u64,
}

#[derive(Debug, Clone)]
struct Request {
    path: String,
    operation: Operation,
    data: Map<String, Value>,
    wrap: Option<u64>,
    sudo: bool,
}

impl Stanza {
    fn text(&self) -> String {
        // A value with `#` before it is a number or a boolean.
        let written = |word: &&str| word.strip_prefix('#').map_or_else(|| format!("{word:?}"), str::to_owned);
        let list = |words: &[&str]| format!("[{}]", words.iter().map(written).collect::<Vec<_>>().join(", "));
        let map = |map: &BTreeMap<&str, Vec<&str>>| {
            format!("{{ {} }}", map.iter().map(|(k, v)| format!("{k:?} = {}", list(v))).collect::<Vec<_>>().join("\n"))
        };
        let words: Vec<&str> = self.words.iter().copied().collect();
        let required: Vec<&str> = self.required.iter().copied().collect();
        format!(
            "path {:?} {{\n capabilities = {}\n allowed_parameters = {}\n denied_parameters = {}\n required_parameters = {}\n min_wrapping_ttl = {}\n max_wrapping_ttl = {}\n}}\n",
            self.pattern,
            list(&words),
            map(&self.allowed),
            map(&self.denied),
            list(&required),
            self.min,
            self.max
        )
    }

    /// Same pattern in two places: everything unites, a deny wins.
    fn unite(&mut self, other: &Self) {
        if self.words.contains("deny") || other.words.contains("deny") {
            self.words = BTreeSet::from(["deny"]);
            return;
        }
        self.words.extend(&other.words);
        self.required.extend(&other.required);
        for (mine, theirs) in [(&mut self.allowed, &other.allowed), (&mut self.denied, &other.denied)] {
            for (name, values) in theirs {
                match mine.get_mut(name) {
                    Some(own) if own.is_empty() || values.is_empty() => own.clear(),
                    Some(own) => own.extend(values),
                    None => drop(mine.insert(name, values.clone())),
                }
            }
        }
        for (mine, theirs) in [(&mut self.min, other.min), (&mut self.max, other.max)] {
            *mine = [*mine, theirs].into_iter().filter(|ttl| *ttl > 0).min().unwrap_or(0);
        }
    }
}

fn has_plus_segment(pattern: &str) -> bool {
    pattern == "+" || pattern.starts_with("+/") || pattern.contains("/+")
}

fn is_exact(pattern: &str) -> bool {
    !has_plus_segment(pattern) && !pattern.ends_with('*')
}

fn matches(pattern: &[&str], path: &[&str], open: bool) -> bool {
    match (pattern, path) {
        ([], []) => true,
        ([last], [part, ..]) if open && part.starts_with(last) => true,
        ([first, pattern @ ..], [part, path @ ..]) => {
            (*first == "+" || first == part) && (matches(pattern, path, open) || (open && pattern.is_empty()))
        }
        _ => false,
    }
}

/// Whether a pattern with a wildcard matches.
fn wildcard_matches(pattern: &str, path: &str) -> bool {
    let stem = pattern.strip_suffix('*').unwrap_or(pattern);
    if !has_plus_segment(pattern) {
        return path.starts_with(stem);
    }
    let (segments, parts): (Vec<&str>, Vec<&str>) = (stem.split('/').collect(), path.split('/').collect());
    matches(&segments, &parts, stem.len() < pattern.len())
}

/// How specific a pattern with wildcards is.
fn width(pattern: &str) -> (usize, bool, std::cmp::Reverse<usize>, usize) {
    let stem = pattern.strip_suffix('*').unwrap_or(pattern);
    let plus = has_plus_segment(pattern);
    let first = pattern.find('+').filter(|_| plus).unwrap_or(stem.len());
    let pluses = if plus { stem.split('/').filter(|segment| *segment == "+").count() } else { 0 };
    (first, !pattern.ends_with('*'), std::cmp::Reverse(pluses), stem.len())
}

/// The documented order: greater counts.
fn by_precedence(a: &str, b: &str) -> Ordering {
    let stem = |pattern: &str| pattern.strip_suffix('*').unwrap_or(pattern).to_owned();
    let first = |pattern: &str| pattern.find('+').filter(|_| has_plus_segment(pattern)).unwrap_or(stem(pattern).len());
    let pluses =
        |pattern: &str| if has_plus_segment(pattern) { stem(pattern).split('/').filter(|segment| *segment == "+").count() } else { 0 };
    first(a)
        .cmp(&first(b))
        .then(b.ends_with('*').cmp(&a.ends_with('*')))
        .then(pluses(b).cmp(&pluses(a)))
        .then(stem(a).len().cmp(&stem(b).len()))
        .then(stem(a).cmp(&stem(b)))
}

struct Model(Vec<Stanza>);

impl Model {
    fn new(policies: &[Vec<Stanza>]) -> Self {
        let mut all: Vec<Stanza> = Vec::new();
        for stanza in policies.iter().flatten() {
            let mut stanza = stanza.clone();
            stanza.pattern = stanza.pattern.strip_prefix('/').map_or(stanza.pattern.clone(), str::to_owned);
            match all.iter_mut().find(|other| other.pattern == stanza.pattern) {
                Some(other) => other.unite(&stanza),
                None => all.push(stanza),
            }
        }
        Self(all)
    }

    /// Whether a pattern has anything to say about a request.
    fn matches(&self, pattern: &str, request: &Request) -> bool {
        let fits = |path: &str| if is_exact(pattern) { pattern == path } else { wildcard_matches(pattern, path) };
        let bare = request.path.strip_suffix('/').filter(|_| request.operation == Operation::List);
        self.0.iter().any(|stanza| stanza.pattern == pattern) && (fits(&request.path) || bare.is_some_and(fits))
    }

    fn deciding(&self, path: &str, listing: bool) -> Option<&Stanza> {
        let bare = path.strip_suffix('/').filter(|_| listing);
        let exact = |path: &str| self.0.iter().find(|stanza| is_exact(&stanza.pattern) && stanza.pattern == path);
        let best = |path: &str| self.best(path);
        let denying = |path: &str| best(path).filter(|stanza| stanza.words.contains("deny"));
        let wild = || bare.and_then(denying).or_else(|| denying(path)).or_else(|| bare.and_then(best)).or_else(|| best(path));
        exact(path).or_else(|| bare.and_then(exact)).or_else(wild)
    }

    fn best(&self, path: &str) -> Option<&Stanza> {
        let found = self.0.iter().filter(|stanza| !is_exact(&stanza.pattern) && wildcard_matches(&stanza.pattern, path));
        found.max_by(|a, b| by_precedence(&a.pattern, &b.pattern))
    }

    /// Whether a deny decides because the path is another spelling of what it is about.
    fn denied_folded(&self, path: &str, listing: bool) -> bool {
        let fold = |text: &str| {
            let mut folded = text.to_lowercase();
            while folded.contains("//") {
                folded = folded.replace("//", "/");
            }
            folded
        };
        let bare = path.trim_end_matches('/');
        let listing = listing && bare.len() < path.len();
        // Mounts are the same with a slash and without.
        let is_mount = |path: &str| fold(path).starts_with("sys/mounts/");
        let is = |path: &str| is_exact(path) && self.0.iter().any(|stanza| stanza.pattern == path);
        let is_exactly = is(path) || (listing && path.strip_suffix('/').is_some_and(is));
        self.0.iter().filter(|stanza| stanza.words.contains("deny")).any(|deny| {
            let pattern = deny.pattern.as_str();
            let folded = fold(pattern);
            let bare_pattern = folded.trim_end_matches('/');
            if is_exact(pattern) {
                let same = bare_pattern == fold(bare) && (bare_pattern == folded || path.ends_with('/') || is_mount(bare));
                return same && !(listing && is(path) && bare_pattern == folded);
            }
            if is_exactly {
                return false;
            }
            // A path that a deny matches, and the same path as it is spelled: what is best there may be more specific than the deny.
            let over = |folded_pattern: &str, spelled: &str| {
                self.best(spelled).is_none_or(|best| match width(folded_pattern).cmp(&width(&fold(&best.pattern))) {
                    Ordering::Greater => true,
                    Ordering::Equal => best.words.contains("deny") || !wildcard_matches(pattern, spelled),
                    Ordering::Less => false,
                })
            };
            let whole = wildcard_matches(&folded, &fold(path));
            let without = wildcard_matches(&folded, &fold(bare));
            let shorter = bare_pattern != folded && is_mount(bare) && wildcard_matches(bare_pattern, &fold(bare));
            (whole && over(&folded, path))
                || (without && (listing || !whole) && over(&folded, bare))
                || (shorter && (listing || !whole) && over(bare_pattern, bare))
        })
    }

    /// The stanzas for the folded spelling of a path that are narrower than the one for the path as it is spelled, where handlers fold names.
    fn narrower(&self, path: &str, listing: bool) -> Vec<&Stanza> {
        let Some(spelled) =
            self.deciding(path, listing).filter(|_| ["auth/", "identity/", "sys/"].iter().any(|head| path.starts_with(head)))
        else {
            return Vec::new();
        };
        let fold = |text: &str| {
            let mut folded = text.to_lowercase();
            while folded.contains("//") {
                folded = folded.replace("//", "/");
            }
            folded
        };
        // Tokens, mounts and the like have names that are taken to the letter, and so has the mount below `auth/`.
        let mut lettered = ["auth/token/", "identity/oidc/", "sys/auth/", "sys/internal/ui/mounts/", "sys/leases/", "sys/mounts/"]
            .into_iter()
            .chain(["sys/renew/", "sys/revoke-force/", "sys/revoke-prefix/", "sys/revoke/"])
            .chain(["sys/audit-hash/", "sys/audit/", "sys/policies/password/", "sys/quotas/"]);
        let mount = path.strip_prefix("auth/").and_then(|rest| rest.find('/')).map_or(0, |slash| "auth/".len() + slash + 1);
        let kept = if lettered.any(|head| path.starts_with(head)) { path.len() } else { mount };
        let (head, rest) = path.split_at(kept);
        let folded = format!("{head}{}", fold(rest));
        let bare = folded.trim_end_matches('/').to_owned();
        // A list is of what is below a name: one slash at its end is no other spelling.
        let others = if listing && folded.strip_suffix('/').unwrap_or(&folded) == bare { vec![folded] } else { vec![folded, bare] };
        let narrower = |stanza: &&Stanza| {
            let [own, other] = [&stanza.pattern, &spelled.pattern].map(|pattern| (is_exact(pattern), width(&fold(pattern))));
            match (own, other) {
                ((true, _), (wild, _)) => !wild,
                ((false, _), (true, _)) => false,
                ((_, own), (_, other)) => own > other,
            }
        };
        let found = others.iter().filter_map(|path| self.deciding(path, listing));
        found.filter(|stanza| !stanza.words.contains("deny")).filter(narrower).collect()
    }

    fn allows(&self, request: &Request) -> bool {
        let word = match request.operation {
            Operation::Help => return true,
            Operation::Create => "create",
            Operation::Delete => "delete",
            Operation::List => "list",
            Operation::Patch => "patch",
            Operation::Read => "read",
            Operation::Recover => "recover",
            Operation::Update => "update",
        };
        let Some(stanza) = self.deciding(&request.path, word == "list") else { return false };
        if self.denied_folded(&request.path, word == "list") {
            return false;
        }
        Self::permits(stanza, request, word)
            && self.narrower(&request.path, word == "list").iter().all(|stanza| Self::permits(stanza, request, word))
    }

    fn permits(stanza: &Stanza, request: &Request, word: &str) -> bool {
        if stanza.words.contains("deny") || !stanza.words.contains(word) || (request.sudo && !stanza.words.contains("sudo")) {
            return false;
        }
        let wrap = request.wrap;
        if (stanza.max > 0 && wrap.is_none_or(|ttl| ttl > stanza.max)) || (stanza.min > 0 && wrap.is_none_or(|ttl| ttl < stanza.min)) {
            return false;
        }
        if word == "list" || word == "delete" {
            return true;
        }
        if !stanza.required.iter().all(|name| request.data.contains_key(*name)) {
            return false;
        }
        request.data.iter().all(|(name, value)| {
            let name = name.to_lowercase();
            // What is sent, taken apart: a list into its entries, and a text into its parts where the endpoint takes it as a list.
            let parts: Option<Vec<Value>> = match value {
                Value::Array(entries) => Some(entries.clone()),
                Value::String(text) if name == COMMA_LIST => Some(text.split(',').map(|part| json!(part.trim())).collect()),
                _ => None,
            };
            let all = |values: &[&str]| parts.as_ref().is_some_and(|parts| parts.iter().all(|part| Self::listed(part, values)));
            let bad = |value: &Value, values: &[&str]| Self::listed(value, values) || Self::denied(value, values);
            let any_bad = |values: &[&str]| parts.iter().flatten().any(|part| bad(part, values));
            let denied = stanza.denied.contains_key("*")
                || stanza.denied.get(name.as_str()).is_some_and(|values| values.is_empty() || bad(value, values) || any_bad(values));
            let allowed = match stanza.allowed.get(name.as_str()) {
                Some(values) => values.is_empty() || Self::listed(value, values) || all(values),
                None => stanza.allowed.is_empty() || stanza.allowed.contains_key("*"),
            };
            !denied && allowed
        })
    }

    fn listed(value: &Value, values: &[&str]) -> bool {
        values.iter().any(|listed| match (*listed, value) {
            ("#1", Value::Number(number)) => number.as_f64() == Some(1.0),
            ("#true", value) => *value == json!(true),
            ("x*", Value::String(text)) => text.starts_with('x'),
            ("*y", Value::String(text)) => text.ends_with('y'),
            (other, Value::String(text)) => other == text && !other.starts_with('#'),
            _ => false,
        })
    }

    /// Whether handlers would take a value for one that is listed, though it is sent in another way.
    fn denied(value: &Value, values: &[&str]) -> bool {
        let texts: &[&str] = match value {
            Value::String(text) => &[text.trim()],
            Value::Number(number) if number.as_f64() == Some(1.0) => &["1", "1.0"],
            Value::Bool(true) => &["1", "true"],
            _ => &[],
        };
        texts.iter().any(|text| {
            values.iter().any(|listed| match *listed {
                "#1" => *text == "1" || *text == "1.0",
                "#true" => *text == "1" || *text == "true" || value.is_number(),
                other => Self::listed(&json!(text.to_lowercase()), &[other]),
            })
        })
    }

    fn capabilities(&self, path: &str) -> Vec<&'static str> {
        if self.deciding(path, true).is_some() && self.denied_folded(path, true) {
            return vec!["deny"];
        }
        let mut words: Vec<&str> = self.deciding(path, true).map(|stanza| stanza.words.iter().copied().collect()).unwrap_or_default();
        words.retain(|word| self.narrower(path, true).iter().all(|stanza| stanza.words.contains(word)));
        if words.is_empty() || words.contains(&"deny") { vec!["deny"] } else { words }
    }
}

/// The field that the endpoint reads as a list, also when it is sent as a text.
const COMMA_LIST: &str = "q";

const WORDS: [&str; 9] = ["create", "read", "update", "patch", "delete", "list", "sudo", "recover", "subscribe"];

fn segment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "ab", "a", "B", "aB", "c", "+", "+", "+", "+a", "a+", ""])
}

fn pattern() -> impl Strategy<Value = String> {
    (
        prop::collection::vec(segment(), 1..5),
        prop::sample::select(vec!["", "", "*", "/*", "a*", "/", "**"]),
        prop::sample::select(vec!["", "", "", "/"]),
    )
        // `+*` is forbidden.
        .prop_map(|(segments, end, begin)| format!("{begin}{}{end}", segments.join("/")).replace("+*", "+/a*").replace("c/", "sys/mounts/"))
}

fn parameters() -> impl Strategy<Value = BTreeMap<&'static str, Vec<&'static str>>> {
    let values = prop::collection::vec(prop::sample::select(vec!["x", "x*", "*y", "z", "*", "#1", "#true"]), 0..3);
    prop_oneof![3 => Just(BTreeMap::new()), 1 => prop::collection::btree_map(prop::sample::select(vec!["p", "q", "*"]), values, 0..3)]
}

fn stanza() -> impl Strategy<Value = Stanza> {
    let words =
        prop_oneof![9 => prop::collection::btree_set(prop::sample::select(WORDS.to_vec()), 0..6), 2 => Just(BTreeSet::from(["deny"]))];
    let required = prop_oneof![5 => Just(BTreeSet::new()), 1 => prop::collection::btree_set(prop::sample::select(vec!["p", "q"]), 0..2)];
    let ttl = prop_oneof![8 => Just((0, 0)), 1 => (0_u64..4, 4_u64..8), 1 => (1_u64..4).prop_map(|ttl| (ttl, 0))];
    (pattern(), words, parameters(), parameters(), required, ttl)
        .prop_map(|(pattern, words, allowed, denied, required, (min, max))| Stanza { pattern, words, allowed, denied, required, min, max })
}

fn request() -> impl Strategy<Value = Request> {
    let part = prop::sample::select(vec!["a", "b", "ab", "A", "b", "AB", "c", "aa", "+", "+a", "a+", "", "*"]);
    let path = (prop::collection::vec(part, 1..6), prop::sample::select(vec!["", "", "/"])).prop_map(|(parts, end)| {
        // Slashes in front are dropped before anything is compared, which the patterns know nothing of.
        format!("{}{end}", parts.join("/")).replace("c/", "sys/mounts/").trim_start_matches('/').to_owned()
    });
    let operation = prop::sample::select(vec![
        Operation::Read,
        Operation::List,
        Operation::List,
        Operation::Create,
        Operation::Update,
        Operation::Patch,
        Operation::Delete,
        Operation::Recover,
        Operation::Help,
    ]);
    let value = prop::sample::select(vec![
        json!("x"),
        json!(" X"),
        json!("true"),
        json!("xy"),
        json!("z"),
        json!("*"),
        json!("1"),
        json!(1),
        json!(1.0),
        json!(true),
        json!(null),
        json!([]),
        json!(["x", "xy"]),
        json!(["z", 1]),
        json!("x, z"),
        json!("xa,by"),
        json!({ "x": "x" }),
    ]);
    let data =
        prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec((prop::sample::select(vec!["p", "q", "P", "Q", "r"]), value), 0..3)];
    (path, operation, data, prop::option::of(0_u64..9), prop::bool::weighted(0.1)).prop_map(|(path, operation, data, wrap, sudo)| Request {
        path,
        operation,
        data: data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        wrap,
        sudo,
    })
}

#[test]
fn compiled_policies_judge_as_the_rules_say() {
    let cases = std::env::var("DAYPASS_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000);
    let config = Config { cases, max_shrink_iters: 50_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let policies = prop::collection::vec(prop::collection::vec(stanza(), 1..6), 1..4);
    let [allowed, decided, folded, narrower] = [0_u32; 4].map(std::cell::Cell::new);
    // Some are all about names that handlers fold, and some of those about names that they do not.
    let head = prop::sample::select(vec!["auth/", "auth/m/", "auth/M/", "auth/m/", "auth/token/", "identity/"]);
    let cases_of = (policies, prop::collection::vec(request(), 8), prop::bool::weighted(0.4), head).prop_map(
        |(mut policies, mut requests, below, head)| {
            let patterns = policies.iter_mut().flatten().map(|stanza| &mut stanza.pattern);
            for text in patterns.chain(requests.iter_mut().map(|request| &mut request.path)).filter(|_| below) {
                *text = format!("{head}{}", text.trim_start_matches('/'));
            }
            // And ask for what a stanza is about, spelled otherwise.
            let patterns = policies.iter().flatten().map(|stanza| stanza.pattern.replace('+', "a").replace('*', "b").to_uppercase());
            for (request, pattern) in requests.iter_mut().step_by(2).zip(patterns).filter(|_| below) {
                request.path = format!("{head}{}", pattern.get(head.len()..).unwrap_or_default());
            }
            if let Some(first) = policies.first_mut().filter(|_| below) {
                let words = BTreeSet::from(["read", "update", "list", "delete"]);
                first.push(Stanza { pattern: format!("{head}*"), words, ..Stanza::default() });
            }
            (policies, requests)
        },
    );
    let result = runner.run(&cases_of, |(policies, requests)| {
        let compiled: Vec<Arc<Policy>> = policies
            .iter()
            .enumerate()
            .map(|(index, stanzas)| {
                Arc::new(Policy::parse(&format!("p{index}"), &stanzas.iter().map(Stanza::text).collect::<String>()).unwrap())
            })
            .collect();
        let (acl, model) = (Acl::compile(&compiled, &Identity::default()), Model::new(&policies));
        for request in &requests {
            let question = Question {
                data: Some(&request.data),
                wrap_ttl: request.wrap.map(Seconds),
                sudo_path: request.sudo,
                comma_lists: &[COMMA_LIST],
                ..Question::new(&request.path, request.operation)
            };
            let verdict = acl.judge(&question);
            if request.operation != Operation::Help {
                let listing = request.operation == Operation::List;
                let stanza = model.deciding(&request.path, listing);
                let pattern = stanza.map(|stanza| stanza.pattern.as_str());
                let refused = stanza.is_none_or(|stanza| !stanza.words.contains("deny")) && model.denied_folded(&request.path, listing);
                if refused {
                    prop_assert_eq!(verdict.reason, Reason::Denied, "{:?}", request);
                    folded.set(folded.get() + 1);
                } else {
                    let found = verdict.rule.map(daypass_policy::Rule::pattern);
                    let mut others = model.narrower(&request.path, listing).into_iter().filter(|_| !verdict.allowed);
                    let is_narrower = found != pattern && others.any(|stanza| found == Some(stanza.pattern.as_str()));
                    narrower.set(narrower.get() + u32::from(is_narrower));
                    prop_assert!(found == pattern || is_narrower, "who decides about {:?}: {:?}, not {:?}", request, found, pattern);
                }
                decided.set(decided.get() + u32::from(pattern.is_some()));
            }
            prop_assert_eq!(verdict.allowed, model.allows(request), "{:?}: {}", request, verdict);
            let explained = acl.explain(&question);
            prop_assert_eq!(explained.verdict, verdict);
            prop_assert!(explained.others.iter().all(|loser| !loser.because.is_empty() && model.matches(loser.rule.pattern(), request)));
            prop_assert_eq!(acl.capabilities(&request.path), model.capabilities(&request.path), "{:?}", request);
            // Whatever is granted on a path must make its mount visible.
            if let Some((mount, _)) = request.path.split_once('/').filter(|_| acl.capabilities(&request.path) != ["deny"]) {
                prop_assert!(acl.has_any_below(&format!("{mount}/")), "{:?}", request);
            }
            allowed.set(allowed.get() + u32::from(verdict.allowed));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (decided, allowed, folded, narrower) = (decided.get(), allowed.get(), folded.get(), narrower.get());
    assert!(
        decided > cases && allowed > cases / 10 && folded > cases / 20 && narrower > cases / 50,
        "{decided} decided, {allowed} allowed, {folded} by folded denies, {narrower} by narrower rules"
    );
}
