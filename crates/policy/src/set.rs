//! The policies of tokens, taken together: what is the same for everybody is arranged once, and what a template makes of the rest for each.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::arranged::Arranged;
use crate::denies::bar;
use crate::template::Filled;
use crate::verdict::{Grant, Rule};
use crate::{Acl, DependsOn, Identity, Permissions, Policy, Stanza};

/// Policies that tokens have together.
///
/// ```
/// use std::sync::Arc;
/// use daypass_policy::{DependsOn, Entity, Identity, Operation, Policy, PolicySet, Question};
/// let text = "path \"kv/{{identity.entity.name}}\" { capabilities = [\"read\"] }\npath \"kv/all\" { capabilities = [\"read\"] }";
/// let set = PolicySet::new(vec![Arc::new(Policy::parse("own", text).unwrap())]);
/// assert_eq!(set.depends_on(), DependsOn::Entity);
/// let identity = Identity { entity: Some(Entity { name: "ann".into(), ..Entity::default() }), groups: Vec::new() };
/// let acl = set.acl(&identity);
/// let may_read = |path| acl.judge(&Question::new(path, Operation::Read)).allowed;
/// assert!(may_read("kv/ann") && may_read("kv/all") && !may_read("kv/bob"));
/// ```
#[derive(Debug)]
pub struct PolicySet {
    root: bool,
    depends_on: DependsOn,
    shared: Arc<Arranged>,
    /// Empty where nothing is to be filled in.
    policies: Vec<Arc<Policy>>,
    /// Where the stanzas with templates are.
    templated: Vec<Place>,
    bytes: usize,
    fill_bytes: usize,
}

/// A stanza by its policy and its number there.
type Place = (usize, usize);

#[derive(Clone, Copy)]
struct Placed<'a> {
    place: Place,
    policy: &'a Policy,
    stanza: &'a Stanza,
}

/// The stanzas of each pattern.
type Found<'a> = BTreeMap<String, SmallVec<[Placed<'a>; 1]>>;

impl PolicySet {
    /// Arranges what is the same for everybody.
    #[must_use]
    pub fn new(policies: Vec<Arc<Policy>>) -> Self {
        let depends_on = policies.iter().map(|policy| policy.depends_on()).max().unwrap_or(DependsOn::Nothing);
        let mut found = Found::new();
        let (mut templated, mut fill_bytes) = (Vec::new(), 0);
        for placed in all(&policies) {
            if placed.is_templated() {
                templated.push(placed.place);
                fill_bytes += Rule::bytes_of(placed.stanza.pattern(), &placed.stanza.permissions);
            } else {
                found.entry(bare(placed.stanza.pattern()).to_owned()).or_default().push(placed);
            }
        }
        let rules = rules(found);
        if !templated.is_empty() {
            // It may be filled in to the pattern of any other stanza, and is united with it then.
            fill_bytes += rules.values().map(Rule::bytes).max().unwrap_or_default();
        }
        let shared = Arranged::new(rules, BTreeMap::new());
        let root = policies.iter().any(|policy| policy.root);
        let policies = if templated.is_empty() { Vec::new() } else { policies };
        let bytes = shared.bytes() + policies.iter().map(|policy| policy.bytes()).sum::<usize>();
        Self { root, depends_on, shared: Arc::new(shared), policies, templated, bytes, fill_bytes }
    }

    /// What of a caller decides what they permit.
    #[must_use]
    pub fn depends_on(&self) -> DependsOn {
        self.depends_on
    }

    /// About how much memory they take, what is made for each caller not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// About how much memory what is made for a caller takes at most; making it takes time in proportion.
    #[must_use]
    pub fn fill_bytes(&self) -> usize {
        self.fill_bytes
    }

    /// What they permit to a caller.
    #[must_use]
    pub fn acl(&self, identity: &Identity) -> Acl {
        let (mut found, mut barred) = (Found::new(), BTreeMap::<String, Rule>::new());
        for placed in self.templated.iter().filter_map(|place| self.at(*place)) {
            match placed.stanza.template.fill(identity) {
                Filled::Pattern(filled) => found.entry(bare(&filled).to_owned()).or_default().push(placed),
                // What such a value would deny cannot be told: a deny must not fall away by how somebody is named.
                Filled::Unsafe { head } if placed.stanza.permissions.capabilities.denies() => {
                    let head = bare(&head);
                    if let Some(rule) = barred.get_mut(head) {
                        rule.grants.push(placed.grant());
                    } else {
                        barred.insert(head.to_owned(), bar(head, placed.grant()));
                    }
                }
                Filled::Unsafe { .. } | Filled::Missing => {}
            }
        }
        // Hardly ever is something filled in to what another stanza says to the letter.
        if found.keys().any(|pattern| self.shared.of_pattern(pattern).is_some()) {
            for placed in all(&self.policies).filter(|placed| !placed.is_templated()) {
                if let Some(stanzas) = found.get_mut(bare(placed.stanza.pattern())) {
                    stanzas.push(placed);
                }
            }
            for stanzas in found.values_mut() {
                stanzas.sort_unstable_by_key(|placed| placed.place);
            }
        }
        Acl::new(self.root, Arc::clone(&self.shared), Arranged::new(rules(found), barred))
    }

    fn at(&self, place: Place) -> Option<Placed<'_>> {
        let policy = self.policies.get(place.0)?;
        policy.stanzas.get(place.1).map(|stanza| Placed { place, policy, stanza })
    }
}

impl Placed<'_> {
    fn is_templated(&self) -> bool {
        self.stanza.template.depends_on() != DependsOn::Nothing
    }

    fn grant(&self) -> Grant {
        Grant { policy: Arc::clone(&self.policy.name), capabilities: self.stanza.permissions.capabilities, line: self.stanza.line }
    }
}

/// All stanzas in their order.
fn all(policies: &[Arc<Policy>]) -> impl Iterator<Item = Placed<'_>> {
    policies.iter().enumerate().flat_map(|(number, policy)| {
        let placed = move |(below, stanza)| Placed { place: (number, below), policy, stanza };
        policy.stanzas.iter().enumerate().map(placed)
    })
}

fn rules(found: Found<'_>) -> BTreeMap<String, Rule> {
    let rule = |(pattern, stanzas): (String, SmallVec<[Placed<'_>; 1]>)| {
        let permissions: SmallVec<[&Arc<Permissions>; 1]> = stanzas.iter().map(|placed| &placed.stanza.permissions).collect();
        let rule = Rule {
            pattern: pattern.as_str().into(),
            permissions: Permissions::united(&permissions),
            grants: stanzas.iter().map(Placed::grant).collect(),
        };
        (pattern, rule)
    };
    found.into_iter().map(rule).collect()
}

/// A pattern without the slash that may stand in front of it.
fn bare(pattern: &str) -> &str {
    pattern.strip_prefix('/').unwrap_or(pattern)
}

#[cfg(test)]
mod tests;
