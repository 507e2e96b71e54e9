//! `docker-credential`: registry logins for Docker and for all that speaks the protocol of its credential helpers: podman, skopeo,
//! buildah, kaniko, crane, Maven's jib. Linked to as `docker-credential-daypass`, this file is such a helper.
//!
//! Source of the protocol: docker/docker-credential-helpers. Clients show what a helper writes to stdout, errors too.

use std::io::Read as _;

use clap::Subcommand;
use daypass_aws::Registry;

use super::settings::{Ctx, Http};
use super::{Failure, clean_path};
use crate::client::Call;
use crate::show;
use crate::show::value::Value;

/// Give Docker its logins to ECR
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Give the login of the registry whose name stands on stdin
    #[command(after_help = "Examples:

  $ echo 111111111111.dkr.ecr.us-east-1.amazonaws.com | daypass docker-credential get -role=app

Link this file as docker-credential-daypass into a directory of PATH. With
{\"credHelpers\": {\"111111111111.dkr.ecr.us-east-1.amazonaws.com\": \"daypass\"}}
in ~/.docker/config.json and DAYPASS_ECR_ROLE=app in the environment, docker
and podman log in by themselves, and again when a login has ended.")]
    Get(Box<Get>),
    /// Do nothing: logins are read from the server
    #[command(after_help = "Examples:

  $ daypass docker-credential store")]
    Store(Nothing),
    /// Do nothing: there is nothing to erase
    #[command(after_help = "Examples:

  $ daypass docker-credential erase")]
    Erase(Nothing),
    /// List no logins: they are made when they are asked for
    #[command(after_help = "Examples:

  $ daypass docker-credential list")]
    List(Nothing),
}

/// How to find the login.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Role to read, or several with commas between; MOUNT/ROLE for one of another mount. Environment: DAYPASS_ECR_ROLE
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Mount of the ecr engine. Environment: DAYPASS_ECR_MOUNT [default: ecr]
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    #[command(flatten)]
    http: Http,
}

/// No flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Nothing {}

/// Speaks the protocol; the exit code says whether there is a login.
pub(super) fn run(verb: &Verb, ctx: &Ctx) -> u8 {
    match verb {
        Verb::Get(args) => match get(args, ctx) {
            Ok(login) => {
                show::out(&login);
                0
            }
            Err(failure) => {
                show::out(&failure.text);
                1
            }
        },
        // What docker wants to put away after a login that a person typed would shadow nothing here: the next `get` asks the server.
        Verb::Store(_) | Verb::Erase(_) => 0,
        Verb::List(_) => {
            show::out("{}");
            0
        }
    }
}

fn get(args: &Get, ctx: &Ctx) -> Result<String, Failure> {
    let mut asked = String::new();
    let read = std::io::stdin().take(SERVER_BYTES_MAX).read_to_string(&mut asked);
    read.map_err(|error| Failure::usage(format!("the registry's name cannot be read from stdin: {error}")))?;
    let asked = asked.trim();
    // Docker asks for every registry that an image comes from: the server need not hear of those that are not ECR, and they get no login.
    let registry = host(asked).and_then(Registry::named).ok_or_else(|| Failure::usage(NOT_FOUND))?;
    let roles = args.role.clone().or_else(|| ctx.variable("ECR_ROLE")).filter(|roles| !roles.trim().is_empty());
    let roles = roles.ok_or_else(|| Failure::usage("which role of the ecr engine? Set DAYPASS_ECR_ROLE, or give -role"))?;
    let mount = args.mount.clone().or_else(|| ctx.variable("ECR_MOUNT")).unwrap_or_else(|| "ecr".to_owned());
    let client = ctx.client(&args.http)?;
    let mut problem = Failure::usage(NOT_FOUND);
    for role in roles.split(',').map(clean_path).filter(|role| !role.is_empty()).take(ROLES_MAX) {
        let (mount, role) = role.rsplit_once('/').unwrap_or((clean_path(&mount), role));
        let path = format!("{mount}/creds/{role}");
        match client.find(Call::get(&path)) {
            Ok(Some(answer)) => {
                if let Some(login) = login(answer.data(), asked, registry) {
                    return Ok(login);
                }
            }
            Ok(None) => problem = Failure::no_value(&path),
            Err(error) => problem = Failure::api(&format!("Error reading {path}"), error),
        }
    }
    Err(problem)
}

