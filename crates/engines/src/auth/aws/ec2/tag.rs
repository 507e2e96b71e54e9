//! The value of a role tag: what narrows a role for the instances that carry it, and the proof that this server wrote it. Pure.
//!
//! The proof is an HMAC with a key of the mount's, over the tag and the id of the role: a role made anew under its name knows none of the
//! tags of the old one.

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use daypass_base::Brief;
use daypass_base::duration::short_string;
use daypass_sdk::Seconds;

/// What a tag says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tag {
    /// Makes tags differ, so that one of them can be denied.
    pub(super) nonce: String,
    pub(super) role: String,
    /// None for all that the role has.
    pub(super) policies: Vec<String>,
    /// Zero for none.
    pub(super) max_ttl: Seconds,
    pub(super) instance: Option<String>,
    pub(super) allow_migration: bool,
    pub(super) once: bool,
}

impl Tag {
    /// The value for EC2. Errors: what cannot stand in a tag, or that it is too long.
    pub(super) fn signed(&self, key: &hmac::Key, role_id: &str) -> Result<String, String> {
        let sound = |text: &String| !text.is_empty() && !text.contains([':', ',', '=']) && text.chars().all(|one| !one.is_control());
        for text in self.policies.iter().chain([&self.role]).chain(&self.instance) {
            if !sound(text) {
                return Err(format!("{:?} cannot stand in a role tag: it has a colon, a comma or an equals sign", Brief(text)));
            }
        }
        let plain = self.plain();
        let value = format!("{plain}:{}", BASE64.encode(hmac::sign(key, covered(role_id, &plain).as_bytes()).as_ref()));
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("role tag 'value' exceeding the limit of {VALUE_BYTES_MAX} characters"));
        }
        Ok(value)
    }

    fn plain(&self) -> String {
        let mut plain = format!("{VERSION}:{}:r={}", self.nonce, self.role);
        if !self.policies.is_empty() {
            plain = format!("{plain}:p={}", self.policies.join(","));
        }
        if let Some(instance) = &self.instance {
            plain = format!("{plain}:i={instance}");
        }
        plain = format!("{plain}:d={}:m={}", self.once, self.allow_migration);
        if !self.max_ttl.is_zero() {
            plain = format!("{plain}:t={}", short_string(self.max_ttl.duration()));
        }
        plain
    }

    /// The role that a value names, which tells whose id the proof is over. Nothing of it is believed yet.
    pub(super) fn role_of(value: &str) -> Option<&str> {
        value.split(':').find_map(|part| part.strip_prefix("r=")).filter(|_| value.len() <= VALUE_BYTES_MAX)
    }

    /// Reads a value once its proof is verified. Errors: what is wrong with it.
    pub(super) fn verified(value: &str, key: &hmac::Key, role_id: &str) -> Result<Self, String> {
        let (plain, proof) =
            value.rsplit_once(':').filter(|_| value.len() <= VALUE_BYTES_MAX).ok_or("the role tag is none of this server's")?;
        let proof = BASE64.decode(proof.as_bytes()).unwrap_or_default();
        hmac::verify(key, covered(role_id, plain).as_bytes(), &proof).map_err(|_wrong| "role tag signature verification failed")?;
        let tag = Self::read(plain)?;
        // What we write is read as it was written, and nothing else is.
        if tag.plain() == plain { Ok(tag) } else { Err("the role tag is not written as this server writes it".to_owned()) }
    }

    fn read(plain: &str) -> Result<Self, String> {
        let mut parts = plain.split(':');
        if parts.next() != Some(VERSION) {
            return Err("invalid role tag version".to_owned());
        }
        let mut tag = Self { nonce: parts.next().unwrap_or_default().to_owned(), ..Self::default() };
        for part in parts {
            let (name, value) = part.split_once('=').ok_or("unrecognized item in the role tag")?;
            match name {
                "r" => value.clone_into(&mut tag.role),
                "p" => tag.policies = value.split(',').map(str::to_owned).collect(),
                "i" => tag.instance = Some(value.to_owned()),
                "d" => tag.once = value == "true",
                "m" => tag.allow_migration = value == "true",
                "t" => tag.max_ttl = Seconds::parse(value)?,
                _ => return Err(format!("unrecognized item {name:?} in the role tag")),
            }
        }
        Ok(tag)
    }
}

fn covered(role_id: &str, plain: &str) -> String {
    format!("{role_id}\0{plain}")
}

const VERSION: &str = "v1";
/// EC2's limit for the value of a tag.
const VALUE_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn tag() -> Tag {
        Tag { nonce: "09Vp0qGuyB8=".to_owned(), role: "dev".to_owned(), policies: vec!["a".to_owned(), "b".to_owned()], ..Tag::default() }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let full = Tag { max_ttl: Seconds(7200), instance: Some("i-1".to_owned()), once: true, ..tag() };
        for tag in [tag(), full, Tag { policies: Vec::new(), allow_migration: true, ..tag() }] {
            let value = tag.signed(&key(1), "id").unwrap();
            assert!(value.starts_with("v1:09Vp0qGuyB8=:r=dev"), "{value}");
            assert_eq!(Tag::role_of(&value), Some("dev"));
            assert_eq!(Tag::verified(&value, &key(1), "id"), Ok(tag));
        }
    }

    #[test]
    fn what_this_role_of_this_mount_did_not_write_is_refused() {
        let value = tag().signed(&key(1), "id").unwrap();
        let wider = value.replace("p=a,b", "p=a,b,root");
        for (value, key, role_id) in
            [(&value, key(2), "id"), (&value, key(1), "other"), (&wider, key(1), "id"), (&value[1..].to_owned(), key(1), "id")]
        {
            assert_eq!(Tag::verified(value, &key, role_id).unwrap_err(), "role tag signature verification failed");
        }
        for value in ["", "v1", "x:y", &"x:".repeat(200)] {
            assert!(Tag::verified(value, &key(1), "id").is_err(), "{value}");
        }
    }

    #[test]
    fn what_would_be_read_otherwise_is_not_written() {
        for bad in ["a:p=root", "a,b", "a=b", "", "a\n"] {
            assert!(Tag { role: bad.to_owned(), ..tag() }.signed(&key(1), "id").is_err(), "{bad}");
            assert!(Tag { policies: vec![bad.to_owned()], ..tag() }.signed(&key(1), "id").is_err(), "{bad}");
        }
        let long = Tag { policies: vec!["p".repeat(200)], ..tag() };
        assert_eq!(long.signed(&key(1), "id").unwrap_err(), "role tag 'value' exceeding the limit of 255 characters");
    }
}
