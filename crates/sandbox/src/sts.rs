//! STS: temporary credentials. Source: AWS Security Token Service API reference, version 2011-06-15.
//!
//! Who may assume what is decided in `assume.rs` and `trust.rs`; this file has the actions and their answers.

use std::sync::Arc;

use daypass_base::Timestamp;

use crate::answer::{self, Reply, Xml};
use crate::assume::{self, Granted, Wish};
use crate::authority::{self, Own, RequestFacts};
use crate::cloud::{Call, Cloud};
use crate::fault::{Constraints, Fault, NAME_PATTERN, Result, name_character};
use crate::jwt::Token;
use crate::mfa;
use crate::policy::{Document, Use};
use crate::request::Params;
use crate::seal::account_of_key;
use crate::session::{Bearer, Caller, CallerKind, Credential, Session};
use crate::state::{Provider, State, User};
use crate::trust::{self, Asker, Trust};

pub(crate) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Does a signed action.
pub(crate) fn perform(cloud: &Cloud, call: &Call<'_>, caller: &Caller, action: &str) -> Result<Reply> {
    let xml = match action {
        "AssumeRole" => {
            not_with(caller, action, |kind, _| !matches!(kind, CallerKind::Federated { .. }))?;
            assume_role(cloud, call, caller)?
        }
        "AssumeRoleWithWebIdentity" => return web_identity(cloud, call),
        "GetAccessKeyInfo" => access_key_info(&cloud.state.read(), call.params)?,
        "GetCallerIdentity" => caller_identity(caller),
        "GetFederationToken" => {
            not_with(caller, action, |_, session| !session)?;
            federation_token(cloud, call, caller)?
        }
        "GetSessionToken" => {
            not_with(caller, action, |_, session| !session)?;
            session_token(cloud, call, caller)?
        }
        other => return Err(Fault::invalid_action(other, "2011-06-15")),
    };
    Ok(answer::xml(NAMESPACE, action, &xml, call.request_id))
}

/// Refuses callers whose kind of credentials cannot call the action at all.
fn not_with(caller: &Caller, action: &str, fits: impl Fn(&CallerKind, bool) -> bool) -> Result<()> {
    if fits(&caller.kind, caller.session.is_some()) {
        return Ok(());
    }
    Err(Fault::access_denied(format!("Cannot call {action} with session credentials")))
}

fn assume_role(cloud: &Cloud, call: &Call<'_>, caller: &Caller) -> Result<Xml> {
    let params = call.params;
    let wish = Wish::read(params, cloud.session_min)?;
    let state = cloud.state.read();
    let mfa = match caller.user().filter(|_| caller.session.is_none()).and_then(|name| state.user(&caller.account, name)) {
        Some(user) => check_mfa(user, params, call.now)?,
        None => caller.session.as_ref().is_some_and(|session| session.mfa),
    };
    let granted = assume::decide(&state, call, caller, &wish, mfa)?;
    let packed = granted.packed;
    let mut session = role_session(cloud, call.now, granted, wish);
    session.mfa = mfa;
    session.chained = caller.session.is_some();
    let mut xml = Xml::default();
    credentials_xml(&mut xml, &session.credential(&cloud.sealer)?);
    assumed_role_xml(&mut xml, &session, packed);
    Ok(xml)
}

