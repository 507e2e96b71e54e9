//! What the command sees: our endpoint, and nothing that SDKs would take instead.
//!
//! Source: the credential chains of botocore, aws-sdk-go-v2 and Rust's aws-config, and AWS's guides for the others. All ask a container's endpoint
//! only after keys in the environment, web identity and the profiles of the two files; all but a default profile goes by the environment.

use std::fs;
use std::io::{self, Read as _};

use tokio::process::Command;

use crate::cli::settings::Ctx;
use crate::show;

/// Where SDKs fetch credentials.
pub(super) const URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// What they send with it.
pub(super) const AUTHORIZATION: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";

/// What SDKs would take before our endpoint, or send in place of our secret. Region, endpoints and the like stay.
const BEFORE: [&str; 14] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CREDENTIAL_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/// The two files of profiles: the variable that names each, and its place in the home otherwise.
const FILES: [(&str, &str); 2] = [("AWS_CONFIG_FILE", ".aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")];

/// What gives a profile credentials of its own.
const KEYS: [&str; 10] = [
    "aws_access_key_id",
    "credential_process",
    "credential_source",
    "login_session",
    "role_arn",
    "source_profile",
    "sso_account_id",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

/// No more of a file is read: nobody writes that many profiles by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Takes out of a command's environment what would come first.
pub(super) fn clear(command: &mut Command) {
    for name in BEFORE {
        command.env_remove(name);
    }
}

/// Files that the command must not see.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hidden {
    /// Variables that name the null device in their place.
    pub(super) variables: Vec<(&'static str, &'static str)>,
    /// What the person should know of it.
    pub(super) notes: Vec<String>,
}

/// Which files have a default profile with credentials: SDKs would take these, and the command would be somebody else than was asked for.
pub(super) fn hidden(ctx: &Ctx) -> Hidden {
    let mut hidden = Hidden::default();
    for (variable, place) in FILES {
        let home = ctx.plain_variable("HOME").unwrap_or_default();
        let path = match ctx.plain_variable(variable) {
            Some(path) => path.strip_prefix("~/").map(|below| format!("{home}/{below}")).unwrap_or(path),
            None => format!("{home}/{place}"),
        };
        if read(&path).is_ok_and(|text| has_default_credentials(&text)) {
            hidden.variables.push((variable, show::NULL));
            hidden.notes.push(format!(
                "the default profile of {path} names credentials, which SDKs would take first: the command does not see this file ({variable}={})",
                show::NULL
            ));
        }
    }
    hidden
}

/// What cannot be read, SDKs cannot read either. A pipe can be read once, and not by us.
fn read(path: &str) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Ok(String::new());
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn has_default_credentials(text: &str) -> bool {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default().replace(['"', '\''], "");
            let name: Vec<&str> = name.split_whitespace().collect();
            inside = matches!(name[..], ["default"] | ["profile", "default"]);
        } else if let Some((key, _)) = line.split_once('=').filter(|_| inside)
            && KEYS.contains(&key.trim_end().to_ascii_lowercase().as_str())
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_profile_with_credentials_of_its_own_is_found() {
        for text in [
            "[default]\naws_access_key_id = AKIA\n",
            "[other]\nx=1\n[ default ]\nregion=eu-west-1\nrole_arn=arn:aws:iam::1:role/x",
            "# mine\n[profile default]\n  credential_process = /bin/x",
            "[profile \"default\"]\nSSO_Session=main",
        ] {
            assert!(has_default_credentials(text), "{text}");
        }
        for text in [
            "",
            "[default]\nregion = eu-west-1\noutput = json\n# role_arn = x",
            "[default]\nregion=eu-west-1\n[profile build]\nrole_arn=arn:aws:iam::1:role/x",
            "[sso-session default]\nsso_start_url = https://x",
            "aws_access_key_id = AKIA",
        ] {
            assert!(!has_default_credentials(text), "{text}");
        }
    }
}
