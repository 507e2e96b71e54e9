//! Second factors of logins: that there is no token without them, whichever way somebody tries.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::Clock;
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{MemoryBackend, Space};
use daypass_testkit::{Answer, Setup};
use serde_json::{Value, json};

use crate::identity::House;

/// An authenticator app: a seed, and the clock of whoever holds it.
struct App {
    seed: Vec<u8>,
}

impl App {
    /// From the URL that is shown for it.
    fn of(url: &str) -> Self {
        let secret = url.split("secret=").nth(1).unwrap();
        Self { seed: data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).unwrap() }
    }

    /// What it shows so many steps from now.
    fn shows(&self, house: &House, steps: i64) -> String {
        let step = u64::try_from(house.clock().now().seconds() / 30 + steps).unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.seed);
        let tag = aws_lc_rs::hmac::sign(&key, &step.to_be_bytes());
        let at = usize::from(tag.as_ref()[19] & 15);
        let word = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap());
        format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
    }

    fn wrong(&self, house: &House) -> String {
        let good: Vec<String> = (-1..=1).map(|steps| self.shows(house, steps)).collect();
        (0..1_000_000).map(|n| format!("{n:06}")).find(|code| !good.contains(code)).unwrap()
    }
}

impl House {
    async fn method(&self, more: Value) -> String {
        let mut fields = json!({ "issuer": "Example" });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.put("identity/mfa/method/totp", fields).await.ok().text("/data/method_id")
    }

    async fn enforce(&self, name: &str, method: &str, condition: Value) {
        let mut fields = json!({ "mfa_method_ids": [method] });
        fields.as_object_mut().unwrap().extend(condition.as_object().unwrap().clone());
        self.put(&format!("identity/mfa/login-enforcement/{name}"), fields).await.ok();
    }

    /// An app for an entity.
    async fn app(&self, method: &str, entity: &str) -> App {
        let fields = json!({ "method_id": method, "entity_id": entity });
        App::of(&self.put("identity/mfa/method/totp/admin-generate", fields).await.ok().text("/data/url"))
    }

    /// The entity that a name has at the gate, before it ever logged in.
    async fn entity_of(&self, name: &str) -> String {
        let found = json!({ "alias_name": name, "alias_mount_accessor": self.accessor });
        let looked_up = self.put("identity/lookup/entity", found).await.ok().text("/data/id");
        if looked_up.is_empty() { self.enter(json!({ "name": name })).await.ok().text("/auth/entity_id") } else { looked_up }
    }

    /// The first step of a login; the id of its request.
    async fn begin(&self, name: &str) -> String {
        let answer = self.enter(json!({ "name": name })).await.ok();
        assert_eq!(answer.token(), "", "there is no token before the second factor");
        answer.text("/auth/mfa_requirement/mfa_request_id")
    }

    /// The second.
    async fn finish(&self, request: &str, method: &str, passcode: &str) -> Answer {
        let fields = json!({ "mfa_request_id": request, "mfa_payload": { method: [passcode] } });
        self.put("sys/mfa/validate", fields).nobody().await
    }

    /// Both.
    async fn both(&self, name: &str, method: &str, passcode: &str) -> Answer {
        let request = self.begin(name).await;
        self.finish(&request, method, passcode).await
    }
}

/// A house where logins at the gate need a passcode, and Ann has an app.
struct Guarded {
    house: House,
    method: String,
    ann: App,
    entity: String,
}

impl std::ops::Deref for Guarded {
    type Target = House;
    fn deref(&self) -> &House {
        &self.house
    }
}

impl Guarded {
    async fn open() -> Self {
        Self::of(Setup::default()).await
    }

    async fn of(setup: Setup) -> Self {
        let house = House::of(setup).await;
        let entity = house.entity_of("ann").await;
        let method = house.method(json!({ "method_name": "phones" })).await;
        house.enforce("people", &method, json!({ "auth_method_types": ["gate"] })).await;
        let ann = house.app(&method, &entity).await;
        // The clock of the test stands at the beginning of a step as well as anywhere else.
        Self { house, method, ann, entity }
    }

    async fn log_in(&self, passcode: &str) -> Answer {
        self.both("ann", &self.method, passcode).await
    }

    fn now(&self) -> String {
        self.ann.shows(&self.house, 0)
    }
}

