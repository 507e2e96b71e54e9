//! The running fake: state, keys, clock and faults to inject, and the way of one AWS API request through it:
//! who signed it, is it meant to fail, may it, do it, note it.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use daypass_base::{Clock, Timestamp};
use parking_lot::{Mutex, RwLock};

use crate::answer::{self, Dialect, Reply};
use crate::authority::RequestFacts;
use crate::control::{Control, Disturbance};
use crate::fault::{Fault, Result};
use crate::instances::{INSTANCES_MAX, InstanceSeed};
use crate::request::{Params, Request};
use crate::seal::Sealer;
use crate::session::{Bearer, Caller, CallerKind, Session};
use crate::sigv4::{self, Presented};
use crate::state::{State, quota};
use crate::world::ProviderSeed;
use crate::{ecr, iam, instances, sts};

/// Everything that requests share.
pub(crate) struct Cloud {
    pub(crate) state: RwLock<State>,
    pub(crate) sealer: Sealer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) control: Control,
    /// Shortest session, seconds: 900 as at AWS, or 1.
    pub(crate) session_min: i64,
    /// Signing keys by `key/date/region/service`. Cleared when full: a signing key is five HMACs away.
    signing_keys: Mutex<HashMap<String, hmac::Key>>,
    /// Opened session tokens by key id, with the token they came from.
    sessions: Mutex<HashMap<String, (String, Arc<Session>)>>,
}

/// The AWS services played here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Ec2,
    Ecr,
    EcrPublic,
    Iam,
    Sts,
}

impl Service {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ec2" => Self::Ec2,
            "ecr" => Self::Ecr,
            "ecr-public" => Self::EcrPublic,
            "iam" => Self::Iam,
            "sts" => Self::Sts,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ecr => "ecr",
            Self::EcrPublic => "ecr-public",
            Self::Iam => "iam",
            Self::Sts => "sts",
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::Ec2 => Dialect::Ec2,
            Self::Ecr | Self::EcrPublic => Dialect::Json,
            Self::Iam => Dialect::Xml(iam::NAMESPACE),
            Self::Sts => Dialect::Xml(sts::NAMESPACE),
        }
    }
}

/// What is known of a call before it is done; also what the call log keeps.
pub(crate) struct Call<'a> {
    pub(crate) request: &'a Request,
    pub(crate) request_id: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) region: &'a str,
    pub(crate) params: &'a Params,
}

impl Call<'_> {
    /// What policies may look at in this request.
    pub(crate) fn facts<'f>(&'f self, state: &'f State, caller: Option<&'f Caller>) -> RequestFacts<'f> {
        RequestFacts {
            state,
            caller,
            now: self.now,
            source_ip: Some(self.request.peer),
            region: self.region,
            extra: Vec::new(),
            request_tags: &[],
            resource_tags: None,
        }
    }
}

/// What to do with the connection.
pub(crate) enum Outcome {
    /// Close it without an answer.
    Drop,
    Reply(Reply),
}

impl Cloud {
    pub(crate) fn new(state: State, sealer: Sealer, clock: Arc<dyn Clock>, control: Control, session_min: i64) -> Self {
        Self { state: RwLock::new(state), sealer, clock, control, session_min, signing_keys: Mutex::default(), sessions: Mutex::default() }
    }

