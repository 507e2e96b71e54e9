//! ARNs of IAM roles and policies, as far as they are looked at.

use daypass_base::Brief;

/// The parts of an ARN: `arn:partition:service:region:account:resource`.
pub(super) struct Arn<'a> {
    pub(super) partition: &'a str,
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    pub(super) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Parses an ARN, with the texts of AWS's Go SDK.
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("arn:").ok_or("arn: invalid prefix")?;
        let mut parts = rest.splitn(5, ':');
        let mut next = || parts.next().ok_or("arn: not enough sections");
        Ok(Self { partition: next()?, service: next()?, region: next()?, account: next()?, resource: next()? })
    }
}

/// Checks the ARN of a permissions boundary, with the texts of Vault.
pub(super) fn boundary(text: &str) -> Result<(), String> {
    let arn = Arn::parse(text)?;
    if arn.service != "iam" {
        return Err(format!("expected a service of iam but got {}", Brief(arn.service)));
    }
    if !arn.resource.starts_with("policy/") {
        return Err(format!("expected a resource of policy but got {}", Brief(arn.resource)));
    }
    Ok(())
}

/// Checks that a text is the ARN of an IAM role, or a pattern of such.
pub(super) fn iam_role(text: &str) -> Result<Arn<'_>, String> {
    let arn = Arn::parse(text)?;
    if arn.service != "iam" || !arn.resource.starts_with("role/") || arn.resource.len() <= "role/".len() {
        return Err("it is no ARN of an IAM role: arn:<partition>:iam::<account>:role/<name>".to_owned());
    }
    Ok(arn)
}

/// Whether an account number is one.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `text` is what `pattern` describes: `*` stands for any characters but `:` and `/`.
///
/// Work is bounded by the product of both lengths: only the last star is ever tried again.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (mut rest, mut text) = (pattern.as_bytes(), text.as_bytes());
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (rest.split_first(), text.split_first()) {
            (Some((b'*', after)), _) => {
                again = Some((after, text));
                rest = after;
            }
            (Some((wanted, after)), Some((got, left))) if wanted == got => (rest, text) = (after, left),
            (None, None) => return true,
            _ => match again {
                Some((after, from)) => match from.split_first() {
                    Some((byte, left)) if !matches!(byte, b':' | b'/') => {
                        again = Some((after, left));
                        (rest, text) = (after, left);
                    }
                    _ => return false,
                },
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_segment() {
        let pattern = "arn:aws:iam::*:role/ci-*";
        for (text, expected) in [
            ("arn:aws:iam::111111111111:role/ci-app", true),
            ("arn:aws:iam::111111111111:role/ci-", true),
            ("arn:aws:iam::111111111111:role/ci-app/admin", false),
            ("arn:aws:iam::111111111111:role/admin", false),
            ("arn:aws:iam::1:user:x:role/ci-a", false),
            ("arn:aws-cn:iam::111111111111:role/ci-app", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{text}");
        }
        assert!(matches("a*b*c", "a1b2b3c"));
        assert!(!matches("a*b*c", "a1b2b3"));
        assert!(matches("*", "") && !matches("", "x"));
    }

    #[test]
    fn a_star_goes_back_over_a_border_only_at_its_own_segment() {
        assert!(matches("a/*/c*", "a/b/cd"));
        assert!(!matches("a/*c", "a/b/c"));
        assert!(!matches("*:role/x", "a:b:role/x"));
    }

    #[test]
    fn long_patterns_end_in_time() {
        let (pattern, text) = ("*a".repeat(1_000), "a".repeat(20_000) + "b");
        assert!(!matches(&pattern, &text));
    }

    #[test]
    fn only_arns_of_iam_roles_pass() {
        assert!(iam_role("arn:aws-us-gov:iam::111111111111:role/path/name").is_ok());
        for text in ["a", "arn:aws:iam::1", "arn:aws:iam::111111111111:user/x", "arn:aws:iam::111111111111:role/", "arn:aws:s3:::role/x"] {
            assert!(iam_role(text).is_err(), "{text}");
        }
    }
}
