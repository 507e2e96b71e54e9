//! Identity: who callers are, what their entities and groups add to their tokens, and from when on.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::Arc;

use daypass_base::lenient::{CommaList, KvPairs};
use daypass_base::{BoxFuture, Clock, Timestamp};
use daypass_sdk::{Changes, Cx, Endpoint, Engine, Error, Factory, LeaseTerms, Login, Operation, Renewal, Result, Room, Seconds};
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, MemoryBackend, Space};
use daypass_testkit::{Answer, Setup, TestServer};
use serde_json::{Value, json};

/// An auth method that believes everything.
struct Gate;

/// What to believe.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Claim {
    /// The name.
    name: String,
    /// What is to be proved.
    #[serde(default)]
    facts: KvPairs,
    /// Groups.
    #[serde(default)]
    groups: CommaList,
    /// Policies of the token.
    #[serde(default)]
    policies: CommaList,
    /// `batch` or nothing.
    #[serde(default)]
    kind: String,
    /// Uses of the token.
    #[serde(default)]
    uses: i64,
}

async fn enter(_: Arc<Gate>, _: Cx, claim: Claim) -> Result<Login> {
    Ok(Login {
        alias: claim.name,
        metadata: claim.facts.0,
        groups: claim.groups.0,
        policies: claim.policies.0,
        token_type: claim.kind,
        num_uses: claim.uses,
        renewable: true,
        internal: Some(json!({})),
        ..Login::default()
    })
}

impl Engine for Gate {
    const SUMMARY: &'static str = "Believes everything.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![
            Endpoint::at(["login"]).summary("Log in.").on_proof().on(Operation::Update, enter),
            Endpoint::at(["groups"]).summary("Say who is in which groups from now on.").on(Operation::Update, regroup),
            Endpoint::at(["from"]).summary("Say from where renewals may come.").on(Operation::Update, narrow),
        ]
    }

    fn renew_login(self: Arc<Self>, cx: Cx, _: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(async move {
            let only: Option<String> = cx.store.get_json("renewed_from").await?;
            if only.is_some_and(|only| cx.request.remote != only.parse().ok()) {
                return Err(Error::bad_request(format!("from {:?}", cx.request.remote)));
            }
            let terms = LeaseTerms { ttl: Seconds::ZERO, max_ttl: Seconds::ZERO, renewable: true };
            Ok(Renewal { terms, period: Seconds::ZERO, internal: None, groups: cx.store.get_json("groups").await? })
        })
    }
}

/// The groups that a renewal finds.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Groups {
    /// Groups.
    groups: CommaList,
}

async fn regroup(_: Arc<Gate>, cx: Cx, groups: Groups) -> Result<()> {
    Ok(cx.store.commit(Changes::new().put_json("groups", &groups.groups.0)?).await?)
}

/// From where alone renewals may come.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct From {
    /// The address.
    address: String,
}

async fn narrow(_: Arc<Gate>, cx: Cx, from: From) -> Result<()> {
    Ok(cx.store.commit(Changes::new().put_json("renewed_from", &from.address)?).await?)
}

pub(crate) struct House {
    server: TestServer,
    pub(crate) accessor: String,
}

impl std::ops::Deref for House {
    type Target = TestServer;
    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::of(Setup::default()).await
    }

    /// Of this make.
    pub(crate) async fn of(setup: Setup) -> Self {
        let setup = setup.engine(|| {
            let room = Arc::new(Room::<Gate>::new());
            Factory {
                kind: "gate",
                auth: true,
                summary: "Believes everything",
                built_from: &[],
                build: Box::new(move |_: &_| Ok(room.mount(Gate))),
            }
        });
        let server = setup.start().await;
        server.put("sys/auth/gate", json!({ "type": "gate" })).await.ok();
        server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
        let accessor = server.get("sys/auth/gate").await.ok().text("/data/accessor");
        let house = Self { server, accessor };
        house.policy("reads", r#"path "kv/open" { capabilities = ["read"] }"#).await;
        house.put("kv/open", json!({ "x": "y" })).await.ok();
        house
    }

    pub(crate) async fn enter(&self, claim: Value) -> Answer {
        self.put("auth/gate/login", claim).nobody().await
    }

    /// Logs in and returns token and entity.
    pub(crate) async fn login(&self, claim: Value) -> (String, String) {
        let answer = self.enter(claim).await.ok();
        (answer.token(), answer.text("/auth/entity_id"))
    }

    pub(crate) async fn entity(&self, fields: Value) -> String {
        self.put("identity/entity", fields).await.ok().text("/data/id")
    }

    pub(crate) async fn group(&self, fields: Value) -> String {
        self.put("identity/group", fields).await.ok().text("/data/id")
    }

    pub(crate) async fn alias(&self, name: &str, entity: &str) -> String {
        let fields = json!({ "name": name, "canonical_id": entity, "mount_accessor": self.accessor });
        self.put("identity/entity-alias", fields).await.ok().text("/data/id")
    }

    /// The server died, and another one serves its store.
    pub(crate) async fn restart(self) -> Self {
        Self { server: self.server.restart().await, accessor: self.accessor }
    }

    pub(crate) async fn reads(&self, token: &str, path: &str) -> u16 {
        self.get(path).token(token).await.status
    }

    /// What a token may do on a path: the first capability.
    pub(crate) async fn may(&self, token: &str, path: &str) -> String {
        self.put("sys/capabilities", json!({ "token": token, "paths": [path] })).await.ok().text("/data/capabilities/0")
    }
}

