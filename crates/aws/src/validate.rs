//! Checks of inputs before they leave, with the texts of AWS's Go SDK v1 (Vault shows these; recorded in `real-clients.md`
//! of the compatibility notes: `minimum field value of 900, AssumeRoleInput.DurationSeconds.`).

use std::fmt::Write;

use daypass_base::Seconds;

use crate::api::{AssumeRole, FederationToken, Result, SessionToken};
use crate::{AwsError, ErrorKind};

/// AWS's floor for every STS credential.
pub(crate) const DURATION_MIN: Seconds = Seconds(900);
/// Shortest ARN that AWS takes.
const ARN_SIZE_MIN: usize = 20;
/// Shortest serial number of an MFA device.
const SERIAL_NUMBER_SIZE_MIN: usize = 9;
/// Digits of an MFA code.
const TOKEN_CODE_SIZE_MIN: usize = 6;
/// Shortest session or user name, and external id.
const NAME_SIZE_MIN: usize = 2;

impl AssumeRole {
    pub(crate) fn check(&self) -> Result<()> {
        self.check_from(DURATION_MIN)
    }

    /// With another floor than AWS's.
    pub(crate) fn check_from(&self, duration_min: Seconds) -> Result<()> {
        let mut check = Check::of("AssumeRoleInput");
        check.duration(self.duration, duration_min);
        check.size("ExternalId", self.external_id.as_deref(), NAME_SIZE_MIN);
        check.size("Policy", self.policy.as_deref(), 1);
        check.size("RoleArn", Some(&self.role_arn), ARN_SIZE_MIN);
        check.size("RoleSessionName", Some(&self.session_name), NAME_SIZE_MIN);
        check.size("SourceIdentity", self.source_identity.as_deref(), NAME_SIZE_MIN);
        check.policy_arns(&self.policy_arns);
        for (index, key) in self.tags.keys().enumerate() {
            check.size(&format!("Tags[{index}].Key"), Some(key), 1);
        }
        check.done()
    }
}

impl FederationToken {
    pub(crate) fn check(&self) -> Result<()> {
        self.check_from(DURATION_MIN)
    }

    /// With another floor than AWS's.
    pub(crate) fn check_from(&self, duration_min: Seconds) -> Result<()> {
        let mut check = Check::of("GetFederationTokenInput");
        check.duration(self.duration, duration_min);
        check.size("Name", Some(&self.name), NAME_SIZE_MIN);
        check.size("Policy", self.policy.as_deref(), 1);
        check.policy_arns(&self.policy_arns);
        check.done()
    }
}

impl SessionToken {
    pub(crate) fn check(&self) -> Result<()> {
        self.check_from(DURATION_MIN)
    }

    /// With another floor than AWS's.
    pub(crate) fn check_from(&self, duration_min: Seconds) -> Result<()> {
        let mut check = Check::of("GetSessionTokenInput");
        check.duration(self.duration, duration_min);
        check.size("SerialNumber", self.serial_number.as_deref(), SERIAL_NUMBER_SIZE_MIN);
        check.size("TokenCode", self.token_code.as_deref(), TOKEN_CODE_SIZE_MIN);
        check.done()
    }
}

struct Check {
    input: &'static str,
    problems: Vec<String>,
}

impl Check {
    fn of(input: &'static str) -> Self {
        Self { input, problems: Vec::new() }
    }

    fn duration(&mut self, duration: Seconds, least: Seconds) {
        if duration < least {
            self.problems.push(format!("minimum field value of {}, {}.DurationSeconds.", least.0, self.input));
        }
    }

    fn size(&mut self, field: &str, value: Option<&str>, minimum: usize) {
        if value.is_some_and(|value| value.len() < minimum) {
            self.problems.push(format!("minimum field size of {minimum}, {}.{field}.", self.input));
        }
    }

    fn policy_arns(&mut self, arns: &[String]) {
        for (index, arn) in arns.iter().enumerate() {
            self.size(&format!("PolicyArns[{index}].Arn"), Some(arn), ARN_SIZE_MIN);
        }
    }

    fn done(self) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let mut message = format!("{} validation error(s) found.\n", self.problems.len());
        for problem in &self.problems {
            let _infallible = writeln!(message, "- {problem}");
        }
        Err(AwsError { kind: ErrorKind::Malformed, code: "InvalidParameter".to_owned(), message, status: None, request_id: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> AssumeRole {
        AssumeRole {
            role_arn: "arn:aws:iam::111111111111:role/ecr-staging".to_owned(),
            session_name: "build-42".to_owned(),
            duration: Seconds(900),
            ..AssumeRole::default()
        }
    }

    #[test]
    fn a_sound_input_passes() {
        assert!(sound().check().is_ok());
    }

    #[test]
    fn less_than_900_seconds_never_leaves_and_reads_as_in_vault() {
        for seconds in [0, 1, 899] {
            let error = AssumeRole { duration: Seconds(seconds), ..sound() }.check().unwrap_err();
            assert_eq!(error.kind, ErrorKind::Malformed);
            assert_eq!(
                error.sdk_text(),
                "InvalidParameter: 1 validation error(s) found.\n- minimum field value of 900, AssumeRoleInput.DurationSeconds.\n"
            );
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let error = AssumeRole { role_arn: "a".to_owned(), session_name: "x".to_owned(), policy_arns: vec!["p".to_owned()], ..sound() };
        let text = error.check().unwrap_err().sdk_text();
        assert_eq!(
            text,
            "InvalidParameter: 3 validation error(s) found.\n- minimum field size of 20, AssumeRoleInput.RoleArn.\n- minimum field size of 2, \
             AssumeRoleInput.RoleSessionName.\n- minimum field size of 20, AssumeRoleInput.PolicyArns[0].Arn.\n"
        );
    }

    #[test]
    fn the_other_calls_are_checked_too() {
        let federation = FederationToken { name: "v".to_owned(), duration: Seconds(1), ..FederationToken::default() };
        assert!(federation.check().unwrap_err().message.starts_with("2 validation"));
        let session = SessionToken { duration: Seconds(900), token_code: Some("1".to_owned()), ..SessionToken::default() };
        assert!(session.check().unwrap_err().message.contains("minimum field size of 6, GetSessionTokenInput.TokenCode."));
    }
}
