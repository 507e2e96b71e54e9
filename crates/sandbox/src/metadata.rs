//! Where containers and instances find their credentials: the ECS container endpoint and the instance metadata service, version 2.
//!
//! Sources: Amazon ECS developer guide, "Task IAM role"; AWS SDKs reference guide, "Container credential provider"; Amazon EC2 user
//! guide, "Use the Instance Metadata Service". Both give out the same credential until half of its life is over, then a new one.

use std::sync::OnceLock;

use aws_lc_rs::constant_time;
use data_encoding::HEXLOWER;
use daypass_base::{Entropy, Secret, Timestamp};
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::answer::{self, Reply};
use crate::cloud::Cloud;
use crate::documents::DocumentSigner;
use crate::fault::Result;
use crate::instances::{self, InstanceSeed};
use crate::request::Request;
use crate::seal::Purpose;
use crate::session::Credential;
use crate::sts;

/// The two endpoints with their identities.
pub(crate) struct Metadata {
    pub(crate) region: String,
    /// The last part of the container endpoint's path.
    credentials_id: String,
    pub(crate) authorization: Secret<String>,
    task: Identity,
    instance: Identity,
    instance_id: String,
    started: Timestamp,
    /// Made when it is first needed.
    signer: OnceLock<Option<DocumentSigner>>,
}

/// A role that is handed out, with the credential that is handed out now.
struct Identity {
    role_arn: Option<String>,
    service: &'static str,
    session_name: String,
    current: Mutex<Option<(Timestamp, Credential)>>,
}

impl Metadata {
    pub(crate) fn new(
        region: &str,
        task_role: Option<&str>,
        instance_role: Option<&str>,
        entropy: &dyn Entropy,
        started: Timestamp,
    ) -> Self {
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        let instance_id = format!("i-{}", hex(&entropy.bytes::<9>()).get(..17).unwrap_or_default());
        let identity = |role: Option<&str>, service, session_name: &str| Identity {
            role_arn: role.map(str::to_owned),
            service,
            session_name: session_name.to_owned(),
            current: Mutex::new(None),
        };
        Self {
            region: region.to_owned(),
            credentials_id: hex(&entropy.bytes::<16>()),
            authorization: Secret::new(hex(&entropy.bytes::<32>())),
            task: identity(task_role, "ecs-tasks.amazonaws.com", &hex(&entropy.bytes::<16>())),
            instance: identity(instance_role, "ec2.amazonaws.com", &instance_id),
            instance_id,
            started,
            signer: OnceLock::new(),
        }
    }

    /// The instance, and the account that it belongs to.
    pub(crate) fn own_instance(&self) -> (&str, InstanceSeed) {
        let instance = InstanceSeed {
            id: self.instance_id.clone(),
            region: self.region.clone(),
            ami: instances::image(),
            state: "running".to_owned(),
            vpc: "vpc-00000000000000000".to_owned(),
            subnet: "subnet-00000000000000000".to_owned(),
            profile: self.instance.role_arn.as_deref().map(profile_of).unwrap_or_default(),
            tags: std::collections::BTreeMap::new(),
        };
        (self.account(), instance)
    }

    fn account(&self) -> &str {
        self.instance.role_arn.as_deref().and_then(|arn| arn.split(':').nth(4)).unwrap_or("000000000000")
    }

    /// The certificate that verifies the instance's documents, in PEM.
    pub(crate) fn certificate(&self) -> Reply {
        self.signed(DocumentSigner::certificate_pem)
    }

    fn signed(&self, text: impl FnOnce(&DocumentSigner) -> String) -> Reply {
        match self.signer.get_or_init(DocumentSigner::new) {
            Some(signer) => answer::text(200, text(signer)),
            None => answer::text(500, "Internal Server Error"),
        }
    }

    /// The path of the container endpoint.
    pub(crate) fn container_path(&self) -> String {
        format!("{CONTAINER_PREFIX}{}", self.credentials_id)
    }

