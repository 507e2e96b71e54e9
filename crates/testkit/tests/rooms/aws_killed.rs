//! The process dies at each AWS call and at each write of everything that makes, changes or deletes an IAM user or a key of one, before and
//! after; and each of them fails without a death. After a restart and the regular work: no user without a lease or a note, no lease without
//! a user, no static role and no root configuration with a key that is dead, and no key that nobody knows.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daypass_aws::{Gate, Holding};
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, MemoryBackend};
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

type Evil = Arc<EvilBackend<MemoryBackend>>;

const ROOT_USER: &str = "root-of-the-mount";
/// Whose key the login mount has.
const LOGIN_USER: &str = "root-of-the-logins";
/// After so many minutes the regular work has looked at every note again.
const RECOVERY: u64 = 12;

/// Where something goes wrong.
#[derive(Debug, Clone, Copy)]
enum Line {
    Call(u64, Gate),
    Nowhere,
    Write(u64, Fault),
}

async fn server(evil: &Evil, setup: Setup) -> TestServer {
    let server = setup.over(Arc::clone(evil) as Arc<dyn Backend>).start().await;
    server.aws().add_user(ROOT_USER);
    let key = server.aws().add_key(ROOT_USER).unwrap();
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    server.put("aws/config/root", json!({ "access_key": key.id, "secret_key": key.secret.expose(), "region": "eu-west-1" })).await.ok();
    server.put("aws/config/lease", json!({ "lease": "30m", "lease_max": "1h" })).await.ok();
    let role = json!({ "credential_type": "iam_user", "policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess", "iam_groups": "builders",
        "policy_document": r#"{"Version":"2012-10-17","Statement":[]}"# });
    server.put("aws/roles/ci", role).await.ok();
    server
}

/// Guards the calls; gives the counter of them.
fn guard(server: &TestServer, evil: &Evil, line: Line) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let (counted, evil) = (Arc::clone(&count), Arc::clone(evil));
    server.aws().guard(move |_| {
        if evil.crashed() {
            return Gate::DieBefore;
        }
        let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
        match line {
            Line::Call(at, gate) if at == number => {
                if matches!(gate, Gate::DieAfter | Gate::DieBefore) {
                    evil.crash();
                }
                gate
            }
            _ => Gate::Open,
        }
    });
    count
}

/// Comes when the process is dead and all that it had begun has come to a halt.
async fn death(evil: &Evil) {
    while !evil.crashed() {
        tokio::task::yield_now().await;
    }
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// One run; gives how many calls and writes there were.
async fn run(
    line: Line,
    prepare: impl AsyncFn(&TestServer),
    act: impl AsyncFn(&TestServer),
    check: impl AsyncFn(&TestServer),
) -> (u64, u64) {
    let store = Arc::new(MemoryBackend::new());
    let setup = Setup::default();
    let evil: Evil = Arc::new(EvilBackend::new(Arc::clone(&store), Arc::new(setup.clock())));
    let server = server(&evil, setup).await;
    prepare(&server).await;
    let before = evil.calls().writes;
    if let Line::Write(number, fault) = line {
        evil.at(Step::Write(before + number), fault);
    }
    let calls = guard(&server, &evil, line);
    tokio::select! {
        () = act(&server) => {}
        () = death(&evil) => {}
    }
    let done = (calls.load(Ordering::Relaxed), evil.calls().writes - before);
    server.aws().unguard();
    server.aws().keys_settle_after(Duration::ZERO);
    let server = server.restart_over(store as Arc<dyn Backend>).await;
    minutes(&server, RECOVERY).await;
    whole(&server, line).await;
    check(&server).await;
    for _ in 0..10 {
        server.seconds(600).await;
    }
    minutes(&server, 2).await;
    assert_eq!(made_users(&server), Vec::<String>::new(), "{line:?}: every lease is over");
    done
}

/// What may go wrong at a call.
const GATES: [Gate; 4] = [Gate::DieBefore, Gate::DieAfter, Gate::Cut, Gate::Throttle];

/// Every line of a lifecycle, with everything that can go wrong there. Gives the number of runs.
async fn walk(prepare: impl AsyncFn(&TestServer), act: impl AsyncFn(&TestServer), check: impl AsyncFn(&TestServer)) -> usize {
    walk_with(&GATES, prepare, act, check).await
}

async fn walk_with(
    gates: &[Gate],
    prepare: impl AsyncFn(&TestServer),
    act: impl AsyncFn(&TestServer),
    check: impl AsyncFn(&TestServer),
) -> usize {
    let (calls, writes) = run(Line::Nowhere, &prepare, &act, &check).await;
    assert!(calls > 0 && writes > 0, "{calls} calls, {writes} writes");
    let faults = [Fault::CrashBefore, Fault::CrashAfter, Fault::Fail, Fault::LoseAnswer];
    let lines = (1..=calls).flat_map(|number| gates.iter().map(move |gate| Line::Call(number, *gate)));
    let lines: Vec<Line> = lines.chain((1..=writes).flat_map(|number| faults.map(|fault| Line::Write(number, fault)))).collect();
    for line in &lines {
        run(*line, &prepare, &act, &check).await;
    }
    lines.len()
}

async fn minutes(server: &TestServer, minutes: u64) {
    for _ in 0..minutes {
        server.seconds(60).await;
    }
}

fn made_users(server: &TestServer) -> Vec<String> {
    server.aws().users().into_iter().filter(|name| name.starts_with("vault-")).collect()
}

fn keys_of(server: &TestServer, user: &str) -> Vec<String> {
    let id = |holding| if let Holding::AccessKey(id) = holding { Some(id) } else { None };
    server.aws().holdings(user).into_iter().filter_map(id).collect()
}

/// What holds whatever happened.
async fn whole(server: &TestServer, line: Line) {
    let leases = server.list("sys/leases/lookup/aws/creds/ci").await.body["data"]["keys"].as_array().map_or(0, Vec::len);
    assert_eq!(made_users(server).len(), leases, "{line:?}: as many users as leases");
    let notes: Vec<String> = server.keys().await.into_iter().filter(|key| key.contains("/wal/")).collect();
    assert!(notes.is_empty(), "{line:?}: {notes:?}");
    let config = server.get("aws/config/root").await;
    if config.status == 200 {
        assert_eq!(keys_of(server, ROOT_USER), [config.text("/data/access_key")], "{line:?}: the root key works and is the only one");
    }
    let logins = server.get("auth/aws/config/client").await;
    if logins.status == 200 {
        assert_eq!(
            keys_of(server, LOGIN_USER),
            [logins.text("/data/access_key")],
            "{line:?}: the key of the logins works and is the only one"
        );
    }
    let role = server.get("aws/static-creds/legacy").await;
    if role.status == 200 {
        let keys = keys_of(server, "legacy");
        assert!(keys.contains(&role.text("/data/access_key")), "{line:?}: the static key works: {keys:?}");
    }
}

async fn nothing(_: &TestServer) {}

async fn one_user(server: &TestServer) {
    server.get("aws/creds/ci").await.ok();
}

/// A user that was made and whose keys nobody got, with its note.
async fn one_note(server: &TestServer) {
    server.aws().fail("CreateAccessKey", "", 0);
    server.aws().fail_often("ListGroupsForUser", "", 0, 2);
    assert!(server.get("aws/creds/ci").await.status >= 400);
}

#[tokio::test]
async fn a_death_while_a_user_is_made_leaves_no_user_without_a_lease() {
    let act = async |server: &TestServer| drop(server.get("aws/creds/ci").await);
    assert!(walk(nothing, act, nothing).await > 20);
}

#[tokio::test]
async fn a_death_while_a_user_is_taken_back_leaves_no_lease_without_a_user() {
    let lease = RefCell::new(String::new());
    let prepare = async |server: &TestServer| *lease.borrow_mut() = server.get("aws/creds/ci").await.ok().lease();
    let act = async |server: &TestServer| {
        let asked = server.put("sys/leases/revoke", json!({ "lease_id": *lease.borrow() }));
        drop(asked.await);
    };
    assert!(walk(prepare, act, nothing).await > 30);
}

#[tokio::test]
async fn a_death_while_a_lease_expires_leaves_no_user() {
    let act = async |server: &TestServer| server.seconds(1801).await;
    assert!(walk(one_user, act, nothing).await > 20);
}

/// A user with a lease, and one that nobody got.
async fn both(server: &TestServer) {
    one_user(server).await;
    one_note(server).await;
}

/// The operator tries again, and then nothing is left.
async fn removed_in_the_end(server: &TestServer) {
    server.delete("sys/mounts/aws").await.ok();
    server.seconds(1).await;
    assert_eq!(made_users(server), Vec::<String>::new());
}

/// Time goes on, a second after the other.
async fn time(server: &TestServer, seconds: u64) {
    for _ in 0..seconds {
        server.seconds(1).await;
    }
}

#[tokio::test]
async fn a_death_while_the_mount_is_removed_leaves_no_user() {
    let act = async |server: &TestServer| {
        let _ = tokio::join!(server.delete("sys/mounts/aws").into_future(), time(server, 30));
    };
    assert!(walk(both, act, removed_in_the_end).await > 40);
}

/// Who forces forgets what AWS refuses; a death alone makes nobody forget.
#[tokio::test]
async fn a_death_while_leases_are_revoked_by_force_leaves_no_user() {
    let act = async |server: &TestServer| {
        drop(server.put("sys/leases/revoke-force/aws", Value::Null).await);
        let _ = tokio::join!(server.delete("sys/mounts/aws").into_future(), time(server, 30));
    };
    assert!(walk_with(&[Gate::DieBefore, Gate::DieAfter], both, act, removed_in_the_end).await > 30);
}

#[tokio::test]
async fn a_death_of_the_regular_work_leaves_what_it_was_to_tidy_to_the_next_round() {
    let act = async |server: &TestServer| {
        server.seconds(290).await;
        minutes(server, 2).await;
    };
    assert!(walk(one_note, act, nothing).await > 10);
}

/// A user of somebody else's with a key of somebody's, and what is known of its keys.
struct Legacy {
    known: RefCell<Vec<String>>,
}

impl Legacy {
    fn new() -> Self {
        Self { known: RefCell::default() }
    }

    fn exists(&self, server: &TestServer) {
        server.aws().add_user("legacy");
        *self.known.borrow_mut() = vec![server.aws().add_key("legacy").unwrap().id];
    }

    async fn has_a_role(&self, server: &TestServer) {
        self.exists(server);
        server.put("aws/static-roles/legacy", json!({ "username": "legacy", "rotation_period": "1h" })).await.ok();
        let first = server.get("aws/static-creds/legacy").await.ok().text("/data/access_key");
        self.known.borrow_mut().push(first);
    }

    /// No key that nobody knows, and no role in between.
    async fn is_whole(&self, server: &TestServer) {
        let now = server.get("aws/static-creds/legacy").await;
        let keys = keys_of(server, "legacy");
        let known = self.known.borrow().clone();
        let strange: Vec<&String> = keys.iter().filter(|id| !known.contains(id) && **id != now.text("/data/access_key")).collect();
        assert!(strange.is_empty() && !keys.is_empty(), "{strange:?} of {keys:?}");
        assert_eq!(server.get("aws/static-roles/legacy").await.status, now.status);
    }
}

#[tokio::test]
async fn a_death_while_a_static_role_is_made_leaves_no_key_that_nobody_knows() {
    let legacy = Legacy::new();
    let prepare = async |server: &TestServer| legacy.exists(server);
    let act = async |server: &TestServer| {
        drop(server.put("aws/static-roles/legacy", json!({ "username": "legacy", "rotation_period": "1h" })).await);
    };
    assert!(walk(prepare, act, async |server: &TestServer| legacy.is_whole(server).await).await > 15);
}

#[tokio::test]
async fn a_death_while_a_static_key_is_replaced_leaves_a_key_that_works() {
    let legacy = Legacy::new();
    let prepare = async |server: &TestServer| legacy.has_a_role(server).await;
    let act = async |server: &TestServer| {
        server.seconds(3_540).await;
        minutes(server, 2).await;
    };
    let check = async |server: &TestServer| {
        legacy.is_whole(server).await;
        server.seconds(3_540).await;
        minutes(server, 3).await;
        let key = server.get("aws/static-creds/legacy").await.ok().text("/data/access_key");
        assert!(!legacy.known.borrow().contains(&key), "rotated in the end");
    };
    assert!(walk(prepare, act, check).await > 15);
}

#[tokio::test]
async fn a_death_while_a_static_role_is_deleted_leaves_no_role_with_a_dead_key() {
    let legacy = Legacy::new();
    let prepare = async |server: &TestServer| legacy.has_a_role(server).await;
    let act = async |server: &TestServer| drop(server.delete("aws/static-roles/legacy").await);
    let check = async |server: &TestServer| {
        legacy.is_whole(server).await;
        let gone = server.get("aws/static-roles/legacy").await.status == 404;
        assert_eq!(keys_of(server, "legacy").len(), if gone { 1 } else { 2 });
    };
    assert!(walk(prepare, act, check).await > 10);
}

#[tokio::test]
async fn a_death_while_the_root_key_is_replaced_leaves_a_root_key_that_works() {
    let prepare = async |server: &TestServer| {
        server.seconds(60).await;
        server.aws().keys_settle_after(Duration::from_secs(10));
    };
    let act = async |server: &TestServer| {
        let _ = tokio::join!(server.put("aws/config/rotate-root", Value::Null).into_future(), time(server, 45));
    };
    let check = async |server: &TestServer| drop(server.get("aws/creds/ci").await.ok());
    assert!(walk(prepare, act, check).await > 40);
}

#[tokio::test]
async fn a_death_while_the_root_key_replaces_itself_leaves_a_root_key_that_works() {
    let prepare = async |server: &TestServer| drop(server.put("aws/config/root", json!({ "rotation_period": "4h" })).await.ok());
    let act = async |server: &TestServer| {
        server.seconds(4 * 3600 - 60).await;
        minutes(server, 2).await;
    };
    let check = async |server: &TestServer| drop(server.get("aws/creds/ci").await.ok());
    assert!(walk(prepare, act, check).await > 20);
}

/// A login mount with a key of its own, and nothing that has to do with it.
async fn login_mount(server: &TestServer) {
    server.put("sys/auth/aws", json!({ "type": "aws" })).await.ok();
    server.aws().add_user(LOGIN_USER);
    let key = server.aws().add_key(LOGIN_USER).unwrap();
    server.put("auth/aws/config/client", json!({ "access_key": key.id, "secret_key": key.secret.expose() })).await.ok();
}

/// A login mount with a key that was made beside its own, and that nobody heard of.
async fn login_note(server: &TestServer) {
    login_mount(server).await;
    server.aws().fail("CreateAccessKey", "", 0);
    server.put("auth/aws/config/rotate-root", Value::Null).await.refused(500);
    assert_eq!(keys_of(server, LOGIN_USER).len(), 2);
}

/// The key in force is not dead, and can be replaced.
async fn the_logins_have_a_key(server: &TestServer) {
    server.put("auth/aws/config/rotate-root", Value::Null).await.ok();
    let key = server.get("auth/aws/config/client").await.ok().text("/data/access_key");
    assert_eq!(keys_of(server, LOGIN_USER), [key]);
}

#[tokio::test]
async fn a_death_while_the_key_of_the_logins_is_replaced_leaves_one_that_works() {
    let prepare = async |server: &TestServer| {
        login_mount(server).await;
        server.seconds(60).await;
        server.aws().keys_settle_after(Duration::from_secs(10));
    };
    let act = async |server: &TestServer| {
        let _ = tokio::join!(server.put("auth/aws/config/rotate-root", Value::Null).into_future(), time(server, 45));
    };
    assert!(walk(prepare, act, the_logins_have_a_key).await > 40);
}

#[tokio::test]
async fn a_death_while_the_key_of_the_logins_replaces_itself_leaves_one_that_works() {
    let prepare = async |server: &TestServer| {
        login_mount(server).await;
        server.put("auth/aws/config/client", json!({ "rotation_period": "4h" })).await.ok();
    };
    let act = async |server: &TestServer| {
        server.seconds(4 * 3600 - 60).await;
        minutes(server, 2).await;
    };
    assert!(walk(prepare, act, the_logins_have_a_key).await > 20);
}

#[tokio::test]
async fn a_death_while_a_login_mount_is_disabled_leaves_no_key_that_nobody_knows() {
    let act = async |server: &TestServer| {
        let _ = tokio::join!(server.delete("sys/auth/aws").into_future(), time(server, 30));
    };
    let check = async |server: &TestServer| {
        server.delete("sys/auth/aws").await.ok();
        server.seconds(1).await;
        assert_eq!(keys_of(server, LOGIN_USER).len(), 1);
    };
    assert!(walk(login_note, act, check).await > 20);
}

/// The key that goes with the configuration is the only one that may delete the one before it.
#[tokio::test]
async fn a_death_while_the_configuration_of_the_logins_is_deleted_leaves_no_key_that_nobody_knows() {
    let known = RefCell::new(String::new());
    let prepare = async |server: &TestServer| {
        login_mount(server).await;
        server.aws().fail("DeleteAccessKey", "ServiceFailure", 500);
        server.put("auth/aws/config/rotate-root", Value::Null).await.refused(500);
        *known.borrow_mut() = server.get("auth/aws/config/client").await.ok().text("/data/access_key");
    };
    let act = async |server: &TestServer| drop(server.delete("auth/aws/config/client").await);
    let check = async |server: &TestServer| {
        server.delete("auth/aws/config/client").await.ok();
        assert_eq!(keys_of(server, LOGIN_USER), [known.borrow().clone()]);
    };
    assert!(walk(prepare, act, check).await > 10);
}
