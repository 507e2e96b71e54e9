//! `console/<role>`: a URL that opens AWS's console as a role. Whoever has the URL is let in: it is a secret like a password.

use std::sync::Arc;

use daypass_aws::{Call, ConsoleVisit, Credential, Partition};
use daypass_base::lenient;
use daypass_sdk::{Cx, Endpoint, Error, Leased, Operation, Outcome, Reply, Result, Seconds, Secret, Timestamp, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::secrets::at_aws::{deadline, upstream};

use super::Aws;
use super::attribution::Attribution;
use super::creds::{self, Given, MINTING, OLDER_DOORS};
use super::loaded;
use super::role::{CredentialType, Door, Role};
use super::text::quoted;

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["console/{name@}"])
            .stands_for(OLDER_DOORS)
            .alike(MINTING)
            // Which pages are shown. How long the session lasts is not among them: who limits the lifetime means that as well.
            .apart(&["destination", "issuer"])
            .summary("Make a URL that opens AWS's console as a role.")
            .help(HELP)
            .on(Operation::Read, visit)
            .on(Operation::Update, visit),
    ]
}

/// What may be asked for.
#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// Name of the role: of type `assumed_role` or `federation_token`. Example: `ops`.
    name: String,
    /// IAM role to assume, when the role allows more than one. Example: `arn:aws:iam::111111111111:role/ops`.
    #[serde(default)]
    role_arn: String,
    /// Lifetime of the credential behind the URL, in seconds or as a duration, as in `sts/<name>`. Example: `1h`.
    ttl: Option<Seconds>,
    /// Name of the assumed-role session, as in `sts/<name>`. Example: `alice`.
    #[serde(default)]
    role_session_name: String,
    /// Page to open: a `https://` URL of the console of the role's partition, or a path below it; its first page when empty. Example:
    /// `/ecr/repositories?region=eu-west-1`.
    #[serde(default)]
    destination: String,
    /// Page to send people to when the console's session has ended; a `https://` URL. Example: `https://intranet.example/aws`.
    #[serde(default)]
    issuer: String,
    /// Lifetime of the console's session, in seconds or as a duration, 15 minutes to 12 hours; as long as the credential when it is left
    /// out. At most the role's `max_sts_ttl`, or the mount's maximum where the role has none. AWS takes it only of roles that were assumed
    /// with the keys of an IAM user. Example: `4h`.
    session_duration: Option<Seconds>,
}

async fn visit(engine: Arc<Aws>, cx: Cx, wanted: Wanted) -> Result<Reply> {
    wanted.checked()?;
    let loaded = loaded::role(&cx, &wanted.name).await?;
    let (role, target) = (&loaded.role, loaded.target.clone());
    wanted.allowed_by(role, cx.mount.max_lease_ttl)?;
    let of_role = wanted.partition(&cx, role)?;
    let partition = of_role.unwrap_or_else(|| Partition::of_region(target.region.as_deref().unwrap_or_default()));
    let destination = destination(partition, &wanted.destination)?;
    let Given { mut reply, end } = creds::mint_by(Arc::clone(&engine), cx.clone(), wanted.credential()?, Door::Sts, loaded).await?;
    let Outcome::Leased(leased) = &mut reply.outcome else { return Err(Error::internal("a role without a lease")) };
    let (session, arn) = session(leased);
    let visit = ConsoleVisit {
        session,
        endpoint: partition.federation(None),
        destination: destination.clone(),
        issuer: wanted.issuer.clone(),
        duration: wanted.session_duration,
    };
    let call = Call::usual(&target, deadline(&cx));
    let url = engine.aws.sign_in(call, visit).await.map_err(|error| {
        let hint = if wanted.session_duration.is_some() { "\n\tleave session_duration out: AWS takes it of few sessions" } else { "" };
        upstream(format!("Error signing in to the console: {}{hint}", error.sdk_text()), error)
    })?;
    let (ttl, end) = outlasting(&cx, leased, wanted.session_duration, end);
    let pairs = [
        ("url", reveal(&url)),
        ("destination", destination.as_str().into()),
        ("arn", arn.unwrap_or_default().into()),
        ("expires_at", creds::end_told(&cx, ttl, end).to_string().into()),
        ("ttl", ttl.0.into()),
    ];
    leased.data = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    leased.facts.insert("destination".to_owned(), destination);
    if let Some(asked) = wanted.session_duration {
        leased.facts.insert("session_duration".to_owned(), asked.0.to_string());
    }
    Ok(reply)
}

