//! One credential of a role: how it is asked for, what came, when it ends.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Clock, Moment, Seconds, Secret, SystemClock, Timestamp};
use http::Method;

use crate::cli::Failure;
use crate::client::answer::Answer;
use crate::client::{self, Call, Client};
use crate::show::value::Value;

/// What to ask of a role.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Wanted {
    /// IAM role, when the role allows more than one
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// Name of the session, where the role does not name it
    #[arg(long, value_name = "NAME")]
    role_session_name: Option<String>,
    /// Lifetime of a credential: 15m, 1h [default: what the role says]
    #[arg(long, value_name = "TTL")]
    ttl: Option<String>,
}

impl Wanted {
    /// The request. Never wrapped: programs read the answer.
    fn call(&self, path: &str) -> Call {
        let fields = [("role_arn", &self.role_arn), ("role_session_name", &self.role_session_name), ("ttl", &self.ttl)];
        let given = fields.into_iter().filter_map(|(field, value)| value.as_deref().map(|value| (field, value.trim())));
        given.fold(Call::new(Method::GET, path).unwrapped(), |call, (field, value)| call.query(field, value))
    }
}

/// Where credentials come from.
pub(crate) struct Source<'a> {
    client: &'a Client,
    clock: Arc<SystemClock>,
    call: Call,
    /// `MOUNT/sts/ROLE`.
    pub(crate) path: String,
}

impl<'a> Source<'a> {
    /// The role at `path`, asked for what is wanted.
    pub(crate) fn new(client: &'a Client, path: String, wanted: &Wanted) -> Self {
        Self { client, clock: Arc::new(SystemClock::new()), call: wanted.call(&path), path }
    }

    /// The clock that lifetimes are counted by.
    pub(crate) fn clock(&self) -> &Arc<SystemClock> {
        &self.clock
    }

    /// A credential, with the whole answer for its warnings. Within [`Client::work`].
    pub(crate) async fn mint(&self) -> Result<(Minted, Answer), NotMinted> {
        let asked = self.clock.moment();
        let answer = self.client.fetch_within(&self.call).await.map_err(NotMinted::Api)?.ok_or(NotMinted::Nothing)?;
        match read(&answer, asked) {
            Read::Session(minted) => Ok((minted, answer)),
            Read::User => Err(self.give_back(answer.lease_id).await),
            Read::Other => Err(NotMinted::Other),
        }
    }

    /// An IAM user was made that nobody will use. Without the right to revoke its lease it ends with that.
    async fn give_back(&self, lease_id: String) -> NotMinted {
        let body = Value::map([("lease_id", Value::text(&*lease_id))]);
        let revoked = self.client.fetch_within(&Call::new(Method::PUT, "sys/leases/revoke").body(body).unwrapped()).await.is_ok();
        NotMinted::User { lease_left: (!revoked).then_some(lease_id) }
    }
}

/// An STS credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Minted {
    access_key: String,
    secret_key: Secret<String>,
    session_token: Secret<String>,
    /// From when on its life is counted: a full second, since its end is told in those.
    asked: Moment,
    /// How long it had when it came.
    life: Duration,
}

/// What an answer holds.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Session(Minted),
    /// Keys of an IAM user, whose end AWS does not know.
    User,
    Other,
}

/// Reads an answer to what was asked at that time. The server counts the lifetime from a later moment, and drops fractions of a second: counted
/// from before the question, it is over a little early.
fn read(answer: &Answer, asked: Moment) -> Read {
    let Some(data) = answer.data() else { return Read::Other };
    let (access_key, secret_key) = (data.text_at("access_key"), data.text_at("secret_key"));
    // Older servers have the token under Vault's first name alone, and no "ttl".
    let session_token = Some(data.text_at("session_token")).filter(|token| !token.is_empty()).unwrap_or(data.text_at("security_token"));
    let ttl = data.get("ttl").and_then(Value::as_integer).unwrap_or(answer.lease_duration);
    let ttl = u64::try_from(ttl).ok().and_then(|ttl| Seconds(ttl).set());
    match ttl {
        _ if access_key.is_empty() || secret_key.is_empty() => Read::Other,
        _ if session_token.is_empty() => Read::User,
        None => Read::Other,
        Some(ttl) => Read::Session(Minted {
            access_key: access_key.to_owned(),
            secret_key: secret_key.into(),
            session_token: session_token.into(),
            asked: Moment { wall: Timestamp::from_seconds(asked.wall.seconds()), ..asked },
            life: ttl.duration(),
        }),
    }
}

