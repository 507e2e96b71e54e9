use std::fmt::Write;

use daypass_barrier::{Barrier, Keyring, RootKey};
use daypass_base::Clock;
use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_policy::{Operation, Question};
use daypass_storage::MemoryBackend;
use tokio::task::JoinSet;

use super::*;

/// The configuration version of all questions.
const VERSION: u64 = 1;

struct Bench {
    policies: Policies,
    identities: Identities,
}

impl Bench {
    /// With the policies `default`, `small` and `large`, which is arranged off the runtime.
    async fn new(bytes_most: usize) -> Arc<Self> {
        let (clock, entropy) = (SimClock::default(), Arc::new(SeededEntropy::new(12)));
        let keyring = Keyring::generate(&*entropy, clock.now());
        let barrier = Barrier::new(keyring, RootKey::generate(&*entropy), Arc::clone(&entropy) as Arc<_>).unwrap();
        let rows = Rows::new(Arc::new(MemoryBackend::new()), barrier);
        let policies = Policies::new(rows.clone(), 100, bytes_most);
        let mut large = String::new();
        for number in 0..2_000 {
            writeln!(large, "path \"kv/{number}/*\" {{ capabilities = [\"read\"] }}").unwrap();
        }
        for (name, text) in
            [("default", daypass_policy::DEFAULT_POLICY), ("small", "path \"kv/*\" { policy = \"read\" }"), ("large", &large)]
        {
            policies.write(name, text).await.unwrap();
        }
        Arc::new(Self { policies, identities: Identities::new(rows, Arc::new(clock), entropy, 100) })
    }

    async fn acl(&self, policies: &[&str], entity_id: &str) -> Arc<Acl> {
        let names = policies.iter().map(|name| (*name).to_owned()).collect();
        let row = crate::tokens::row(names, "auth/token/create", "token", SimClock::default().now());
        let row = TokenRow { entity_id: entity_id.to_owned(), ..row };
        let standing = self.identities.standing(&row, VERSION).await.unwrap();
        self.policies.acl(&row, &self.identities, &standing, VERSION).await.unwrap()
    }
}

fn reads(acl: &Acl, path: &str) -> bool {
    acl.judge(&Question::new(path, Operation::Read)).allowed
}

/// Story: after each change of the configuration, all callers with a policy of thousands of rules had it arranged anew at once, on the threads
/// that serve everybody: with sixteen of them a bystander waited for two seconds.
#[tokio::test]
async fn a_large_set_is_arranged_once_and_holds_nobody_up() {
    let bench = Bench::new(64 << 20).await;
    // As if it were being arranged.
    let turn = Arc::clone(&bench.policies.turn).lock_owned().await;
    let mut asking = JoinSet::new();
    let names = vec!["default".to_owned(), "large".to_owned()];
    for number in 0..16 {
        let (bench, names) = (Arc::clone(&bench), names.clone());
        asking.spawn(async move {
            let acl = bench.acl(&["default", "large"], &format!("entity-{}", number % 4)).await;
            let set = bench.policies.set(&names, VERSION).await.unwrap();
            (acl, set)
        });
    }
    assert!(reads(&*bench.acl(&["default", "small"], "somebody").await, "kv/1/x"), "who has a small policy does not wait");
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    assert!(asking.try_join_next().is_none());
    let asked = bench.policies.asking.lock().get(&names).map(Arc::strong_count);
    assert_eq!(asked, Some(1 + 16), "one reads, and the others wait for that one");
    drop(turn);
    let all = asking.join_all().await;
    let (first, set) = all.first().unwrap();
    assert!(all.iter().all(|(acl, other)| Arc::ptr_eq(set, other) && reads(acl, "kv/1999/x") && !reads(acl, "kv/2000/x")));
    let own = |number: usize| format!("identity/entity/id/entity-{number}");
    assert_eq!((0..4).filter(|number| reads(first, &own(*number))).count(), 1, "the set is shared, what is of the caller is not");
    assert_eq!(bench.policies.sets.weighed().0, 2);
    assert!(all.iter().all(|(acl, _)| acl.bytes() < 8 << 10));
}

/// Story: a thousand decision makers were kept whatever they weighed: with large policies that was gigabytes.
#[tokio::test]
async fn what_is_kept_is_bounded_by_its_weight_too() {
    let most = 64 << 10;
    let bench = Bench::new(most).await;
    let mut seen = 0;
    for number in 0..90 {
        let acl = bench.acl(&["default", "small"], &format!("entity-{number}")).await;
        assert!(reads(&acl, &format!("identity/entity/id/entity-{number}")) && reads(&acl, "kv/x"));
        let (sets, acls, bytes) = bench.policies.sets.weighed();
        assert!(sets == 1 && bytes <= most, "{sets} {acls} {bytes}");
        seen = acls.max(seen);
    }
    assert!(seen > 4, "some are kept: {seen}");
    // One that is larger than all may be serves all the same, and leaves when another comes.
    assert!(reads(&*bench.acl(&["large"], "").await, "kv/7/x"));
    assert_eq!(bench.policies.sets.weighed().0, 1);
    bench.acl(&["small"], "").await;
    assert_eq!(bench.policies.sets.weighed().0, 1);
    assert!(bench.policies.sets.weighed().2 < most);
}
