//! Entities that are stored nowhere. Machines log in by the thousand; a row for each would be the only thing that grows with them. So
//! the entity of an alias is a keyed hash of it: always the same, and recognised by itself, so that an operator can name it before
//! anything of it is stored, and cannot name one that never was.

use daypass_barrier::{Barrier, Purpose};
use subtle::ConstantTimeEq;

/// The entity of an alias. Aliases differ by more than case, as Vault's.
pub(crate) fn entity_id(barrier: &Barrier, mount_accessor: &str, alias: &str) -> String {
    let message = format!("entity {mount_accessor} {}", alias.to_lowercase());
    let mac = barrier.mac(Purpose::Accessor, message.as_bytes());
    let body: [u8; 16] = mac.first_chunk().copied().unwrap_or_default();
    // The bits that make it a UUID are set first: the check covers them.
    let mut bytes = uuid::Builder::from_random_bytes(body).into_uuid().into_bytes();
    let check = check(barrier, &bytes);
    for (to, from) in bytes.iter_mut().skip(BODY).zip(check) {
        *to = from;
    }
    uuid::Uuid::from_bytes(bytes).to_string()
}

/// Whether [`entity_id`] made this id, for whatever alias.
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

/// The name of an entity that was given none.
pub(crate) fn entity_name(id: &str) -> String {
    format!("entity_{}", id.get(..8).unwrap_or(id))
}

fn check(barrier: &Barrier, bytes: &[u8; 16]) -> [u8; 4] {
    let body = bytes.get(..BODY).unwrap_or_default();
    let mac = barrier.mac(Purpose::Accessor, &[b"derived entity ", body].concat());
    mac.first_chunk().copied().unwrap_or_default()
}

/// Bytes that name; the rest proves.
const BODY: usize = 12;

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