/// `AssumeRoleWithWebIdentity`: nobody signs it; the token is the proof.
pub(crate) fn web_identity(cloud: &Cloud, call: &Call<'_>) -> Result<Reply> {
    let mut wish = Wish::read(call.params, cloud.session_min)?;
    let text = call.params.required("WebIdentityToken")?;
    let mut constraints = Constraints::default();
    constraints.length("webIdentityToken", &text.chars().take(20_001).collect::<String>(), 4, 20_000);
    constraints.check()?;
    let token = Token::parse(text)
        .ok_or_else(|| invalid_token("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"))?;
    let state = cloud.state.read();
    let proof = prove(&state, assume::account_of_role(&wish.role_arn)?, &token, call.now)?;
    wish.take_claims(&token)?;
    let denied = || Fault::access_denied("Not authorized to perform sts:AssumeRoleWithWebIdentity");
    let (account, role) = state.role_by_arn(&wish.role_arn).ok_or_else(denied)?;
    let mut extra = wish.facts();
    let prefix = proof.issuer.to_ascii_lowercase();
    extra.push((format!("{prefix}:sub"), vec![proof.subject.clone()]));
    extra.push((format!("{prefix}:aud"), vec![proof.audience.clone()]));
    let facts = RequestFacts { extra, request_tags: &wish.tags, resource_tags: Some(&role.tags), ..call.facts(&state, None) };
    let asker = Asker::Federated { provider_arn: &proof.provider_arn, host: &proof.issuer };
    for action in wish.actions("sts:AssumeRoleWithWebIdentity", &[]) {
        if trust::evaluate(&role.trust.document, asker, action, &facts) < Trust::Account {
            return Err(denied());
        }
    }
    let granted = assume::grant(&state, account, role, &wish, None)?;
    let packed = granted.packed;
    let session = role_session(cloud, call.now, granted, wish);
    let mut xml = Xml::default();
    credentials_xml(&mut xml, &session.credential(&cloud.sealer)?);
    xml.field("SubjectFromWebIdentityToken", &proof.subject);
    assumed_role_xml(&mut xml, &session, packed);
    xml.field("Provider", &proof.provider_arn).field("Audience", &proof.audience);
    Ok(answer::xml(NAMESPACE, "AssumeRoleWithWebIdentity", &xml, call.request_id))
}

/// Account, name and issuer of the provider whose keys have to be read before the token of a request can be checked.
pub(crate) fn unknown_key(state: &State, params: &Params) -> Option<(String, String, String)> {
    let account = assume::account_of_role(params.get("RoleArn")?).ok()?;
    let token = Token::parse(params.get("WebIdentityToken").filter(|text| text.len() <= 20_000)?)?;
    let (name, provider) = provider_of(state, account, &token)?;
    let unknown = !provider.fixed && !token.names_one_of(&provider.keys);
    unknown.then(|| (account.to_owned(), name.to_owned(), provider.issuer.clone()))
}

/// The provider that a token says it is from, and its name: an issuer without its scheme.
fn provider_of<'a>(state: &'a State, account: &str, token: &'a Token<'_>) -> Option<(&'a str, &'a Provider)> {
    let issuer = token.text("iss").unwrap_or_default().trim_end_matches('/');
    let name = issuer.trim_start_matches("https://").trim_start_matches("http://");
    let provider = state.account(account)?.providers.get(name)?;
    (provider.issuer.trim_end_matches('/') == issuer).then_some((name, provider))
}

/// What a web identity token has proved.
struct Proof {
    /// The issuer without its scheme, as condition keys begin.
    issuer: String,
    provider_arn: String,
    subject: String,
    audience: String,
}

/// Checks issuer, signature, audience, subject and times.
fn prove(state: &State, account: &str, token: &Token<'_>, now: Timestamp) -> Result<Proof> {
    let issuer = token.text("iss").unwrap_or_default().trim_end_matches('/');
    let (name, provider) = provider_of(state, account, token).ok_or_else(|| {
        invalid_token(format!("No OpenIDConnect provider found in your account for {}", issuer.chars().take(256).collect::<String>()))
    })?;
    if !token.is_signed_by(&provider.keys) {
        return Err(invalid_token(
            "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements",
        ));
    }
    let known = |audience: &&str| provider.audiences.iter().any(|known| known == audience);
    let audience = token.audiences().into_iter().find(known).ok_or_else(|| invalid_token("Incorrect token audience"))?;
    let subject = token.text("sub").ok_or_else(|| invalid_token("Missing a required claim: sub"))?;
    check_token_time(token, now)?;
    let provider_arn = format!("arn:aws:iam::{account}:oidc-provider/{name}");
    Ok(Proof { issuer: name.to_owned(), provider_arn, subject: subject.to_owned(), audience: audience.to_owned() })
}

fn role_session(cloud: &Cloud, now: Timestamp, granted: Granted<'_>, wish: Wish) -> Session {
    let bearer = Bearer::Role { role: granted.role.name.clone(), role_id: granted.role.id.clone(), name: wish.session_name };
    let mut session = Session::begin(&cloud.sealer, granted.account, bearer, now, lifetime(cloud, now, granted.seconds));
    session.tags = granted.tags;
    session.transitive = granted.transitive;
    session.source_identity = granted.source_identity;
    session.policy = wish.policy;
    session.policy_arns = wish.policy_arns;
    session
}