impl Minted {
    /// Time until its end. Whoever sets this machine's clock makes it no longer.
    pub(crate) fn left(&self, now: Moment) -> Duration {
        self.life.saturating_sub(now.since(self.asked))
    }

    /// When it ends by this machine's clock, in whole seconds: never later than it does, and the same each time unless somebody has put the clock back.
    fn end(&self, now: Moment) -> Timestamp {
        let told = self.asked.wall + self.life;
        told.min(Timestamp::from_seconds((now.wall + self.left(now)).seconds()))
    }

    /// Whether at least half of the life is left that it had when it came. SDKs ask five to fifteen minutes before the end: of an hour they get
    /// half at least, so that none of them asks at every call.
    pub(crate) fn is_fresh(&self, now: Moment) -> bool {
        self.left(now) * 2 >= self.life
    }

    /// How long it takes until it is that no more.
    pub(crate) fn fresh_for(&self, now: Moment) -> Duration {
        if self.is_fresh(now) { self.left(now).saturating_sub(self.life / 2) + Duration::from_millis(1) } else { Duration::ZERO }
    }

    /// As the process credential provider of AWS's SDKs reads it. Source: AWS SDKs and Tools Reference Guide, "Process credential provider".
    pub(crate) fn for_process(&self, now: Moment) -> String {
        let mut value = Value::map([("Version", Value::number(1))]);
        self.fields("SessionToken", now).for_each(|(name, text)| value.set(name, Value::text(text)));
        value.compact()
    }

    /// As the container credential provider reads it. Source: the same guide, "Container credential provider".
    pub(crate) fn for_container(&self, now: Moment) -> String {
        Value::map(self.fields("Token", now).map(|(name, text)| (name, Value::text(text)))).compact()
    }

    fn fields(&self, token: &'static str, now: Moment) -> impl Iterator<Item = (&'static str, String)> {
        // Exposed to whoever asked for the credential.
        let (secret_key, session_token) = (self.secret_key.expose().clone(), self.session_token.expose().clone());
        let fields = [
            ("AccessKeyId", self.access_key.clone()),
            ("SecretAccessKey", secret_key),
            (token, session_token),
            ("Expiration", self.end(now).to_string()),
        ];
        fields.into_iter()
    }

    /// For tests: one that came at `asked` and lasts so long.
    #[cfg(test)]
    pub(crate) fn sample(access_key: &str, asked: Moment, life: Duration) -> Self {
        Self { access_key: access_key.to_owned(), secret_key: "s".into(), session_token: "t".into(), asked, life }
    }
}

/// Why there is no credential.
#[derive(Debug)]
pub(crate) enum NotMinted {
    /// The server refused or was not reached.
    Api(client::Error),
    /// Nothing is there.
    Nothing,
    /// The role makes IAM users; the lease of the one that was made, where it could not be revoked.
    User { lease_left: Option<String> },
    /// It is no credential of AWS.
    Other,
}

impl NotMinted {
    /// As a verb ends with it.
    pub(crate) fn failure(self, path: &str) -> Failure {
        match self {
            Self::Api(error) => Failure::api(&format!("Error reading {path}"), error),
            Self::Nothing => Failure::no_value(path),
            Self::User { ref lease_left } => {
                let hint = lease_left.as_ref().map(|lease| format!("delete the user that was made: daypass lease revoke {lease}"));
                let failure = Failure::server(format!("Error reading {path}: {self}"));
                hint.into_iter().fold(failure, Failure::hint)
            }
            Self::Other => Failure::server(format!("Error reading {path}: {self}")).hint("is it the mount of an aws engine?"),
        }
    }
}

