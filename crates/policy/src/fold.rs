//! The one spelling of a name that all its other spellings fold to.
//!
//! Handlers take `Admin`, `admin/` and ` admin` for the same policy, user, role or entity. Who denies `admin` means the thing, not the
//! spelling, so denies are compared in this form. Grants never are: they permit what they say, to the letter, and where handlers fold names, no more than
//! what is granted for the name in this form.

use std::borrow::Cow;

/// A text in its folded form: lower case, no blanks where a segment begins, no empty segments inside. Short ones are folded without an allocation.
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one judgement, and a box would be an allocation")]
pub enum Folded<'a> {
    /// It was folded already, as nearly every path is.
    Same(&'a str),
    /// Bytes, and how many of them.
    Short([u8; SHORT_BYTES], usize),
    /// One that is too long for that.
    Long(String),
}

impl<'a> Folded<'a> {
    /// Folds a text.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        // All bytes are looked at, with no early end: so it is done in many at once.
        let is_other = |byte: u8| byte.is_ascii_uppercase() | !byte.is_ascii_graphic();
        let has_other = text.bytes().fold(false, |any, byte| any | is_other(byte));
        let is_doubled = |both: (u8, u8)| both == (b'/', b'/');
        let has_doubled = text.bytes().zip(text.bytes().skip(1)).fold(false, |any, both| any | is_doubled(both));
        if !has_other && !has_doubled {
            return Self::Same(text);
        }
        let (mut short, mut length) = ([0; SHORT_BYTES], 0);
        if text.is_ascii() && text.len() <= SHORT_BYTES {
            let mut last = None;
            let kept = text.bytes().filter(|byte| is_kept(char::from(*byte), &mut last));
            for (place, byte) in short.iter_mut().zip(kept) {
                (*place, length) = (byte.to_ascii_lowercase(), length + 1);
            }
            return Self::Short(short, length);
        }
        for folded in folded(text) {
            let end = length + folded.len_utf8();
            let Some(place) = short.get_mut(length..end) else { return Self::Long(fold(text)) };
            folded.encode_utf8(place);
            length = end;
        }
        Self::Short(short, length)
    }

    /// Folds a text behind its first `kept` bytes, which stay as they are spelled.
    pub(crate) fn behind(text: &'a str, kept: usize) -> Self {
        let Some((head, rest)) = text.split_at_checked(kept) else { return Self::new(text) };
        if head.is_empty() {
            return Self::new(text);
        }
        match Self::new(rest) {
            Self::Same(_) => Self::Same(text),
            folded => Self::Long([head, folded.as_str()].concat()),
        }
    }

    /// What it is folded to.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Same(text) => text,
            // What was put in are whole characters.
            Self::Short(bytes, length) => bytes.get(..*length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }
}

/// The folded form of a text.
pub(crate) fn fold(text: &str) -> String {
    folded(text).collect()
}

/// The folded form of a name that stands alone, such as a value of a parameter: without blanks around it.
pub(crate) fn fold_name(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let is_folded = |c: char| c != FINAL_SIGMA && c.to_lowercase().eq([c]);
    if text.chars().all(is_folded) { text.into() } else { text.chars().flat_map(lower).collect::<String>().into() }
}

/// A folded path without the slashes and blanks at its end, which many handlers drop.
#[must_use]
pub fn bare(folded: &str) -> &str {
    folded.trim_end_matches(|c: char| c == '/' || c.is_whitespace())
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    let mut last = None;
    text.chars().filter(move |c| is_kept(*c, &mut last)).flat_map(lower)
}

/// Whether folding keeps a character behind the last one that it kept.
fn is_kept(c: char, last: &mut Option<char>) -> bool {
    let kept = match last {
        Some('/') => c != '/' && !c.is_whitespace(),
        None => !c.is_whitespace(),
        Some(_) => true,
    };
    if kept {
        *last = Some(c);
    }
    kept
}

/// A sigma at the end of a word has a lower case of its own, which depends on what stands beside it: all are one here.
fn lower(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase().map(|c| if c == FINAL_SIGMA { 'σ' } else { c })
}

const FINAL_SIGMA: char = 'ς';
const SHORT_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_name_fold_to_one() {
        for (one, other) in [
            ("sys/policies/acl/Admin", "sys/policies/acl/admin"),
            ("a/ b", "a/b"),
            ("A/\u{212a}", "a/k"),
            ("a/ΟΔΟΣ", "a/οδος"),
            ("a//b", "a/b"),
            ("a/ / /b//", "a/b/"),
            ("a/\u{130}", "a/i\u{307}"),
        ] {
            assert_eq!(fold(one), fold(other));
            assert_eq!(Folded::new(one).as_str(), fold(other));
        }
        assert_eq!(bare("a/b// /"), "a/b");
        assert_eq!((fold_name(" Admin "), fold_name("ΟΔΟΣ")), ("admin".into(), fold_name("οδος")));
        assert!(matches!(fold_name(" admin "), Cow::Borrowed("admin")));
        assert!(matches!(Folded::new("/a/b-c/1/"), Folded::Same("/a/b-c/1/")) && matches!(Folded::new(&"A".repeat(300)), Folded::Long(_)));
    }

    proptest! {
        /// What the handlers make the same, folding makes the same.
        #[test]
        fn folding_goes_at_least_as_far_as_the_handlers(one in "[aAkKÄäΣσς\u{212a}\u{130}iI ]{0,6}", other in "[aAkKÄäΣσς\u{212a}\u{130}iI ]{0,6}") {
            if one.trim().to_lowercase() == other.trim().to_lowercase() {
                prop_assert_eq!(fold_name(&one), fold_name(&other));
                let path = |name: &str| bare(&fold(&format!("x/{name}"))).to_owned();
                prop_assert_eq!(path(&one), path(&other));
            }
            let twice = fold(&fold(&one));
            prop_assert_eq!(twice, fold(&one));
            let doubled = fold(&format!("x//{one}/ /"));
            prop_assert_eq!(&doubled, &fold(&format!("x/{one}/")));
            prop_assert_eq!(fold(&doubled), doubled);
            let long = one.repeat(200);
            let folded = Folded::new(&long);
            prop_assert_eq!(folded.as_str(), fold(&long));
        }
    }
}
