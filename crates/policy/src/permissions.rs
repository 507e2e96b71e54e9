//! What one pattern permits, and how the same pattern of several policies adds up.

use std::sync::Arc;

use daypass_base::Seconds;

use crate::parameters::each_once;
use crate::{Capabilities, Capability, Parameters};

/// What a pattern permits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Permissions {
    /// What may be done.
    pub capabilities: Capabilities,
    /// Parameters that may be sent; empty means all. Names are lower case.
    pub allowed: Parameters,
    /// Parameters that must not be sent. Names are lower case.
    pub denied: Parameters,
    /// Parameters that must be sent.
    pub required: Vec<String>,
    /// Shortest wrapping allowed; zero means no limit. With either limit set, an answer must be wrapped.
    pub wrapping_min: Seconds,
    /// Longest wrapping allowed; zero means no limit.
    pub wrapping_max: Seconds,
}

impl Permissions {
    /// Deny and nothing else.
    #[must_use]
    pub fn deny() -> Self {
        Self { capabilities: Capabilities::only(Capability::Deny), ..Self::default() }
    }

    /// What the stanzas of one pattern permit together. A deny among them wins; of the wrapping limits the shortest stay; parameters unite,
    /// and one that may have any value in one of them may have any value.
    pub(crate) fn united(all: &[&Arc<Self>]) -> Arc<Self> {
        if let [alone] = all {
            return Arc::clone(alone);
        }
        if all.iter().any(|one| one.capabilities.denies()) {
            return Self::deny().into();
        }
        let united = Self {
            capabilities: all.iter().fold(Capabilities::NONE, |set, one| set.with(one.capabilities)),
            allowed: Parameters::united(all.iter().map(|one| &one.allowed)),
            denied: Parameters::united(all.iter().map(|one| &one.denied)),
            required: each_once(all.iter().flat_map(|one| &one.required).collect()),
            wrapping_min: all.iter().fold(Seconds::ZERO, |least, one| shorter(least, one.wrapping_min)),
            wrapping_max: all.iter().fold(Seconds::ZERO, |least, one| shorter(least, one.wrapping_max)),
        };
        united.into()
    }

    /// About how much memory they take.
    pub(crate) fn bytes(&self) -> usize {
        let required: usize = self.required.iter().map(|name| size_of::<String>() + name.len()).sum();
        size_of::<Self>() + self.allowed.bytes() + self.denied.bytes() + required
    }
}

fn shorter(a: Seconds, b: Seconds) -> Seconds {
    match (a.set(), b.set()) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Two stanzas, as the rules say it.
    fn merged(mut own: Permissions, other: &Permissions) -> Permissions {
        if own.capabilities.denies() || other.capabilities.denies() {
            return Permissions::deny();
        }
        let parameters = |own: &Parameters, other: &Parameters| {
            let mut all: std::collections::BTreeMap<String, Vec<Value>> =
                own.iter().map(|(name, values)| (name.to_owned(), values.to_vec())).collect();
            for (name, values) in other.iter() {
                match all.get_mut(name) {
                    None => drop(all.insert(name.to_owned(), values.to_vec())),
                    Some(own) if own.is_empty() || values.is_empty() => own.clear(),
                    Some(own) => own.extend(values.iter().cloned()),
                }
            }
            let mut out = Parameters::default();
            for (name, values) in all {
                out.add(&name, once(values));
            }
            out
        };
        own.capabilities = own.capabilities.with(other.capabilities);
        (own.allowed, own.denied) = (parameters(&own.allowed, &other.allowed), parameters(&own.denied, &other.denied));
        own.wrapping_min = shorter(own.wrapping_min, other.wrapping_min);
        own.wrapping_max = shorter(own.wrapping_max, other.wrapping_max);
        let required = once(own.required.into_iter().chain(other.required.iter().cloned()).collect());
        Permissions { required, ..own }
    }

    fn once<T: PartialEq>(all: Vec<T>) -> Vec<T> {
        let mut out: Vec<T> = Vec::new();
        for entry in all {
            if !out.contains(&entry) {
                out.push(entry);
            }
        }
        out
    }

    fn permissions() -> impl Strategy<Value = Permissions> {
        let value = prop::sample::select(vec![json!("a"), json!("b"), json!(1), json!(1.0), json!(true), json!({ "a": [1] })]);
        let parameters = prop::collection::vec((prop::sample::select(vec!["p", "q", "*"]), prop::collection::vec(value, 0..4)), 0..3);
        let parameters = parameters.prop_map(|all| {
            let mut out = Parameters::default();
            for (name, values) in all {
                out.add(name, values);
            }
            out
        });
        let capability = prop::sample::select(vec![Capability::Read, Capability::Update, Capability::List, Capability::Create]);
        let required = prop::collection::vec(prop::sample::select(vec!["p".to_owned(), "q".to_owned(), "r".to_owned()]), 0..4);
        let granted = (prop::collection::vec(capability, 0..3), parameters.clone(), parameters, required, 0_u64..3, 0_u64..3).prop_map(
            |(capabilities, allowed, denied, required, min, max)| Permissions {
                capabilities: capabilities.into_iter().collect(),
                allowed,
                denied,
                required,
                wrapping_min: Seconds(min),
                wrapping_max: Seconds(max),
            },
        );
        prop_oneof![12 => granted, 1 => Just(Permissions::deny())]
    }

    proptest! {
        #[test]
        fn stanzas_unite_as_one_after_the_other(all in prop::collection::vec(permissions(), 2..6)) {
            let one_by_one = all.iter().skip(1).fold(all.first().cloned().unwrap(), merged);
            let all: Vec<Arc<Permissions>> = all.into_iter().map(Arc::new).collect();
            prop_assert_eq!(&*Permissions::united(&all.iter().collect::<Vec<_>>()), &one_by_one);
        }
    }

    /// Story: two stanzas of one pattern with 40,000 values each held the whole server up for half a minute: each value was searched for among
    /// all that were there. This test would take minutes.
    #[test]
    fn long_lists_unite_at_once() {
        let stanza = |first: u32| {
            let names: Vec<Value> = (first..first + 100_000).map(|number| json!(format!("v{number}"))).collect();
            let mut parameters = Parameters::default();
            parameters.add("x", names);
            let required = (first..first + 100_000).map(|number| format!("v{number}")).collect();
            Arc::new(Permissions { allowed: parameters.clone(), denied: parameters, required, ..Permissions::default() })
        };
        let united = Permissions::united(&[&stanza(0), &stanza(50_000), &stanza(100_000)]);
        assert_eq!(united.allowed.values("x").map(<[_]>::len), Some(200_000));
        assert_eq!((united.denied.clone(), united.required.len()), (united.allowed.clone(), 200_000));
    }
}