    /// `GET /v2/credentials/<id>` with the authorization token.
    pub(crate) fn container(&self, cloud: &Cloud, request: &Request) -> Reply {
        let refuse =
            |status, code: &str, message: &str| answer::json(status, &json!({"code": code, "message": message, "HTTPErrorCode": status}));
        if request.method != Method::GET {
            return refuse(405, "MethodNotAllowed", "only GET is known here");
        }
        if request.path != self.container_path() {
            return refuse(404, "InvalidIdInRequest", "CredentialsV2Request: ID not found");
        }
        let given = request.header("authorization").unwrap_or_default();
        // Compared with what the client sent, and never printed.
        if constant_time::verify_slices_are_equal(given.as_bytes(), self.authorization.expose().as_bytes()).is_err() {
            return refuse(401, "InvalidAuthorization", "the Authorization header must be AWS_CONTAINER_AUTHORIZATION_TOKEN");
        }
        let answer = self.task.with_credential(cloud, |credential, _issued| {
            // The answer is where the secret and the token are meant to go.
            json!({
                "RoleArn": self.task.role_arn,
                "AccessKeyId": credential.key_id,
                "SecretAccessKey": credential.secret.expose(),
                "Token": credential.token.expose(),
                "Expiration": credential.expires.to_string(),
            })
        });
        match answer {
            Some(Ok(value)) => answer::json(200, &value),
            Some(Err(fault)) => refuse(400, "RoleRetrieval", &fault.message),
            None => refuse(400, "NoIdInRequest", "the world of this sandbox has no task_role"),
        }
    }

    /// `/latest/…`, version 2 only: a token first.
    pub(crate) fn instance(&self, cloud: &Cloud, request: &Request) -> Reply {
        let path = request.path.trim_start_matches("/latest/");
        if path == "api/token" {
            return metadata_token(cloud, request);
        }
        if request.method != Method::GET {
            return answer::text(405, "Method Not Allowed");
        }
        if !has_metadata_token(cloud, request) {
            return answer::text(401, "Unauthorized");
        }
        let role = self.instance.role_arn.as_deref().and_then(|arn| arn.rsplit('/').next());
        match path.trim_end_matches('/') {
            "meta-data" => answer::text(200, "iam/\ninstance-id\nplacement/"),
            "meta-data/instance-id" => answer::text(200, self.instance_id.clone()),
            "meta-data/placement/region" => answer::text(200, self.region.clone()),
            "meta-data/placement/availability-zone" => answer::text(200, format!("{}a", self.region)),
            "meta-data/iam/info" => self.profile(cloud),
            "meta-data/iam/security-credentials" => role.map_or_else(|| answer::text(404, "Not Found"), |role| answer::text(200, role)),
            "dynamic/instance-identity/document" => answer::text(200, self.identity_document()),
            "dynamic/instance-identity/rsa2048" => self.signed(|signer| signer.pkcs7(self.identity_document().as_bytes())),
            "dynamic/instance-identity/signature" => self.signed(|signer| signer.signature(self.identity_document().as_bytes())),
            other => match (other.strip_prefix("meta-data/iam/security-credentials/"), role) {
                (Some(asked), Some(role)) if asked == role => self.role_credentials(cloud),
                _ => answer::text(404, "Not Found"),
            },
        }
    }

    fn role_credentials(&self, cloud: &Cloud) -> Reply {
        let answer = self.instance.with_credential(cloud, |credential, issued| {
            // The answer is where the secret and the token are meant to go.
            json!({
                "Code": "Success",
                "LastUpdated": issued.to_string(),
                "Type": "AWS-HMAC",
                "AccessKeyId": credential.key_id,
                "SecretAccessKey": credential.secret.expose(),
                "Token": credential.token.expose(),
                "Expiration": credential.expires.to_string(),
            })
        });
        match answer {
            Some(Ok(value)) => answer::json(200, &value),
            Some(Err(fault)) => answer::json(200, &json!({"Code": "AssumeRoleUnauthorizedAccess", "Message": fault.message})),
            None => answer::text(404, "Not Found"),
        }
    }

