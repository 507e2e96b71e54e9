//! Logins of instances with the documents that AWS signs for them: who gets in, and everything that must not.

use std::sync::{Arc, LazyLock};

use data_encoding::BASE64;
use daypass_aws::{Gate, Instance, Made};
use daypass_sandbox::DocumentSigner;
use daypass_storage::{Backend, MemoryBackend, Space};
use daypass_testkit::{Answer, Setup, TestServer};
use serde_json::{Value, json};

use crate::revoking::damaged;

const ACCOUNT: &str = "123456789012";
const ID: &str = "i-0123456789abcdef0";
const AMI: &str = "ami-0123456789abcdef0";
const PROFILE: &str = "arn:aws:iam::123456789012:instance-profile/team/builders";
const ROLE: &str = "arn:aws:iam::123456789012:role/team/builders";

/// Keys that AWS would have. Making one takes a moment.
static AWS: LazyLock<DocumentSigner> = LazyLock::new(|| DocumentSigner::new().unwrap());
static STRANGER: LazyLock<DocumentSigner> = LazyLock::new(|| DocumentSigner::new().unwrap());

trait Is {
    fn is(&self, status: u16);
}

impl Is for Answer {
    fn is(&self, status: u16) {
        assert_eq!(self.status, status, "{:?}", self.body);
    }
}

/// What AWS signs for an instance.
fn document() -> Value {
    json!({
        "accountId": ACCOUNT, "imageId": AMI, "instanceId": ID, "pendingTime": "2026-01-01T00:00:00Z", "region": "eu-west-1",
        "version": "2017-09-30",
    })
}

fn document_with(name: &str, value: &str) -> Value {
    let mut document = document();
    document[name] = json!(value);
    document
}

fn pkcs7(document: &Value) -> Value {
    json!({ "role": "ci", "pkcs7": AWS.pkcs7(document.to_string().as_bytes()) })
}

fn with(mut fields: Value, name: &str, value: &str) -> Value {
    fields[name] = json!(value);
    fields
}

fn instance() -> Instance {
    Instance {
        id: ID.to_owned(),
        account: ACCOUNT.to_owned(),
        ami: AMI.to_owned(),
        state: "running".to_owned(),
        vpc: "vpc-1".to_owned(),
        subnet: "subnet-1".to_owned(),
        profile_arn: PROFILE.to_owned(),
        private_dns_name: "ip-10-0-0-1.eu-west-1.compute.internal".to_owned(),
        ..Instance::default()
    }
}

/// A server that believes [`AWS`], with a role for one account, and an instance that runs there.
async fn server() -> TestServer {
    believing(TestServer::start().await).await
}

async fn believing(server: TestServer) -> TestServer {
    server.put("sys/auth/aws", json!({ "type": "aws" })).await.is(204);
    for kind in ["pkcs7", "identity"] {
        let body = json!({ "aws_public_cert": AWS.certificate_pem(), "type": kind });
        server.put(&format!("auth/aws/config/certificate/{kind}"), body).await.is(204);
    }
    role(&server, json!({})).await;
    server.aws().add_instance("eu-west-1", instance());
    server.aws().add_instance_profile(PROFILE, ROLE);
    server
}