    /// Answers an AWS API request.
    pub(crate) async fn answer(&self, request: &Request) -> Outcome {
        let request_id = request_id(&self.sealer.entropy().bytes::<16>());
        let presented = match sigv4::read(request) {
            Ok(presented) => presented,
            Err(fault) => return Outcome::Reply(answer::fault(dialect_of(request), &fault, &request_id)),
        };
        let (service, params, action) = match identify(request, presented.as_ref()) {
            Ok(identified) => identified,
            Err(fault) => return Outcome::Reply(answer::fault(dialect_of(request), &fault, &request_id)),
        };
        let disturbance = self.control.disturbance(service.name(), &action, self.sealer.entropy());
        let is_cut = disturbance == Disturbance::Truncate;
        match disturbance {
            Disturbance::None | Disturbance::Truncate => {}
            Disturbance::Delay(time) => self.clock.sleep(time).await,
            Disturbance::Drop => return Outcome::Drop,
            Disturbance::Refuse(fault) => {
                self.control.note(self.clock.now(), &request_id, service.name(), &action, None, &params, Some(&fault));
                return Outcome::Reply(answer::fault(service.dialect(), &fault, &request_id));
            }
        }
        let now = self.clock.now();
        let region = presented.as_ref().map_or("us-east-1", |presented| presented.region.as_str());
        let call = Call { request, request_id: &request_id, now, region, params: &params };
        if action == "AssumeRoleWithWebIdentity" {
            self.learn_keys(&params).await;
        }
        let caller = self.authenticate(&call, presented.as_ref(), service, &action);
        let result = caller.as_ref().map_err(Clone::clone).and_then(|caller| self.perform(&call, caller.as_ref(), service, &action));
        let known = caller.as_ref().ok().and_then(Option::as_ref);
        self.control.note(now, &request_id, service.name(), &action, known, &params, result.as_ref().err());
        Outcome::Reply(match result {
            Ok(reply) if is_cut => reply.map(answer::Content::cut),
            Ok(reply) => reply,
            Err(fault) => answer::fault(service.dialect(), &fault, &request_id),
        })
    }

    /// Makes an account trust an OIDC issuer, in place of an earlier registration of the same issuer.
    pub(crate) fn register(&self, account: &str, seed: &ProviderSeed) -> std::result::Result<(), String> {
        let (name, provider) = seed.build()?;
        let mut state = self.state.write();
        let providers = state
            .accounts
            .get_mut(account)
            .map(|account| &mut account.providers)
            .ok_or_else(|| format!("account {account:?} is not in this world"))?;
        if providers.len() >= quota::PROVIDERS && !providers.contains_key(&name) {
            return Err(format!("the account has {} providers, which is the limit", quota::PROVIDERS));
        }
        providers.insert(name, provider);
        Ok(())
    }

    /// Adds an instance to an account, or changes it.
    pub(crate) fn set_instance(&self, account: &str, instance: InstanceSeed) -> std::result::Result<(), String> {
        instance.check()?;
        let mut state = self.state.write();
        let known = state.accounts.get_mut(account).map(|account| &mut account.instances);
        let known = known.ok_or_else(|| format!("account {account:?} is not in this world"))?;
        if known.len() >= INSTANCES_MAX && !known.contains_key(&instance.id) {
            return Err(format!("the account has {INSTANCES_MAX} instances, which is the limit"));
        }
        known.insert(instance.id.clone(), instance);
        Ok(())
    }

    /// Reads the keys of the issuer of a web identity token anew, where those that are known have none of the token's name.
    async fn learn_keys(&self, params: &Params) {
        let Some((account, name, issuer)) = sts::unknown_key(&self.state.read(), params) else { return };
        match crate::discovery::keys(&issuer, &self.clock).await {
            Ok(keys) => {
                let mut state = self.state.write();
                if let Some(provider) = state.accounts.get_mut(&account).and_then(|account| account.providers.get_mut(&name)) {
                    provider.keys = keys;
                }
            }
            Err(problem) => tracing::warn!(issuer, problem, "the keys of an identity provider could not be read"),
        }
    }

    fn perform(&self, call: &Call<'_>, caller: Option<&Caller>, service: Service, action: &str) -> Result<Reply> {
        match (service, caller) {
            (Service::Sts, None) => sts::web_identity(self, call),
            (Service::Sts, Some(caller)) => sts::perform(self, call, caller, action),
            (Service::Iam, Some(caller)) => iam::perform(self, call, caller, action),
            (Service::Ec2, Some(caller)) => instances::perform(self, call, caller, action),
            (Service::Ecr | Service::EcrPublic, Some(caller)) => ecr::perform(self, call, caller, service, action),
            (_, None) => Err(Fault::missing_token()),
        }
    }

