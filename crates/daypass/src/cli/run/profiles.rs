//! Where SDKs look for files, and whether there are credentials in them.
//!
//! Read as Python's `configparser` reads them, which botocore goes by and which takes the most for a setting. What SDKs understand in more than one way
//! counts as what would do harm.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;

use rustix::process::getuid;

/// A file that SDKs may take credentials from.
pub(super) struct File {
    /// The variable that names it.
    pub(super) variable: &'static str,
    /// Where it is otherwise. Below the home where it does not begin with a slash.
    places: &'static [&'static str],
    /// The section that counts, as a message says it, and whether a header is its.
    section: (&'static str, fn(&str) -> bool),
    /// Settings that are credentials, or lead to some.
    keys: &'static [&'static str],
}

/// All of them. Others than boto's first library share its file (gsutil does), so that it is hidden only for credentials of AWS.
pub(super) const FILES: [File; 3] = [
    File { variable: "AWS_CONFIG_FILE", places: &[".aws/config"], section: DEFAULT_PROFILE, keys: &KEYS },
    File { variable: "AWS_SHARED_CREDENTIALS_FILE", places: &[".aws/credentials"], section: DEFAULT_PROFILE, keys: &KEYS },
    File {
        variable: "BOTO_CONFIG",
        places: &["/etc/boto.cfg", ".boto"],
        section: ("section Credentials", |header| header.trim() == "Credentials"),
        keys: &["aws_access_key_id"],
    },
];

const DEFAULT_PROFILE: (&str, fn(&str) -> bool) = ("default profile", is_default_profile);

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

/// The home that the environment names, else the one that the system knows, and the root, which an empty name leads to. Empty where none is known.
pub(super) fn homes(named: Option<String>) -> Vec<String> {
    named.map_or_else(
        || {
            let known = read("/etc/passwd").ok().and_then(|users| home_of(&users, getuid().as_raw()));
            known.map(|home| vec![home, String::new()]).unwrap_or_default()
        },
        |home| vec![home],
    )
}

/// Why the command must not see a file, which a variable may have named. Nothing where it may.
pub(super) fn why_hidden(file: &File, named: Option<&str>, homes: &[String]) -> Option<String> {
    let places = named.map_or_else(|| file.places.to_vec(), |named| vec![named]);
    places.into_iter().find_map(|place| {
        if place.contains('$') || (place.starts_with('~') && !place.starts_with("~/")) {
            return Some(format!("{place:?} has a variable or a user's name in it, which not all SDKs read alike"));
        }
        let below = if named.is_some() { place.strip_prefix("~/") } else { Some(place).filter(|place| !place.starts_with('/')) };
        match below {
            Some(below) if homes.is_empty() => {
                Some(format!("nobody knows where {below} is, with no HOME and no home in /etc/passwd, so it may name credentials"))
            }
            Some(below) => homes.iter().find_map(|home| why_not_at(file, &format!("{}/{below}", home.trim_end_matches('/')))),
            None => why_not_at(file, place),
        }
    })
}

fn why_not_at(file: &File, path: &str) -> Option<String> {
    // What cannot be read, SDKs cannot read either.
    if fs::metadata(path).ok()?.file_type().is_fifo() {
        return Some(format!("{path} is a pipe, which can be read once and may name credentials"));
    }
    let (section, is_section) = file.section;
    match read(path) {
        Ok(text) if names(&text, is_section, file.keys) => {
            Some(format!("the {section} of {path} names credentials, which SDKs would take first"))
        }
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Some(format!("{path} has more than {FILE_BYTES_MAX} bytes and may name credentials"))
        }
        _ => None,
    }
}

/// A file's text; of anything else but files nothing.
fn read(path: &str) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Ok(String::new());
    }
    let mut text = Vec::new();
    let size = fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if u64::try_from(size).is_ok_and(|size| size > FILE_BYTES_MAX) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn home_of(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let is_ours = fields.next()?.parse() == Ok(uid);
        fields.nth(2).filter(|home| is_ours && !home.is_empty()).map(str::to_owned)
    })
}

