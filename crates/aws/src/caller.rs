//! Who somebody else is at AWS: STS is sent a `GetCallerIdentity` that they signed, and says whose signature it is.
//!
//! The signed request names a host. It never chooses where we connect: a host of STS's own is recognised and its URL made anew from the
//! region of the signature, anything else is refused. Source: AWS General Reference, "AWS STS endpoints".

use daypass_base::{BoxFuture, Secret};

use crate::answer::Fields;
use crate::api::{Call, Identity, Result, Target};
use crate::partition::Partition;
use crate::{AwsError, ErrorKind};

/// The calls about principals that are not ours. Part of [`crate::Aws`]; the same rules hold.
pub trait Callers: Send + Sync + 'static {
    /// Sends a signed `GetCallerIdentity` of somebody else's on to STS. Errors: `Malformed` without a status when it names a place that
    /// is not STS; `Denied` with STS's status when STS refuses it; `Other` when the answer is not STS's.
    fn forward_caller_identity<'a>(&'a self, call: Call<'a>, signed: &'a SignedIdentity) -> BoxFuture<'a, Result<Identity>>;
    /// `iam:GetUser`, `iam:GetRole` or `iam:GetInstanceProfile`: the full ARN and the unique id of what has this name in the account
    /// whose keys sign the call.
    fn get_principal<'a>(&'a self, call: Call<'a>, kind: PrincipalKind, name: &'a str) -> BoxFuture<'a, Result<Principal>>;
}

/// A `GetCallerIdentity` as somebody signed it. What it holds has been looked at: the action, the headers and their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIdentity {
    /// How it is signed.
    pub form: SignedForm,
    /// The host that is signed, in lower case, with a port where one is signed.
    pub host: String,
    /// The region of the signature's scope.
    pub region: String,
    /// The other headers, names in lower case, each once. Their values may hold a session token.
    pub headers: Vec<(String, Secret<String>)>,
}

/// The forms of a signed `GetCallerIdentity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedForm {
    /// `GET` with this query, which may hold a session token.
    Get(Secret<String>),
    /// `POST` with this form.
    Post(String),
}

/// The things that IAM has names and unique ids for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalKind {
    /// An instance profile.
    InstanceProfile,
    /// A role.
    Role,
    /// A user.
    User,
}

/// A principal that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its ARN, with its path.
    pub arn: String,
    /// Its unique id, `AROA…`: a role made anew under the same name has another one.
    pub id: String,
}

/// The shapes of an STS host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    Dual,
    Fips,
    Global,
    Regional,
}

/// The URL that a signed request goes to. `sandbox` is where all calls go that have no endpoint of their own.
pub(crate) fn destination(signed: &SignedIdentity, target: &Target, sandbox: Option<&str>) -> Result<String> {
    let fixed = fixed(target, sandbox);
    if fixed.is_some_and(|url| authority(url).eq_ignore_ascii_case(&signed.host)) {
        return Ok(fixed.unwrap_or_default().to_owned());
    }
    let host = signed.host.strip_suffix(":443").unwrap_or(&signed.host);
    let (front, of_host) = front(host).ok_or_else(|| {
        refused(format!("the host {host:?} is not one of STS's: sign for https://sts.<region>.amazonaws.com or its like of the partition"))
    })?;
    if !is_region(&signed.region) {
        return Err(refused(format!("the signature is for the region {:?}, which is no name of a region", signed.region)));
    }
    if let Some(url) = fixed {
        return Ok(url.to_owned());
    }
    // Some clients sign the global host for any region: its own endpoint is the one that can know the signature.
    let region = of_host.unwrap_or(&signed.region);
    if signed.region != region {
        return Err(refused(format!(
            "the signature is for the region {} but the host {host} is of {region}: sign for one of them",
            signed.region
        )));
    }
    Ok(match front {
        Front::Global if region == GLOBAL_REGION => format!("https://{GLOBAL}"),
        Front::Global | Front::Regional => regional(region),
        Front::Fips => format!("https://sts-fips.{region}.{}", Partition::of_region(region).dns_suffix()),
        Front::Dual => format!("https://sts.{region}.{}", dual_suffix(region)),
    })
}

/// Whether an operator named this place: by its URL, or by the `region` that it is the usual endpoint of.
pub(crate) fn is_configured(url: &str, target: &Target, sandbox: Option<&str>, region: Option<&str>) -> bool {
    let usual = |region| regional(region) == url || region == GLOBAL_REGION && url.strip_prefix("https://") == Some(GLOBAL);
    fixed(target, sandbox) == Some(url) || region.is_some_and(usual)
}

/// Where all signed requests go, whatever they were signed for.
fn fixed<'a>(target: &'a Target, sandbox: Option<&'a str>) -> Option<&'a str> {
    target.sts_endpoints.first().map(|endpoint| endpoint.url.as_str()).filter(|url| !url.is_empty()).or(sandbox)
}

/// The usual endpoint of a region.
fn regional(region: &str) -> String {
    format!("https://sts.{region}.{}", Partition::of_region(region).dns_suffix())
}

