//! Which mount a path is in, whether it has versions, and what the path is called there.

use http::Method;

use super::super::settings::Ctx;
use super::super::{Failure, clean_path};
use crate::client::{Call, Client, Error};
use crate::show::value::Value;

/// Where the secret is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct MountFlag {
    /// Where the KV store is mounted; the argument is then the path inside it
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
}

impl MountFlag {
    /// Whether the flag was given.
    pub(super) fn is_given(&self) -> bool {
        self.mount.is_some()
    }
}

/// A secret's place, as far as it is known before asking for the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The mount with its slash, as the server names it; empty when the server is too old to say.
    mount: String,
    /// Version 2: secrets have versions.
    pub(super) versioned: bool,
    /// The path as given, without slashes at its ends, the mount in front.
    path: String,
}

impl Place {
    /// Asks the server about the mount.
    pub(super) fn find(client: &Client, flag: &MountFlag, argument: &str) -> Result<Self, Failure> {
        let argument = clean_path(argument);
        let asked = flag.mount.as_deref().map_or(argument, clean_path);
        let (mount, versioned) = preflight(client, asked)?;
        let path = match &flag.mount {
            None => argument.to_owned(),
            Some(_) if mount.is_empty() => joined(&[asked, argument]),
            Some(_) => joined(&[&mount, argument]),
        };
        Ok(Self { mount, versioned, path })
    }

    /// The API path of the secret: version 2 keeps `data`, `metadata`, … apart after the mount.
    pub(super) fn api(&self, kind: &str) -> String {
        if !self.versioned {
            return self.path.clone();
        }
        let mount = clean_path(&self.mount);
        if self.path == mount {
            return joined(&[mount, kind]);
        }
        // In a namespace the server's name of the mount is longer than what was typed: drop its front until it fits.
        let mut front = mount;
        loop {
            if let Some(rest) = self.path.strip_prefix(front).and_then(|rest| rest.strip_prefix('/')) {
                return joined(&[front, kind, rest]);
            }
            match front.split_once('/') {
                Some((_, shorter)) => front = shorter,
                None => return joined(&[mount, kind, &self.path]),
            }
        }
    }

    /// Fails for a mount without versions.
    pub(super) fn require_versions(&self, code: u8, text: &str) -> Result<(), Failure> {
        if self.versioned { Ok(()) } else { Err(Failure::say(code, text)) }
    }
}

/// The client and the place in one.
pub(super) fn find(ctx: &Ctx, http: &super::super::settings::Http, flag: &MountFlag, argument: &str) -> Result<(Client, Place), Failure> {
    let client = ctx.client(http)?;
    let place = Place::find(&client, flag, argument)?;
    Ok((client, place))
}

/// The mount of `path`, and whether it has versions.
fn preflight(client: &Client, path: &str) -> Result<(String, bool), Failure> {
    let call = Call::new(Method::GET, format!("sys/internal/ui/mounts/{path}")).plain();
    let about = match client.body(call) {
        Ok(about) => about,
        // A server from before there were versions.
        Err(error) if error.status() == Some(404) => return Ok((String::new(), false)),
        Err(Error::Api(refusal)) if refusal.status == 403 && client.config().instead.is_some() => {
            return Err(Failure::server(format!(
                "Whether {path} is in a KV store with versions must be asked first, and that was refused: {refusal}"
            ))
            .hint(format!("use a token that may read something under {path}")));
        }
        Err(error) => return Err(Failure::api("", error)),
    };
    let data = about.get("data").unwrap_or(&about);
    let versioned = data.at(&["options", "version"]).map(Value::go).is_some_and(|version| version == "2");
    Ok((data.text_at("path").to_owned(), versioned))
}

fn joined(parts: &[&str]) -> String {
    parts.iter().map(|part| part.trim_matches('/')).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(mount: &str, path: &str) -> Place {
        Place { mount: mount.to_owned(), versioned: true, path: path.to_owned() }
    }

    #[test]
    fn the_kind_goes_between_mount_and_path() {
        assert_eq!(place("secret/", "secret/a/b").api("data"), "secret/data/a/b");
        assert_eq!(place("team/kv/", "team/kv/a").api("metadata"), "team/kv/metadata/a");
        assert_eq!(place("secret/", "secret").api("metadata"), "secret/metadata");
    }

    #[test]
    fn a_mount_named_like_the_start_of_another_is_not_confused() {
        assert_eq!(place("secret/", "secret/secretive").api("data"), "secret/data/secretive");
    }

    #[test]
    fn a_namespace_in_the_mount_is_left_out() {
        assert_eq!(place("ns1/secret/", "secret/a").api("data"), "secret/data/a");
    }

    #[test]
    fn without_versions_the_path_is_the_path() {
        assert_eq!(Place { versioned: false, ..place("kv/", "kv/a") }.api("data"), "kv/a");
    }
}