/// Whether one of these settings is in a section.
fn names(text: &str, is_section: fn(&str) -> bool, keys: &[&str]) -> bool {
    let mut inside = false;
    for line in text.trim_start_matches('\u{feff}').split(['\n', '\r']) {
        let (setting, is_indented) = (line.trim(), line.starts_with(char::is_whitespace));
        if let Some(header) = setting.strip_prefix('[') {
            let is_ours = is_section(header.split(']').next().unwrap_or_default());
            // One that is indented may go on with the value before it, and end nothing.
            inside = is_ours || (inside && is_indented);
        } else if let Some((key, _)) = setting.split_once(['=', ':']).filter(|_| inside)
            && keys.contains(&key.trim_end().to_lowercase().as_str())
        {
            return true;
        }
    }
    false
}

fn is_default_profile(header: &str) -> bool {
    let name = header.replace(['"', '\''], "");
    let name: Vec<&str> = name.split_whitespace().collect();
    matches!(name[..], ["default"] | ["profile", "default"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_profile_with_credentials_of_its_own_is_found() {
        for text in [
            "[default]\naws_access_key_id = AKIA\n",
            "[default]\naws_access_key_id: AKIA\n",
            "[default]\rRole_Arn : arn=x",
            "\u{feff}[default] ; mine\n\taws_access_key_id=AKIA",
            "[default]\nregion = x\n  [other]\naws_access_key_id = AKIA",
            "[other]\nx=1\n[ default ]\nregion=eu-west-1\nrole_arn=arn:aws:iam::1:role/x",
            "# mine\n[profile default]\n  credential_process = /bin/x",
            "[profile \"default\"]\nSSO_Session=main",
        ] {
            assert!(names(text, is_default_profile, &KEYS), "{text}");
        }
        for text in [
            "",
            "[default]\nregion = eu-west-1\noutput = json\n# role_arn = x\n;role_arn: x",
            "[default]\nregion=eu-west-1\n[profile build]\nrole_arn=arn:aws:iam::1:role/x",
            "[default]\nx: role_arn = y",
            "[sso-session default]\nsso_start_url = https://x",
            "aws_access_key_id = AKIA",
        ] {
            assert!(!names(text, is_default_profile, &KEYS), "{text}");
        }
    }

    fn why(variable: &str, named: Option<&str>, homes: &[&str]) -> String {
        let file = FILES.iter().find(|file| file.variable == variable).unwrap();
        let homes: Vec<String> = homes.iter().map(|home| (*home).to_owned()).collect();
        why_hidden(file, named, &homes).unwrap_or_default()
    }

    /// Story: a colon in place of `=`, boto's own file, a variable in a path: botocore took credentials from there that were looked for elsewhere, and
    /// the command was somebody else without a word.
    #[test]
    fn a_file_is_hidden_wherever_an_sdk_may_find_credentials_in_it() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let root = at("");
        std::fs::write(at(".boto"), "[Boto]\ndebug = 1\n[Credentials]\ngs_oauth2_refresh_token = x\n").unwrap();
        assert_eq!(why("BOTO_CONFIG", None, &[&root]), "", "gsutil's own");
        std::fs::write(at(".boto"), "[Credentials]\nAWS_Access_Key_Id: AKIA\n").unwrap();
        assert!(why("BOTO_CONFIG", None, &[&root]).contains("the section Credentials of"));
        std::fs::write(at("keys"), "[default]\naws_access_key_id: AKIA\n").unwrap();
        let named = |path: &str| why("AWS_SHARED_CREDENTIALS_FILE", Some(path), &[&root]);
        for path in [at("keys").as_str(), "~/keys"] {
            assert!(named(path).starts_with("the default profile of "), "{path}");
        }
        for path in ["$HOME/keys", "${HOME}/keys", "~root/keys"] {
            assert!(named(path).contains("not all SDKs read alike"), "{path}");
        }
        std::fs::write(at("long"), format!("{}[default]\nrole_arn=x", "#\n".repeat(1 << 19))).unwrap();
        assert!(named("~/long").contains("more than 1048576 bytes"));
        assert_eq!((named("~/none"), named("/dev/null"), named("~/")), <(String, String, String)>::default());
        assert!(why("AWS_CONFIG_FILE", None, &[]).contains("no home in /etc/passwd"));
    }

    #[test]
    fn a_home_is_found_by_the_number_of_the_user() {
        let users = "root:x:0:0:root:/root:/bin/sh\nodd\nci:x:1000:100::/home/ci:/bin/sh\nnone:x:7:7:::\n";
        assert_eq!([0, 1000, 100, 7].map(|uid| home_of(users, uid)), [Some("/root".to_owned()), Some("/home/ci".to_owned()), None, None]);
        assert_eq!(homes(Some("/x".to_owned())), ["/x"]);
    }
}
