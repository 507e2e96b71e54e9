//! Group inheritance against a slow model, and what requests cannot show of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daypass_barrier::{Barrier, Keyring, RootKey};
use daypass_base::Clock;
use daypass_base::lenient::CommaList;
use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_storage::{Backend, MemoryBackend, Space};
use proptest::prelude::*;

use super::aliases::AliasWish;
use super::entities::EntityWish;
use super::group_aliases::GroupAliasWish;
use super::groups::GroupWish;
use super::*;

struct Bench {
    identities: Identities,
    backend: Arc<MemoryBackend>,
}

impl Bench {
    fn new() -> Self {
        let (clock, entropy) = (SimClock::default(), Arc::new(SeededEntropy::new(11)));
        let keyring = Keyring::generate(&*entropy, clock.now());
        let barrier = Barrier::new(keyring, RootKey::generate(&*entropy), Arc::clone(&entropy) as Arc<_>).unwrap();
        let backend = Arc::new(MemoryBackend::new());
        let rows = Rows::new(Arc::clone(&backend) as Arc<_>, barrier);
        Self { identities: Identities::new(rows, Arc::new(clock), entropy, 100), backend }
    }

    async fn group(&self, number: usize) -> String {
        let wish = GroupWish { policies: Some(CommaList(vec![format!("p{number}")])), ..GroupWish::default() };
        self.identities.write_group(&Target::New, wish).await.unwrap().0.id
    }

    async fn entity(&self) -> String {
        self.identities.write_entity(&Target::New, EntityWish::default()).await.unwrap().0.id
    }

    async fn put_groups(&self, group: &str, members: &[&String]) -> Result<()> {
        let groups = Some(CommaList(members.iter().map(|id| (*id).clone()).collect()));
        self.identities.write_group(&Target::Id(group.to_owned()), GroupWish { groups, ..GroupWish::default() }).await.map(drop)
    }

    async fn put_entities(&self, group: &str, members: &[&String]) -> Result<()> {
        let entities = Some(CommaList(members.iter().map(|id| (*id).clone()).collect()));
        self.identities.write_group(&Target::Id(group.to_owned()), GroupWish { entities, ..GroupWish::default() }).await.map(drop)
    }

    async fn standing(&self, entity: &str) -> Standing {
        let who = Who { entity_id: entity.to_owned(), mount_accessor: String::new(), groups: Vec::new() };
        self.identities.find_standing(&who).await.unwrap()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Delete(usize),
    Entities(usize, Vec<usize>),
    Groups(usize, Vec<usize>),
}

const GROUPS: usize = 6;
const ENTITIES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..GROUPS).prop_map(Step::Delete),
        4 => (0..GROUPS, prop::collection::vec(0..ENTITIES, 0..3)).prop_map(|(group, members)| Step::Entities(group, members)),
        6 => (0..GROUPS, prop::collection::vec(0..GROUPS, 0..3)).prop_map(|(group, members)| Step::Groups(group, members)),
    ]
}

/// Members as they were last set, nothing else: everything is searched for anew each time.
#[derive(Default)]
struct Model {
    gone: BTreeSet<usize>,
    groups: BTreeMap<usize, BTreeSet<usize>>,
    entities: BTreeMap<usize, BTreeSet<usize>>,
}

impl Model {
    /// Whether `inner` is somewhere in `outer`.
    fn holds(&self, outer: usize, inner: usize) -> bool {
        outer == inner || self.groups.get(&outer).into_iter().flatten().any(|&member| self.holds(member, inner))
    }

    fn may(&self, step: &Step) -> bool {
        match step {
            Step::Delete(_) => true,
            Step::Entities(group, _) => !self.gone.contains(group),
            Step::Groups(group, members) => {
                let old = self.groups.get(group);
                let joining = members.iter().filter(|member| old.is_none_or(|old| !old.contains(*member)));
                !self.gone.contains(group) && joining.into_iter().all(|member| !self.gone.contains(member) && !self.holds(*member, *group))
            }
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Delete(group) => {
                self.gone.insert(group);
                self.groups.remove(&group);
                self.entities.remove(&group);
                for members in self.groups.values_mut() {
                    members.remove(&group);
                }
            }
            Step::Entities(group, members) => {
                self.entities.insert(group, members.into_iter().collect());
            }
            Step::Groups(group, members) => {
                self.groups.insert(group, members.into_iter().collect());
            }
        }
    }