    /// Who signed. `None` for the one action that nobody signs.
    fn authenticate(&self, call: &Call<'_>, presented: Option<&Presented>, service: Service, action: &str) -> Result<Option<Caller>> {
        let Some(presented) = presented else {
            return if service == Service::Sts && action == "AssumeRoleWithWebIdentity" { Ok(None) } else { Err(Fault::missing_token()) };
        };
        check_scope(call.request, presented, service)?;
        let caller = match &presented.token {
            None => self.user_of_key(call, presented)?,
            Some(token) => {
                let session = self.session(&presented.key_id, token)?;
                let key = self.signing_key(presented, || self.sealer.secret_of(&presented.key_id));
                sigv4::verify(call.request, presented, &key, call.now)?;
                if session.expires <= call.now.seconds() {
                    return Err(Fault::expired_token());
                }
                caller_of_session(&self.state.read(), session)?
            }
        };
        Ok(Some(caller))
    }

    fn user_of_key(&self, call: &Call<'_>, presented: &Presented) -> Result<Caller> {
        let state = self.state.read();
        let (account, user, key) = state.key(&presented.key_id).ok_or_else(Fault::invalid_key)?;
        if !key.active || key.usable_from > call.now {
            return Err(Fault::invalid_key());
        }
        // The secret goes into the signing key only.
        let signing_key = self.signing_key(presented, || key.secret.expose().clone());
        sigv4::verify(call.request, presented, &signing_key, call.now)?;
        let arn = user.arn(account);
        Ok(Caller {
            account: account.to_owned(),
            kind: CallerKind::User { user: user.name.clone() },
            principal_arn: arn.clone(),
            arn,
            user_id: user.id.clone(),
            key_id: presented.key_id.clone(),
            session: None,
        })
    }

    /// The session of a token, which must belong to the key that came with it.
    fn session(&self, key_id: &str, token: &str) -> Result<Arc<Session>> {
        if let Some((known, session)) = self.sessions.lock().get(key_id)
            && constant_time::verify_slices_are_equal(known.as_bytes(), token.as_bytes()).is_ok()
        {
            return Ok(session.clone());
        }
        let session =
            Session::open(&self.sealer, token).filter(|session| session.key_id == key_id).map(Arc::new).ok_or_else(Fault::invalid_key)?;
        let mut sessions = self.sessions.lock();
        if sessions.len() >= CACHE_MAX {
            sessions.clear();
        }
        sessions.insert(key_id.to_owned(), (token.to_owned(), session.clone()));
        Ok(session)
    }

    fn signing_key(&self, presented: &Presented, secret: impl FnOnce() -> String) -> hmac::Key {
        let Presented { key_id, date, region, service, .. } = presented;
        let scope = format!("{key_id}/{date}/{region}/{service}");
        if let Some(key) = self.signing_keys.lock().get(&scope) {
            return key.clone();
        }
        let key = sigv4::signing_key(&secret(), date, region, service);
        let mut keys = self.signing_keys.lock();
        if keys.len() >= CACHE_MAX {
            keys.clear();
        }
        keys.insert(scope, key.clone());
        key
    }
}

/// The caller behind a session. Its role or user must still be the one that the session was made for.
pub(crate) fn caller_of_session(state: &State, session: Arc<Session>) -> Result<Caller> {
    let account = session.account.clone();
    let (kind, arn, principal_arn, user_id) = match &session.bearer {
        Bearer::Role { role, role_id, name } => {
            let found = state.role(&account, role).filter(|found| found.id == *role_id).ok_or_else(Fault::invalid_key)?;
            let arn = format!("arn:aws:sts::{account}:assumed-role/{role}/{name}");
            (CallerKind::Role { role: role.clone() }, arn, found.arn(&account), format!("{role_id}:{name}"))
        }
        Bearer::User { user, user_id } => {
            let found = state.user(&account, user).filter(|found| found.id == *user_id).ok_or_else(Fault::invalid_key)?;
            (CallerKind::User { user: user.clone() }, found.arn(&account), found.arn(&account), user_id.clone())
        }
        Bearer::Federated { user, name } => {
            state.user(&account, user).ok_or_else(Fault::invalid_key)?;
            let arn = format!("arn:aws:sts::{account}:federated-user/{name}");
            (CallerKind::Federated { user: user.clone() }, arn.clone(), arn, format!("{account}:{name}"))
        }
    };
    Ok(Caller { account, kind, arn, principal_arn, user_id, key_id: session.key_id.clone(), session: Some(session) })
}