fn check_token_time(token: &Token<'_>, now: Timestamp) -> Result<()> {
    let expires = token.time("exp").ok_or_else(|| invalid_token("Missing a required claim: exp"))?;
    if expires <= now.seconds() {
        return Err(Fault::new(
            400,
            "ExpiredTokenException",
            format!("Token expired: current date/time {} must be before the expiration date/time {expires}", now.seconds()),
        ));
    }
    // A minute of grace for clocks that are ahead.
    if ["nbf", "iat"].iter().filter_map(|claim| token.time(claim)).any(|from| from > now.seconds().saturating_add(60)) {
        return Err(invalid_token("The token is not valid yet: its nbf or iat is in the future"));
    }
    Ok(())
}

fn caller_identity(caller: &Caller) -> Xml {
    let mut xml = Xml::default();
    xml.field("Arn", &caller.arn).field("UserId", &caller.user_id).field("Account", &caller.account);
    xml
}

fn access_key_info(state: &State, params: &Params) -> Result<Xml> {
    let id = params.required("AccessKeyId")?;
    let mut constraints = Constraints::default();
    constraints.length("accessKeyId", id, 16, 128);
    constraints.check()?;
    let account = state
        .keys
        .get(id)
        .map(|(account, _)| account.clone())
        .or_else(|| account_of_key(id))
        .ok_or_else(|| Fault::validation(format!("Invalid access key id {id}")))?;
    let mut xml = Xml::default();
    xml.field("Account", &account);
    Ok(xml)
}

fn federation_token(cloud: &Cloud, call: &Call<'_>, caller: &Caller) -> Result<Xml> {
    let params = call.params;
    let name = params.required("Name")?;
    let seconds = params.number("DurationSeconds")?.unwrap_or(43_200);
    let mut constraints = Constraints::default();
    constraints.length("name", name, 2, 32);
    constraints.pattern("name", name, NAME_PATTERN, name_character);
    constraints.range("durationSeconds", seconds, cloud.session_min, DAY_AND_A_HALF);
    let (policy, policy_arns) = assume::session_policies(params, &mut constraints);
    constraints.check()?;
    let tags = params.tags("Tags");
    assume::check_tags(&tags)?;
    let state = cloud.state.read();
    if let Some(policy) = &policy {
        Document::parse(policy, Use::Identity)?;
    }
    assume::check_policy_arns(&state, &caller.account, &policy_arns)?;
    let arn = format!("arn:aws:sts::{}:federated-user/{name}", caller.account);
    let facts = RequestFacts { request_tags: &tags, ..call.facts(&state, Some(caller)) };
    let actions: &[&str] = if tags.is_empty() { &["sts:GetFederationToken"] } else { &["sts:GetFederationToken", "sts:TagSession"] };
    for action in actions {
        let own = authority::own(&state, caller, action, &arn, &facts);
        if own != Own::Allowed {
            return Err(authority::refusal(caller, action, &arn, own));
        }
    }
    let packed = assume::packed_percent(policy.as_deref(), &policy_arns, &tags)?;
    let bearer = Bearer::Federated { user: caller.user().unwrap_or_default().to_owned(), name: name.to_owned() };
    let mut session = Session::begin(&cloud.sealer, &caller.account, bearer, call.now, lifetime(cloud, call.now, seconds));
    session.tags = tags.into_iter().collect();
    session.policy = policy;
    session.policy_arns = policy_arns;
    let mut xml = Xml::default();
    credentials_xml(&mut xml, &session.credential(&cloud.sealer)?);
    xml.within("FederatedUser", |xml| {
        xml.field("FederatedUserId", &format!("{}:{name}", caller.account)).field("Arn", &arn);
    });
    if packed > 0 {
        xml.field("PackedPolicySize", &packed.to_string());
    }
    Ok(xml)
}

fn session_token(cloud: &Cloud, call: &Call<'_>, caller: &Caller) -> Result<Xml> {
    let seconds = call.params.number("DurationSeconds")?.unwrap_or(43_200);
    let mut constraints = Constraints::default();
    constraints.range("durationSeconds", seconds, cloud.session_min, DAY_AND_A_HALF);
    constraints.check()?;
    let state = cloud.state.read();
    let user = caller.user().and_then(|name| state.user(&caller.account, name)).ok_or_else(Fault::invalid_key)?;
    let mfa = check_mfa(user, call.params, call.now)?;
    let bearer = Bearer::User { user: user.name.clone(), user_id: user.id.clone() };
    let mut session = Session::begin(&cloud.sealer, &caller.account, bearer, call.now, lifetime(cloud, call.now, seconds));
    session.mfa = mfa;
    let mut xml = Xml::default();
    credentials_xml(&mut xml, &session.credential(&cloud.sealer)?);
    Ok(xml)
}