#[tokio::test]
async fn a_login_gets_its_token_for_a_passcode_and_leaves_nothing_before_that() {
    let house = Guarded::open().await;
    let before = (house.keys().await, house.expiry_entries().await);
    let answer = house.enter(json!({ "name": "ann", "policies": "reads" })).await.ok();
    let wanted = &answer["auth"]["mfa_requirement"]["mfa_constraints"];
    assert_eq!(*wanted, json!({ "people": { "any": [{ "type": "totp", "id": house.method, "uses_passcode": true, "name": "phones" }] } }));
    assert_eq!((answer.token(), answer.text("/auth/accessor"), answer.text("/auth/entity_id")), Default::default());
    assert_eq!((house.keys().await, house.expiry_entries().await), before, "no token, no lease, no row");
    let request = answer.text("/auth/mfa_requirement/mfa_request_id");
    let done = house.finish(&request, &house.method, &house.now()).await.ok();
    assert_eq!(done.text("/auth/entity_id"), house.entity);
    assert_eq!((done["auth"]["mfa_requirement"].clone(), done["auth"]["policies"].clone()), (Value::Null, json!(["default", "reads"])));
    assert_eq!(house.get("kv/open").token(&done.token()).await.status, 200);
}

#[tokio::test]
async fn a_header_brings_the_passcode_with_the_login_by_the_methods_id_or_its_name() {
    let house = Guarded::open().await;
    for name in [house.method.as_str(), "phones"] {
        let header = format!("{name}:{}", house.now());
        let answer = house.put("auth/gate/login", json!({ "name": "ann" })).nobody().header("x-vault-mfa", &header).await.ok();
        assert_eq!(house.status_of(&answer.token()).await, 200);
        house.seconds(30).await;
    }
    for bad in ["phones", "phones:000", "other:123456", &format!("phones: {}", house.now())] {
        let answer = house.put("auth/gate/login", json!({ "name": "ann" })).nobody().header("x-vault-mfa", bad).await;
        assert!(answer.refused(403).starts_with("failed to satisfy enforcement people. error: "), "{bad}");
    }
    let malformed = house.put("auth/gate/login", json!({ "name": "ann" })).nobody().header("x-vault-mfa", ":123456").await;
    assert!(malformed.refused(400).starts_with("failed to parse X-Vault-MFA header"));
}

#[tokio::test]
async fn a_wrong_passcode_is_refused_in_vaults_words_and_the_login_goes_on_waiting() {
    let house = Guarded::open().await;
    let request = house.begin("ann").await;
    let refused = house.finish(&request, &house.method, &house.ann.wrong(&house)).await;
    let text = format!(
        "failed to satisfy enforcement people. error: 2 errors occurred:\n\t* failed to validate TOTP passcode\n\t* login MFA validation failed \
         for methodID: [{}]\n\n",
        house.method
    );
    assert_eq!((refused.refused(403), refused.token()), (text.as_str(), String::new()));
    assert!(house.finish(&request, "no-such-method", &house.now()).await.refused(403).contains("1 error occurred"));
    house.finish(&request, "phones", &format!("passcode={}", house.now())).await.ok();
}

#[tokio::test]
async fn each_condition_catches_its_logins_and_no_others() {
    let house = House::open().await;
    house.put("sys/auth/other", json!({ "type": "gate" })).await.ok();
    let (ann, method) = (house.entity_of("ann").await, house.method(json!({})).await);
    let staff = house.group(json!({ "name": "staff", "member_entity_ids": [ann] })).await;
    let above = house.group(json!({ "name": "above", "member_group_ids": [staff] })).await;
    let outside = house.group(json!({ "name": "outside", "type": "external" })).await;
    let alias = json!({ "name": "devs", "mount_accessor": house.accessor, "canonical_id": outside });
    house.put("identity/group-alias", alias).await.ok();
    let wants = async |path: &str, claim: Value| {
        let answer = house.put(path, claim).nobody().await.ok();
        assert_eq!(answer.token().is_empty(), !answer["auth"]["mfa_requirement"].is_null());
        answer.token().is_empty()
    };
    let (ann_here, ann_there) = (json!({ "name": "ann" }), json!({ "name": "ann", "groups": "devs" }));
    for (condition, [here, in_group, there, bob]) in [
        (json!({ "auth_method_accessors": [house.accessor] }), [true, true, false, true]),
        (json!({ "auth_method_types": ["gate"] }), [true, true, true, true]),
        (json!({ "auth_method_types": ["userpass"] }), [false, false, false, false]),
        (json!({ "identity_entity_ids": [ann] }), [true, true, false, false]),
        (json!({ "identity_group_ids": [staff] }), [true, true, false, false]),
        (json!({ "identity_group_ids": [above] }), [true, true, false, false]),
        (json!({ "identity_group_ids": [outside] }), [false, true, false, false]),
    ] {
        house.enforce("one", &method, condition.clone()).await;
        assert_eq!(wants("auth/gate/login", ann_here.clone()).await, here, "{condition}");
        assert_eq!(wants("auth/gate/login", ann_there.clone()).await, in_group, "{condition}");
        assert_eq!(wants("auth/other/login", ann_here.clone()).await, there, "{condition}");
        assert_eq!(wants("auth/gate/login", json!({ "name": "bob" })).await, bob, "{condition}");
        house.delete("identity/mfa/login-enforcement/one").await.ok();
    }
    assert!(!wants("auth/gate/login", ann_here).await, "a deleted enforcement wants nothing");
}

