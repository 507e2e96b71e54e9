//! What webpki does not judge in certificates, said to whoever is refused for it: pure. Nothing here lets anybody in.

use std::collections::BTreeSet;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Of the kinds of names that a client's certificate has, those that one of these authorities constrains and webpki does not compare: it refuses every
/// certificate that has such a name. `None` where it is not that.
pub(super) fn constrained<'a>(own: &[u8], authorities: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let (_, own) = X509Certificate::from_der(own).ok()?;
    // Each certificate has a subject.
    let mut names = BTreeSet::from([DIRECTORY]);
    for extension in own.extensions() {
        if let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() {
            names.extend(found.general_names.iter().filter_map(kind));
        }
    }
    let mut constrained = BTreeSet::new();
    for authority in authorities {
        let Ok((_, authority)) = X509Certificate::from_der(authority) else { continue };
        for extension in authority.extensions() {
            if let ParsedExtension::NameConstraints(found) = extension.parsed_extension() {
                let subtrees = found.permitted_subtrees.iter().chain(&found.excluded_subtrees).flatten();
                constrained.extend(subtrees.filter_map(|subtree| kind(&subtree.base)));
            }
        }
    }
    let both: Vec<&str> = names.intersection(&constrained).copied().collect();
    (!both.is_empty()).then(|| both.join(" and "))
}

/// The object ids of critical extensions that webpki does not know.
pub(super) fn unknown_extensions<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut found = BTreeSet::new();
    for certificate in certificates {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { continue };
        let critical = certificate.extensions().iter().filter(|extension| extension.critical);
        found.extend(critical.map(|extension| extension.oid.to_id_string()).filter(|id| !KNOWN.contains(&id.as_str())).take(IDS_MAX));
    }
    found.into_iter().take(IDS_MAX).collect::<Vec<_>>().join(", ")
}

/// The kinds that webpki does not compare.
fn kind(name: &GeneralName<'_>) -> Option<&'static str> {
    match name {
        GeneralName::DNSName(_) | GeneralName::IPAddress(_) => None,
        GeneralName::DirectoryName(_) => Some(DIRECTORY),
        GeneralName::RFC822Name(_) => Some("e-mail addresses"),
        GeneralName::URI(_) => Some("URIs"),
        _ => Some("names of other kinds"),
    }
}

const DIRECTORY: &str = "directory names, which subjects are,";
/// Key usage, alternative names, basic constraints, name constraints, distribution points of lists, extended key usage.
const KNOWN: [&str; 6] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];
/// Ids that are told.
const IDS_MAX: usize = 4;