impl std::fmt::Display for NotMinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Api(client::Error::Api(refusal)) if !refusal.raw => f.write_str(&refusal.errors.join("; ")),
            Self::Api(client::Error::Api(refusal)) => write!(f, "the daypass server answered {}", refusal.status),
            Self::Api(error) => error.fmt(f),
            Self::Nothing => f.write_str("the role or its mount is not there any more"),
            Self::User { .. } => f.write_str(
                "the role is of type iam_user, whose keys do not end by themselves, and each call would make another user: take a role of type \
                 assumed_role, federation_token or session_token",
            ),
            Self::Other => f.write_str("the answer is no AWS credential that ends"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Moment = Moment { wall: Timestamp::from_nanos(1_767_323_045_900_000_000), elapsed: Duration::ZERO };

    /// So much later, with the clock put on or back besides.
    fn later(by: Duration, wall: Timestamp) -> Moment {
        Moment { wall, elapsed: ASKED.elapsed + by }
    }

    fn of(data: &str) -> Read {
        read(&Answer::parse(&format!(r#"{{"lease_id":"aws/sts/r/x","lease_duration":600,"data":{data}}}"#)).unwrap(), ASKED)
    }

    #[test]
    fn a_credential_is_written_as_each_provider_reads_it_and_ends_no_later_than_it_does() {
        let Read::Session(minted) = of(r#"{"access_key":"ASIA","secret_key":"s/+","security_token":"t","session_token":"t","ttl":900}"#)
        else {
            panic!()
        };
        // Asked at 03:04:05.9.
        let rest = r#""AccessKeyId":"ASIA","SecretAccessKey":"s/+","#;
        let end = r#""Expiration":"2026-01-02T03:19:05Z"}"#;
        assert_eq!(minted.for_process(ASKED), format!(r#"{{"Version":1,{rest}"SessionToken":"t",{end}"#));
        assert_eq!(minted.for_container(ASKED), format!(r#"{{{rest}"Token":"t",{end}"#));
    }

    #[test]
    fn older_servers_name_the_token_otherwise_and_give_the_end_as_the_leases() {
        let Read::Session(minted) = of(r#"{"access_key":"ASIA","secret_key":"s","security_token":"t"}"#) else { panic!() };
        assert_eq!((minted.session_token.expose().as_str(), minted.life), ("t", Duration::from_mins(10)));
    }

    #[test]
    fn keys_of_users_and_other_secrets_are_none() {
        assert_eq!(of(r#"{"access_key":"AKIA","secret_key":"s","security_token":null}"#), Read::User);
        assert_eq!(of(r#"{"password":"p"}"#), Read::Other);
        assert_eq!(of(r#"{"access_key":"ASIA","secret_key":"s","session_token":"t","ttl":0}"#), Read::Other);
    }

    #[test]
    fn it_is_fresh_for_half_of_its_life() {
        let minted = Minted::sample("ASIA", ASKED, Duration::from_hours(1));
        let at = |mins| later(Duration::from_mins(mins), ASKED.wall + Duration::from_mins(mins));
        assert_eq!([0, 30, 31, 61].map(|mins| minted.is_fresh(at(mins))), [true, true, false, false]);
    }

    /// Story: a laptop's clock was an hour ahead and was put right. Its SDKs were given the ended credential for another hour, and told that it would
    /// last.
    #[test]
    fn a_clock_that_is_put_back_makes_nothing_last_longer() {
        let minted = Minted::sample("ASIA", ASKED, Duration::from_hours(1));
        let put_right = later(Duration::from_mins(40), ASKED.wall - Duration::from_mins(20));
        assert_eq!((minted.is_fresh(put_right), minted.left(put_right)), (false, Duration::from_mins(20)));
        assert!(minted.for_container(put_right).contains(r#""Expiration":"2026-01-02T03:04:05Z""#), "{}", minted.for_container(put_right));
        // The monotonic clock stood still while it slept.
        let awake = later(Duration::ZERO, ASKED.wall + Duration::from_mins(61));
        assert!(minted.left(awake).is_zero());
    }
}