    fn direct(&self, entity: usize) -> BTreeSet<usize> {
        self.entities.iter().filter(|(_, members)| members.contains(&entity)).map(|(group, _)| *group).collect()
    }

    fn all(&self, entity: usize) -> BTreeSet<usize> {
        let direct = self.direct(entity);
        (0..GROUPS).filter(|outer| direct.iter().any(|inner| self.holds(*outer, *inner))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked for, in whatever order: what is refused is what the model refuses, and everybody has the groups and policies
    /// that the model finds by searching.
    #[test]
    fn groups_are_inherited_as_the_slow_model_says(steps in prop::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (bench, mut model) = (Bench::new(), Model::default());
            let (mut groups, mut entities) = (Vec::new(), Vec::new());
            for number in 0..GROUPS {
                groups.push(bench.group(number).await);
            }
            for _ in 0..ENTITIES {
                entities.push(bench.entity().await);
            }
            for step in steps {
                let done = match &step {
                    Step::Delete(group) => bench.identities.delete_group(&groups[*group]).await,
                    Step::Entities(group, members) => {
                        bench.put_entities(&groups[*group], &members.iter().map(|member| &entities[*member]).collect::<Vec<_>>()).await
                    }
                    Step::Groups(group, members) => {
                        bench.put_groups(&groups[*group], &members.iter().map(|member| &groups[*member]).collect::<Vec<_>>()).await
                    }
                };
                assert_eq!(done.is_ok(), model.may(&step), "{step:?}: {done:?}");
                if done.is_ok() {
                    model.apply(step);
                }
            }
            for (number, entity) in entities.iter().enumerate() {
                let ids = |numbers: BTreeSet<usize>| numbers.into_iter().map(|group| groups[group].clone()).collect::<BTreeSet<_>>();
                let (direct, inherited) = bench.identities.memberships(&entities::blank(entity.clone(), Timestamp::from_nanos(0))).await.unwrap();
                let all = model.all(number);
                assert_eq!(direct.iter().cloned().collect::<BTreeSet<_>>(), ids(model.direct(number)));
                assert_eq!(direct.into_iter().chain(inherited).collect::<BTreeSet<_>>(), ids(all.clone()));
                let policies: Vec<String> = all.iter().map(|group| format!("p{group}")).collect();
                assert_eq!(bench.standing(entity).await.policies, policies);
            }
        });
    }
}

#[tokio::test]
async fn groups_are_nested_only_so_deep() {
    let bench = Bench::new();
    let mut chain = vec![bench.group(0).await];
    for number in 1..bounds::DEPTH_MAX {
        let outer = bench.group(number).await;
        bench.put_groups(&outer, &[&chain[number - 1]]).await.unwrap();
        chain.push(outer);
    }
    let entity = bench.entity().await;
    bench.put_entities(&chain[0], &[&entity]).await.unwrap();
    assert_eq!(bench.standing(&entity).await.policies.len(), bounds::DEPTH_MAX);
    let another = bench.group(99).await;
    let refused = bench.put_groups(&another, &[&chain[bounds::DEPTH_MAX - 1]]).await.unwrap_err();
    assert_eq!(refused.message, "groups can be nested 16 deep; this would be deeper");
    let refused = bench.put_groups(&chain[0], &[&another]).await.unwrap_err();
    assert_eq!(refused.message, "groups can be nested 16 deep; this would be deeper", "from below, too");
}

