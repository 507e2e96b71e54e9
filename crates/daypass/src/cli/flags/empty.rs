//! Flags that were given an empty value, as wrappers give them: `-mount="$UNSET"`.
//!
//! To Vault's command line an empty text is a flag's default, so such a flag counts as not given. Not where the flag narrows what is done: the
//! wrapper meant one source identity, or one version, and without the flag all of them are ended, or the newest is deleted. An empty number or time is refused, as
//! Vault does.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction};

/// What becomes of an empty value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    /// The flag counts as not given.
    Absent,
    /// It is refused: without the flag this happens.
    Refused(&'static str),
    /// It is a value like others.
    Value,
}

/// What becomes of an empty value of this flag of the command at `path`.
pub(super) fn empty(path: &[String], arg: &Arg) -> Empty {
    let name = arg.get_long().unwrap_or_default();
    let path = path.join(" ");
    if name == WRAP_TTL {
        return Empty::Refused("the answer is shown and not wrapped");
    }
    let refused = REFUSED.iter().find(|(command, names, _)| *command == path && names.contains(&name));
    // A list has such an item then, which the server judges; a switch with an optional value is neither on nor off by it.
    let list_or_switch = matches!(arg.get_action(), ArgAction::Append) || arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    match refused {
        Some((_, _, why)) => Empty::Refused(why),
        None if list_or_switch || name == DESCRIPTION => Empty::Value,
        None if is_number(arg) || TIMES.contains(&name) => Empty::Refused("the usual one counts"),
        None => Empty::Absent,
    }
}

fn is_number(arg: &Arg) -> bool {
    let kind = arg.get_value_parser().type_id();
    [ValueParser::from(clap::value_parser!(i64)), ValueParser::from(clap::value_parser!(u64))].iter().any(|number| number.type_id() == kind)
}

/// Flags that are times, of whatever command.
const TIMES: [&str; 11] = [
    "default-lease-ttl",
    "delete-version-after",
    "dev-aws-sandbox-min-ttl",
    "explicit-max-ttl",
    "increment",
    "max-lease-ttl",
    "max-ttl",
    "period",
    "ttl",
    "user-lockout-counter-reset-duration",
    "user-lockout-duration",
];
/// Without it what was to be wrapped is shown in clear.
const WRAP_TTL: &str = "wrap-ttl";

/// Tuning a mount with an empty one takes its description away.
const DESCRIPTION: &str = "description";