/// Reads what STS answered.
pub(crate) fn understood(status: u16, content_type: &str, body: &[u8]) -> Result<Identity> {
    let other = |message: &str| AwsError {
        kind: ErrorKind::Other,
        code: "InvalidAnswer".to_owned(),
        message: message.to_owned(),
        status: Some(status),
        request_id: None,
    };
    if !content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/xml")) {
        return Err(other("body of GetCallerIdentity is invalid"));
    }
    let fields = Fields::read(body);
    if status != 200 {
        let part = |name: &str| fields.as_ref().ok().and_then(|fields| fields.text("Error", name));
        let message = part("Message").unwrap_or_default();
        // STS repeats what it was sent, with the session token in it, behind the first line of some of its messages.
        let first = message.lines().next().unwrap_or_default();
        let message = first.get(..first.floor_char_boundary(MESSAGE_MAX)).unwrap_or_default();
        let id = fields.as_ref().ok().and_then(Fields::request_id);
        return Err(AwsError::answered(part("Code").as_deref(), Some(message), status, id.as_deref()));
    }
    let fields = fields.map_err(|_quotes| other("body of GetCallerIdentity is invalid"))?;
    fields.only_identity().ok_or_else(|| other("body of GetCallerIdentity is invalid"))
}

/// What kind of an STS host this is, and its region where it names one.
fn front(host: &str) -> Option<(Front, Option<&str>)> {
    if host == GLOBAL {
        return Some((Front::Global, None));
    }
    let (front, rest) = match host.strip_prefix("sts-fips.") {
        Some(rest) => (Front::Fips, rest),
        None => (Front::Regional, host.strip_prefix("sts.")?),
    };
    let (region, suffix) = rest.split_once('.')?;
    if !is_region(region) {
        return None;
    }
    match front {
        _ if suffix == Partition::of_region(region).dns_suffix() => Some((front, Some(region))),
        Front::Regional if suffix == dual_suffix(region) => Some((Front::Dual, Some(region))),
        _ => None,
    }
}

/// What hosts end in that speak IPv6 too.
fn dual_suffix(region: &str) -> &'static str {
    match Partition::of_region(region) {
        Partition::China => "api.amazonwebservices.com.cn",
        Partition::EuropeanSovereign => "api.amazonwebservices.eu",
        _ => "api.aws",
    }
}

/// Whether a text looks like a region: `eu-west-1`, `us-gov-east-1`. Nothing else gets into a host name of ours.
fn is_region(text: &str) -> bool {
    let mut parts = text.rsplit('-');
    let number = parts.next().unwrap_or_default();
    let words: Vec<&str> = parts.collect();
    let word = |word: &&str| (2..=12).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase());
    (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && (2..=3).contains(&words.len())
        && words.iter().all(word)
}

/// The host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

fn refused(message: String) -> AwsError {
    AwsError { kind: ErrorKind::Malformed, code: "InvalidParameter".to_owned(), message, status: None, request_id: None }
}