/// Story: a method was not told from where a token is renewed. All renewals by certificate shared the places that one address has for the answers of
/// responders, and those of one machine sent everybody else's away.
#[tokio::test]
async fn a_method_is_told_from_where_a_token_is_renewed() {
    let house = House::open().await;
    let answer = house.enter(json!({ "name": "ann" })).await.ok();
    house.put("auth/gate/from", json!({ "address": "192.0.2.7" })).await.ok();
    let (token, accessor) = (json!({ "token": answer.token() }), json!({ "accessor": answer.text("/auth/accessor") }));
    for ask in [
        house.put("auth/token/renew-self", json!({})).token(&answer.token()),
        house.put("auth/token/renew", token),
        house.put("auth/token/renew-accessor", accessor),
    ] {
        assert!(ask.clone().from("192.0.2.8").await.refused(400).contains("from Some(192.0.2.8)"));
        ask.from("192.0.2.7").await.ok();
    }
}

#[tokio::test]
async fn a_thousand_logins_leave_no_entity() {
    let house = House::open().await;
    let before = house.rows(Space::Config).await.len();
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..1_000 {
        let (_, entity) = house.login(json!({ "name": format!("m-{number}") })).await;
        seen.insert(entity);
    }
    assert_eq!((seen.len(), house.rows(Space::Config).await.len()), (1_000, before));
    assert_eq!(house.get("sys/internal/counters/entities").await.ok().number("/data/counters/entities/total"), 0);
    assert_eq!(house.list("identity/entity/id").await.status, 404);
}

#[tokio::test]
async fn the_entity_of_a_login_can_be_looked_up_before_anything_of_it_is_stored() {
    let house = House::open().await;
    let (token, entity) = house.login(json!({ "name": "ann" })).await;
    let own = house.get(&format!("identity/entity/id/{entity}")).token(&token).await.ok();
    assert_eq!((own.text("/data/id"), own.text("/data/aliases/0/name")), (entity.clone(), "ann".to_owned()));
    let name = own.text("/data/name");
    assert_eq!(house.get(&format!("identity/entity/name/{name}")).token(&token).await.ok().text("/data/id"), entity);
    let by_alias = json!({ "alias_name": "ann", "alias_mount_accessor": house.accessor });
    let found = house.put("identity/lookup/entity", by_alias).await.ok();
    assert_eq!((found.text("/data/id"), found.text("/data/aliases/0/mount_path")), (entity.clone(), "auth/gate/".to_owned()));
    assert_eq!(house.get(&format!("identity/entity/id/{entity}")).await.ok().text("/data/id"), entity, "an operator sees it, too");
    for (fields, status) in [
        (json!({ "alias_name": "ann", "alias_mount_accessor": "auth_gate_0" }), 204),
        (json!({ "id": "3f1c2b7e-0000-4000-8000-000000000000" }), 204),
        (json!({}), 400),
        (json!({ "id": entity, "name": name }), 400),
        (json!({ "alias_name": "ann" }), 400),
    ] {
        assert_eq!(house.put("identity/lookup/entity", fields.clone()).await.status, status, "{fields}");
    }
}

#[tokio::test]
async fn what_is_said_of_a_derived_entity_holds_for_tokens_that_are_out_already() {
    let house = House::open().await;
    let (token, entity) = house.login(json!({ "name": "ann" })).await;
    let (batch, same) = house.login(json!({ "name": "ann", "kind": "batch" })).await;
    assert_eq!((same, house.reads(&token, "kv/open").await), (entity.clone(), 403));
    house.put(&format!("identity/entity/id/{entity}"), json!({ "policies": "reads", "metadata": { "team": "blue" } })).await.ok();
    assert_eq!((house.reads(&token, "kv/open").await, house.reads(&batch, "kv/open").await), (200, 200));
    assert_eq!(house.get("sys/internal/counters/entities").await.ok().number("/data/counters/entities/total"), 1);
    let again = house.enter(json!({ "name": "ann" })).await.ok();
    assert_eq!(again["auth"]["identity_policies"], json!(["reads"]));
    assert_eq!(again["auth"]["policies"], json!(["default", "reads"]));
    assert_eq!(again["auth"]["token_policies"], json!(["default"]));
    assert_eq!(again.text("/auth/entity_id"), entity);
    house.put(&format!("identity/entity/id/{entity}"), json!({ "policies": [] })).await.ok();
    assert_eq!((house.reads(&token, "kv/open").await, house.reads(&batch, "kv/open").await), (403, 403));
}

