//! ARNs of principals: who called, and who is bound.

use daypass_aws::{Partition, PrincipalKind};

/// A principal, as its ARN names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PrincipalArn {
    pub(super) partition: Partition,
    pub(super) account: String,
    pub(super) kind: PrincipalKind,
    /// The last element of its path.
    pub(super) name: String,
    /// Of an assumed role.
    pub(super) session: Option<String>,
}

impl PrincipalArn {
    /// Reads the ARN of a user, a role, an instance profile or an assumed role.
    ///
    /// Errors: what is wrong with it. Root users, federated users and services are nobody here.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > ARN_BYTES_MAX {
            return Err(format!("the ARN has {} bytes; at most {ARN_BYTES_MAX} are allowed", text.len()));
        }
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", partition, service, "", account, resource] = parts.as_slice() else {
            return Err(format!("unrecognized arn: {text:?} has not the form arn:<partition>:iam::<account>:<type>/<name>"));
        };
        let partition = Partition::named(partition).ok_or_else(|| format!("unrecognized partition: {partition:?}"))?;
        if !is_account(account) {
            return Err(format!("unrecognized account: {account:?} has not twelve digits"));
        }
        let words: Vec<&str> = resource.split('/').collect();
        if words.iter().any(|word| word.is_empty() || !word.chars().all(is_of_a_name)) {
            return Err(format!("unrecognized arn: {resource:?} is no name of a principal"));
        }
        let (kind, name, session) = match (*service, words.as_slice()) {
            ("iam", ["user", .., name]) => (PrincipalKind::User, name, None),
            ("iam", ["role", .., name]) => (PrincipalKind::Role, name, None),
            ("iam", ["instance-profile", .., name]) => (PrincipalKind::InstanceProfile, name, None),
            ("sts", ["assumed-role", name, session]) => (PrincipalKind::Role, name, Some(session)),
            _ => return Err(format!("unrecognized principal type: {service}:{}", words.first().unwrap_or(&""))),
        };
        let session = session.map(|session| (*session).to_owned());
        Ok(Self { partition, account: (*account).to_owned(), kind, name: (*name).to_owned(), session })
    }

    /// The ARN without the path and the session.
    pub(super) fn canonical(&self) -> String {
        format!("{}{}", self.begin(), self.name)
    }

    /// What an ARN of this account begins with, up to the type: `arn:aws:iam::111111111111:role/`.
    fn begin(&self) -> String {
        let kind = match self.kind {
            PrincipalKind::InstanceProfile => "instance-profile",
            PrincipalKind::Role => "role",
            PrincipalKind::User => "user",
        };
        format!("arn:{}:iam::{}:{kind}/", self.partition.name(), self.account)
    }

    /// Whether a full ARN, with a path, names this very principal.
    pub(super) fn is_named_by(&self, full: &str) -> bool {
        full.strip_prefix(&self.begin()).is_some_and(|path| path.rsplit('/').next() == Some(&self.name))
    }
}

/// A bound ARN that ends in a star.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern<'a>(&'a str);

impl<'a> Pattern<'a> {
    /// Reads a pattern; `None` where the ARN has no star at its end.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        text.strip_suffix('*').map(Self)
    }

    /// Whether a full ARN fits. The star stands for any text, slashes too.
    pub(super) fn fits(self, full: &str) -> bool {
        full.starts_with(self.0)
    }

    /// Whether it can fit principals of this account and kind at all.
    pub(super) fn is_about(self, who: &PrincipalArn) -> bool {
        let (account, begin) = (format!("arn:{}:iam::{}:", who.partition.name(), who.account), who.begin());
        self.0.starts_with(&account) && (self.0.starts_with(&begin) || begin.starts_with(self.0))
    }

    /// Checks a pattern as it is written to a role: it must say which account it is about, or somebody else's role of a fitting name could
    /// log in.
    pub(super) fn check(self) -> Result<(), String> {
        let parts: Vec<&str> = self.0.split(':').collect();
        match parts.as_slice() {
            ["arn", partition, "iam", "", account, resource]
                if Partition::named(partition).is_some() && is_account(account) && !resource.contains('*') =>
            {
                Ok(())
            }
            _ => Err(format!(
                "bound_iam_principal_arn \"{}*\" does not say which account it is about: a star may stand at the end alone, after \
                 arn:<partition>:iam::<account>:",
                self.0
            )),
        }
    }
}