/// How long whoever opens the URL is in: as long as the credential is good, or as the console's session was asked to last, if that is longer. Then lease and ledger
/// tell of that as well. With the end by AWS's clock.
fn outlasting(cx: &Cx, leased: &mut Leased, asked: Option<Seconds>, end: Option<Timestamp>) -> (Seconds, Option<Timestamp>) {
    let ttl = Seconds(leased.data.get("ttl").and_then(Value::as_u64).unwrap_or(leased.terms.ttl.0));
    let Some(longer) = asked.filter(|asked| *asked > ttl) else { return (ttl, end) };
    leased.terms.ttl = cx.mount.max_lease_ttl.set().map_or(longer, |most| longer.min(most));
    leased.ends = Some(cx.clock.now() + longer);
    (longer, end.map(|end| end + Seconds(longer.0 - ttl.0)))
}

/// The credential out of an answer that nobody will see.
fn session(leased: &mut Leased) -> (Credential, Option<String>) {
    let mut take = |name: &str| match leased.data.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let arn = Some(take("arn")).filter(|arn| !arn.is_empty());
    let credential = Credential {
        access_key_id: take("access_key"),
        secret_access_key: Secret::new(take("secret_key")),
        session_token: Secret::new(take("session_token")),
        // The sign-in endpoint looks for itself.
        expiration: daypass_sdk::Timestamp::default(),
        arn: arn.clone(),
    };
    (credential, arn)
}

impl Wanted {
    /// The partition of the IAM role; `None` for a federated user, who has none of a role. Errors: `BadRequest` when the role gives no
    /// session that the console takes.
    fn partition(&self, cx: &Cx, role: &Role) -> Result<Option<Partition>> {
        match role.kind_at(Door::Sts)? {
            CredentialType::AssumedRole => {
                let arn = role.iam_role(&Attribution::of(cx, &self.name), &self.name, &self.role_arn)?;
                Ok(arn.split(':').nth(1).and_then(Partition::named))
            }
            CredentialType::FederationToken => Ok(None),
            CredentialType::IamUser | CredentialType::SessionToken => Err(Error::bad_request(format!(
                "role {} gives no session that the console takes: it must be of type assumed_role or federation_token",
                self.name
            ))),
        }
    }

    /// What is asked of `sts/`.
    fn credential(&self) -> Result<creds::Wanted> {
        let mut fields = Map::new();
        for (name, text) in [("name", &self.name), ("role_arn", &self.role_arn), ("role_session_name", &self.role_session_name)] {
            fields.insert(name.to_owned(), text.as_str().into());
        }
        if let Some(ttl) = self.ttl {
            fields.insert("ttl".to_owned(), ttl.0.into());
        }
        lenient::decode(fields).map_err(|error| Error::bad_request(error.to_string()))
    }