/// Writes the role `ci`.
async fn role(server: &TestServer, more: Value) {
    let mut body = json!({ "auth_type": "ec2", "bound_account_id": ACCOUNT, "token_policies": "deploy,read" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.put("auth/aws/role/ci", body).await.is(204);
}

async fn login(server: &TestServer, fields: Value) -> Answer {
    server.put("auth/aws/login", fields).nobody().await
}

fn error(answer: &Answer) -> String {
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    answer.text("/errors/0")
}

async fn refused(server: &TestServer, fields: Value) -> String {
    error(&login(server, fields).await)
}

fn asked(server: &TestServer) -> usize {
    server.aws().made().iter().filter(|made| matches!(made, Made::Instance(..))).count()
}

#[tokio::test]
async fn an_instance_logs_in_with_its_document_and_again_with_its_nonce() {
    let server = server().await;
    let answer = login(&server, pkcs7(&document())).await;
    answer.is(200);
    let auth = &answer.body["auth"];
    let nonce = auth["metadata"]["nonce"].as_str().unwrap();
    let wanted = json!({ "account_id": ACCOUNT, "auth_type": "ec2", "nonce": nonce, "role": "ci", "role_tag_max_ttl": "0s" });
    assert_eq!((&auth["metadata"], &auth["policies"]), (&wanted, &json!(["default", "deploy", "read"])));
    let text = document().to_string();
    let fields =
        json!({ "role": "ci", "identity": BASE64.encode(text.as_bytes()), "signature": AWS.signature(text.as_bytes()), "nonce": nonce });
    let again = login(&server, fields).await;
    again.is(200);
    assert!(again.body["auth"]["metadata"].get("nonce").is_none());
    let entry = server.get(&format!("auth/aws/identity-accesslist/{ID}")).await;
    assert_eq!((&entry.body["data"]["role"], &entry.body["data"]["pending_time"]), (&json!("ci"), &json!("2026-01-01T00:00:00Z")));
    assert!(!entry.body.to_string().contains(nonce));
    assert_eq!(server.list("auth/aws/identity-whitelist").await.body["data"]["keys"], json!([ID]));
    assert_eq!(server.aws().made().pop(), Some(Made::Instance(ACCOUNT.to_owned(), "eu-west-1".to_owned(), ID.to_owned())));
}

#[tokio::test]
async fn the_role_may_be_the_machine_image_and_names_follow_the_configuration() {
    let server = server().await;
    let body = json!({ "auth_type": "ec2", "bound_ami_id": AMI, "token_type": "batch" });
    server.put(&format!("auth/aws/role/{AMI}"), body).await.is(204);
    let metadata = json!({ "ec2_alias": "instance_id", "ec2_metadata": "default,ami_id,instance_id,region" });
    server.put("auth/aws/config/identity", metadata).await.is(204);
    let answer = login(&server, json!({ "pkcs7": AWS.pkcs7(document().to_string().as_bytes()) })).await;
    let auth = &answer.body["auth"];
    assert_eq!((&auth["token_type"], &auth["metadata"]["role"]), (&json!("batch"), &json!(AMI)));
    assert_eq!((&auth["metadata"]["instance_id"], &auth["metadata"]["region"]), (&json!(ID), &json!("eu-west-1")));
    assert_eq!(auth["metadata"]["ami_id"], json!(AMI));
}

#[tokio::test]
async fn a_document_that_nobody_we_know_signed_lets_nobody_in() {
    let server = server().await;
    let text = document().to_string();
    let other = document_with("accountId", "999999999999").to_string();
    let tuple =
        |document: &str, signature: String| json!({ "role": "ci", "identity": BASE64.encode(document.as_bytes()), "signature": signature });
    let message = BASE64.decode(AWS.pkcs7(text.as_bytes()).replace('\n', "").as_bytes()).unwrap();
    let encoded = |bytes: &[u8]| json!({ "role": "ci", "pkcs7": BASE64.encode(bytes) });
    let place = message.windows(12).position(|bytes| bytes == ACCOUNT.as_bytes()).unwrap();
    let mut changed = message.clone();
    changed[place..place + 12].copy_from_slice(b"999999999999");
    for (what, fields, why) in [
        ("a signature over another document", tuple(&other, AWS.signature(text.as_bytes())), "made its signature"),
        ("a signer whom nobody trusts", tuple(&text, STRANGER.signature(text.as_bytes())), "made its signature"),
        ("a certificate in the message", json!({ "role": "ci", "pkcs7": STRANGER.pkcs7(text.as_bytes()) }), "made its signature"),
        ("a changed document in the message", encoded(&changed), "is not that of the document inside"),
        ("half of a message", encoded(&message[..message.len() / 2]), "ends early"),
        ("bytes after the end", encoded(&[message.clone(), vec![0]].concat()), "bytes follow after the end"),
        ("a name twice", tuple(&text.replace('{', "{\"accountId\":\"1\","), AWS.signature(text.as_bytes())), "a name stands twice"),
        ("the armour of PEM", json!({ "role": "ci", "pkcs7": "-----BEGIN PKCS7-----" }), "without them"),
    ] {
        let said = refused(&server, fields).await;
        assert!(said.contains(why), "{what}: {said}");
    }
    server.delete("auth/aws/config/certificate/pkcs7").await.is(204);
    let said = refused(&server, pkcs7(&document_with("region", "eu-west-3"))).await;
    assert!(said.starts_with("failed to verify the instance identity document using pkcs7: no certificate for the region"), "{said}");
    assert_eq!(asked(&server), 0, "nobody was asked for them");
}

#[tokio::test]
async fn what_is_missing_is_said_as_vault_says_it() {
    let server = server().await;
    let tuple = "a tuple containing the instance identity document and its SHA256 RSA signature";
    server.put("auth/aws/role/iam", json!({ "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/*" })).await.is(204);
    for (fields, text) in [
        (json!({ "pkcs7": "" }), format!("either pkcs7 or {tuple} needs to be provided")),
        (
            json!({ "pkcs7": "AAAA", "identity": "AAAA", "signature": "AAAA" }),
            format!("both pkcs7 and {tuple} is supplied; provide only one"),
        ),
        (json!({ "identity": "AAAA" }), "supplied some of the auth values for the ec2 auth type but not all".to_owned()),
        (json!({ "identity": "%", "signature": "AAAA" }), "failed to base64 decode the instance identity document".to_owned()),
        (with(pkcs7(&document()), "role", "other"), "entry for role \"other\" not found".to_owned()),
        (with(pkcs7(&document()), "role", "iam"), "auth method ec2 not allowed for role iam".to_owned()),
    ] {
        assert_eq!(refused(&server, fields).await, text);
    }
}

#[tokio::test]
async fn an_instance_of_an_account_that_is_not_bound_is_not_even_asked_about() {
    let server = server().await;
    let foreign = Instance { account: "999999999999".to_owned(), ..instance() };
    server.aws().add_instance("eu-west-1", foreign);
    let said = refused(&server, pkcs7(&document_with("accountId", "999999999999"))).await;
    assert_eq!(said, "Error validating instance: account ID \"999999999999\" does not belong to role \"ci\"");
    assert_eq!(asked(&server), 0);
}

#[tokio::test]
async fn an_instance_that_does_not_run_is_refused() {
    let server = server().await;
    for state in ["terminated", "stopped", "shutting-down", "pending", ""] {
        server.aws().add_instance("eu-west-1", Instance { state: state.to_owned(), ..instance() });
        assert_eq!(refused(&server, pkcs7(&document())).await, "failed to verify instance ID: instance is not in 'running' state");
    }
    let said = refused(&server, pkcs7(&document_with("instanceId", "i-00000000"))).await;
    assert!(
        said.starts_with(
            "failed to verify instance ID: error fetching description for instance ID \"i-00000000\": InvalidInstanceID.NotFound"
        ),
        "{said}"
    );
    server.aws().fail("DescribeInstances", "UnauthorizedOperation", 403);
    assert!(server.list("auth/aws/identity-accesslist").await.status == 404, "nothing is remembered of them");
}

#[tokio::test]
async fn every_bound_is_looked_at() {
    let server = server().await;
    let all = [
        ("bound_ami_id", AMI, "ami-1", "Error validating instance: AMI ID \"ami-0123456789abcdef0\" does not belong to role \"ci\""),
        (
            "bound_ec2_instance_id",
            ID,
            "i-1",
            "Error validating instance: instance ID \"i-0123456789abcdef0\" does not belong to the role \"ci\"",
        ),
        ("bound_region", "eu-west-1", "eu-west-2", "Region \"eu-west-1\" does not satisfy the constraint on role \"ci\""),
        (
            "bound_subnet_id",
            "subnet-1",
            "subnet",
            "Error validating instance: subnet ID \"subnet-1\" does not satisfy the constraint on role \"ci\"",
        ),
        ("bound_vpc_id", "vpc-1", "vpc-2", "Error validating instance: VPC ID \"vpc-1\" does not satisfy the constraint on role \"ci\""),
        (
            "bound_iam_instance_profile_arn",
            "arn:aws:iam::123456789012:instance-profile/team/*",
            "arn:aws:iam::123456789012:instance-profile/builders",
            "Error validating instance: IAM instance profile ARN \"arn:aws:iam::123456789012:instance-profile/team/builders\" does not satisfy \
             the constraint role \"ci\"",
        ),
        (
            "bound_iam_role_arn",
            ROLE,
            "arn:aws:iam::123456789012:role/build*",
            "Error validating instance: IAM role ARN \"arn:aws:iam::123456789012:role/team/builders\" does not satisfy the constraint role \"ci\"",
        ),
    ];
    for (bound, fits, other, text) in all {
        role(&server, json!({ bound: other })).await;
        assert_eq!(refused(&server, pkcs7(&document())).await, text);
        role(&server, json!({ bound: format!("{other},{fits}") })).await;
        login(&server, with(pkcs7(&document()), "nonce", "n")).await.is(200);
    }
    server.aws().add_instance("eu-west-1", Instance { profile_arn: String::new(), ..instance() });
    assert_eq!(
        refused(&server, pkcs7(&document())).await,
        "Error validating instance: IAM instance profile in the instance description is nil"
    );
}

#[tokio::test]
async fn a_nonce_that_is_wrong_or_too_long_is_refused() {
    let server = server().await;
    let long = "n".repeat(129);
    assert_eq!(refused(&server, with(pkcs7(&document()), "nonce", &long)).await, "client nonce exceeding the limit of 128 characters");
    login(&server, with(pkcs7(&document()), "nonce", "mine")).await.is(200);
    for fields in [pkcs7(&document()), with(pkcs7(&document()), "nonce", "other")] {
        assert_eq!(refused(&server, fields).await, "client nonce mismatch");
    }
    login(&server, with(pkcs7(&document()), "nonce", "mine")).await.is(200);
    server.delete(&format!("auth/aws/identity-accesslist/{ID}")).await.is(204);
    login(&server, pkcs7(&document())).await.is(200);
}

#[tokio::test]
async fn a_document_from_before_the_last_start_is_refused() {
    let server = server().await;
    let at = |time: &str| with(pkcs7(&document_with("pendingTime", time)), "nonce", "mine");
    login(&server, at("2026-01-01T00:00:00Z")).await.is(200);
    login(&server, at("2026-01-01T08:00:00Z")).await.is(200);
    assert_eq!(refused(&server, at("2026-01-01T00:00:00Z")).await, "instance meta-data is older than the one used for previous login");
}

#[tokio::test]
async fn reauthentication_can_be_disallowed_by_role_by_client_and_by_tag() {
    let server = server().await;
    role(&server, json!({ "disallow_reauthentication": true })).await;
    let answer = login(&server, pkcs7(&document())).await;
    answer.is(200);
    assert!(answer.body["auth"]["metadata"].get("nonce").is_none());
    assert_eq!(refused(&server, pkcs7(&document())).await, "reauthentication is disabled");
    role(&server, json!({ "disallow_reauthentication": false })).await;
    assert_eq!(refused(&server, pkcs7(&document())).await, "reauthentication is disabled", "also when the role changes its mind");
    server.delete(&format!("auth/aws/identity-accesslist/{ID}")).await.is(204);
    login(&server, with(pkcs7(&document()), "nonce", "")).await.is(200);
    assert_eq!(refused(&server, pkcs7(&document())).await, "reauthentication is disabled");
}

#[tokio::test]
async fn a_moved_instance_gets_a_new_nonce_where_the_role_says_so() {
    let server = server().await;
    role(&server, json!({ "allow_instance_migration": true })).await;
    let old = login(&server, pkcs7(&document())).await.text("/auth/metadata/nonce");
    assert_eq!(refused(&server, pkcs7(&document())).await, "client nonce mismatch and instance meta-data incorrect");
    let moved = document_with("pendingTime", "2026-01-01T09:00:00Z");
    let new = login(&server, pkcs7(&moved)).await.text("/auth/metadata/nonce");
    login(&server, with(pkcs7(&moved), "nonce", &new)).await.is(200);
    assert_eq!(refused(&server, with(pkcs7(&moved), "nonce", &old)).await, "client nonce mismatch and instance meta-data incorrect");
}

#[tokio::test]
async fn an_instance_of_another_account_is_looked_up_with_the_role_for_that_account() {
    let server = server().await;
    let foreign = "222222222222";
    role(&server, json!({ "bound_account_id": foreign })).await;
    server.aws().add_instance("eu-west-1", Instance { account: foreign.to_owned(), ..instance() });
    let document = document_with("accountId", foreign);
    assert!(refused(&server, pkcs7(&document)).await.contains("InvalidInstanceID.NotFound"));
    let sts = json!({ "sts_role": "arn:aws:iam::222222222222:role/reads-instances" });
    server.put("auth/aws/config/sts/222222222222", sts).await.is(204);
    login(&server, pkcs7(&document)).await.is(200);
    let last = server.aws().made().pop();
    assert_eq!(last, Some(Made::Instance(foreign.to_owned(), "eu-west-1".to_owned(), ID.to_owned())));
    // Whoever's keys tell of it: the instance has to be of the account that AWS signed for.
    assert!(refused(&server, pkcs7(&document_with("accountId", ACCOUNT))).await.contains("account ID"));
}

/// Makes a tag of the role `ci` and hangs it on the instance.
async fn tagged(server: &TestServer, body: Value) -> String {
    let tag = server.put("auth/aws/role/ci/tag", body).await;
    tag.is(200);
    let value = tag.text("/data/tag_value");
    hang(server, &value);
    value
}

fn hang(server: &TestServer, value: &str) {
    server.aws().add_instance("eu-west-1", Instance { tags: [("VaultRole".to_owned(), value.to_owned())].into(), ..instance() });
}

#[tokio::test]
async fn a_role_tag_narrows_the_role() {
    let server = server().await;
    assert_eq!(error(&server.put("auth/aws/role/ci/tag", json!({})).await), "tag creation is not enabled for this role");
    role(&server, json!({ "role_tag": "VaultRole", "token_max_ttl": "4h" })).await;
    assert_eq!(refused(&server, pkcs7(&document())).await, "missing tag with key \"VaultRole\" on the instance");
    tagged(&server, json!({ "policies": "read", "max_ttl": "2h", "instance_id": ID })).await;
    let answer = login(&server, pkcs7(&document())).await;
    answer.is(200);
    let auth = &answer.body["auth"];
    assert_eq!((&auth["policies"], &auth["metadata"]["role_tag_max_ttl"]), (&json!(["default", "read"]), &json!("2h0m0s")));
    assert_eq!(auth["lease_duration"], json!(7200));
    let nonce = auth["metadata"]["nonce"].as_str().unwrap().to_owned();
    tagged(&server, json!({ "disallow_reauthentication": true })).await;
    login(&server, with(pkcs7(&document()), "nonce", &nonce)).await.is(200);
    assert_eq!(refused(&server, with(pkcs7(&document()), "nonce", &nonce)).await, "reauthentication is disabled");
}

#[tokio::test]
async fn a_role_tag_of_somebody_else_lets_nobody_in() {
    let server = server().await;
    role(&server, json!({ "role_tag": "VaultRole" })).await;
    let login_now = || refused(&server, pkcs7(&document()));
    // Replayed: written for one instance, and hung on another.
    tagged(&server, json!({ "instance_id": "i-00000000" })).await;
    assert_eq!(login_now().await, "role tag is being used by an unauthorized instance");
    let denied = tagged(&server, json!({})).await;
    let path = format!("auth/aws/roletag-denylist/{}", BASE64.encode(denied.as_bytes()));
    server.put(&path, json!({})).await.is(204);
    assert_eq!(login_now().await, "role tag is in the deny list");
    assert_eq!(server.list("auth/aws/roletag-blacklist").await.body["data"]["keys"], json!([denied]));
    assert!(server.get(&path).await.body["data"]["expiration_time"].is_string());
    server.delete(&path).await.is(204);
    let wider = denied.replace(":d=false", ":p=root:d=false");
    hang(&server, &wider);
    assert_eq!(login_now().await, "role tag signature verification failed");
    assert_eq!(
        error(&server.put(&format!("auth/aws/roletag-denylist/{}", BASE64.encode(wider.as_bytes())), json!({})).await),
        "role tag signature verification failed"
    );
    let body = json!({ "auth_type": "ec2", "bound_account_id": ACCOUNT, "role_tag": "VaultRole" });
    server.put("auth/aws/role/other", body).await.is(204);
    let other = server.put("auth/aws/role/other/tag", json!({})).await.text("/data/tag_value");
    hang(&server, &other);
    assert_eq!(login_now().await, "role on the tag is not matching the role supplied");
    tagged(&server, json!({ "policies": "root" })).await;
    assert_eq!(login_now().await, "policies on the role tag must be subset of policies on the role");
    // A role made anew under its name knows none of the old one's tags.
    server.delete("auth/aws/role/ci").await.is(204);
    role(&server, json!({ "role_tag": "VaultRole" })).await;
    hang(&server, &denied);
    assert_eq!(login_now().await, "role tag signature verification failed");
}

#[tokio::test]
async fn renewal_asks_whether_the_instance_runs_and_is_bound() {
    let server = server().await;
    let token = login(&server, pkcs7(&document())).await.text("/auth/client_token");
    let renew = || server.put("auth/token/renew-self", json!({})).token(&token);
    renew().await.is(200);
    server.aws().add_instance("eu-west-1", Instance { state: "stopped".to_owned(), ..instance() });
    assert!(renew().await.text("/errors/0").contains("instance is not in 'running' state"));
    server.aws().add_instance("eu-west-1", instance());
    role(&server, json!({ "bound_account_id": "999999999999" })).await;
    assert!(renew().await.text("/errors/0").contains("does not belong to role \"ci\""));
    role(&server, json!({})).await;
    server.delete(&format!("auth/aws/identity-accesslist/{ID}")).await.is(204);
    assert!(renew().await.text("/errors/0").contains("failed to verify the access list identity entry for instance ID"));
}

/// Story: for a moment EC2 could not be asked. The renewal was answered 400, which clients take for good.
#[tokio::test]
async fn a_renewal_that_ec2_cannot_be_asked_about_is_not_refused_for_good() {
    let server = server().await;
    role(&server, json!({ "bound_iam_role_arn": ROLE })).await;
    let token = login(&server, pkcs7(&document())).await.text("/auth/client_token");
    let renew = || server.put("auth/token/renew-self", json!({})).token(&token);
    for (action, what) in
        [("DescribeInstances", "failed to verify instance ID"), ("GetInstanceProfile", "IAM role ARN could not be fetched")]
    {
        for (gate, status) in [(Gate::Throttle, 502), (Gate::Cut, 500)] {
            server.aws().guard(move |asked| if asked == action { gate } else { Gate::Open });
            for answer in [renew().await, login(&server, pkcs7(&document())).await] {
                assert!(answer.refused(status).contains(what), "{action}: {:?}", answer.body);
            }
        }
    }
    server.aws().unguard();
    renew().await.is(200);
}

/// Story: whoever had an instance's document, which it has for good, logged in from elsewhere with a nonce of their own. They were refused for where they
/// were, but the instance's row was theirs by then, and the instance stayed outside.
#[tokio::test]
async fn a_login_from_outside_the_bound_networks_claims_no_instance() {
    let server = server().await;
    role(&server, json!({ "token_bound_cidrs": "10.0.0.0/8" })).await;
    let from = |fields: Value, address: &str| server.put("auth/aws/login", fields).nobody().from(address);
    from(with(pkcs7(&document()), "nonce", "the stranger's own"), "192.0.2.1").await.is(403);
    assert_eq!(asked(&server), 0, "nobody is asked for them");
    server.list("auth/aws/identity-accesslist").await.is(404);
    from(pkcs7(&document()), "10.1.2.3").await.is(200);
}

#[tokio::test]
async fn what_is_over_is_removed_by_itself_and_when_asked() {
    let server = server().await;
    role(&server, json!({ "role_tag": "VaultRole" })).await;
    let tag = tagged(&server, json!({})).await;
    login(&server, pkcs7(&document())).await.is(200);
    server.put(&format!("auth/aws/roletag-denylist/{tag}"), json!({})).await.is(204);
    let config = json!({ "safety_buffer": "1h", "disable_periodic_tidy": true });
    assert_eq!(server.get("auth/aws/config/tidy/identity-accesslist").await.status, 404);
    server.put("auth/aws/config/tidy/identity-whitelist", config).await.is(204);
    let shown = server.get("auth/aws/config/tidy/identity-accesslist").await;
    assert_eq!(shown.body["data"], json!({ "safety_buffer": 3600, "disable_periodic_tidy": true }));
    let listed =
        || async { (server.list("auth/aws/identity-accesslist").await.status, server.list("auth/aws/roletag-denylist").await.status) };
    server.put("auth/aws/tidy/identity-accesslist", json!({})).await.is(202);
    server.seconds(61).await;
    server.work().await;
    assert_eq!(listed().await, (200, 200), "nothing is over");
    // The mount's longest token, and the buffers of both lists.
    server.seconds(2_764_800 + 4_000).await;
    server.work().await;
    assert_eq!(listed().await, (200, 200), "one waits to be asked, the other has a longer buffer");
    server.put("auth/aws/tidy/identity-accesslist", json!({})).await.is(202);
    server.seconds(61).await;
    server.work().await;
    assert_eq!(listed().await, (404, 200));
    server.seconds(15_552_000).await;
    server.work().await;
    assert_eq!(listed().await, (404, 404));
    server.delete("auth/aws/config/tidy/identity-accesslist").await.is(204);
}

/// Story: one damaged row of a list kept all behind it from being removed, and one damaged certificate kept everybody out.
#[tokio::test]
async fn damaged_rows_keep_no_other_from_being_removed_and_nobody_out() {
    let store = Arc::new(MemoryBackend::new());
    let server = believing(Setup::default().over(Arc::clone(&store) as Arc<dyn Backend>).start().await).await;
    let write = async |path: String, body: Value| server.put(&path, body).await.is(204);
    role(&server, json!({ "role_tag": "VaultRole" })).await;
    for policies in ["deploy", "read"] {
        let tag = tagged(&server, json!({ "policies": policies })).await;
        write(format!("auth/aws/roletag-denylist/{tag}"), json!({})).await;
    }
    let another = json!({ "aws_public_cert": STRANGER.certificate_pem(), "type": "pkcs7" });
    damaged(&server, &*store, Space::Config, write("auth/aws/config/certificate/another".to_owned(), another)).await;
    let denied = tagged(&server, json!({ "policies": "default" })).await;
    damaged(&server, &*store, Space::Config, write(format!("auth/aws/roletag-denylist/{denied}"), json!({}))).await;
    role(&server, json!({ "role_tag": "" })).await;
    login(&server, pkcs7(&document())).await.is(200);
    server.seconds(2_764_800 + 15_552_000).await;
    server.work().await;
    let left = server.list("auth/aws/roletag-denylist").await.ok();
    assert_eq!(left.body["data"]["keys"].as_array().unwrap().len(), 1, "the damaged one");
}

#[tokio::test]
async fn certificates_are_checked_when_they_are_written() {
    let server = server().await;
    let write = |body: Value| server.put("auth/aws/config/certificate/x", body);
    for (body, text) in [
        (json!({}), "missing aws_public_cert"),
        (json!({ "aws_public_cert": "" }), "invalid aws_public_cert"),
        (json!({ "aws_public_cert": "x" }), "invalid certificate; failed to decode and parse certificate"),
        (json!({ "aws_public_cert": AWS.certificate_pem(), "type": "x" }), "invalid certificate type \"x\""),
    ] {
        assert_eq!(error(&write(body).await), text);
    }
    write(json!({ "aws_public_cert": BASE64.encode(AWS.certificate_pem().as_bytes()) })).await.is(204);
    let read = server.get("auth/aws/config/certificate/x").await;
    assert_eq!(read.body["data"], json!({ "aws_public_cert": AWS.certificate_pem(), "type": "pkcs7" }));
    assert_eq!(server.list("auth/aws/config/certificates").await.body["data"]["keys"], json!(["identity", "pkcs7", "x"]));
    server.delete("auth/aws/config/certificate/x").await.is(204);
    server.get("auth/aws/config/certificate/x").await.is(404);
}

#[tokio::test]
async fn a_fresh_document_is_of_use_to_one_of_two_who_come_at_once() {
    let server = server().await;
    let (one, two) = tokio::join!(login(&server, pkcs7(&document())), login(&server, pkcs7(&document())));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "{:?} {:?}", one.body, two.body);
}

#[tokio::test]
async fn a_session_that_is_named_as_its_instance_is_compared_with_it() {
    let server = server().await;
    server.aws().add_principal("arn:aws:iam::123456789012:role/builders", "AROABUILDERS");
    let inferring = json!({
        "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/builders", "inferred_entity_type": "ec2_instance",
        "inferred_aws_region": "eu-west-1", "bound_vpc_id": "vpc-1",
    });
    server.put("auth/aws/role/inferred", inferring).await.is(204);
    let metadata = "default,inferred_entity_id,inferred_entity_type,inferred_aws_region,inferred_hostname";
    server.put("auth/aws/config/identity", json!({ "iam_metadata": metadata })).await.is(204);
    let session = |name: &str| {
        let arn = format!("arn:aws:sts::123456789012:assumed-role/builders/{name}");
        server.aws().stranger_is(&arn, &format!("AROABUILDERS:{name}"));
    };
    let ask = |digit: &str| login(&server, crate::aws_auth::signed(digit).fields("inferred"));
    session(ID);
    let answer = ask("a").await;
    answer.is(200);
    let told = &answer.body["auth"]["metadata"];
    assert_eq!((&told["inferred_entity_id"], &told["inferred_entity_type"]), (&json!(ID), &json!("ec2_instance")));
    assert_eq!((&told["inferred_aws_region"], &told["inferred_hostname"]), (&json!("eu-west-1"), &json!(instance().private_dns_name)));
    let token = answer.text("/auth/client_token");
    server.aws().add_instance("eu-west-1", Instance { vpc: "vpc-2".to_owned(), ..instance() });
    let why = "error validating instance: VPC ID \"vpc-2\" does not satisfy the constraint on role \"inferred\"";
    assert_eq!(error(&ask("b").await), why);
    assert_eq!(
        server.put("auth/token/renew-self", json!({})).token(&token).await.text("/errors/0"),
        format!("failed to renew entry: {why}")
    );
    session("build-7");
    let said = error(&ask("c").await);
    assert!(said.starts_with("failed to verify build-7 as a valid EC2 instance in region eu-west-1"), "{said}");
}

/// Story: a role that infers instances and names no principal could be written and let nobody in, while in Vault the instance decides.
#[tokio::test]
async fn a_role_that_infers_instances_need_not_name_a_principal() {
    let server = server().await;
    let inferring = json!({ "inferred_entity_type": "ec2_instance", "inferred_aws_region": "eu-west-1" });
    let bound = "at least one bound parameter should be specified on the role";
    assert_eq!(error(&server.put("auth/aws/role/inferred", inferring.clone()).await), bound);
    let mut role = inferring;
    role["bound_account_id"] = json!("123456789012");
    role["bound_vpc_id"] = json!("vpc-1");
    server.put("auth/aws/role/inferred", role).await.is(204);
    let session = |account: &str, name: &str| {
        let arn = format!("arn:aws:sts::{account}:assumed-role/whoever/{name}");
        server.aws().stranger_is(&arn, &format!("AROAWHOEVER:{name}"));
    };
    let ask = |digit: &str| login(&server, crate::aws_auth::signed(digit).fields("inferred"));
    session("123456789012", ID);
    let answer = ask("a").await;
    answer.is(200);
    let token = answer.text("/auth/client_token");
    server.put("auth/token/renew-self", json!({})).token(&token).await.is(200);
    // Neither a user, nor a session of another name or account, is that instance.
    server.aws().stranger_is("arn:aws:iam::123456789012:user/ann", "AIDAANN");
    assert!(error(&ask("b").await).starts_with("failed to verify  as a valid EC2 instance"));
    session("123456789012", "build-7");
    assert!(error(&ask("c").await).starts_with("failed to verify build-7 as a valid EC2 instance"));
    session("999999999999", ID);
    assert!(error(&ask("d").await).contains("the instance is of account"));
    // What is bound last cannot be taken away, and the principal counts again as soon as one is named.
    let nothing = json!({ "bound_account_id": "", "bound_vpc_id": "" });
    assert_eq!(error(&server.put("auth/aws/role/inferred", nothing).await), bound);
    session("123456789012", ID);
    server.aws().add_principal("arn:aws:iam::123456789012:role/builders", "AROABUILDERS");
    let named = json!({ "bound_iam_principal_arn": "arn:aws:iam::123456789012:role/builders" });
    server.put("auth/aws/role/inferred", named).await.is(204);
    assert!(error(&ask("e").await).contains("does not belong to the role"));
    assert!(server.put("auth/token/renew-self", json!({})).token(&token).await.text("/errors/0").contains("does not belong to the role"));
    // An instance that is elsewhere than the role says.
    server.put("auth/aws/role/inferred", json!({ "bound_iam_principal_arn": "" })).await.is(204);
    server.aws().add_instance("eu-west-1", Instance { vpc: "vpc-2".to_owned(), ..instance() });
    assert!(error(&ask("f").await).contains("VPC ID \"vpc-2\" does not satisfy the constraint"));
}

#[tokio::test]
async fn the_method_proves_itself_at_aws_by_identity_tokens() {
    let server = server().await;
    let daypass = "arn:aws:iam::123456789012:role/daypass";
    let config = |more: Value| {
        let mut body = json!({ "identity_token_audience": "sts.amazonaws.com", "role_arn": daypass });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.put("auth/aws/config/client", body)
    };
    let both = config(json!({ "access_key": "AKIA1", "secret_key": "s" })).await;
    assert_eq!(error(&both), "only one of 'access_key' or 'identity_token_audience' can be set");
    assert_eq!(error(&config(json!({ "role_arn": "" })).await), "missing required 'role_arn' when 'identity_token_audience' is set");
    config(json!({})).await.is(204);
    let sts = json!({ "sts_role": "arn:aws:iam::222222222222:role/reads-instances" });
    server.put("auth/aws/config/sts/222222222222", sts).await.is(204);
    role(&server, json!({ "bound_account_id": "222222222222" })).await;
    server.aws().add_instance("eu-west-1", Instance { account: "222222222222".to_owned(), ..instance() });
    login(&server, pkcs7(&document_with("accountId", "222222222222"))).await.is(200);
    let asked = server.aws().made().into_iter().find_map(|made| match made {
        Made::AssumeRole(target, _) => target.web_identity,
        _ => None,
    });
    let identity = asked.unwrap();
    assert_eq!(identity.role_arn, daypass);
    let token = identity.tokens.token().await.unwrap().expose().clone();
    let claims = data_encoding::BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert!(claims["sub"].as_str().unwrap().contains(":auth:auth_aws_") && claims["aud"] == json!(["sts.amazonaws.com"]), "{claims}");
    let no_key = error(&server.put("auth/aws/config/rotate-root", json!({})).await);
    assert!(no_key.starts_with("can't update access_key because it's unset: config/client has identity_token_audience"), "{no_key}");
}