/// Whether the request proves a second factor. Fails when it tries to and cannot.
fn check_mfa(user: &User, params: &Params, now: Timestamp) -> Result<bool> {
    let (serial, code) = (params.get("SerialNumber"), params.get("TokenCode"));
    let mut constraints = Constraints::default();
    if let Some(code) = code {
        constraints.length("tokenCode", code, 6, 6);
        constraints.pattern("tokenCode", code, r"[\d]*", |c| c.is_ascii_digit());
    }
    if let Some(serial) = serial {
        constraints.length("serialNumber", serial, 9, 256);
    }
    constraints.check()?;
    match (serial, code) {
        (None, None) => Ok(false),
        (Some(serial), Some(code)) => {
            let device = user.mfa.iter().find(|device| device.serial == serial);
            // The seed goes into the code's HMAC.
            if device.is_some_and(|device| mfa::fits(device.seed.expose(), code, now)) {
                return Ok(true);
            }
            Err(Fault::access_denied(if device.is_some() {
                "MultiFactorAuthentication failed with invalid MFA one time pass code. ".to_owned()
            } else {
                format!(
                    "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user: {serial}"
                )
            }))
        }
        _ => Err(Fault::access_denied("MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code. ")),
    }
}

/// When a session of `seconds` ends, unless tests have set another length.
pub(crate) fn lifetime(cloud: &Cloud, now: Timestamp, seconds: i64) -> Timestamp {
    let seconds = cloud.control.session_lifetime().map_or(seconds, |wanted| wanted.min(seconds));
    Timestamp::from_seconds(now.seconds().saturating_add(seconds))
}

/// A session that no STS call made: what the credentials endpoints give out for a role. The role must trust `service`.
pub(crate) fn service_session(
    cloud: &Cloud,
    role_arn: &str,
    service: &str,
    name: &str,
    now: Timestamp,
    seconds: i64,
) -> Result<(Arc<Session>, Credential)> {
    let state = cloud.state.read();
    let denied = || Fault::access_denied(format!("{service} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"));
    let (account, role) = state.role_by_arn(role_arn).ok_or_else(denied)?;
    let facts = RequestFacts {
        state: &state,
        caller: None,
        now,
        source_ip: None,
        region: "us-east-1",
        extra: Vec::new(),
        request_tags: &[],
        resource_tags: Some(&role.tags),
    };
    if trust::evaluate(&role.trust.document, Asker::Service { name: service }, "sts:AssumeRole", &facts) < Trust::Account {
        return Err(denied());
    }
    let bearer = Bearer::Role { role: role.name.clone(), role_id: role.id.clone(), name: name.to_owned() };
    let session = Session::begin(&cloud.sealer, account, bearer, now, Timestamp::from_seconds(now.seconds().saturating_add(seconds)));
    let credential = session.credential(&cloud.sealer)?;
    Ok((Arc::new(session), credential))
}

fn credentials_xml(xml: &mut Xml, credential: &Credential) {
    xml.within("Credentials", |xml| {
        // The answer is where the secret and the token are meant to go.
        xml.field("AccessKeyId", &credential.key_id)
            .field("SecretAccessKey", credential.secret.expose())
            .field("SessionToken", credential.token.expose())
            .field("Expiration", &credential.expires.to_string());
    });
}

fn assumed_role_xml(xml: &mut Xml, session: &Session, packed: i64) {
    let Bearer::Role { role, role_id, name } = &session.bearer else { return };
    xml.within("AssumedRoleUser", |xml| {
        xml.field("AssumedRoleId", &format!("{role_id}:{name}"))
            .field("Arn", &format!("arn:aws:sts::{}:assumed-role/{role}/{name}", session.account));
    });
    if packed > 0 {
        xml.field("PackedPolicySize", &packed.to_string());
    }
    xml.optional("SourceIdentity", session.source_identity.as_deref());
}

fn invalid_token(message: impl Into<String>) -> Fault {
    Fault::new(400, "InvalidIdentityToken", message)
}

/// The longest session of a user's own credentials, seconds.
const DAY_AND_A_HALF: i64 = 129_600;

#[cfg(test)]
mod tests;