#[tokio::test]
async fn an_entity_that_needs_a_factor_needs_it_at_every_mount_that_knows_it() {
    let house = Guarded::open().await;
    house.put("sys/auth/side", json!({ "type": "userpass" })).await.ok();
    house.put("auth/side/users/ann", json!({ "password": "p" })).await.ok();
    let accessor = house.get("sys/auth/side").await.ok().text("/data/accessor");
    let alias = json!({ "name": "ann", "canonical_id": house.entity, "mount_accessor": accessor });
    house.put("identity/entity-alias", alias).await.ok();
    house
        .put("identity/mfa/login-enforcement/people", json!({ "auth_method_types": [], "identity_entity_ids": [house.entity] }))
        .await
        .ok();
    let side = async || house.put("auth/side/login/ann", json!({ "password": "p" })).nobody().await.ok();
    let (passcode, answer) = (house.now(), side().await);
    assert_eq!(answer.token(), "");
    house.log_in(&passcode).await.ok();
    let request = answer.text("/auth/mfa_requirement/mfa_request_id");
    let replayed = house.finish(&request, &house.method, &passcode).await;
    assert!(replayed.refused(403).contains("code already used"), "what is used at one mount is used at all");
}

#[tokio::test]
async fn an_entity_that_was_merged_into_another_is_still_caught() {
    let house = Guarded::open().await;
    let bob = house.entity_of("bob").await;
    let fields = json!({ "auth_method_types": [], "identity_entity_ids": [bob] });
    house.put("identity/mfa/login-enforcement/people", fields).await.ok();
    assert_ne!(house.enter(json!({ "name": "ann" })).await.ok().token(), "");
    house.put("identity/entity/merge", json!({ "from_entity_ids": [bob], "to_entity_id": house.entity })).await.ok();
    house.both("bob", &house.method, &house.now()).await.ok();
    assert_eq!(house.enter(json!({ "name": "ann" })).await.ok().token(), "", "what bob became needs a factor");
}

#[tokio::test]
async fn a_passcode_is_good_once_also_elsewhere_and_after_a_restart() {
    let house = Guarded::open().await;
    let passcode = house.now();
    let (first, second) = (house.begin("ann").await, house.begin("ann").await);
    house.finish(&first, &house.method, &passcode).await.ok();
    assert!(house.finish(&second, &house.method, &passcode).await.refused(403).contains("code already used; new code is available in "));
    let beside = house.beside().await;
    let header = format!("phones:{passcode}");
    let elsewhere = beside.put("auth/gate/login", json!({ "name": "ann" })).nobody().header("x-vault-mfa", &header).await;
    assert!(elsewhere.refused(403).contains("code already used"));
    let Guarded { house, method, .. } = house;
    let house = house.restart().await;
    assert!(house.both("ann", &method, &passcode).await.refused(403).contains("code already used"));
}

#[tokio::test]
async fn a_passcode_from_before_one_that_was_used_is_used_up_with_it() {
    let house = Guarded::open().await;
    let earlier = house.ann.shows(&house, -1);
    house.log_in(&house.now()).await.ok();
    assert!(house.log_in(&earlier).await.refused(403).contains("code already used"));
    house.log_in(&house.ann.shows(&house, 1)).await.ok();
    house.seconds(90).await;
    house.log_in(&house.now()).await.ok();
}

#[tokio::test]
async fn of_two_requests_with_one_passcode_at_the_same_moment_one_gets_a_token() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock()) as Arc<dyn Clock>));
    let house = Guarded::of(setup.over(Arc::clone(&evil) as Arc<_>)).await;
    for _ in 0..3 {
        evil.give_way(Arc::new(daypass_base::sim::SeededEntropy::new(9)));
        house.seconds(60).await;
        let (passcode, mut asks) = (house.now(), Vec::new());
        for _ in 0..3 {
            let request = house.begin("ann").await;
            let fields = json!({ "mfa_request_id": request, "mfa_payload": { "phones": [passcode] } });
            asks.push(tokio::spawn(house.put("sys/mfa/validate", fields).nobody().into_future()));
            let header = format!("phones:{passcode}");
            let one_step = house.put("auth/gate/login", json!({ "name": "ann" })).nobody().header("x-vault-mfa", &header);
            asks.push(tokio::spawn(one_step.into_future()));
        }
        let mut good = 0;
        for ask in asks {
            good += u32::from(!ask.await.unwrap().token().is_empty());
        }
        assert_eq!(good, 1);
    }
}