/// Story: an entity had a policy that denies. Whoever deleted it lifted the deny from all tokens of the login, because the derived entity
/// that was left had none. Now its tokens end with it; a login afterwards has the same id, and begins anew.
#[tokio::test]
async fn deleting_a_derived_entity_ends_its_tokens() {
    let house = House::open().await;
    house.policy("denies", r#"path "kv/open" { capabilities = ["deny"] }"#).await;
    house.policy("makes", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    let (token, entity) = house.login(json!({ "name": "ann", "policies": "reads,makes" })).await;
    let (batch, _) = house.login(json!({ "name": "ann", "policies": "reads", "kind": "batch" })).await;
    let child = house.put("auth/token/create", json!({})).token(&token).await.ok().token();
    let (other, _) = house.login(json!({ "name": "bob", "policies": "reads" })).await;
    house.put(&format!("identity/entity/id/{entity}"), json!({ "policies": "denies" })).await.ok();
    assert_eq!(house.reads(&token, "kv/open").await, 403);
    house.delete(&format!("identity/entity/id/{entity}")).await.ok();
    for token in [&token, &batch, &child] {
        assert_eq!((house.reads(token, "kv/open").await, house.status_of(token).await), (403, 403));
    }
    assert_eq!(house.reads(&other, "kv/open").await, 200);
    house.seconds(1).await;
    let (fresh, same) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    assert_eq!((same, house.reads(&fresh, "kv/open").await), (entity.clone(), 200));
    // Nothing is stored of it now; deleting it ends its tokens nevertheless, once more. What is said of it later brings none back.
    house.delete(&format!("identity/entity/id/{entity}")).await.ok();
    house.put(&format!("identity/entity/id/{entity}"), json!({ "policies": "reads" })).await.ok();
    assert_eq!((house.status_of(&fresh).await, house.status_of(&token).await), (403, 403));
    house.seconds(1).await;
    let (last, _) = house.login(json!({ "name": "ann" })).await;
    assert_eq!(house.reads(&last, "kv/open").await, 200);
}

/// Story: the time of a deletion was taken before its commit. Requests that went on meanwhile made children that were younger than that time,
/// and these lived on: the batch tokens among them could be revoked by nobody. Now a child is judged by the login that its entity is from.
#[tokio::test]
async fn children_made_while_an_entity_is_deleted_end_with_it() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let house = House::of(setup.over(Arc::clone(&evil) as Arc<dyn Backend>)).await;
    house.policy("makes", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    house.policy("bare", r#"path "auth/token/create-orphan" { capabilities = ["sudo", "update"] }"#).await;
    let (parent, entity) = house.login(json!({ "name": "ann", "policies": "makes,bare" })).await;
    let (done, second) = (evil.calls().writes, std::time::Duration::from_secs(1));
    evil.at(Step::Write(done + 1), Fault::Delay(5 * second));
    let deletion = tokio::spawn(house.delete(&format!("identity/entity/id/{entity}")).into_future());
    while evil.calls().writes == done {
        tokio::task::yield_now().await;
    }
    house.clock().advance(second);
    let child = house.put("auth/token/create", json!({})).token(&parent).await.ok().token();
    let grandchild = house.put("auth/token/create", json!({})).token(&child).await.ok().token();
    let batch = house.put("auth/token/create", json!({ "type": "batch" })).token(&grandchild).await.ok().token();
    let orphan = house.put("auth/token/create-orphan", json!({})).token(&parent).await.ok().token();
    house.clock().advance(4 * second);
    deletion.await.unwrap().ok();
    for token in [&parent, &child, &grandchild, &batch] {
        assert_eq!(house.status_of(token).await, 403);
    }
    assert_eq!(house.status_of(&orphan).await, 200, "an orphan has no entity");
    let (fresh, same) = house.login(json!({ "name": "ann", "policies": "makes" })).await;
    let child = house.put("auth/token/create", json!({ "type": "batch" })).token(&fresh).await.ok().token();
    assert_eq!((same, house.status_of(&child).await), (entity.clone(), 200));
    // A clock that was put back brings none of them back when the entity is deleted once more.
    house.delete(&format!("identity/entity/id/{entity}")).await.ok();
    house.clock().jump_to(Timestamp::from_nanos(house.clock().now().nanos() - 1_000_000_000));
    house.delete(&format!("identity/entity/id/{entity}")).await.ok();
    assert_eq!(house.status_of(&fresh).await, 403);
}

/// Tokens of an entity that was merged into another go by the other, and end with it.
#[tokio::test]
async fn deleting_an_entity_ends_the_tokens_of_those_that_were_merged_into_it() {
    let house = House::open().await;
    let (token, from) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    let (other, to) = house.login(json!({ "name": "bob", "policies": "reads" })).await;
    house.put("identity/entity/merge", json!({ "from_entity_ids": [from], "to_entity_id": to })).await.ok();
    house.delete(&format!("identity/entity/id/{to}")).await.ok();
    assert_eq!((house.status_of(&token).await, house.status_of(&other).await), (403, 403));
    house.seconds(1).await;
    let (fresh, again) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    assert_eq!((again, house.reads(&fresh, "kv/open").await), (from, 200));
}

#[tokio::test]
async fn an_id_that_no_login_has_cannot_be_written() {
    let house = House::open().await;
    let made_up = "3f1c2b7e-aaaa-4bbb-8ccc-0123456789ab";
    house.put(&format!("identity/entity/id/{made_up}"), json!({ "policies": "reads" })).await.refused(400);
    house.put("identity/group", json!({ "member_entity_ids": made_up })).await.refused(400);
    let alias = json!({ "name": "x", "canonical_id": made_up, "mount_accessor": house.accessor });
    house.put("identity/entity-alias", alias).await.refused(400);
    assert_eq!(house.get(&format!("identity/entity/id/{made_up}")).await.status, 404);
}

#[tokio::test]
async fn a_disabled_entity_is_refused_everywhere_until_it_is_enabled() {
    let house = House::open().await;
    let (token, entity) = house.login(json!({ "name": "ann" })).await;
    let (batch, _) = house.login(json!({ "name": "ann", "kind": "batch" })).await;
    house.policy("makes", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    let (parent, _) = house.login(json!({ "name": "ann", "policies": "makes" })).await;
    let child = house.put("auth/token/create", json!({})).token(&parent).await.ok().token();
    let (other, _) = house.login(json!({ "name": "bob" })).await;
    let all = [&token, &batch, &parent, &child];
    house.put(&format!("identity/entity/id/{entity}"), json!({ "disabled": true })).await.ok();
    for token in all {
        assert_eq!(house.get("auth/token/lookup-self").token(token).await.refused(403), "permission denied");
        assert_eq!(house.put("sys/capabilities", json!({ "token": token, "paths": ["x"] })).await.status, 403);
    }
    assert_eq!(house.enter(json!({ "name": "ann" })).await.refused(403), "permission denied");
    assert_eq!(house.status_of(&other).await, 200);
    house.put(&format!("identity/entity/id/{entity}"), json!({ "disabled": false })).await.ok();
    for token in all {
        assert_eq!(house.status_of(token).await, 200);
    }
}

/// Story: a use was spent before the owner was looked at. A refusal for the owner's sake then knew of no caller, so a last use that went with it
/// left a token that was used up and that nobody revoked.
#[tokio::test]
async fn a_refusal_for_the_owners_sake_takes_no_use() {
    let house = House::open().await;
    let before = house.rows(Space::Token).await.len();
    let (token, entity) = house.login(json!({ "name": "ann", "policies": "reads", "uses": 1 })).await;
    let disable = |disabled: bool| house.put(&format!("identity/entity/id/{entity}"), json!({ "disabled": disabled }));
    disable(true).await.ok();
    for _ in 0..2 {
        assert_eq!(house.reads(&token, "kv/open").await, 403);
    }
    disable(false).await.ok();
    assert_eq!((house.reads(&token, "kv/open").await, house.reads(&token, "kv/open").await), (200, 403));
    assert_eq!(house.rows(Space::Token).await.len(), before, "the last use took it away");
}

#[tokio::test]
async fn tokens_of_a_deleted_entity_are_refused() {
    let house = House::open().await;
    let entity = house.entity(json!({ "name": "ann" })).await;
    house.alias("ann", &entity).await;
    let (token, same) = house.login(json!({ "name": "ann" })).await;
    assert_eq!((same, house.status_of(&token).await), (entity.clone(), 200));
    house.delete(&format!("identity/entity/id/{entity}")).await.ok();
    assert_eq!(house.status_of(&token).await, 403, "whoever deletes an entity does not mean to lift what its policies deny");
    let (_, derived) = house.login(json!({ "name": "ann" })).await;
    assert_ne!(derived, entity, "the login is its own again");
}

#[tokio::test]
async fn children_have_their_parents_entity_and_orphans_have_none() {
    let house = House::open().await;
    let entity = house.entity(json!({ "policies": "reads" })).await;
    house.alias("ann", &entity).await;
    house.policy("makes", r#"path "auth/token/create*" { capabilities = ["update", "sudo"] }"#).await;
    let (parent, _) = house.login(json!({ "name": "ann", "policies": "makes" })).await;
    let child = house.put("auth/token/create", json!({ "policies": ["default"] })).token(&parent).await.ok();
    assert_eq!(child["auth"]["identity_policies"], json!(["reads"]));
    assert_eq!(house.reads(&child.token(), "kv/open").await, 200);
    let orphan = house.put("auth/token/create-orphan", json!({ "policies": ["default"] })).token(&parent).await.ok();
    assert_eq!((orphan.text("/auth/entity_id"), house.reads(&orphan.token(), "kv/open").await), (String::new(), 403));
}

#[tokio::test]
async fn groups_give_their_policies_through_every_level_and_take_them_back_at_once() {
    let house = House::open().await;
    let (token, entity) = house.login(json!({ "name": "ann" })).await;
    let inner = house.group(json!({ "name": "inner", "member_entity_ids": [entity] })).await;
    let middle = house.group(json!({ "name": "middle", "member_group_ids": [inner] })).await;
    let outer = house.group(json!({ "name": "outer", "policies": "reads", "member_group_ids": [middle] })).await;
    assert_eq!((house.reads(&token, "kv/open").await, house.may(&token, "kv/open").await), (200, "read".to_owned()));
    let looked = house.get("auth/token/lookup-self").token(&token).await.ok();
    assert_eq!((looked["data"]["identity_policies"].clone(), looked["data"]["policies"].clone()), (json!(["reads"]), json!(["default"])));
    let acl = house.get("sys/internal/ui/resultant-acl").token(&token).await.ok();
    assert_eq!(acl["data"]["exact_paths"]["kv/open"]["capabilities"], json!(["read"]));
    let shown = house.get(&format!("identity/entity/id/{entity}")).await.ok();
    assert_eq!(shown["data"]["direct_group_ids"], json!([inner]));
    assert_eq!(shown["data"]["inherited_group_ids"].as_array().unwrap().len(), 2);
    let refused = house.put(&format!("identity/group/id/{inner}"), json!({ "member_group_ids": [outer] })).await;
    assert_eq!(refused.refused(400), format!("cyclic relationship detected for member group ID {outer:?}"));
    house.put(&format!("identity/group/id/{outer}"), json!({ "member_group_ids": [] })).await.ok();
    assert_eq!(house.reads(&token, "kv/open").await, 403);
    house.put(&format!("identity/group/id/{inner}"), json!({ "policies": ["reads"] })).await.ok();
    assert_eq!(house.reads(&token, "kv/open").await, 200);
    house.delete("identity/group/name/INNER").await.ok();
    assert_eq!(house.reads(&token, "kv/open").await, 403);
}

#[tokio::test]
async fn a_deny_of_a_group_holds_against_the_tokens_own_policy() {
    let house = House::open().await;
    house.policy("denies", r#"path "kv/open" { capabilities = ["deny"] }"#).await;
    let (token, entity) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    assert_eq!(house.reads(&token, "kv/open").await, 200);
    house.group(json!({ "policies": "denies", "member_entity_ids": [entity] })).await;
    assert_eq!(house.reads(&token, "kv/open").await, 403);
}

#[tokio::test]
async fn an_external_group_has_the_tokens_whose_login_reported_it() {
    let house = House::open().await;
    let group = house.group(json!({ "type": "external", "policies": "reads" })).await;
    let fields = json!({ "name": "Team-A", "mount_accessor": house.accessor, "canonical_id": group });
    let alias = house.put("identity/group-alias", fields).await.ok().text("/data/id");
    let (member, _) = house.login(json!({ "name": "ann", "groups": "team-a,team-b" })).await;
    let (stranger, _) = house.login(json!({ "name": "ann", "groups": "team-b" })).await;
    assert_eq!((house.reads(&member, "kv/open").await, house.reads(&stranger, "kv/open").await), (200, 403));
    house.put(&format!("identity/group/id/{group}"), json!({ "member_entity_ids": ["x"] })).await.refused(400);
    let lookup = json!({ "alias_name": "team-a", "alias_mount_accessor": house.accessor });
    assert_eq!(house.put("identity/lookup/group", lookup).await.ok().text("/data/id"), group);
    house.delete(&format!("identity/group-alias/id/{alias}")).await.ok();
    assert_eq!(house.reads(&member, "kv/open").await, 403);
}

#[tokio::test]
async fn a_renewal_takes_the_groups_that_the_method_says_then() {
    let house = House::open().await;
    let group = house.group(json!({ "type": "external", "policies": "reads" })).await;
    let fields = json!({ "name": "team-a", "mount_accessor": house.accessor, "canonical_id": group });
    house.put("identity/group-alias", fields).await.ok();
    let (token, _) = house.login(json!({ "name": "ann", "groups": "team-a" })).await;
    let renew = || house.put("auth/token/renew-self", json!({})).token(&token);
    assert_eq!(renew().await.ok()["auth"]["identity_policies"], json!(["reads"]), "a method that says nothing changes nothing");
    house.put("auth/gate/groups", json!({ "groups": "team-b" })).await.ok();
    assert_eq!(house.reads(&token, "kv/open").await, 200, "until the renewal the login counts");
    assert_eq!(renew().await.ok()["auth"].get("identity_policies"), None);
    assert_eq!(house.reads(&token, "kv/open").await, 403);
    house.put("auth/gate/groups", json!({ "groups": "Team-A" })).await.ok();
    assert_eq!(renew().await.ok()["auth"]["policies"], json!(["default", "reads"]));
    assert_eq!(house.reads(&token, "kv/open").await, 200);
}

const TEMPLATED: &str = r#"
path "kv/id/{{identity.entity.id}}" { capabilities = ["read"] }
path "kv/name/{{identity.entity.name}}" { capabilities = ["read"] }
path "kv/team/{{identity.entity.metadata.team}}" { capabilities = ["read"] }
path "kv/alias/{{identity.entity.aliases.ACCESSOR.name}}" { capabilities = ["read"] }
path "kv/ref/{{identity.entity.aliases.ACCESSOR.metadata.ref}}" { capabilities = ["read"] }
path "kv/custom/{{identity.entity.aliases.ACCESSOR.custom_metadata.zone}}" { capabilities = ["read"] }
path "kv/group/{{identity.groups.names.ops.metadata.area}}" { capabilities = ["read"] }
"#;

#[tokio::test]
async fn templates_are_filled_from_the_login_and_from_what_is_stored() {
    let house = House::open().await;
    house.policy("t", &TEMPLATED.replace("ACCESSOR", &house.accessor)).await;
    let (token, entity) = house.login(json!({ "name": "ann", "policies": "t", "facts": { "ref": "main" } })).await;
    for (path, may) in [
        (format!("kv/id/{entity}"), "read"),
        ("kv/alias/ann".to_owned(), "read"),
        ("kv/ref/main".to_owned(), "read"),
        ("kv/ref/dev".to_owned(), "deny"),
        ("kv/team/blue".to_owned(), "deny"),
        ("kv/team/".to_owned(), "deny"),
        ("kv/custom/z1".to_owned(), "deny"),
    ] {
        assert_eq!(house.may(&token, &path).await, may, "{path}");
    }
    let (other, _) = house.login(json!({ "name": "ann", "policies": "t", "facts": { "ref": "dev" } })).await;
    assert_eq!((house.may(&other, "kv/ref/dev").await, house.may(&other, "kv/ref/main").await), ("read".into(), "deny".into()));
    house.put(&format!("identity/entity/id/{entity}"), json!({ "name": "Ann", "metadata": { "team": "blue" } })).await.ok();
    let alias = json!({ "name": "ann", "mount_accessor": house.accessor, "canonical_id": entity, "custom_metadata": { "zone": "z1" } });
    house.put("identity/entity-alias", alias).await.ok();
    house.group(json!({ "name": "ops", "metadata": { "area": "51" }, "member_entity_ids": [entity] })).await;
    for path in ["kv/name/Ann", "kv/team/blue", "kv/alias/ann", "kv/ref/main", "kv/custom/z1", "kv/group/51"] {
        assert_eq!(house.may(&token, path).await, "read", "{path}");
    }
    // Nothing stale: the next request sees the new value and not the old one.
    house.put(&format!("identity/entity/id/{entity}"), json!({ "metadata": { "team": "red" } })).await.ok();
    assert_eq!((house.may(&token, "kv/team/red").await, house.may(&token, "kv/team/blue").await), ("read".into(), "deny".into()));
}

/// Terraform makes a child token of whatever it logged in with: the child is to reach what the login may. But whoever makes a child writes
/// its metadata as he likes, and no template may believe that.
#[tokio::test]
async fn a_child_has_what_the_login_proved_and_not_what_its_maker_wrote() {
    let house = House::open().await;
    let makes = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    house.policy("t", &format!("{}{makes}", TEMPLATED.replace("ACCESSOR", &house.accessor))).await;
    let (parent, _) = house.login(json!({ "name": "ann", "policies": "t", "facts": { "ref": "main" } })).await;
    let mut token = parent;
    for kind in ["service", "batch"] {
        let asked = json!({ "type": kind, "meta": { "ref": "secret" } });
        token = house.put("auth/token/create", asked).token(&token).await.ok().token();
        assert_eq!((house.may(&token, "kv/ref/main").await, house.may(&token, "kv/alias/ann").await), ("read".into(), "read".into()));
        assert_eq!(house.may(&token, "kv/ref/secret").await, "deny", "{kind}");
    }
}

#[tokio::test]
async fn values_that_could_widen_a_pattern_are_not_filled_in() {
    let house = House::open().await;
    house.policy("t", &TEMPLATED.replace("ACCESSOR", &house.accessor)).await;
    for (fact, path) in [
        ("*", "kv/ref/other"),
        ("ma*", "kv/ref/main"),
        ("+", "kv/ref/other"),
        ("a/b", "kv/ref/a/b"),
        ("a,b", "kv/ref/a"),
        ("", "kv/ref/"),
        ("{{identity.entity.id}}", "kv/ref/{{identity.entity.id}}/x"),
    ] {
        let (token, _) = house.login(json!({ "name": "ann", "policies": "t", "facts": { "ref": fact } })).await;
        assert_eq!(house.may(&token, path).await, "deny", "{fact:?}");
    }
    let (token, entity) = house.login(json!({ "name": "a*", "policies": "t" })).await;
    assert_eq!(house.may(&token, "kv/alias/abc").await, "deny");
    house.put(&format!("identity/entity/id/{entity}"), json!({ "name": "+", "metadata": { "team": "*" } })).await.ok();
    for path in ["kv/name/x", "kv/team/x", "kv/name/+", "kv/team/*"] {
        assert_eq!(house.may(&token, path).await, "deny", "{path}");
    }
}

/// Story: a stanza that denies what is named after the caller's branch was left out for a branch called `fix/*`, and the deny fell away.
#[tokio::test]
async fn a_deny_does_not_fall_away_by_how_somebody_is_called() {
    let house = House::open().await;
    let denied = "{{identity.entity.aliases.ACCESSOR.metadata.ref}}".replace("ACCESSOR", &house.accessor);
    let text = format!(
        "path \"kv/*\" {{ capabilities = [\"read\"] }}\npath \"kv/ref/+/x\" {{ capabilities = [\"read\"] }}\n\
         path \"kv/ref/{denied}/*\" {{ capabilities = [\"deny\"] }}"
    );
    house.policy("t", &text).await;
    for (fact, path, expected) in [
        ("main", "kv/ref/main/x", "deny"),
        ("main", "kv/ref/other/x", "read"),
        ("a,b", "kv/ref/a,b/x", "deny"),
        ("a,b", "kv/ref/a/x", "read"),
        ("fix/*", "kv/ref/fix/*/x", "deny"),
        ("fix/*", "kv/ref/other/x", "deny"),
        ("fix/*", "kv/open", "read"),
        ("+", "kv/ref/other/x", "deny"),
    ] {
        let (token, _) = house.login(json!({ "name": "ann", "policies": "t", "facts": { "ref": fact } })).await;
        assert_eq!(house.may(&token, path).await, expected, "{fact:?} {path}");
    }
}

#[tokio::test]
async fn an_alias_moves_a_login_to_another_entity() {
    let house = House::open().await;
    let (first, second) = (house.entity(json!({ "name": "one" })).await, house.entity(json!({ "name": "two" })).await);
    let alias = house.alias("ann", &first).await;
    assert_eq!(house.login(json!({ "name": "Ann" })).await.1, first, "names differ by more than case");
    assert_eq!(house.alias("ann", &second).await, alias, "the same alias");
    assert_eq!(house.login(json!({ "name": "ann" })).await.1, second);
    let of_first = house.get(&format!("identity/entity/id/{first}")).await.ok();
    assert_eq!(of_first["data"]["aliases"], json!([]));
    let other = json!({ "name": "bob", "canonical_id": second, "mount_accessor": house.accessor });
    house.put("identity/entity-alias", other).await.refused(400);
    house.put(&format!("identity/entity-alias/id/{alias}"), json!({ "name": "bob" })).await.ok();
    assert_eq!(house.login(json!({ "name": "bob" })).await.1, second);
    assert_ne!(house.login(json!({ "name": "ann" })).await.1, second);
    let listed = house.list("identity/entity-alias/id").await.ok();
    assert_eq!(listed["data"]["key_info"][&alias]["name"], "bob");
}

/// Story: the alias of a login's own entity was deleted, or given another name. The next login under the name had the same id by derivation, so
/// it found the stored entity with all its policies: nothing had been taken away, and after a renaming two names had them. Now such a login
/// has another entity, of which nothing is known, as in Vault.
#[tokio::test]
async fn who_takes_an_alias_away_takes_what_its_entity_may_do() {
    let house = House::open().await;
    let (_, of_bob) = house.login(json!({ "name": "bob" })).await;
    let (token, own) = house.login(json!({ "name": "ann" })).await;
    house.put(&format!("identity/entity/id/{own}"), json!({ "policies": "reads" })).await.ok();
    let alias = house.alias("ann", "").await;
    assert_eq!(house.login(json!({ "name": "ann" })).await.1, own);
    house.delete(&format!("identity/entity-alias/id/{alias}")).await.ok();
    let (fresh, other) = house.login(json!({ "name": "ann" })).await;
    assert_eq!((other == own, house.reads(&fresh, "kv/open").await, house.reads(&token, "kv/open").await), (false, 403, 200));
    let clue = json!({ "alias_name": "ann", "alias_mount_accessor": house.accessor });
    assert_eq!(house.put("identity/lookup/entity", clue).await.ok().text("/data/id"), other);
    assert_eq!(house.login(json!({ "name": "Ann" })).await.1, other, "it stays the same one");
    // That one is an entity like any other: it can be given something, and has the alias by itself.
    house
        .policy("own", &format!(r#"path "kv/{{{{identity.entity.aliases.{}.name}}}}" {{ capabilities = ["read"] }}"#, house.accessor))
        .await;
    house.put("kv/ann", json!({ "x": "y" })).await.ok();
    house.put(&format!("identity/entity/id/{other}"), json!({ "policies": "own" })).await.ok();
    assert_eq!((house.reads(&fresh, "kv/ann").await, house.reads(&fresh, "kv/open").await), (200, 403));
    house.delete(&format!("identity/entity/id/{other}")).await.ok();
    house.seconds(1).await;
    let (fresh, again) = house.login(json!({ "name": "ann" })).await;
    assert_eq!((again, house.reads(&fresh, "kv/ann").await, house.status_of(&fresh).await), (other.clone(), 403, 200));
    // The alias can be given back, and be given another name.
    let alias = house.alias("ann", &own).await;
    assert_eq!(house.login(json!({ "name": "ann" })).await.1, own);
    house.put(&format!("identity/entity-alias/id/{alias}"), json!({ "name": "bob" })).await.ok();
    let (bob, ann) = (house.login(json!({ "name": "bob" })).await, house.login(json!({ "name": "ann" })).await);
    assert_eq!((bob.1 == own, house.reads(&bob.0, "kv/open").await), (true, 200));
    assert_eq!((ann.1 == own || ann.1 == other, house.reads(&ann.0, "kv/open").await), (false, 403));
    house.delete(&format!("identity/entity-alias/id/{alias}")).await.ok();
    assert_eq!(house.login(json!({ "name": "bob" })).await.1, of_bob, "nothing is known of bob's own entity");
}

/// What is taken away stays away when the login's own entity was merged into another, or its alias went with the other entity that had it.
#[tokio::test]
async fn an_alias_that_goes_leads_to_nothing_that_is_known() {
    let house = House::open().await;
    let (_, own) = house.login(json!({ "name": "eve" })).await;
    let into = house.entity(json!({ "policies": "reads" })).await;
    house.put("identity/entity/merge", json!({ "from_entity_ids": [own], "to_entity_id": into })).await.ok();
    assert_eq!(house.reads(&house.login(json!({ "name": "eve" })).await.0, "kv/open").await, 200);
    let alias = house.alias("eve", "").await;
    house.delete(&format!("identity/entity-alias/id/{alias}")).await.ok();
    assert_eq!(house.reads(&house.login(json!({ "name": "eve" })).await.0, "kv/open").await, 403);
    // A member of a group need not be stored.
    let (_, own) = house.login(json!({ "name": "kim" })).await;
    house.group(json!({ "member_entity_ids": [own], "policies": "reads" })).await;
    let entity = house.entity(json!({})).await;
    house.alias("kim", &entity).await;
    assert_eq!(house.reads(&house.login(json!({ "name": "kim" })).await.0, "kv/open").await, 403);
    house.delete(&format!("identity/entity/id/{entity}")).await.ok();
    assert_eq!(house.reads(&house.login(json!({ "name": "kim" })).await.0, "kv/open").await, 403);
    // However often, one name leaves one row.
    let mut left = Vec::new();
    for _ in 0..3 {
        let alias = house.alias("kim", &into).await;
        house.delete(&format!("identity/entity-alias/id/{alias}")).await.ok();
        left.push(house.rows(Space::Config).await.len());
    }
    assert_eq!(left, [left[0]; 3]);
}

#[tokio::test]
async fn merged_entities_go_on_as_one() {
    let house = House::open().await;
    let into = house.entity(json!({ "name": "into" })).await;
    let from = house.entity(json!({ "name": "from", "policies": "reads" })).await;
    house.alias("ann", &from).await;
    let (token, _) = house.login(json!({ "name": "ann" })).await;
    let (loose, derived) = house.login(json!({ "name": "bob" })).await;
    let group = house.group(json!({ "member_entity_ids": [from] })).await;
    let merge = json!({ "from_entity_ids": [from, derived], "to_entity_id": into });
    house.put("identity/entity/merge", merge.clone()).await.ok();
    for token in [&token, &loose] {
        assert_eq!(house.reads(token, "kv/open").await, 200, "tokens go on, with the policies of the one that is left");
    }
    assert_eq!(house.login(json!({ "name": "ann" })).await.1, into);
    let shown = house.get(&format!("identity/entity/id/{from}")).await.ok();
    assert_eq!((shown.text("/data/id"), shown["data"]["group_ids"].clone()), (into.clone(), json!([group])));
    assert_eq!(shown["data"]["merged_entity_ids"].as_array().unwrap().len(), 2);
    house.put("identity/entity/merge", json!({ "from_entity_ids": [into], "to_entity_id": into })).await.refused(400);
    let rival = house.entity(json!({ "name": "rival" })).await;
    let rivals_alias = house.alias("eve", &rival).await;
    let merge = json!({ "from_entity_ids": [rival], "to_entity_id": into });
    house.put("identity/entity/merge", merge).await.refused(400);
    let merge = json!({ "from_entity_ids": [rival], "to_entity_id": into, "conflicting_alias_ids_to_keep": [rivals_alias] });
    house.put("identity/entity/merge", merge).await.ok();
    assert_eq!(house.login(json!({ "name": "eve" })).await.1, into);
    assert_ne!(house.login(json!({ "name": "ann" })).await.1, into, "its alias was not kept");
}

#[tokio::test]
async fn a_token_role_gives_a_token_the_entity_of_an_alias() {
    let house = House::open().await;
    house.put("auth/token/roles/r", json!({ "allowed_entity_aliases": "ci-*", "allowed_policies": "default" })).await.ok();
    let made = house.put("auth/token/create/r", json!({ "entity_alias": "CI-one" })).await.ok();
    let again = house.put("auth/token/create/r", json!({ "entity_alias": "ci-one" })).await.ok();
    assert_eq!(made.text("/auth/entity_id"), again.text("/auth/entity_id"));
    assert_eq!(house.put("auth/token/create/r", json!({ "entity_alias": "x" })).await.refused(400), "invalid 'entity_alias' value");
    let accessor = house.get("sys/auth/token").await.ok().text("/data/accessor");
    let entity = house.entity(json!({ "policies": "reads" })).await;
    let alias = json!({ "name": "ci-two", "canonical_id": entity, "mount_accessor": accessor });
    house.put("identity/entity-alias", alias).await.ok();
    let made = house.put("auth/token/create/r", json!({ "entity_alias": "ci-two" })).await.ok();
    assert_eq!((made.text("/auth/entity_id"), house.reads(&made.token(), "kv/open").await), (entity.clone(), 200));
    house.put(&format!("identity/entity/id/{entity}"), json!({ "disabled": true })).await.ok();
    let refused = house.put("auth/token/create/r", json!({ "entity_alias": "ci-two" })).await;
    assert_eq!(refused.refused(403), "entity from given entity alias is disabled");
}

#[tokio::test]
async fn names_are_unique_and_several_entities_go_at_once() {
    let house = House::open().await;
    let one = house.entity(json!({ "name": "one" })).await;
    let two = house.entity(json!({ "name": "two" })).await;
    assert_eq!(
        house.put(&format!("identity/entity/id/{two}"), json!({ "name": "ONE" })).await.refused(400),
        "entity name is already in use"
    );
    assert_eq!(house.put("identity/entity", json!({ "name": "one", "disabled": true })).await.status, 204, "an update");
    house.put(&format!("identity/entity/id/{one}"), json!({ "name": "uno" })).await.ok();
    assert_eq!(house.get("identity/entity/name/one").await.status, 404);
    let listed = house.list("identity/entity/name").await.ok();
    assert_eq!(listed["data"]["keys"], json!(["two", "uno"]));
    house.put("identity/entity/batch-delete", json!({ "entity_ids": [one, two, "unknown"] })).await.ok();
    assert_eq!(house.list("identity/entity/name").await.status, 404);
}

/// Story: each of the entities was deleted by a change of its own, so that everything that holds for one configuration was made anew as often.
#[tokio::test]
async fn entities_that_are_deleted_together_are_one_change() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let house = House::of(setup.over(Arc::clone(&evil) as Arc<dyn Backend>)).await;
    let (mut ids, mut tokens) = (Vec::new(), Vec::new());
    for number in 0..30 {
        let (token, own) = house.login(json!({ "name": format!("m-{number}") })).await;
        tokens.push(token);
        ids.push(own);
    }
    let stays = house.entity(json!({})).await;
    let members: Vec<&String> = ids.iter().chain([&stays]).collect();
    let group = house.group(json!({ "member_entity_ids": members })).await;
    house.put(&format!("identity/entity/id/{}", ids[0]), json!({ "policies": "reads" })).await.ok();
    let asked: Vec<&String> = ids.iter().chain([&ids[0]]).collect();
    let before = evil.calls().writes;
    house.put("identity/entity/batch-delete", json!({ "entity_ids": asked })).await.ok();
    assert_eq!(evil.calls().writes, before + 1);
    let left = house.get(&format!("identity/group/id/{group}")).await.ok();
    assert_eq!(left["data"]["member_entity_ids"], json!([stays]));
    for token in &tokens {
        assert_eq!(house.status_of(token).await, 403);
    }
    house.put("identity/entity/batch-delete", json!({ "entity_ids": ["unknown"] })).await.ok();
    assert_eq!(evil.calls().writes, before + 1, "nothing to delete is no change");
}

#[tokio::test]
async fn what_is_stored_outlives_the_process_and_a_login_is_the_same_entity_after_it() {
    let house = House::open().await;
    let entity = house.entity(json!({ "policies": "reads" })).await;
    house.alias("ann", &entity).await;
    let (token, _) = house.login(json!({ "name": "ann" })).await;
    let (_, derived) = house.login(json!({ "name": "bob" })).await;
    let House { server, accessor } = house;
    let house = House { server: server.restart().await, accessor };
    assert_eq!(house.reads(&token, "kv/open").await, 200);
    assert_eq!((house.login(json!({ "name": "ann" })).await.1, house.login(json!({ "name": "bob" })).await.1), (entity, derived));
}

#[tokio::test]
async fn too_much_is_refused_with_its_limit() {
    let house = House::open().await;
    let pairs: BTreeMap<String, &str> = (0..65).map(|number| (format!("k{number}"), "v")).collect();
    let refused = house.put("identity/entity", json!({ "metadata": pairs })).await;
    assert_eq!(refused.refused(400), "metadata can have 64 pairs, 65 were given");
    house.put("identity/entity", json!({ "name": "n".repeat(513) })).await.refused(400);
    house.put("identity/group", json!({ "type": "other" })).await.refused(400);
    let ids: Vec<String> = (0..4_001).map(|number| format!("id-{number}")).collect();
    house.put("identity/group", json!({ "member_entity_ids": ids })).await.refused(400);
    let ids: Vec<String> = (0..501).map(|number| format!("id-{number}")).collect();
    house.put("identity/entity/batch-delete", json!({ "entity_ids": ids })).await.refused(400);
}