/// Whether an account number is one.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_of_a_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_+=,.@-".contains(character)
}

/// Longest ARN that is looked at; IAM's own limit.
const ARN_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_sessions_are_left_out_of_the_canonical_form() {
        for (arn, canonical) in [
            ("arn:aws:iam::111111111111:user/ann", "arn:aws:iam::111111111111:user/ann"),
            ("arn:aws:iam::111111111111:user/a/b/ann", "arn:aws:iam::111111111111:user/ann"),
            ("arn:aws-cn:sts::111111111111:assumed-role/ci/i-1", "arn:aws-cn:iam::111111111111:role/ci"),
            ("arn:aws:iam::111111111111:role/path/ci", "arn:aws:iam::111111111111:role/ci"),
        ] {
            assert_eq!(PrincipalArn::parse(arn).unwrap().canonical(), canonical);
        }
    }

    #[test]
    fn what_is_nobody_is_refused() {
        for arn in [
            "",
            "arn:aws:iam::111111111111:root",
            "arn:aws:sts::111111111111:federated-user/bob",
            "arn:aws:sts::111111111111:assumed-role/ci",
            "arn:aws:sts::111111111111:assumed-role/ci/a/b",
            "arn:aws:sts::111111111111:user/ann",
            "arn:aws:iam::111111111111:assumed-role/ci/s",
            "arn:mars:iam::111111111111:user/ann",
            "arn:aws:iam::1111:user/ann",
            "arn:aws:iam:eu-west-1:111111111111:user/ann",
            "arn:aws:iam::111111111111:user/",
            "arn:aws:iam::111111111111:user//ann",
            "arn:aws:iam::111111111111:user/an n",
            "arn:aws:iam::111111111111:user/ann:x",
            "arn:aws:iam::111111111111:user/*",
        ] {
            assert!(PrincipalArn::parse(arn).is_err(), "{arn}");
        }
        assert!(PrincipalArn::parse(&format!("arn:aws:iam::111111111111:user/{}", "x".repeat(3000))).is_err());
    }

    #[test]
    fn a_pattern_says_its_account() {
        for good in ["arn:aws:iam::111111111111:*", "arn:aws:iam::111111111111:role/*", "arn:aws-cn:iam::111111111111:role/team/ci-*"] {
            assert!(Pattern::of(good).unwrap().check().is_ok(), "{good}");
        }
        for bad in ["*", "arn:*", "arn:aws:iam::1111*", "arn:aws:iam::*", "arn:aws:iam::*:role/x*", "arn:aws:iam::111111111111:role/*/x*"] {
            assert!(Pattern::of(bad).unwrap().check().is_err(), "{bad}");
        }
        assert_eq!(Pattern::of("arn:aws:iam::111111111111:role/x"), None);
    }

    #[test]
    fn a_full_arn_names_its_principal_alone() {
        let who = PrincipalArn::parse("arn:aws:sts::111111111111:assumed-role/ci/s").unwrap();
        assert!(who.is_named_by("arn:aws:iam::111111111111:role/a/ci") && who.is_named_by("arn:aws:iam::111111111111:role/ci"));
        for other in ["arn:aws:iam::222222222222:role/ci", "arn:aws:iam::111111111111:user/ci", "arn:aws:iam::111111111111:role/ci/x"] {
            assert!(!who.is_named_by(other), "{other}");
        }
    }
}