#[tokio::test]
async fn a_request_finishes_one_login_within_five_minutes() {
    let house = Guarded::open().await;
    let request = house.begin("ann").await;
    house.finish(&request, &house.method, &house.now()).await.ok();
    house.seconds(60).await;
    assert_eq!(house.finish(&request, &house.method, &house.now()).await.refused(400), "invalid request ID");
    let late = house.begin("ann").await;
    house.seconds(300).await;
    assert_eq!(house.finish(&late, &house.method, &house.now()).await.refused(400), "invalid request ID");
    assert_eq!(house.finish("", &house.method, &house.now()).await.refused(400), "missing request ID");
    let request = house.begin("ann").await;
    let missing = house.put("sys/mfa/validate", json!({ "mfa_request_id": request })).nobody().await;
    assert_eq!(missing.refused(400), "missing mfa payload");
    let empty = json!({ "mfa_request_id": request, "mfa_payload": {} });
    house.put("sys/mfa/validate", empty).nobody().await.refused(403);
    let made_up = json!({ "mfa_request_id": "made-up", "mfa_payload": {} });
    assert_eq!(house.put("sys/mfa/validate", made_up).nobody().await.refused(400), "invalid request ID");
    house.core().seal().await;
    house.unseal().await;
    assert_eq!(house.finish(&request, &house.method, &house.now()).await.refused(400), "invalid request ID", "sealing forgets");
}

#[tokio::test]
async fn padding_a_passcode_makes_neither_a_fresh_one_nor_a_free_guess() {
    let house = Guarded::open().await;
    let passcode = house.now();
    let padded = [format!(" {passcode}"), format!("{passcode} "), format!("{passcode}\n"), format!("\t{passcode}"), format!("0{passcode}")];
    for code in &padded {
        assert!(house.log_in(code).await.refused(403).contains("failed to validate TOTP passcode"), "{code:?}");
    }
    let exhausted = house.log_in(&passcode).await;
    assert!(exhausted.refused(403).contains("maximum TOTP validation attempts 6 exceeded the allowed attempts 5"), "each was an attempt");
}

#[tokio::test]
async fn guesses_run_out_whatever_is_guessed_and_wherever_and_the_right_passcode_waits_too() {
    let house = Guarded::open().await;
    let wrong = house.ann.wrong(&house);
    for n in 0..5 {
        if n % 2 == 0 {
            house.log_in(&wrong).await.refused(403);
        } else {
            let header = format!("phones:{wrong}");
            house.put("auth/gate/login", json!({ "name": "ann" })).nobody().header("x-vault-mfa", &header).await.refused(403);
        }
    }
    let refused = house.log_in(&house.now()).await;
    assert!(refused.refused(403).contains("Please try again in 30 seconds"), "{}", refused.body);
    let bob = house.app(&house.method, &house.entity_of_bob().await).await;
    house.both("bob", &house.method, &bob.shows(&house, 0)).await.ok();
    house.seconds(30).await;
    house.log_in(&house.now()).await.ok();
    let five_more = house.ann.wrong(&house);
    for _ in 0..5 {
        assert!(house.log_in(&five_more).await.refused(403).contains("failed to validate TOTP passcode"), "a success forgives");
    }
}

#[tokio::test]
async fn guesses_at_the_same_moment_get_no_further_than_one_after_the_other() {
    let house = Guarded::open().await;
    let wrong = house.ann.wrong(&house);
    let mut asks = Vec::new();
    for _ in 0..20 {
        let header = format!("phones:{wrong}");
        let ask = house.put("auth/gate/login", json!({ "name": "ann" })).nobody().header("x-vault-mfa", &header);
        asks.push(tokio::spawn(ask.into_future()));
    }
    let mut looked_at = 0;
    for ask in asks {
        looked_at += u32::from(ask.await.unwrap().refused(403).contains("failed to validate TOTP passcode"));
    }
    assert_eq!(looked_at, 5);
}

#[tokio::test]
async fn the_passcode_of_somebody_else_is_no_factor() {
    let house = Guarded::open().await;
    let mallory = house.app(&house.method, &house.entity_of_bob().await).await;
    let request = house.begin("ann").await;
    house.finish(&request, &house.method, &mallory.shows(&house, 0)).await.refused(403);
    let fields = json!({
        "mfa_request_id": request, "entity_id": house.entity, "mfa_payload": { "phones": [mallory.shows(&house, 0)] }
    });
    house.put("sys/mfa/validate", fields).await.refused(403);
    let nobodys = house.both("carl", &house.method, &house.now()).await;
    assert!(nobodys.refused(403).contains("MFA secret for method name \"phones\" not present in entity"), "{}", nobodys.body);
}