#[tokio::test]
async fn nothing_is_left_of_what_was_deleted() {
    let bench = Bench::new();
    let (inner, outer, entity) = (bench.group(0).await, bench.group(1).await, bench.entity().await);
    bench.put_groups(&outer, &[&inner]).await.unwrap();
    bench.put_entities(&inner, &[&entity]).await.unwrap();
    let alias = AliasWish {
        id: None,
        name: "ann@example.org".to_owned(),
        mount_accessor: "auth_userpass_1".to_owned(),
        entity: entity.clone(),
        custom_metadata: None,
    };
    bench.identities.write_alias(alias).await.unwrap();
    let keys = bench.backend.keys(&daypass_storage::Key::new(Space::Config, ""), None, 100).await.unwrap();
    let keys: Vec<String> = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    assert!(keys.iter().all(|key| !key.contains("ann")), "keys lie in clear and name no people: {keys:?}");
    bench.identities.delete_group(&inner).await.unwrap();
    bench.identities.delete_group(&outer).await.unwrap();
    bench.identities.delete_entities(&[entity]).await.unwrap();
    let mut left = Vec::new();
    for space in [Space::Config, Space::Index] {
        let keys = bench.backend.keys(&daypass_storage::Key::new(space, ""), None, 100).await.unwrap();
        left.extend(keys.into_iter().map(|key| String::from_utf8_lossy(&key).into_owned()));
    }
    assert_eq!(left, ["identity/guard"]);
}

/// Older versions took the id of an entity that was merged away for a member of a group, and what the group gave or denied held for nobody.
#[tokio::test]
async fn a_member_of_before_that_was_merged_away_is_the_entity_that_is_left() {
    let bench = Bench::new();
    let (group, from, to) = (bench.group(0).await, bench.entity().await, bench.entity().await);
    bench.identities.merge(std::slice::from_ref(&from), &to, &[]).await.unwrap();
    assert!(bench.put_entities(&group, &[&from]).await.is_err(), "this version takes none");
    let mut change = bench.identities.change().await.unwrap();
    change.edge(rows::edge_key(Member::Entity(&from), &group));
    let members = rows::MembersRow { entities: vec![from.clone()], groups: Vec::new() };
    change.put(rows::members_key(&group), &members).unwrap();
    change.commit().await.unwrap();
    let left = bench.identities.entity(&to).await.unwrap().unwrap();
    assert_eq!(bench.identities.memberships(&left).await.unwrap().0, [group.as_str()]);
    for id in [&from, &to] {
        assert_eq!(bench.standing(id).await.policies, ["p0"]);
    }
    bench.identities.delete_entities(std::slice::from_ref(&to)).await.unwrap();
    assert_eq!(bench.identities.members(&group).await.unwrap(), rows::MembersRow::default(), "it goes with the one that is left");
}

/// Rows of children that an older version stored have a copy of the groups and do not say whose login it was.
#[tokio::test]
async fn a_row_with_groups_of_its_own_is_read_as_before() {
    let bench = Bench::new();
    let wish = GroupWish { kind: Some("external".to_owned()), policies: Some(CommaList(vec!["p".to_owned()])), ..GroupWish::default() };
    let group = bench.identities.write_group(&Target::New, wish).await.unwrap().0.id;
    let alias = GroupAliasWish { id: None, name: "team".to_owned(), mount_accessor: "auth_x".to_owned(), group };
    bench.identities.write_group_alias(alias).await.unwrap();
    let entity = bench.entity().await;
    let version = bench.backend.get(&Key::new(Space::Config, "config-version")).await.unwrap().config_version;
    let policies = async |alias: &str| {
        let row = format!(
            r#"{{"a":"","p":["default"],"at":"auth/token/create","t0":"2026-01-01T00:00:00Z","ct":60,"e":"{entity}","al":{alias}}}"#
        );
        let row: TokenRow = serde_json::from_str(&row).unwrap();
        bench.identities.standing(&row, version).await.unwrap().policies.clone()
    };
    assert_eq!(policies(r#"{"n":"ann","ma":"auth_x","md":{},"g":["team"]}"#).await, ["p"]);
    let of_login = r#"{"n":"ann","ma":"auth_x","md":{},"g":["team"],"l":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]}"#;
    assert!(policies(of_login).await.is_empty(), "that login is gone");
}