/// The login of this registry among those that were read, as the protocol wants it.
fn login(data: &Value, asked: &str, registry: Registry<'_>) -> Option<String> {
    let several = data.get("registries").map(Value::items).unwrap_or_default();
    let fits = |login: &&Value| Registry::named(login.text_at("registry")) == Some(registry);
    let login = several.iter().chain(std::iter::once(data)).find(fits)?;
    let pairs = [("ServerURL", asked), ("Username", login.text_at("username")), ("Secret", login.text_at("password"))];
    Some(Value::map(pairs.map(|(name, text)| (name, Value::text(text)))).compact())
}

/// A registry's name without what may stand around it. `None` where the login would go elsewhere, or in clear.
fn host(server: &str) -> Option<&str> {
    let name = match server.split_once("://") {
        Some(("https", name)) => name,
        Some(_) => return None,
        None => server,
    };
    let name = name.split('/').next()?;
    Some(name.strip_suffix(":443").unwrap_or(name))
}

/// The one text by which clients know that they may go on without a login.
const NOT_FOUND: &str = "credentials not found in native keychain";
const SERVER_BYTES_MAX: u64 = 4096;
const ROLES_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn known(asked: &str) -> Option<Registry<'_>> {
        host(asked).and_then(Registry::named)
    }

    /// Story: only the labels in front were looked at. A registry of anybody's that was named like one of ECR got ECR's password.
    #[test]
    fn a_name_is_a_registry_s_with_all_that_stands_around_it() {
        let plain = known("111111111111.dkr.ecr.us-east-1.amazonaws.com");
        assert!(plain.is_some());
        for same in [
            "https://111111111111.dkr.ecr.us-east-1.amazonaws.com",
            "https://111111111111.dkr.ecr.us-east-1.amazonaws.com:443/v2/",
            "111111111111.dkr-ecr.us-east-1.on.aws/app",
        ] {
            assert_eq!(known(same), plain, "{same}");
        }
        assert_eq!(known("https://public.ecr.aws/v2/"), Some(Registry::Public));
        for other in [
            "https://111111111111.dkr.ecr.us-east-1.evil.example:8443/v2/",
            "111111111111.dkr.ecr.us-east-1.amazonaws.com@evil.example",
            "https://111111111111.dkr.ecr.us-east-1.amazonaws.com:443@evil.example/",
            "https://111111111111.dkr.ecr.us-east-1.amazonaws.com:8443",
            "http://111111111111.dkr.ecr.us-east-1.amazonaws.com",
            "https://https://111111111111.dkr.ecr.us-east-1.amazonaws.com",
            "https://index.docker.io/v1/",
        ] {
            assert_eq!(known(other), None, "{other}");
        }
    }

    #[test]
    fn the_login_of_the_registry_that_was_asked_for_is_found_among_several() {
        let text = r#"{"registry": "111111111111.dkr.ecr.us-x-1.amazonaws.com", "username": "AWS", "password": "one", "registries": [
            {"registry": "111111111111.dkr.ecr.us-x-1.amazonaws.com", "username": "AWS", "password": "one"},
            {"registry": "222222222222.dkr.ecr.us-x-1.amazonaws.com", "username": "AWS", "password": "two"}]}"#;
        let data = Value::parse(text).unwrap();
        let asked = "https://222222222222.dkr.ecr.us-x-1.amazonaws.com";
        let found = login(&data, asked, known(asked).unwrap()).unwrap();
        assert_eq!(found, r#"{"ServerURL":"https://222222222222.dkr.ecr.us-x-1.amazonaws.com","Username":"AWS","Secret":"two"}"#);
        assert_eq!(login(&data, "x", known("222222222222.dkr.ecr.us-x-2.amazonaws.com").unwrap()), None);
    }
}
