//! What the command sees: our endpoint, and nothing that SDKs would take instead.
//!
//! Source: the credential chains of botocore, aws-sdk-go-v2 and Rust's aws-config, and AWS's guides for the others. All ask a container's endpoint
//! only after keys in the environment, web identity and the profiles of the two files; all but a default profile goes by the environment.

use tokio::process::Command;

use super::profiles::{self, FILES};
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

/// Which files have credentials that SDKs would take: the command would be somebody else than was asked for. In doubt it does not see the file.
pub(super) fn hidden(ctx: &Ctx) -> Hidden {
    let homes = profiles::homes(ctx.plain_variable("HOME"));
    let mut hidden = Hidden::default();
    for file in &FILES {
        let named = ctx.plain_variable(file.variable);
        if let Some(why) = profiles::why_hidden(file, named.as_deref(), &homes) {
            let variable = file.variable;
            hidden.variables.push((variable, show::NULL));
            hidden.notes.push(format!("{why}: the command does not see this file ({variable}={})", show::NULL));
        }
    }
    hidden
}