/// Service, parameters and action of a request.
fn identify(request: &Request, presented: Option<&Presented>) -> Result<(Service, Params, String)> {
    let target = request.header("x-amz-target");
    let service = match presented {
        Some(presented) => Service::named(&presented.service),
        None => host_service(&request.host).or(Some(if target.is_some() { Service::Ecr } else { Service::Sts })),
    };
    let service = service.ok_or_else(|| {
        let name: String = presented.map(|presented| presented.service.chars().take(40).collect()).unwrap_or_default();
        Fault::new(400, "InvalidAction", format!("The sandbox plays sts, iam, ec2, ecr and ecr-public, not '{name}'."))
    })?;
    if service.dialect() == Dialect::Json {
        let action = target.and_then(|target| target.rsplit_once('.')).map_or("", |(_, action)| action);
        return Ok((service, Params::default(), action.chars().take(ACTION_MAX).collect()));
    }
    let params = request.params()?;
    let action =
        params.get("Action").ok_or_else(|| Fault::new(400, "MissingAction", "The request is missing an action or a required parameter."));
    if presented.is_none() && action.is_err() {
        return Err(Fault::missing_token());
    }
    let action = action?.chars().take(ACTION_MAX).collect::<String>();
    let version = params.get("Version").unwrap_or_default();
    let known = match service {
        Service::Ec2 => instances::VERSION,
        Service::Iam => "2010-05-08",
        _ => "2011-06-15",
    };
    if version != known {
        return Err(Fault::invalid_action(&action, &version.chars().take(20).collect::<String>()));
    }
    Ok((service, params, action))
}

/// The service that a host of AWS names: `sts.eu-west-1.amazonaws.com`, `api.ecr.eu-west-1.amazonaws.com`.
fn host_service(host: &str) -> Option<Service> {
    let name = aws_host(host)?.trim_start_matches("api.").split('.').next()?;
    Service::named(name)
}

fn aws_host(host: &str) -> Option<&str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"].into_iter().find_map(|suffix| name.strip_suffix(suffix))
}

/// Service and region of the scope must exist, and be those of the host when it is one of AWS.
fn check_scope(request: &Request, presented: &Presented, service: Service) -> Result<()> {
    let wrong_region = || Fault::signature(format!("Credential should be scoped to a valid region, not '{}'. ", presented.region));
    if !is_region(&presented.region) {
        return Err(wrong_region());
    }
    let Some(host) = aws_host(&request.host) else { return Ok(()) };
    if let Some(meant) = host_service(&request.host).filter(|meant| *meant != service) {
        return Err(Fault::signature(format!("Credential should be scoped to correct service: '{}'. ", meant.name())));
    }
    // Global endpoints (sts.amazonaws.com, iam.amazonaws.com) belong to us-east-1.
    let region = host.rsplit('.').next().filter(|region| is_region(region)).unwrap_or("us-east-1");
    if region == presented.region { Ok(()) } else { Err(wrong_region()) }
}

/// `us-east-1`, `us-gov-west-1`, `cn-north-1` and the like.
pub(crate) fn is_region(text: &str) -> bool {
    let mut parts = text.rsplit('-');
    let number = parts.next().is_some_and(|number| number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit()));
    let words: Vec<&str> = parts.collect();
    number
        && (2..=3).contains(&words.len())
        && words.last().is_some_and(|area| area.len() == 2)
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// How to word a refusal before the service is known.
fn dialect_of(request: &Request) -> Dialect {
    if request.headers.contains_key("x-amz-target") { Dialect::Json } else { Dialect::Xml(sts::NAMESPACE) }
}

/// In the form of a random UUID, as AWS's request ids are.
fn request_id(random: &[u8; 16]) -> String {
    let mut bytes = *random;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// Entries in each cache.
const CACHE_MAX: usize = 4096;
/// Characters of an action that are worth keeping; the longest real one has fewer.
const ACTION_MAX: usize = 80;

#[cfg(test)]
pub(crate) mod tests;