#[tokio::test]
async fn a_login_of_nobody_in_particular_is_refused_where_a_factor_is_wanted() {
    let house = Guarded::open().await;
    assert_eq!(house.enter(json!({ "name": "" })).await.refused(403), "permission denied");
    house.delete("identity/mfa/login-enforcement/people").await.ok();
    assert_ne!(house.enter(json!({ "name": "" })).await.ok().token(), "");
}

#[tokio::test]
async fn a_batch_token_needs_its_factor_as_well() {
    let house = Guarded::open().await;
    let answer = house.enter(json!({ "name": "ann", "kind": "batch" })).await.ok();
    assert_eq!(answer.token(), "");
    let request = answer.text("/auth/mfa_requirement/mfa_request_id");
    let token = house.finish(&request, &house.method, &house.now()).await.ok().token();
    assert!(token.starts_with("hvb.") && house.status_of(&token).await == 200);
}

#[tokio::test]
async fn what_waits_is_nothing_that_could_be_used_renewed_or_looked_up() {
    let house = Guarded::open().await;
    let before = house.list("auth/token/accessors").await.ok()["data"]["keys"].clone();
    let request = house.begin("ann").await;
    for path in ["auth/token/renew-self", "auth/token/revoke-self", "sys/wrapping/unwrap"] {
        assert!(house.put(path, json!({})).token(&request).await.status >= 400, "{path}");
    }
    for (path, field) in [("renew", "token"), ("lookup", "token"), ("renew-accessor", "accessor"), ("lookup-accessor", "accessor")] {
        assert!(house.put(&format!("auth/token/{path}"), json!({ field: request })).await.status >= 400, "{path}");
    }
    assert_eq!(house.list("auth/token/accessors").await.ok()["data"]["keys"], before, "nobody has an accessor of it");
}

#[tokio::test]
async fn a_wrapped_login_wraps_its_token_and_not_what_is_wanted_of_it() {
    let house = Guarded::open().await;
    let answer = house.put("auth/gate/login", json!({ "name": "ann" })).nobody().wrap("60s").await.ok();
    assert_eq!((answer.wrapped(), answer.token()), Default::default());
    let request = answer.text("/auth/mfa_requirement/mfa_request_id");
    let done = house.finish(&request, &house.method, &house.now()).await.ok();
    assert_eq!((done.token(), done.number("/wrap_info/ttl")), (String::new(), 60), "as the login asked");
    let unwrapped = house.put("sys/wrapping/unwrap", Value::Null).token(&done.wrapped()).await.ok();
    assert_eq!(house.status_of(&unwrapped.token()).await, 200);
    house.seconds(60).await;
    let request = house.begin("ann").await;
    let fields = json!({ "mfa_request_id": request, "mfa_payload": { "phones": [house.now()] } });
    let asked_later = house.put("sys/mfa/validate", fields).nobody().wrap("30s").await.ok();
    assert_eq!((asked_later.token(), asked_later.number("/wrap_info/ttl")), (String::new(), 30));
}

#[tokio::test]
async fn a_waiting_login_is_judged_by_the_enforcements_of_the_moment_it_is_finished() {
    let house = Guarded::open().await;
    let request = house.begin("ann").await;
    let tokens = house.method(json!({})).await;
    house.enforce("more", &tokens, json!({ "identity_entity_ids": [house.entity] })).await;
    let one = house.finish(&request, &house.method, &house.now()).await;
    assert!(one.refused(403).starts_with("failed to satisfy enforcement "), "one of two is not enough");
    let second = house.app(&tokens, &house.entity).await;
    house.seconds(60).await;
    let payload = json!({ house.method.as_str(): [house.now()], tokens.as_str(): [second.shows(&house, 0)] });
    let both = house.put("sys/mfa/validate", json!({ "mfa_request_id": request, "mfa_payload": payload })).nobody().await.ok();
    assert_ne!(both.token(), "");

    let request = house.begin("ann").await;
    house.delete("identity/mfa/login-enforcement/more").await.ok();
    house.put("identity/mfa/login-enforcement/people", json!({ "mfa_method_ids": [tokens] })).await.ok();
    house.seconds(60).await;
    house.finish(&request, &house.method, &house.now()).await.refused(403);
    house.finish(&request, &tokens, &second.shows(&house, 0)).await.ok();

    let request = house.begin("ann").await;
    house.delete("identity/mfa/login-enforcement/people").await.ok();
    let unwanted = house.finish(&request, &tokens, "000000").await;
    assert!(unwanted.refused(400).contains("log in again"), "nothing was proved here");
}