    /// What can be said before anything is asked of AWS. Errors: `BadRequest`.
    fn checked(&self) -> Result<()> {
        if !self.issuer.is_empty() && (host_of(&self.issuer).is_none() || self.issuer.len() > URL_SIZE_MAX) {
            let text =
                format!("issuer must be a https:// URL of at most {URL_SIZE_MAX} plain characters, such as https://intranet.example/aws");
            return Err(Error::bad_request(text));
        }
        match self.session_duration {
            Some(asked) if !(DURATION_MIN..=DURATION_MAX).contains(&asked) => Err(Error::bad_request(format!(
                "session_duration {}s is not within AWS's limits of {}s and {}s",
                asked.0, DURATION_MIN.0, DURATION_MAX.0
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the console's session lasts no longer than anything that the role gives. Errors: `BadRequest`. It is not lowered, as `ttl` is: the console does not
    /// show when its session ends.
    fn allowed_by(&self, role: &Role, mount_max: Seconds) -> Result<()> {
        let over = self.session_duration.zip(role.longest(mount_max)).filter(|(asked, most)| asked > most);
        let Some((asked, most)) = over else { return Ok(()) };
        let limit = match role.max_sts_ttl.set() {
            Some(_) => format!("max_sts_ttl {}s of role {}", most.0, quoted(&self.name)),
            None => format!("max_lease_ttl {}s of the mount, which holds where a role has no max_sts_ttl", most.0),
        };
        Err(Error::bad_request(format!("session_duration {}s is over {limit}", asked.0)))
    }
}

/// The page to open: always one of the console of this partition, so that the URL leads nowhere else. Errors: `BadRequest`.
fn destination(partition: Partition, wanted: &str) -> Result<String> {
    let console = partition.console();
    let url = match wanted {
        "" => return Ok(partition.console_home()),
        path if path.starts_with('/') => format!("{}{}", partition.console_home(), path.trim_start_matches('/')),
        url => url.to_owned(),
    };
    let within = |host: &str| host == console || host.strip_suffix(console).is_some_and(|before| before.ends_with('.'));
    if url.len() <= URL_SIZE_MAX && host_of(&url).is_some_and(within) {
        return Ok(url);
    }
    Err(Error::bad_request(format!(
        "destination must be a path, or a https:// URL of at most {URL_SIZE_MAX} plain characters at {console} or below it"
    )))
}

/// The host of a `https://` URL in plain characters, with nothing in it that programs read in more than one way.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://")?;
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>')) {
        return None;
    }
    let host = rest.split(['/', '?', '#']).next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    (!host.is_empty() && !host.starts_with(['.', '-']) && host.bytes().all(plain)).then_some(host)
}

const DURATION_MIN: Seconds = Seconds(900);
const DURATION_MAX: Seconds = Seconds(43_200);
const URL_SIZE_MAX: usize = 2048;

const HELP: &str =
    "Makes a session of the role, as sts/<name> does, and trades it for a URL. Whoever opens the URL within fifteen minutes is in
AWS's console as that role: hand it on like a password. The audit log has it only as a keyed hash.

    xdg-open \"$(daypass read -field=url aws/console/ops)\"

Policies that deny sts/<name> or creds/<name> deny this, and what they demand there is demanded here.
The console's session lasts as long as the credential, or as session_duration says. The lease says how long whoever opens the URL can
be in; revoking it does not end the session at AWS.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_always_a_page_of_the_console() {
        for (wanted, url) in [
            ("", "https://console.aws.amazon.com/"),
            ("/ecr/home?region=eu-west-1", "https://console.aws.amazon.com/ecr/home?region=eu-west-1"),
            ("//evil.example/", "https://console.aws.amazon.com/evil.example/"),
            ("https://eu-west-1.console.aws.amazon.com/ecs/", "https://eu-west-1.console.aws.amazon.com/ecs/"),
        ] {
            assert_eq!(destination(Partition::Aws, wanted).unwrap(), url);
        }
        for wrong in [
            "https://evil.example/",
            "https://evilconsole.aws.amazon.com/",
            "https://console.aws.amazon.com@evil.example/",
            "https://console.aws.amazon.com:8443/",
            "https://evil.example\\.console.aws.amazon.com/",
            "http://console.aws.amazon.com/",
            "https://console.amazonaws.cn/",
            "/a b",
            "javascript:alert(1)",
        ] {
            assert!(destination(Partition::Aws, wrong).is_err(), "{wrong}");
        }
        assert_eq!(destination(Partition::EuropeanSovereign, "/x").unwrap(), "https://eusc-de-east-1.console.amazonaws-eusc.eu/x");
    }
}