/// Commands, flags of theirs whose empty value is refused, and what would happen without the flag: more than was meant, or something else.
const REFUSED: &[(&str, &[&str], &str)] = &[
    ("auth setup", &["audience", "issuer-ca", "org", "project", "ref", "url"], "others than were meant could log in"),
    ("auth setup", &["path", "policies", "role"], "the usual name is taken, and what has it already is written over"),
    ("aws revoke-sessions", &["role-arn"], "the role says which IAM role is meant"),
    ("aws revoke-sessions", &["source-identity"], "the sessions of all source identities are meant"),
    ("kv delete", &["versions"], "the newest version is deleted"),
    ("kv destroy", &["versions"], "no version is named"),
    ("kv get", &["version"], "the newest version is read"),
    ("kv patch", &["cas"], "whatever version is there is changed"),
    ("kv put", &["cas"], "whatever version is there is replaced"),
    ("kv undelete", &["versions"], "no version is named"),
    ("operator generate-root", &["decode"], "an unseal key is asked for instead"),
    ("operator generate-root", &["nonce"], "whichever attempt there is is meant"),
    ("operator generate-root", &["pgp-key"], "whoever has the one-time password can read the token"),
    ("operator init", &["key-shares", "key-threshold", "recovery-shares", "recovery-threshold"], "the usual number counts"),
    ("operator init", &["pgp-keys", "recovery-pgp-keys", "root-token-pgp-key"], "what it encrypts is shown in clear"),
    ("operator rekey", &["key-shares", "key-threshold"], "the usual number counts"),
    ("operator rekey", &["nonce"], "whichever attempt there is is meant"),
    ("operator rekey", &["pgp-keys"], "the new keys are shown in clear"),
    ("token create", &["explicit-max-ttl"], "the token has no last end of its own"),
    ("token create", &["role"], "no role limits the token, and it can have the policies of the one in use"),
    ("token create", &["use-limit"], "the token can be used without limit"),
    ("token revoke", &["mode"], "the token's children are revoked with it"),
];

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::super::{Asked, read};
    use super::*;

    /// Every flag of every command, with the path of the command.
    fn flags(command: &Command, path: &[String], found: &mut Vec<(Vec<String>, Arg)>) {
        if !command.has_subcommands() {
            found.extend(command.get_arguments().filter(|arg| arg.get_long().is_some()).map(|arg| (path.to_vec(), arg.clone())));
        }
        for inner in command.get_subcommands() {
            flags(inner, &[path, &[inner.get_name().to_owned()]].concat(), found);
        }
    }

    /// What clap would be given, or the error.
    fn given(root: &Command, path: &[String], flag: &str) -> Result<Vec<String>, String> {
        let words: Vec<String> = [&["daypass".to_owned()], path, &[flag.to_owned()]].concat();
        match read(root, &words) {
            Ok(Asked::Run(words)) => Ok(words),
            Ok(Asked::Help { .. }) => Err("help".to_owned()),
            Err(failure) => Err(failure.text().to_owned()),
        }
    }

    /// Story: `kv delete -versions="$UNSET"` deleted the newest version, and `aws revoke-sessions -source-identity="$UNSET"` ended the sessions of
    /// everybody, while `kv get -mount="$UNSET"`, which Vault takes, found nothing. Now each flag is one of three things, and says so.
    #[test]
    fn an_empty_value_is_no_value_unless_that_would_do_more_than_was_meant() {
        let root = crate::cli::root("daypass");
        let mut found = Vec::new();
        flags(&root, &[], &mut found);
        let (mut absent, mut refused, mut listed) = (0, 0, 0);
        for (path, arg) in found {
            let name = arg.get_long().unwrap();
            if matches!(arg.get_action(), ArgAction::SetTrue) {
                continue;
            }
            let without = [&path[..], &["--".to_owned()]].concat();
            match (empty(&path, &arg), given(&root, &path, &format!("-{name}="))) {
                (Empty::Absent, Ok(words)) => {
                    assert_eq!(words, without, "{path:?} -{name}");
                    absent += 1;
                }
                (Empty::Refused(why), Err(text)) => {
                    assert!(text.starts_with(&format!("-{name} is empty, and without it {why}")), "{path:?}: {text}");
                    assert!(given(&root, &path, &format!("-{name}= ")).is_err(), "a blank one is no better");
                    refused += 1;
                    let command = path.join(" ");
                    listed += usize::from(REFUSED.iter().any(|(of, names, _)| *of == command && names.contains(&name)));
                }
                (Empty::Value, Ok(words)) => assert!(words.contains(&format!("--{name}=")), "{path:?}: {words:?}"),
                (what, other) => panic!("{path:?} -{name}: {what:?}, yet {other:?}"),
            }
        }
        assert!(absent > 800, "{absent}");
        assert!(refused > 100, "{refused}");
        // All that are listed were found: none has another name by now.
        assert_eq!(listed, REFUSED.iter().map(|(_, names, _)| names.len()).sum::<usize>());
    }

    #[test]
    fn an_empty_value_takes_back_what_was_given_before_it() {
        let path = ["kv".to_owned(), "get".to_owned()];
        let words: Vec<String> = "daypass kv get -mount=a -field=b -mount= x".split(' ').map(str::to_owned).collect();
        let Ok(Asked::Run(words)) = read(&crate::cli::root("daypass"), &words) else { panic!("it is read") };
        assert_eq!(words, [&path[..], &["--field=b".to_owned(), "--".to_owned(), "x".to_owned()]].concat());
    }
}