    fn profile(&self, cloud: &Cloud) -> Reply {
        let Some(arn) = &self.instance.role_arn else { return answer::text(404, "Not Found") };
        let updated = Timestamp::from_seconds(cloud.clock.now().seconds()).to_string();
        answer::json(
            200,
            &json!({"Code": "Success", "LastUpdated": updated, "InstanceProfileArn": profile_of(arn), "InstanceProfileId": "AIPASANDBOXSANDBOXSAN"}),
        )
    }

    fn identity_document(&self) -> String {
        let document = json!({
            "accountId": self.account(), "architecture": "x86_64", "availabilityZone": format!("{}a", self.region),
            "imageId": instances::image(), "instanceId": self.instance_id, "instanceType": "t3.micro",
            "pendingTime": Timestamp::from_seconds(self.started.seconds()), "privateIp": "127.0.0.1", "region": self.region,
            "version": "2017-09-30",
        });
        format!("{document:#}")
    }
}

/// ARN of the instance profile of the same name as a role.
fn profile_of(role_arn: &str) -> String {
    role_arn.replacen(":role/", ":instance-profile/", 1)
}

impl Identity {
    /// Shows the credential of now to `show`, after making a new one if half of the old one's life is over. `None` without a role.
    fn with_credential(&self, cloud: &Cloud, show: impl FnOnce(&Credential, Timestamp) -> Value) -> Option<Result<Value>> {
        let role_arn = self.role_arn.as_deref()?;
        let now = cloud.clock.now();
        let seconds = cloud.control.endpoint_lifetime();
        let mut current = self.current.lock();
        let fresh = current.as_ref().is_some_and(|(issued, credential)| {
            let (age, life) = (now.seconds() - issued.seconds(), credential.expires.seconds() - issued.seconds());
            age >= 0 && age * 2 < life && life == seconds
        });
        if !fresh {
            match sts::service_session(cloud, role_arn, self.service, &self.session_name, now, seconds) {
                Ok((_session, credential)) => *current = Some((Timestamp::from_seconds(now.seconds()), credential)),
                Err(fault) => return Some(Err(fault)),
            }
        }
        current.as_ref().map(|(issued, credential)| Ok(show(credential, *issued)))
    }
}

/// `PUT /latest/api/token`. Requests that came through a proxy get none, as at AWS.
fn metadata_token(cloud: &Cloud, request: &Request) -> Reply {
    if request.method != Method::PUT {
        return answer::text(405, "Method Not Allowed");
    }
    if request.headers.contains_key("x-forwarded-for") {
        return answer::text(403, "Forbidden");
    }
    let Some(seconds) =
        request.header(TTL_HEADER).and_then(|text| text.parse::<i64>().ok()).filter(|seconds| (1..=21_600).contains(seconds))
    else {
        return answer::text(400, "Bad Request");
    };
    let expires = cloud.clock.now().seconds().saturating_add(seconds);
    let Some(token) = cloud.sealer.seal(Purpose::Metadata, &expires.to_be_bytes()) else {
        return answer::text(500, "Internal Server Error");
    };
    let mut reply = answer::text(200, token);
    reply.headers_mut().insert(TTL_HEADER, http::HeaderValue::from(seconds));
    reply
}

fn has_metadata_token(cloud: &Cloud, request: &Request) -> bool {
    let expires = request
        .header("x-aws-ec2-metadata-token")
        .and_then(|token| cloud.sealer.open(Purpose::Metadata, token))
        .and_then(|plain| plain.first_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes)));
    expires.is_some_and(|expires| expires > cloud.clock.now().seconds())
}

/// Where container credentials are, as on ECS.
pub(crate) const CONTAINER_PREFIX: &str = "/v2/credentials/";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
