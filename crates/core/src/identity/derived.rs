//! Entities that are stored nowhere. Machines log in by the thousand; a row for each would be the only thing that grows with them. So
//! the entity of an alias is a keyed hash of it: always the same, and recognised by itself, so that an operator can name it before
//! anything of it is stored, and cannot name one that never was.
//!
//! An alias has one such entity, until it is taken from an entity that is stored: from then on it has another, so that what was said of the
//! first one is no longer its. That one holds three bytes of chance, so it too tells by itself whose it is; a row says that it is in force.

use daypass_barrier::{Barrier, Purpose};
use daypass_base::Entropy;
use subtle::ConstantTimeEq;

/// The entity of an alias. Aliases differ by more than case, as Vault's.
pub(crate) fn entity_id(barrier: &Barrier, mount_accessor: &str, alias: &str) -> String {
    proven(barrier, &format!("entity {mount_accessor} {}", alias.to_lowercase()), &[])
}

/// Another entity of the alias, by chance.
pub(crate) fn another_entity_id(barrier: &Barrier, entropy: &dyn Entropy, mount_accessor: &str, alias: &str) -> String {
    another(barrier, mount_accessor, alias, &entropy.bytes::<CHANCE>())
}

fn another(barrier: &Barrier, mount_accessor: &str, alias: &str, chance: &[u8]) -> String {
    let number = data_encoding::HEXLOWER.encode(chance);
    proven(barrier, &format!("another entity {number} {mount_accessor} {}", alias.to_lowercase()), chance)
}

/// Whether an entity is the alias's own: the one that [`entity_id`] names, or another.
pub(crate) fn is_of_alias(barrier: &Barrier, id: &str, mount_accessor: &str, alias: &str) -> bool {
    if id == entity_id(barrier, mount_accessor, alias) {
        return true;
    }
    let Ok(uuid) = uuid::Uuid::try_parse(id) else { return false };
    let chance = uuid.as_bytes().get(BODY - CHANCE..BODY).unwrap_or_default();
    id == another(barrier, mount_accessor, alias, chance)
}

/// An id of a keyed hash, which ends with these bytes before the proof.
fn proven(barrier: &Barrier, message: &str, last: &[u8]) -> String {
    let mac = barrier.mac(Purpose::Accessor, message.as_bytes());
    let mut body: [u8; 16] = mac.first_chunk().copied().unwrap_or_default();
    for (to, from) in body.iter_mut().skip(BODY - last.len()).zip(last) {
        *to = *from;
    }
    // The bits that make it a UUID are set first: the check covers them.
    let mut bytes = uuid::Builder::from_random_bytes(body).into_uuid().into_bytes();
    let check = check(barrier, &bytes);
    for (to, from) in bytes.iter_mut().skip(BODY).zip(check) {
        *to = from;
    }
    uuid::Uuid::from_bytes(bytes).to_string()
}

/// Whether this id is that of an alias's own entity, of whatever alias.
pub(crate) fn is_entity_id(barrier: &Barrier, id: &str) -> bool {
    let Ok(uuid) = uuid::Uuid::try_parse(id) else { return false };
    let bytes = uuid.as_bytes();
    let genuine: bool = check(barrier, bytes).as_slice().ct_eq(bytes.get(BODY..).unwrap_or_default()).into();
    // One spelling each: ids are compared as texts.
    genuine && uuid.to_string() == id
}

/// The id of an alias that is not stored.
pub(crate) fn alias_id(barrier: &Barrier, mount_accessor: &str, alias: &str) -> String {
    let message = format!("alias id {mount_accessor} {}", alias.to_lowercase());
    let mac = barrier.mac(Purpose::Accessor, message.as_bytes());
    uuid::Builder::from_random_bytes(mac.first_chunk().copied().unwrap_or_default()).into_uuid().to_string()
}

/// The name of an entity that was given none. It has the whole id: templates fill names in, and what two ids have in common would be the name of
/// both entities.
pub(crate) fn entity_name(id: &str) -> String {
    format!("{NAMED}{id}")
}