/// The host that old clients sign for, most of them for `us-east-1`.
const GLOBAL: &str = "sts.amazonaws.com";
/// Whose it is.
const GLOBAL_REGION: &str = "us-east-1";
/// Longest text of a refusal that is passed on, in bytes.
const MESSAGE_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StsEndpoint;

    fn signed(host: &str, region: &str) -> SignedIdentity {
        SignedIdentity { form: SignedForm::Post(String::new()), host: host.to_owned(), region: region.to_owned(), headers: Vec::new() }
    }

    fn goes(host: &str, region: &str) -> std::result::Result<String, String> {
        destination(&signed(host, region), &Target::default(), None).map_err(|error| error.message)
    }

    #[test]
    fn each_partition_has_its_own_hosts() {
        for (host, region, url) in [
            ("sts.amazonaws.com", "us-east-1", "https://sts.amazonaws.com"),
            ("sts.amazonaws.com:443", "us-east-1", "https://sts.amazonaws.com"),
            ("sts.eu-west-1.amazonaws.com", "eu-west-1", "https://sts.eu-west-1.amazonaws.com"),
            ("sts-fips.us-west-2.amazonaws.com", "us-west-2", "https://sts-fips.us-west-2.amazonaws.com"),
            ("sts.eu-central-1.api.aws", "eu-central-1", "https://sts.eu-central-1.api.aws"),
            ("sts.us-gov-west-1.amazonaws.com", "us-gov-west-1", "https://sts.us-gov-west-1.amazonaws.com"),
            ("sts.cn-north-1.amazonaws.com.cn", "cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"),
            ("sts.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "https://sts.us-iso-east-1.c2s.ic.gov"),
            ("sts.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", "https://sts.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(goes(host, region).as_deref(), Ok(url));
        }
    }

    #[test]
    fn no_other_host_is_ever_connected_to() {
        for host in [
            "",
            "evil.example",
            "sts.amazonaws.com.evil.example",
            "evil.example:443",
            "sts.evil.amazonaws.com",
            "sts.us-east-1.evil.amazonaws.com",
            "sts.eu-west-1.amazonaws.com.cn",
            "sts.cn-north-1.amazonaws.com",
            "sts-fips.eu-west-1.api.aws",
            "sts.amazonaws.com@evil.example",
            "sts.amazonaws.com:8443",
            "s3.amazonaws.com",
            "169.254.169.254",
            "sts.eu-west-1.amazonaws.com/",
        ] {
            assert!(goes(host, "us-east-1").unwrap_err().contains("is not one of STS's"), "{host}");
        }
    }

    #[test]
    fn a_signature_is_for_the_region_of_its_host() {
        assert_eq!(goes("sts.amazonaws.com", "eu-west-1").as_deref(), Ok("https://sts.eu-west-1.amazonaws.com"));
        assert!(goes("sts.eu-west-1.amazonaws.com", "us-east-1").unwrap_err().contains("is of eu-west-1"));
        for region in ["", "eu", "EU-WEST-1", "eu-west-1.evil", "eu-west-", "eu--1", "eu-west-one", "a-b-c-d-e-1"] {
            assert!(goes("sts.amazonaws.com", region).unwrap_err().contains("no name of a region"), "{region}");
        }
    }

    #[test]
    fn a_configured_endpoint_is_the_only_place() {
        let url = "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com";
        let target = Target { sts_endpoints: vec![StsEndpoint { url: url.to_owned(), region: None }], ..Target::default() };
        for (host, region) in [
            ("vpce-1.sts.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
            ("sts.amazonaws.com", "us-east-1"),
            ("sts.eu-west-1.amazonaws.com", "eu-west-1"),
        ] {
            assert_eq!(destination(&signed(host, region), &target, None).as_deref(), Ok(url));
        }
        assert!(destination(&signed("evil.example", "eu-west-1"), &target, None).is_err());
        assert!(is_configured(url, &target, None, None) && !is_configured("https://sts.eu-west-1.amazonaws.com", &target, None, None));
        let sandbox = destination(&signed("127.0.0.1:4566", "eu-west-1"), &Target::default(), Some("http://127.0.0.1:4566"));
        assert_eq!(sandbox.as_deref(), Ok("http://127.0.0.1:4566"));
    }

    #[test]
    fn the_usual_endpoint_of_the_configured_region_is_no_strangers_choice() {
        let configured =
            |host: &str, region: &str| is_configured(&goes(host, region).unwrap(), &Target::default(), None, Some("eu-west-1"));
        assert!(configured("sts.eu-west-1.amazonaws.com", "eu-west-1") && configured("sts.amazonaws.com", "eu-west-1"));
        assert!(!configured("sts-fips.eu-west-1.amazonaws.com", "eu-west-1") && !configured("sts.eu-west-2.amazonaws.com", "eu-west-2"));
    }

    const GOOD: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
        <Arn>arn:aws:iam::111111111111:user/x</Arn><UserId>AIDA1</UserId><Account>111111111111</Account>
        </GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"#;

    #[test]
    fn only_an_answer_of_the_right_shape_says_who_somebody_is() {
        assert_eq!(understood(200, "text/xml", GOOD.as_bytes()).unwrap().user_id, "AIDA1");
        assert_eq!(understood(200, "text/XML; charset=utf-8", GOOD.as_bytes()).unwrap().account, "111111111111");
        let inside = GOOD.replace("GetCallerIdentityResponse", "AssumeRoleResponse");
        let twice = GOOD.replace("<UserId>", "<UserId>AIDA2</UserId><UserId>");
        let two = GOOD.replace("<ResponseMetadata>", "<GetCallerIdentityResult><Arn>a</Arn></GetCallerIdentityResult><ResponseMetadata>");
        let empty = GOOD.replace("AIDA1", "");
        let entity = GOOD.replace("AIDA1", "&who;");
        for (kind, body) in [
            ("application/json", GOOD),
            ("", GOOD),
            ("text/xml-ish", GOOD),
            ("text/xml", "{\"GetCallerIdentityResponse\":{}}"),
            ("text/xml", "garbage"),
            ("text/xml", ""),
            ("text/xml", &inside),
            ("text/xml", &twice),
            ("text/xml", &two),
            ("text/xml", &empty),
            ("text/xml", &entity),
        ] {
            let error = understood(200, kind, body.as_bytes()).unwrap_err();
            assert_eq!(error.message, "body of GetCallerIdentity is invalid", "{kind} {body}");
        }
    }

    #[test]
    fn a_refusal_is_passed_on_without_what_it_repeats() {
        let body = "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>No match.\n\nThe Canonical String \
                    was x-amz-security-token:secret</Message></Error><RequestId>r-1</RequestId></ErrorResponse>";
        let error = understood(403, "text/xml", body.as_bytes()).unwrap_err();
        assert_eq!((error.kind, error.status, error.code.as_str()), (ErrorKind::Denied, Some(403), "SignatureDoesNotMatch"));
        assert_eq!(error.message, "No match.");
        assert_eq!(understood(302, "text/html", b"").unwrap_err().message, "body of GetCallerIdentity is invalid");
        assert_eq!(understood(302, "text/xml", b"").unwrap_err().status, Some(302));
    }
}
