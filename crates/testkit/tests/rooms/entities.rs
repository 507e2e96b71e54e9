//! Entities of logins: what they are called, and what becomes of those that are merged into others.

use serde_json::{Value, json};

use crate::identity::House;

impl House {
    async fn shown(&self, id: &str) -> Value {
        self.get(&format!("identity/entity/id/{id}")).await.ok()["data"].clone()
    }

    /// Makes one entity of two; what is left.
    async fn merge(&self, from: &str, to: &str) {
        self.put("identity/entity/merge", json!({ "from_entity_ids": [from], "to_entity_id": to })).await.ok();
    }
}

/// Story: an entity that is not stored was called after the first eight digits of its id, so two logins could be called alike, and a policy
/// that fills the name in gave each of them the folder of the other. The whole id is the name now, from the first login on: storing the entity
/// does not move its folder.
#[tokio::test]
async fn a_logins_entity_has_a_name_of_its_own_and_keeps_it_when_it_is_stored() {
    let house = House::open().await;
    house.policy("own", r#"path "kv/{{identity.entity.name}}/*" { capabilities = ["read"] }"#).await;
    let claim = |name: &str| json!({ "name": name, "policies": "own" });
    let ((ann, of_ann), (bob, of_bob), (kim, of_kim)) =
        (house.login(claim("ann")).await, house.login(claim("bob")).await, house.login(claim("kim")).await);
    let all = [(&ann, &of_ann), (&bob, &of_bob), (&kim, &of_kim)];
    for stored in [false, true] {
        if stored {
            house.put(&format!("identity/entity/id/{of_ann}"), json!({ "metadata": { "team": "blue" } })).await.ok();
            house.alias("bob", "").await;
            let eve = house.login(claim("eve")).await.1;
            house.merge(&eve, &of_kim).await;
        }
        for (token, id) in all {
            assert_eq!(house.shown(id).await["name"], format!("entity_{id}"), "{stored}");
            for other in [&of_ann, &of_bob, &of_kim] {
                let may = if id == other { "read" } else { "deny" };
                assert_eq!(house.may(token, &format!("kv/entity_{other}/x")).await, may, "{stored}");
            }
            let short = format!("kv/entity_{}/x", &id[..8]);
            assert_eq!(house.may(token, &short).await, "deny", "{stored}");
        }
    }
}

/// The name that a login's entity has by itself is found by everybody who may look, and given to nobody else.
#[tokio::test]
async fn the_name_of_an_entity_that_is_not_stored_is_taken() {
    let house = House::open().await;
    let (token, id) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    let name = format!("entity_{id}");
    assert_eq!(house.get(&format!("identity/entity/name/{name}")).await.ok().text("/data/id"), id);
    assert_eq!(house.put("identity/lookup/entity", json!({ "name": name.to_uppercase() })).await.ok().text("/data/id"), id);
    let other = house.entity(json!({ "name": "other" })).await;
    let take = async |name: &str| house.put(&format!("identity/entity/id/{other}"), json!({ "name": name })).await;
    assert_eq!(take(&name.to_uppercase()).await.refused(400), "entity name is already in use");
    house.put("identity/entity", json!({ "name": name, "metadata": { "team": "blue" } })).await.ok();
    assert_eq!(house.shown(&id).await["metadata"]["team"], "blue", "who writes it by its name means it");
    house.put(&format!("identity/entity/id/{id}"), json!({ "name": "Ann" })).await.ok();
    assert_eq!(house.get(&format!("identity/entity/name/{name}")).await.status, 404);
    assert_eq!(take(&name).await.refused(400), "entity name is already in use", "it will be called so again when it is deleted");
    house.delete("identity/entity/name/ann").await.ok();
    assert_eq!(house.status_of(&token).await, 403);
    house.seconds(1).await;
    let (token, _) = house.login(json!({ "name": "ann" })).await;
    house.delete(&format!("identity/entity/name/{name}")).await.ok();
    assert_eq!(house.status_of(&token).await, 403, "deleted by its name, too");
}

/// Story: after the merge of an entity that is not stored, logins went on answering with the id of it. Nothing that was done by this id had any
/// effect, and everything was answered as if it had. Now logins and look-ups name the entity that is left, for tokens of before as well.
#[tokio::test]
async fn after_a_merge_everybody_names_the_entity_that_is_left() {
    let house = House::open().await;
    let own = format!(r#"path "kv/{{{{identity.entity.aliases.{}.name}}}}/*" {{ capabilities = ["read"] }}"#, house.accessor);
    house.policy("own", &format!("{own}\npath \"kv/{{{{identity.entity.id}}}}/*\" {{ capabilities = [\"read\"] }}")).await;
    house.policy("makes", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    let claim = json!({ "name": "ann", "policies": "own,makes" });
    let (before, from) = house.login(claim.clone()).await;
    let to = house.entity(json!({ "name": "left" })).await;
    house.merge(&from, &to).await;
    let (after, named) = house.login(claim).await;
    assert_eq!(named, to);
    for token in [&before, &after] {
        assert_eq!(house.get("auth/token/lookup-self").token(token).await.ok().text("/data/entity_id"), to);
        assert_eq!(house.put("auth/token/renew-self", json!({})).token(token).await.ok().text("/auth/entity_id"), to);
        let child = house.put("auth/token/create", json!({})).token(token).await.ok();
        assert_eq!(child.text("/auth/entity_id"), to);
        for token in [token, &child.token()] {
            for (path, may) in [("kv/ann/x".to_owned(), "read"), (format!("kv/{to}/x"), "read"), (format!("kv/{from}/x"), "deny")] {
                assert_eq!(house.may(token, &path).await, may, "{path}");
            }
        }
    }
    for clue in [json!({ "id": from }), json!({ "alias_name": "ann", "alias_mount_accessor": house.accessor })] {
        assert_eq!(house.put("identity/lookup/entity", clue).await.ok().text("/data/id"), to);
    }
    // A token role gives the same.
    let accessor = house.get("sys/auth/token").await.ok().text("/data/accessor");
    house.put("auth/token/roles/r", json!({ "allowed_entity_aliases": "ci", "allowed_policies": "default" })).await.ok();
    let ci = house.put("auth/token/create/r", json!({ "entity_alias": "ci" })).await.ok().text("/auth/entity_id");
    house.merge(&ci, &to).await;
    assert_eq!(house.put("auth/token/create/r", json!({ "entity_alias": "ci" })).await.ok().text("/auth/entity_id"), to);
    // By the id of before the one is meant that is left, also where that has the alias already.
    for _ in 0..2 {
        let alias = json!({ "name": "ci", "canonical_id": ci, "mount_accessor": accessor });
        house.put("identity/entity-alias", alias).await.ok();
    }
    house.put(&format!("identity/entity/id/{from}"), json!({ "disabled": true })).await.ok();
    assert_eq!((house.status_of(&before).await, house.status_of(&after).await), (403, 403));
    assert_eq!(house.enter(json!({ "name": "ann" })).await.status, 403);
}

/// Story: the entity of ann's logins, which is not stored, was merged into one with the alias bob, or was given that alias. From then on a policy for the
/// folder of one's own name let ann into bob's, and not into ann's.
#[tokio::test]
async fn a_login_is_called_by_its_own_name_whatever_alias_its_entity_has_too() {
    let house = House::open().await;
    let own = format!(r#"path "kv/{{{{identity.entity.aliases.{}.name}}}}/*" {{ capabilities = ["read"] }}"#, house.accessor);
    house.policy("own", &own).await;
    let claim = |name: &str| json!({ "name": name, "policies": "own" });
    let (ann, from) = house.login(claim("ann")).await;
    let to = house.entity(json!({ "name": "bobs" })).await;
    house.alias("bob", &to).await;
    house.merge(&from, &to).await;
    let (kim, entity) = house.login(claim("kim")).await;
    house.alias("lee", &entity).await;
    for (token, name, other) in [(ann, "ann", "bob"), (kim, "kim", "lee")] {
        let (after, again) = (house.login(claim(name)).await, house.login(claim(other)).await);
        assert_eq!(after.1, again.1, "one entity");
        for (token, own, other) in [(token, name, other), (after.0, name, other), (again.0, other, name)] {
            let may = [house.may(&token, &format!("kv/{own}/x")).await, house.may(&token, &format!("kv/{other}/x")).await];
            assert_eq!(may, ["read", "deny"], "{own} {other}");
        }
    }
}

/// Story: a group took the id of an entity that was merged away, and showed it as its member; what the group denied held for nobody.
#[tokio::test]
async fn a_group_takes_the_entity_that_is_left_and_names_it_to_who_gives_another() {
    let house = House::open().await;
    house.policy("denies", r#"path "kv/open" { capabilities = ["deny"] }"#).await;
    let (before, from) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    let (_, to) = house.login(json!({ "name": "bob" })).await;
    house.merge(&from, &to).await;
    let (after, _) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    let refused = house.put("identity/group", json!({ "policies": "denies", "member_entity_ids": [from] })).await;
    let text = format!("invalid entity ID {from:?}: it was merged into {to:?}, which its logins have now; name that one");
    assert_eq!(refused.refused(400), text);
    assert_eq!((house.reads(&before, "kv/open").await, house.reads(&after, "kv/open").await), (200, 200));
    house.group(json!({ "policies": "denies", "member_entity_ids": [to] })).await;
    assert_eq!((house.reads(&before, "kv/open").await, house.reads(&after, "kv/open").await), (403, 403));
}

/// Story: deleting an entity that was merged away was answered with 204, and did nothing: whoever meant to lock somebody out had not. Deleting
/// what it was merged into by this name could end more than was meant, so it is refused with the name of that one.
#[tokio::test]
async fn who_deletes_what_was_merged_is_told_what_is_left() {
    let house = House::open().await;
    let (before, from) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    let (other, to) = house.login(json!({ "name": "bob", "policies": "reads" })).await;
    house.merge(&from, &to).await;
    let (after, _) = house.login(json!({ "name": "ann" })).await;
    let all = [&before, &other, &after];
    let several = async |ids: Value| house.put("identity/entity/batch-delete", json!({ "entity_ids": ids })).await;
    for refused in [house.delete(&format!("identity/entity/id/{from}")).await, several(json!(["unknown", from])).await] {
        assert!(refused.refused(400).contains(&to));
    }
    for token in all {
        assert_eq!(house.status_of(token).await, 200);
    }
    several(json!([from, to])).await.ok();
    for token in all {
        assert_eq!(house.status_of(token).await, 403);
    }
    house.seconds(1).await;
    let (fresh, again) = house.login(json!({ "name": "ann", "policies": "reads" })).await;
    assert_eq!((again, house.reads(&fresh, "kv/open").await), (from, 200), "the login has its own again");
}

/// Story: an entity that a merge stored first was shown as made in 1970.
#[tokio::test]
async fn an_entity_that_a_merge_stores_is_made_then() {
    let house = House::open().await;
    let (from, to) = (house.login(json!({ "name": "ann" })).await.1, house.login(json!({ "name": "bob" })).await.1);
    house.merge(&from, &to).await;
    let shown = house.shown(&to).await;
    assert_eq!(shown["creation_time"], shown["last_update_time"]);
    house.seconds(60).await;
    let third = house.login(json!({ "name": "kim" })).await.1;
    house.merge(&third, &to).await;
    assert_eq!(house.shown(&to).await["creation_time"], shown["creation_time"]);
}