/// The alias's own entity that this is the name of, in whichever spelling: it is no other's, also while that one is called otherwise.
pub(crate) fn entity_of_name(barrier: &Barrier, name: &str) -> Option<String> {
    let name = name.to_lowercase();
    name.strip_prefix(NAMED).filter(|id| is_entity_id(barrier, id)).map(str::to_owned)
}

fn check(barrier: &Barrier, bytes: &[u8; 16]) -> [u8; 4] {
    let body = bytes.get(..BODY).unwrap_or_default();
    let mac = barrier.mac(Purpose::Accessor, &[b"derived entity ", body].concat());
    mac.first_chunk().copied().unwrap_or_default()
}

const NAMED: &str = "entity_";
/// Bytes that name; the rest proves.
const BODY: usize = 12;
/// The last of those, where an alias has another entity than its first: behind the bits that make it a UUID.
const CHANCE: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daypass_barrier::{Keyring, RootKey};
    use daypass_base::Clock;
    use daypass_base::sim::{SeededEntropy, SimClock};

    use super::*;

    fn barrier(seed: u64) -> Barrier {
        let entropy = Arc::new(SeededEntropy::new(seed));
        let keyring = Keyring::generate(&*entropy, SimClock::default().now());
        Barrier::new(keyring, RootKey::generate(&*entropy), entropy).unwrap()
    }

    #[test]
    fn a_derived_id_is_always_the_same_and_proves_itself() {
        let barrier = barrier(1);
        let id = entity_id(&barrier, "auth_approle_1", "ci");
        assert_eq!(id, entity_id(&barrier, "auth_approle_1", "CI"), "aliases differ by more than case");
        assert_ne!(id, entity_id(&barrier, "auth_approle_2", "ci"));
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "a UUID of version 4");
        assert!(is_entity_id(&barrier, &id));
    }

    #[test]
    fn another_entity_of_an_alias_proves_itself_and_is_of_that_alias_alone() {
        let barrier = barrier(1);
        let first = entity_id(&barrier, "auth_approle_1", "ci");
        let other = another_entity_id(&barrier, &SeededEntropy::new(2), "auth_approle_1", "CI");
        assert_ne!(first, other);
        assert_eq!((other.len(), other.as_bytes()[14]), (36, b'4'), "a UUID of version 4");
        for id in [&first, &other] {
            assert!(is_entity_id(&barrier, id) && is_of_alias(&barrier, id, "auth_approle_1", "Ci"));
            assert!(!is_of_alias(&barrier, id, "auth_approle_1", "cd") && !is_of_alias(&barrier, id, "auth_approle_2", "ci"));
        }
    }

    /// Story: the name had the first eight digits of the id, which two of a hundred thousand logins share. A policy for
    /// `secret/data/{{identity.entity.name}}/*` gave each of the two the folder of the other.
    #[test]
    fn entities_whose_ids_begin_alike_have_two_names() {
        assert_ne!(entity_name("3f1c2b7e-0000-4000-8000-000000000000"), entity_name("3f1c2b7e-0000-4000-8000-000000000001"));
        let (barrier, other) = (barrier(1), barrier(2));
        let id = entity_id(&barrier, "auth_approle_1", "ci");
        for name in [entity_name(&id), entity_name(&id).to_uppercase()] {
            assert_eq!((entity_of_name(&barrier, &name), entity_of_name(&other, &name)), (Some(id.clone()), None));
        }
        for name in [id.as_str(), "entity_", "entity_3f1c2b7e"] {
            assert_eq!(entity_of_name(&barrier, name), None, "{name}");
        }
    }

    #[test]
    fn ids_of_others_are_not_taken_for_derived_ones() {
        let (ours, theirs) = (barrier(1), barrier(2));
        let id = entity_id(&ours, "auth_approle_1", "ci");
        for other in [
            entity_id(&theirs, "auth_approle_1", "ci"),
            id.to_uppercase(),
            id.replace('-', ""),
            alias_id(&ours, "auth_approle_1", "ci"),
            String::new(),
            "e-1".to_owned(),
        ] {
            assert!(!is_entity_id(&ours, &other), "{other}");
        }
    }
}