#[tokio::test]
async fn one_passcode_satisfies_all_enforcements_that_want_its_method() {
    let house = Guarded::open().await;
    house.enforce("also", &house.method, json!({ "identity_entity_ids": [house.entity] })).await;
    house.log_in(&house.now()).await.ok();
}

#[tokio::test]
async fn any_one_method_of_an_enforcement_is_enough() {
    let house = Guarded::open().await;
    let other = house.method(json!({})).await;
    house.put("identity/mfa/login-enforcement/people", json!({ "mfa_method_ids": [other, house.method] })).await.ok();
    house.log_in(&house.now()).await.ok();
}

#[tokio::test]
async fn a_waiting_login_ends_with_its_mount_and_with_its_owner() {
    let house = Guarded::open().await;
    let request = house.begin("ann").await;
    house.put(&format!("identity/entity/id/{}", house.entity), json!({ "disabled": true })).await.ok();
    assert_eq!(house.finish(&request, &house.method, &house.now()).await.refused(403), "permission denied");
    house.put(&format!("identity/entity/id/{}", house.entity), json!({ "disabled": false })).await.ok();
    house.delete("sys/auth/gate").await.ok();
    assert_eq!(house.finish(&request, &house.method, &house.now()).await.refused(400), "invalid request ID");
}

#[tokio::test]
async fn a_login_whose_mount_was_moved_is_of_the_mount_where_it_is_now() {
    let house = Guarded::open().await;
    let request = house.begin("ann").await;
    house.put("sys/remount", json!({ "from": "auth/gate", "to": "auth/door" })).await.ok();
    house.seconds(1).await;
    let token = house.finish(&request, &house.method, &house.now()).await.ok().token();
    assert_eq!(house.get("auth/token/lookup-self").token(&token).await.ok().text("/data/path"), "auth/door/login");
}

/// Story: a login that got its second factor while its method was moved, or removed, got a token that nothing took back: the request is one to
/// `sys/mfa`, so nobody knew that it was one to the method as well.
#[tokio::test]
async fn a_login_that_is_being_finished_ends_with_the_move_of_its_mount() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock()) as Arc<dyn Clock>));
    let house = Guarded::of(setup.over(Arc::clone(&evil) as Arc<_>)).await;
    let (request, waiting) = (house.begin("ann").await, house.begin("ann").await);
    evil.at_next_write(Fault::Delay(Duration::from_secs(20)));
    let payload = json!({ "mfa_request_id": request, "mfa_payload": { house.method.as_str(): [house.now()] } });
    let finishing = tokio::spawn(house.put("sys/mfa/validate", payload).nobody().into_future());
    house.seconds(1).await;
    let moving = tokio::spawn(house.put("sys/remount", json!({ "from": "auth/gate", "to": "auth/door" })).into_future());
    house.seconds(1).await;
    assert!(!moving.is_finished());
    let refused = house.finish(&waiting, &house.method, &house.now()).await;
    assert!(refused.refused(400).contains("is just being moved: send this again"), "{}", refused.body);
    house.seconds(19).await;
    house.work().await;
    moving.await.unwrap().ok();
    let token = finishing.await.unwrap().ok().token();
    assert_eq!(house.status_of(&token).await, 403);
    house.seconds(30).await;
    house.finish(&waiting, &house.method, &house.now()).await.ok();
}

#[tokio::test]
async fn a_lookup_that_fails_is_no_login() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock()) as Arc<dyn Clock>));
    let house = Guarded::of(setup.over(Arc::clone(&evil) as Arc<_>)).await;
    house.enforce("more", &house.method, json!({ "auth_method_types": ["gate"] })).await;
    let before = evil.calls().reads;
    assert_eq!(house.enter(json!({ "name": "ann" })).await.ok().token(), "");
    let reads = evil.calls().reads - before;
    for n in 1..=reads {
        // Something else changes, so that nothing that is cached holds any more.
        house.policy("again", r#"path "x" { capabilities = ["read"] }"#).await;
        evil.at(Step::Read(evil.calls().reads + n), Fault::Fail);
        let answer = house.enter(json!({ "name": "ann" })).await;
        assert_eq!(answer.token(), "", "read {n} of a login failed: {}", answer.body);
    }
    house.seconds(1).await;
    let request = house.begin("ann").await;
    evil.at_next_write(Fault::Fail);
    let failed = house.finish(&request, &house.method, &house.now()).await;
    assert_eq!((failed.status, failed.token()), (500, String::new()), "a passcode whose use cannot be stored is not taken");
    house.finish(&request, &house.method, &house.now()).await.ok();
}

