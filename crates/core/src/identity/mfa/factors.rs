//! What a client presents as second factors: in the body of `sys/mfa/validate`, or in headers `X-Vault-MFA` of a login. Read as it was sent.

use std::collections::BTreeMap;

use daypass_base::Secret;
use http::HeaderMap;

use super::method::MethodRow;

/// Passcodes by the id or the name of their method.
#[derive(Debug, Clone, Default)]
pub(crate) struct Factors(BTreeMap<String, Vec<Secret<String>>>);

impl Factors {
    /// `method`, or `method:passcode`; several headers are several factors. Errors: what is wrong with one of them, without what it holds.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Self, String> {
        let mut out = Self::default();
        for value in headers.get_all(HEADER) {
            let value = value.to_str().map_err(|_not_text| format!("failed to parse {SHOWN} header: it is not plain text"))?;
            let (method, passcode) = match value.split_once(':') {
                _ if value.is_empty() => continue,
                None => (value, None),
                Some(("", _)) => {
                    return Err(format!("failed to parse {SHOWN} header: invalid data in header {SHOWN:?}; missing method name or ID"));
                }
                Some((_, "")) => {
                    return Err(format!("failed to parse {SHOWN} header: invalid data in header {SHOWN:?}; missing method value"));
                }
                Some((method, passcode)) => (method, Some(passcode)),
            };
            out.add(method, passcode.map(Secret::from)).map_err(|why| format!("failed to parse {SHOWN} header: {why}"))?;
        }
        Ok(out)
    }

    /// Errors: which limit it is over.
    pub(crate) fn of_payload(payload: BTreeMap<String, Vec<Secret<String>>>) -> Result<Self, String> {
        let mut out = Self::default();
        for (method, passcodes) in payload {
            out.add(&method, None)?;
            for passcode in passcodes {
                out.add(&method, Some(passcode))?;
            }
        }
        Ok(out)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The passcode for a method. `None`: the method is not named at all. Errors: in Vault's words.
    pub(super) fn passcode(&self, method: &MethodRow) -> Option<Result<&str, &'static str>> {
        let named = [Some(&method.id), Some(&method.name).filter(|name| !name.is_empty())];
        let mut found = None;
        for name in named.into_iter().flatten() {
            let Some(passcodes) = self.0.get(name) else { continue };
            // Exposed to be compared with what the seed gives.
            let passcodes = passcodes.iter().map(|passcode| passcode.expose().as_str()).filter(|passcode| !passcode.is_empty());
            for passcode in passcodes {
                if found.replace(Ok(passcode.strip_prefix("passcode=").unwrap_or(passcode))).is_some_and(|other| other.is_ok()) {
                    return Some(Err("found multiple passcodes for the same MFA method"));
                }
            }
            found = found.or(Some(Err("MFA credentials not supplied")));
        }
        found
    }

    fn add(&mut self, method: &str, passcode: Option<Secret<String>>) -> Result<(), String> {
        if method.len() > METHOD_BYTES_MAX || passcode.as_ref().is_some_and(|passcode| passcode.expose().len() > PASSCODE_BYTES_MAX) {
            return Err(format!("a method can have {METHOD_BYTES_MAX} bytes and a passcode {PASSCODE_BYTES_MAX}"));
        }
        if !self.0.contains_key(method) && self.0.len() >= METHODS_MAX {
            return Err(format!("{METHODS_MAX} methods can be given at once"));
        }
        let of_method = self.0.entry(method.to_owned()).or_default();
        of_method.extend(passcode);
        if of_method.len() > PASSCODES_MAX {
            return Err(format!("{PASSCODES_MAX} values can be given for one method"));
        }
        Ok(())
    }
}

const HEADER: &str = "x-vault-mfa";
const SHOWN: &str = "X-Vault-MFA";
const METHODS_MAX: usize = 16;
const PASSCODES_MAX: usize = 4;
const METHOD_BYTES_MAX: usize = 256;
const PASSCODE_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> Result<Factors, String> {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(HEADER, value.parse().unwrap());
        }
        Factors::of_headers(&map)
    }

    fn method(id: &str, name: &str) -> MethodRow {
        MethodRow { name: name.to_owned(), ..MethodRow::new(id.to_owned()) }
    }

    #[test]
    fn headers_name_a_method_and_its_passcode() {
        let factors = headers(&["id-1:123456", "named:passcode=654321", "push"]).unwrap();
        assert_eq!(factors.passcode(&method("id-1", "")), Some(Ok("123456")));
        assert_eq!(factors.passcode(&method("id-2", "named")), Some(Ok("654321")));
        assert_eq!(factors.passcode(&method("push", "")), Some(Err("MFA credentials not supplied")));
        assert_eq!(factors.passcode(&method("id-3", "")), None);
        assert!(headers(&[""]).unwrap().is_empty());
    }

    #[test]
    fn whitespace_stays_where_it_is() {
        let factors = Factors::of_payload(BTreeMap::from([("m".to_owned(), vec![Secret::from(" 123456 ")])])).unwrap();
        assert_eq!(factors.passcode(&method("m", "")), Some(Ok(" 123456 ")));
    }

    #[test]
    fn one_method_has_one_passcode_however_it_is_named() {
        for values in [&["m:1", "m:2"][..], &["m:1", "name:2"], &["m:1", "name:1"]] {
            let factors = headers(values).unwrap();
            assert!(factors.passcode(&method("m", "name")).unwrap().unwrap_err().contains("multiple passcodes"), "{values:?}");
        }
        assert_eq!(headers(&["m", "name:2"]).unwrap().passcode(&method("m", "name")), Some(Ok("2")));
    }

    #[test]
    fn what_is_malformed_or_too_much_is_refused_and_not_repeated() {
        for bad in [":123456", "m:"] {
            let why = headers(&[bad]).unwrap_err();
            assert!(why.starts_with("failed to parse X-Vault-MFA header: ") && !why.contains("123456"), "{why}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("m{n}:1")).collect();
        assert!(headers(&many.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err().contains("16 methods"));
        assert!(headers(&["m:1"; 5]).unwrap_err().contains("4 values"));
        assert!(headers(&[&format!("m:{}", "1".repeat(257))]).unwrap_err().contains("256"));
    }
}
