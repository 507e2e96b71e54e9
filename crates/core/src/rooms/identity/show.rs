//! Entities, groups and aliases as answers show them (recorded fixture `identity-basics`).

use std::collections::BTreeMap;

use daypass_sdk::Result;
use serde_json::{Map, Value, json};

use crate::identity::groups::WholeGroup;
use crate::identity::rows::{AliasRow, EntityRow, GroupRow};
use crate::mounts::Table;
use crate::node::Unsealed;

/// An entity with its groups and aliases.
pub(super) async fn entity(unsealed: &Unsealed, row: &EntityRow) -> Result<Map<String, Value>> {
    let (direct, inherited) = unsealed.identities.memberships(row).await?;
    let all: Vec<&String> = direct.iter().chain(&inherited).collect();
    let table = unsealed.table.load();
    Ok(Map::from_iter([
        ("id".to_owned(), json!(row.id)),
        ("name".to_owned(), json!(row.name)),
        ("metadata".to_owned(), unless_empty(&row.metadata)),
        ("policies".to_owned(), list(&row.policies)),
        ("disabled".to_owned(), json!(row.disabled)),
        ("namespace_id".to_owned(), json!("root")),
        ("creation_time".to_owned(), json!(row.created)),
        ("last_update_time".to_owned(), json!(row.updated)),
        ("merged_entity_ids".to_owned(), list(&row.merged)),
        ("group_ids".to_owned(), json!(all)),
        ("direct_group_ids".to_owned(), json!(direct)),
        ("inherited_group_ids".to_owned(), json!(inherited)),
        ("aliases".to_owned(), row.aliases.iter().map(|alias| Value::Object(alias_of_entity(alias, &row.id, &table))).collect()),
    ]))
}

/// An alias of an entity.
pub(super) fn alias_of_entity(alias: &AliasRow, entity_id: &str, table: &Table) -> Map<String, Value> {
    let mut out = shared(alias, entity_id, table);
    out.insert("custom_metadata".to_owned(), json!(alias.custom_metadata));
    out.insert("local".to_owned(), json!(false));
    out
}

/// A group with its members.
pub(super) fn group(whole: &WholeGroup, table: &Table) -> Map<String, Value> {
    let WholeGroup { row, members, parents } = whole;
    let parents: Vec<String> = parents.iter().cloned().collect();
    Map::from_iter([
        ("id".to_owned(), json!(row.id)),
        ("name".to_owned(), json!(row.name)),
        ("type".to_owned(), json!(kind_of(row))),
        ("metadata".to_owned(), unless_empty(&row.metadata)),
        // A list even when empty: Terraform writes `[]` and looks for it (recorded fixture `terraform-apply`).
        ("policies".to_owned(), json!(row.policies)),
        ("namespace_id".to_owned(), json!("root")),
        ("creation_time".to_owned(), json!(row.created)),
        ("last_update_time".to_owned(), json!(row.updated)),
        ("modify_index".to_owned(), json!(row.modify_index)),
        ("member_entity_ids".to_owned(), list(&members.entities)),
        ("member_group_ids".to_owned(), list(&members.groups)),
        ("parent_group_ids".to_owned(), list(&parents)),
        ("alias".to_owned(), Value::Object(row.alias.as_ref().map(|alias| alias_of_group(alias, &row.id, table)).unwrap_or_default())),
    ])
}

/// An alias of a group.
pub(super) fn alias_of_group(alias: &AliasRow, group_id: &str, table: &Table) -> Map<String, Value> {
    shared(alias, group_id, table)
}

/// What listings of aliases say of one.
pub(super) fn alias_in_list(alias: &AliasRow, canonical_id: &str, table: &Table) -> Value {
    let mut out = shared(alias, canonical_id, table);
    out.retain(|name, _| ["id", "name", "canonical_id", "mount_accessor", "mount_path", "mount_type"].contains(&name.as_str()));
    out.insert("custom_metadata".to_owned(), json!(alias.custom_metadata));
    out.insert("local".to_owned(), json!(false));
    Value::Object(out)
}

/// `internal` or `external`.
pub(super) fn kind_of(row: &GroupRow) -> &'static str {
    if row.external { "external" } else { "internal" }
}

/// A list answer that says something of each key; empty ones become 404.
pub(super) fn keys_with_info(info: BTreeMap<String, Value>) -> Map<String, Value> {
    if info.is_empty() {
        return Map::new();
    }
    let keys: Vec<&String> = info.keys().collect();
    Map::from_iter([("keys".to_owned(), json!(keys)), ("key_info".to_owned(), json!(info))])
}

fn shared(alias: &AliasRow, canonical_id: &str, table: &Table) -> Map<String, Value> {
    let mount = table.by_accessor(&alias.mount_accessor).map(|live| &live.row);
    Map::from_iter([
        ("id".to_owned(), json!(alias.id)),
        ("canonical_id".to_owned(), json!(canonical_id)),
        ("name".to_owned(), json!(alias.name)),
        ("mount_accessor".to_owned(), json!(alias.mount_accessor)),
        ("mount_path".to_owned(), json!(mount.map_or("", |mount| mount.path.as_str()))),
        ("mount_type".to_owned(), json!(mount.map_or("", |mount| mount.kind.as_str()))),
        ("metadata".to_owned(), Value::Null),
        ("merged_from_canonical_ids".to_owned(), Value::Null),
        ("creation_time".to_owned(), json!(alias.created)),
        ("last_update_time".to_owned(), json!(alias.updated)),
    ])
}

/// As recorded: what is empty is null.
fn list(items: &[String]) -> Value {
    if items.is_empty() { Value::Null } else { json!(items) }
}

fn unless_empty(pairs: &BTreeMap<String, String>) -> Value {
    if pairs.is_empty() { Value::Null } else { json!(pairs) }
}