#[tokio::test]
async fn neither_seeds_nor_passcodes_stand_in_the_audit_log_or_in_clear_in_the_store() {
    let house = Guarded::open().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    house.put("sys/audit/file", json!({ "type": "file", "options": { "file_path": path.display().to_string() } })).await.ok();
    let fields = json!({ "method_id": house.method, "entity_id": house.entity_of_bob().await });
    let made = house.put("identity/mfa/method/totp/admin-generate", fields).await.ok();
    let (url, barcode) = (made.text("/data/url"), made.text("/data/barcode"));
    let seed = url.split("secret=").nth(1).unwrap().to_owned();
    let bob = App::of(&url);
    let passcode = bob.shows(&house, 0);
    let request = house.begin("bob").await;
    house.finish(&request, &house.method, &passcode).await.ok();
    let log = std::fs::read_to_string(&path).unwrap();
    assert!(log.contains("mfa_payload") && log.contains("admin-generate"));
    for secret in [&url, &barcode, &seed, &passcode, &request] {
        assert!(!log.contains(&format!("\"{secret}\"")) && !log.contains(&seed), "{secret} stands in the log");
    }
    for (key, value) in house.rows(Space::Config).await {
        let text = String::from_utf8_lossy(&value);
        assert!(!text.contains(&seed) && !text.contains(&url), "{}", String::from_utf8_lossy(&key));
    }
}

#[tokio::test]
async fn a_seed_is_shown_once_and_goes_with_its_entity_or_its_method() {
    let house = Guarded::open().await;
    let again =
        house.put("identity/mfa/method/totp/admin-generate", json!({ "method_id": house.method, "entity_id": house.entity })).await.ok();
    assert_eq!(
        (again["data"].clone(), again.text("/warnings/0")),
        (Value::Null, "Entity already has a secret for MFA method \"phones\"".to_owned())
    );
    let seeds = async || house.keys().await.into_iter().filter(|key| key.contains("identity/mfa/seed")).count();
    house.log_in(&house.now()).await.ok();
    assert_eq!(seeds().await, 2, "the seed and its use");
    let destroyed = json!({ "method_id": house.method, "entity_id": house.entity });
    house.put("identity/mfa/method/totp/admin-destroy", destroyed.clone()).await.ok();
    house.put("identity/mfa/method/totp/admin-destroy", destroyed).await.ok();
    assert_eq!(seeds().await, 0);
    house.log_in(&house.now()).await.refused(403);
    let fresh = house.app(&house.method, &house.entity).await;
    house.both("ann", &house.method, &fresh.shows(&house, 0)).await.ok();
    house.delete(&format!("identity/entity/id/{}", house.entity)).await.ok();
    assert_eq!(seeds().await, 0, "an entity leaves no seed");
    house.app(&house.method, &house.entity).await;
    assert!(
        house.delete(&format!("identity/mfa/method/totp/{}", house.method)).await.refused(400).contains("still used by an enforcement")
    );
    house.delete("identity/mfa/login-enforcement/people").await.ok();
    house.delete(&format!("identity/mfa/method/totp/{}", house.method)).await.ok();
    assert_eq!(seeds().await, 0, "a method leaves no seed");
}

