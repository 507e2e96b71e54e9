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
