//! The life of users, keys, groups and roles.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cloud::tests::{Fake, field, refused};
use crate::sigv4::tests::Signer;

const READ_ONLY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;

async fn ok(fake: &Fake, action: &str, params: &[(&str, &str)]) -> String {
    let mut all = vec![("Action", action)];
    all.extend(params);
    let (status, body) = fake.call(&fake.root("iam"), &all).await;
    assert_eq!(status, 200, "{action}: {body}");
    body
}

async fn no(fake: &Fake, action: &str, params: &[(&str, &str)], status: u16, code: &str, part: &str) {
    let mut all = vec![("Action", action)];
    all.extend(params);
    refused(&fake.call(&fake.root("iam"), &all).await, status, code, part);
}

#[tokio::test]
async fn user_lives_and_dies_in_the_documented_order() {
    let fake = Fake::new();
    let user = ("UserName", "v-1");
    let body = ok(
        &fake,
        "CreateUser",
        &[user, ("Path", "/ci/"), ("Tags.member.1.Key", "owner"), ("Tags.member.1.Value", "ops"), ("PermissionsBoundary", READ_ONLY)],
    )
    .await;
    assert_eq!(
        (field(&body, "Arn").as_str(), field(&body, "PermissionsBoundaryArn").as_str()),
        ("arn:aws:iam::999999999999:user/ci/v-1", READ_ONLY)
    );
    no(&fake, "CreateUser", &[("UserName", "V-1")], 409, "EntityAlreadyExists", "User with name V-1 already exists.").await;
    let key = field(&ok(&fake, "CreateAccessKey", &[user]).await, "AccessKeyId");
    ok(&fake, "CreateAccessKey", &[user]).await;
    no(&fake, "CreateAccessKey", &[user], 409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2").await;
    ok(&fake, "AttachUserPolicy", &[user, ("PolicyArn", READ_ONLY)]).await;
    ok(&fake, "PutUserPolicy", &[user, ("PolicyName", "p"), ("PolicyDocument", DOCUMENT)]).await;
    ok(&fake, "AddUserToGroup", &[user, ("GroupName", "deployers")]).await;
    assert!(ok(&fake, "ListGroupsForUser", &[user]).await.contains("<GroupName>deployers</GroupName>"));
    assert!(ok(&fake, "GetUserPolicy", &[user, ("PolicyName", "p")]).await.contains("%22s3%3A%2A%22"));
    for list in ["ListMFADevices", "ListSigningCertificates", "ListServiceSpecificCredentials", "ListSSHPublicKeys"] {
        ok(&fake, list, &[user]).await;
    }
    no(&fake, "GetLoginProfile", &[user], 404, "NoSuchEntity", "Login Profile for User v-1 cannot be found.").await;
    no(&fake, "DeleteLoginProfile", &[user], 404, "NoSuchEntity", "Login Profile").await;
    no(&fake, "DeleteGroup", &[("GroupName", "deployers")], 409, "DeleteConflict", "must remove users from group first").await;
    no(&fake, "DeleteUser", &[user], 409, "DeleteConflict", "must delete access keys first").await;
    let keys = ok(&fake, "ListAccessKeys", &[user]).await;
    for part in keys.split("<AccessKeyId>").skip(1) {
        ok(&fake, "DeleteAccessKey", &[user, ("AccessKeyId", part.split('<').next().unwrap())]).await;
    }
    no(&fake, "DeleteAccessKey", &[user, ("AccessKeyId", &key)], 404, "NoSuchEntity", "The Access Key with id").await;
    no(&fake, "DeleteUser", &[user], 409, "DeleteConflict", "must detach all policies first").await;
    ok(&fake, "DetachUserPolicy", &[user, ("PolicyArn", READ_ONLY)]).await;
    no(&fake, "DeleteUser", &[user], 409, "DeleteConflict", "must delete policies first").await;
    ok(&fake, "DeleteUserPolicy", &[user, ("PolicyName", "p")]).await;
    no(&fake, "DeleteUser", &[user], 409, "DeleteConflict", "remove users from group").await;
    ok(&fake, "RemoveUserFromGroup", &[user, ("GroupName", "deployers")]).await;
    ok(&fake, "DeleteUser", &[user]).await;
    no(&fake, "GetUser", &[user], 404, "NoSuchEntity", "The user with name v-1 cannot be found.").await;
    ok(&fake, "CreateUser", &[user]).await;
}

#[tokio::test]
async fn keys_work_until_deactivated_and_after_their_delay() {
    let fake = Fake::new();
    ok(&fake, "CreateUser", &[("UserName", "u")]).await;
    ok(&fake, "AttachUserPolicy", &[("UserName", "u"), ("PolicyArn", "arn:aws:iam::aws:policy/IAMFullAccess")]).await;
    let body = ok(&fake, "CreateAccessKey", &[("UserName", "u")]).await;
    let user = Signer::new(&field(&body, "AccessKeyId"), &field(&body, "SecretAccessKey"), None, "iam");
    let (_, own) = fake.call(&user, &[("Action", "GetUser")]).await;
    assert_eq!(field(&own, "UserName"), "u");
    ok(&fake, "UpdateAccessKey", &[("UserName", "u"), ("AccessKeyId", &user.key_id), ("Status", "Inactive")]).await;
    refused(&fake.call(&user, &[("Action", "GetUser")]).await, 403, "InvalidClientTokenId", "");
    no(
        &fake,
        "UpdateAccessKey",
        &[("UserName", "u"), ("AccessKeyId", &user.key_id), ("Status", "Off")],
        400,
        "ValidationError",
        "enum value set",
    )
    .await;
    fake.cloud.control.set_key_delay(Duration::from_secs(10));
    let body = ok(&fake, "CreateAccessKey", &[("UserName", "u")]).await;
    let fresh = Signer::new(&field(&body, "AccessKeyId"), &field(&body, "SecretAccessKey"), None, "iam");
    refused(&fake.call(&fresh, &[("Action", "GetUser")]).await, 403, "InvalidClientTokenId", "");
    fake.clock.advance(Duration::from_secs(10));
    assert_eq!(fake.call(&fresh, &[("Action", "GetUser")]).await.0, 200);
    ok(&fake, "DeleteAccessKey", &[("UserName", "u"), ("AccessKeyId", &fresh.key_id)]).await;
    refused(&fake.call(&fresh, &[("Action", "GetUser")]).await, 403, "InvalidClientTokenId", "");
}

#[tokio::test]
async fn callers_need_permission_and_the_boundary_counts() {
    let fake = Fake::new();
    ok(&fake, "CreateUser", &[("UserName", "u"), ("PermissionsBoundary", READ_ONLY)]).await;
    let body = ok(&fake, "CreateAccessKey", &[("UserName", "u")]).await;
    let user = Signer::new(&field(&body, "AccessKeyId"), &field(&body, "SecretAccessKey"), None, "iam");
    refused(
        &fake.call(&user, &[("Action", "GetUser")]).await,
        403,
        "AccessDenied",
        "User: arn:aws:iam::999999999999:user/u is not authorized to perform: iam:GetUser on resource: arn:aws:iam::999999999999:user/u because no identity-based policy allows the iam:GetUser action",
    );
    ok(&fake, "AttachUserPolicy", &[("UserName", "u"), ("PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")]).await;
    assert_eq!(fake.call(&user, &[("Action", "GetUser")]).await.0, 200);
    refused(
        &fake.call(&user, &[("Action", "CreateUser"), ("UserName", "x")]).await,
        403,
        "AccessDenied",
        "because no permissions boundary allows the iam:CreateUser action",
    );
    let task = Signer { service: "iam".to_owned(), ..fake.task() };
    refused(&fake.call(&task, &[("Action", "GetUser"), ("UserName", "u")]).await, 403, "AccessDenied", "iam:GetUser");
}

#[tokio::test]
async fn groups_carry_permissions_to_their_members() {
    let fake = Fake::new();
    ok(&fake, "CreateGroup", &[("GroupName", "admins")]).await;
    ok(&fake, "PutGroupPolicy", &[("GroupName", "admins"), ("PolicyName", "all"), ("PolicyDocument", r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::*:user/${aws:username}"}]}"#)]).await;
    ok(&fake, "AttachGroupPolicy", &[("GroupName", "admins"), ("PolicyArn", READ_ONLY)]).await;
    assert!(ok(&fake, "ListGroupPolicies", &[("GroupName", "admins")]).await.contains("<member>all</member>"));
    assert!(ok(&fake, "ListAttachedGroupPolicies", &[("GroupName", "admins")]).await.contains(READ_ONLY));
    assert!(ok(&fake, "GetGroupPolicy", &[("GroupName", "admins"), ("PolicyName", "all")]).await.contains("PolicyDocument"));
    ok(&fake, "CreateUser", &[("UserName", "u")]).await;
    let body = ok(&fake, "CreateAccessKey", &[("UserName", "u")]).await;
    let user = Signer::new(&field(&body, "AccessKeyId"), &field(&body, "SecretAccessKey"), None, "iam");
    let tag = |name| [("Action", "TagUser"), ("UserName", name), ("Tags.member.1.Key", "a"), ("Tags.member.1.Value", "b")];
    refused(&fake.call(&user, &tag("u")).await, 403, "AccessDenied", "iam:TagUser");
    ok(&fake, "AddUserToGroup", &[("GroupName", "admins"), ("UserName", "u")]).await;
    assert_eq!(fake.call(&user, &tag("u")).await.0, 200);
    refused(&fake.call(&user, &tag("daypass-root")).await, 403, "AccessDenied", "user/daypass-root");
    assert!(ok(&fake, "ListUserTags", &[("UserName", "u")]).await.contains("<Key>a</Key><Value>b</Value>"));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let fake = Fake::new();
    for number in 0..5 {
        ok(&fake, "CreateUser", &[("UserName", &format!("u{number}")), ("Path", "/p/")]).await;
    }
    let mut names = Vec::new();
    let mut marker = None;
    loop {
        let mut params = vec![("MaxItems", "2"), ("PathPrefix", "/p/")];
        if let Some(marker) = &marker {
            params.push(("Marker", String::as_str(marker)));
        }
        let body = ok(&fake, "ListUsers", &params).await;
        names.extend(body.split("<UserName>").skip(1).map(|part| part.split('<').next().unwrap().to_owned()));
        if field(&body, "IsTruncated") == "false" {
            break;
        }
        marker = Some(field(&body, "Marker"));
    }
    assert_eq!(names, ["u0", "u1", "u2", "u3", "u4"]);
    no(&fake, "ListUsers", &[("MaxItems", "0")], 400, "ValidationError", "'maxItems'").await;
    no(&fake, "ListUsers", &[("Marker", "!")], 400, "ValidationError", "Marker").await;
}

#[tokio::test]
async fn roles_are_made_with_real_principals_only() {
    let fake = Fake::new();
    let trust = |arn: &str| {
        format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{arn}"}},"Action":"sts:AssumeRole"}}]}}"#)
    };
    let good = trust("arn:aws:iam::999999999999:role/jenkins-task");
    let body = ok(&fake, "CreateRole", &[("RoleName", "r"), ("AssumeRolePolicyDocument", &good), ("MaxSessionDuration", "7200")]).await;
    assert_eq!((field(&body, "MaxSessionDuration").as_str(), field(&body, "Arn").as_str()), ("7200", "arn:aws:iam::999999999999:role/r"));
    no(
        &fake,
        "CreateRole",
        &[("RoleName", "s"), ("AssumeRolePolicyDocument", &trust("arn:aws:iam::999999999999:role/none"))],
        400,
        "MalformedPolicyDocument",
        r#"Invalid principal in policy: "AWS":"arn:aws:iam::999999999999:role/none""#,
    )
    .await;
    no(
        &fake,
        "UpdateAssumeRolePolicy",
        &[("RoleName", "r"), ("PolicyDocument", &trust("bob"))],
        400,
        "MalformedPolicyDocument",
        "Invalid principal",
    )
    .await;
    ok(&fake, "UpdateAssumeRolePolicy", &[("RoleName", "r"), ("PolicyDocument", &trust("888888888888"))]).await;
    no(&fake, "UpdateRole", &[("RoleName", "r"), ("MaxSessionDuration", "60")], 400, "ValidationError", "'maxSessionDuration'").await;
    ok(&fake, "AttachRolePolicy", &[("RoleName", "r"), ("PolicyArn", READ_ONLY)]).await;
    no(&fake, "DeleteRole", &[("RoleName", "r")], 409, "DeleteConflict", "must detach all policies first").await;
    no(
        &fake,
        "AttachRolePolicy",
        &[("RoleName", "r"), ("PolicyArn", "arn:aws:iam::aws:policy/None")],
        404,
        "NoSuchEntity",
        "Policy arn:aws:iam::aws:policy/None does not exist or is not attachable.",
    )
    .await;
    ok(&fake, "DetachRolePolicy", &[("RoleName", "r"), ("PolicyArn", READ_ONLY)]).await;
    ok(&fake, "DeleteRole", &[("RoleName", "r")]).await;
    no(&fake, "GetRole", &[("RoleName", "r")], 404, "NoSuchEntity", "The role with name r cannot be found.").await;
}

#[tokio::test]
async fn managed_policies_are_made_attached_and_deleted() {
    let fake = Fake::new();
    let arn = field(&ok(&fake, "CreatePolicy", &[("PolicyName", "mine"), ("PolicyDocument", DOCUMENT)]).await, "Arn");
    assert_eq!(arn, "arn:aws:iam::999999999999:policy/mine");
    no(
        &fake,
        "CreatePolicy",
        &[("PolicyName", "Mine"), ("PolicyDocument", DOCUMENT)],
        409,
        "EntityAlreadyExists",
        "A policy called Mine already exists",
    )
    .await;
    ok(&fake, "AttachUserPolicy", &[("UserName", "daypass-root"), ("PolicyArn", &arn)]).await;
    assert_eq!(field(&ok(&fake, "GetPolicy", &[("PolicyArn", &arn)]).await, "AttachmentCount"), "1");
    no(&fake, "DeletePolicy", &[("PolicyArn", &arn)], 409, "DeleteConflict", "detach").await;
    ok(&fake, "DetachUserPolicy", &[("UserName", "daypass-root"), ("PolicyArn", &arn)]).await;
    assert!(ok(&fake, "GetPolicyVersion", &[("PolicyArn", &arn), ("VersionId", "v1")]).await.contains("%22s3"));
    ok(&fake, "DeletePolicy", &[("PolicyArn", &arn)]).await;
    assert!(ok(&fake, "ListPolicies", &[("Scope", "AWS")]).await.contains("AdministratorAccess"));
    let huge = format!(r#"{{"Statement":[{{"Effect":"Allow","Action":"s3:*","Resource":"{}"}}]}}"#, "x".repeat(2048));
    no(
        &fake,
        "PutUserPolicy",
        &[("UserName", "daypass-root"), ("PolicyName", "p"), ("PolicyDocument", &huge)],
        409,
        "LimitExceeded",
        "Maximum policy size of 2048 bytes exceeded for user daypass-root",
    )
    .await;
    no(
        &fake,
        "PutUserPolicy",
        &[("UserName", "daypass-root"), ("PolicyName", "p"), ("PolicyDocument", "{}")],
        400,
        "MalformedPolicyDocument",
        "Syntax errors",
    )
    .await;
}

#[tokio::test]
async fn names_and_paths_are_checked() {
    let fake = Fake::new();
    no(
        &fake,
        "CreateUser",
        &[("UserName", "a b")],
        400,
        "ValidationError",
        "The specified value for userName is invalid. It must contain only alphanumeric characters",
    )
    .await;
    no(
        &fake,
        "CreateUser",
        &[("UserName", &"x".repeat(65))],
        400,
        "ValidationError",
        "at 'userName' failed to satisfy constraint: Member must have length less than or equal to 64",
    )
    .await;
    no(&fake, "CreateUser", &[("UserName", "a"), ("Path", "x")], 400, "ValidationError", "The specified value for path is invalid").await;
    no(&fake, "CreateUser", &[], 400, "ValidationError", "Value null at 'userName'").await;
    no(&fake, "CreateUser", &[("UserName", "a"), ("PermissionsBoundary", "arn:aws:iam::aws:policy/None")], 404, "NoSuchEntity", "").await;
    for (path, good) in [("/", true), ("/a/", true), ("//", false), ("/a", false), ("a/", false), ("", false), ("/a b/", false)] {
        assert_eq!(is_path(path), good, "{path}");
    }
}

#[tokio::test]
async fn simulation_says_what_policies_would() {
    let fake = Fake::new();
    let params = [
        ("PolicySourceArn", "arn:aws:iam::999999999999:role/jenkins-task"),
        ("ActionNames.member.1", "sts:AssumeRole"),
        ("ActionNames.member.2", "s3:GetObject"),
    ];
    let body = ok(&fake, "SimulatePrincipalPolicy", &params).await;
    assert!(body.contains("<EvalDecision>allowed</EvalDecision>") && body.contains("<EvalDecision>implicitDeny</EvalDecision>"));
    let limit = |text: &'static str| [params[0], params[1], ("PermissionsBoundaryPolicyInputList.member.1", text)];
    for (text, decision) in [
        (r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:*","Resource":"*"}}"#, "allowed"),
        (r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#, "implicitDeny"),
        (r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"sts:*","Resource":"*"}}"#, "explicitDeny"),
    ] {
        let body = ok(&fake, "SimulatePrincipalPolicy", &limit(text)).await;
        assert!(body.contains(&format!("<EvalDecision>{decision}</EvalDecision>")), "{text}: {body}");
    }
    no(&fake, "SimulatePrincipalPolicy", &limit("{}"), 400, "MalformedPolicyDocument", "").await;
    no(&fake, "SimulatePrincipalPolicy", &[("PolicySourceArn", "arn:aws:iam::999999999999:role/none"), params[1]], 404, "NoSuchEntity", "")
        .await;
    no(&fake, "SimulatePrincipalPolicy", &[params[0]], 400, "ValidationError", "actionNames").await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_parameters_make_an_action_panic(action in prop::sample::select(vec!["CreateUser", "CreateRole", "TagUser", "ListUsers", "SimulatePrincipalPolicy", "PutUserPolicy", "AttachUserPolicy", "UpdateAccessKey"]),
        params in prop::collection::vec(("(UserName|RoleName|PolicyName|PolicyDocument|PolicyArn|Tags.member.[0-9]{1,12}(.Key|.Value)?|Marker|MaxItems|Path|AssumeRolePolicyDocument|ActionNames.member.1|PolicySourceArn|[ -~]{0,6})", "[ -~é\u{0}]{0,40}"), 0..8)) {
        let fake = Fake::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut all = vec![("Action", action)];
        all.extend(params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let (status, _) = runtime.block_on(fake.call(&fake.root("iam"), &all));
        prop_assert!((200..500).contains(&status));
    }
}