#[tokio::test]
async fn a_person_makes_an_own_seed_with_a_token_that_may() {
    let house = House::open().await;
    let method = house.method(json!({ "qr_size": 0, "digits": 8 })).await;
    house.policy("enrols", r#"path "identity/mfa/method/totp/generate" { capabilities = ["update"] }"#).await;
    let token = house.enter(json!({ "name": "ann", "policies": "enrols" })).await.ok().token();
    let made = house.put("identity/mfa/method/totp/generate", json!({ "method_id": method })).token(&token).await.ok();
    assert_eq!(made["data"].as_object().unwrap().len(), 1, "no picture was asked for");
    let entity = house.entity_of("ann").await;
    assert!(
        made.text("/data/url")
            .starts_with(&format!("otpauth://totp/Example:{entity}?algorithm=SHA1&digits=8&issuer=Example&period=30&secret="))
    );
    house.put("identity/mfa/method/totp/generate", json!({ "method_id": method })).await.refused(400);
    house.put("identity/mfa/method/totp/generate", json!({ "method_id": "none" })).token(&token).await.refused(400);
}

#[tokio::test]
async fn entities_with_two_seeds_of_one_method_are_not_merged_and_one_seed_moves() {
    let house = Guarded::open().await;
    let bob = house.entity_of_bob().await;
    house.app(&house.method, &bob).await;
    let merge = json!({ "from_entity_ids": [house.entity], "to_entity_id": bob });
    assert!(house.put("identity/entity/merge", merge.clone()).await.refused(400).contains("conflicting MFA config ID"));
    house.put("identity/mfa/method/totp/admin-destroy", json!({ "method_id": house.method, "entity_id": bob })).await.ok();
    let used = house.now();
    house.log_in(&used).await.ok();
    house.put("identity/entity/merge", merge).await.ok();
    assert!(house.both("bob", &house.method, &used).await.refused(403).contains("code already used"));
    house.seconds(60).await;
    house.both("bob", &house.method, &house.now()).await.ok();
}

#[tokio::test]
async fn methods_and_enforcements_are_written_read_listed_and_checked() {
    let house = House::open().await;
    for kind in ["duo", "okta", "pingid"] {
        let refused = house.put(&format!("identity/mfa/method/{kind}"), json!({ "integration_key": "x" })).await;
        assert!(refused.refused(400).contains("the one type that is is \"totp\""));
    }
    assert_eq!(house.put("identity/mfa/method/totp", json!({})).await.refused(400), "issuer must be set");
    let id = house.method(json!({ "method_name": "phones" })).await;
    assert_eq!(house.method(json!({ "method_name": "phones", "digits": 8 })).await, id, "a name is of one method");
    house.put(&format!("identity/mfa/method/totp/{id}"), json!({ "skew": 0 })).await.ok();
    let read = house.get(&format!("identity/mfa/method/totp/{id}")).await.ok();
    assert_eq!((&read["data"]["digits"], &read["data"]["skew"], &read["data"]["type"]), (&json!(8), &json!(0), &json!("totp")));
    assert_eq!(house.get(&format!("identity/mfa/method/{id}")).await.ok()["data"], read["data"]);
    for path in ["identity/mfa/method", "identity/mfa/method/totp"] {
        assert_eq!(house.list(path).await.ok()["data"]["keys"], json!([id]));
    }
    house.put("identity/mfa/method/totp/none", json!({ "issuer": "x" })).await.refused(400);
    let path = "identity/mfa/login-enforcement/people";
    let types = json!(["userpass"]);
    for (fields, text) in [
        (json!({ "auth_method_types": types }), "missing method ids"),
        (json!({ "mfa_method_ids": [id] }), "One of auth_method_accessors"),
        (json!({ "mfa_method_ids": ["none"], "auth_method_types": types }), "one of the provided method ids doesn't exist"),
        (json!({ "mfa_method_ids": [id], "auth_method_types": ["userpas"] }), "auth method types provided is invalid"),
        (json!({ "mfa_method_ids": [id], "auth_method_accessors": ["auth_x"] }), "auth method accessors provided is invalid"),
        (json!({ "mfa_method_ids": [id], "identity_group_ids": ["x"] }), "one of the provided group ids doesn't exist"),
        (json!({ "mfa_method_ids": [id], "identity_entity_ids": ["x"] }), "one of the provided entity ids doesn't exist"),
    ] {
        assert!(house.put(path, fields.clone()).await.refused(400).contains(text), "{fields}");
    }
    house.put(path, json!({ "mfa_method_ids": [id], "auth_method_types": types })).await.ok();
    let read = house.get(path).await.ok();
    assert_eq!((&read["data"]["name"], &read["data"]["auth_method_types"]), (&json!("people"), &types));
    assert_eq!(house.list("identity/mfa/login-enforcement").await.ok()["data"]["keys"], json!(["people"]));
    house.delete(path).await.ok();
    house.get(path).await.refused(404);
}

#[tokio::test]
async fn a_header_where_nothing_is_wanted_is_remarked_upon() {
    let house = House::open().await;
    let answer = house.put("auth/gate/login", json!({ "name": "ann" })).nobody().header("x-vault-mfa", "phones:123456").await.ok();
    assert_ne!(answer.token(), "");
    assert_eq!(answer.text("/warnings/0"), "Found MFA header but failed to find MFA Enforcement Config");
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_make_a_used_passcode_good_again() {
    let house = Guarded::open().await;
    let passcode = house.now();
    house.log_in(&passcode).await.ok();
    let then = house.clock().now();
    house.advance(Duration::from_hours(1)).await;
    house.clock().jump_to(then);
    assert!(house.log_in(&passcode).await.refused(403).contains("code already used"));
}

impl Guarded {
    /// Bob cannot log in while all of the gate's logins need a factor, so his entity is looked at while they do not.
    async fn entity_of_bob(&self) -> String {
        self.delete("identity/mfa/login-enforcement/people").await.ok();
        let entity = self.house.entity_of("bob").await;
        self.enforce("people", &self.method, json!({ "auth_method_types": ["gate"] })).await;
        entity
    }
}
