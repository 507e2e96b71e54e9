//! The bit of BER (X.690) that PKCS#7 documents of AWS's, answers of OCSP and ECDSA signatures are written in: elements with a short tag, of a definite or, where that
//! is allowed, an indefinite length.

/// Tags that every reader of these bytes knows.
pub(crate) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const OCTETS: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OBJECT_ID: u8 = 0x06;
    pub(crate) const SEQUENCE: u8 = 0x30;
}

/// Elements inside each other; AWS's documents have eight.
const DEPTH_MAX: usize = 16;

/// Elements one after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
    lengths: Lengths,
}

/// Which forms of length are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    /// Both.
    Any,
    /// The one that DER has.
    Definite,
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    /// What is in it.
    pub(crate) content: &'a [u8],
    /// The whole of it, with tag and length.
    pub(crate) whole: &'a [u8],
    /// Its length stands in front; the other form is BER's alone.
    pub(crate) definite: bool,
}

/// Why bytes are not read.
pub(crate) type Refused = &'static str;

impl<'a> Elements<'a> {
    /// Elements in BER.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, lengths: Lengths::Any }
    }

    /// Elements in DER, as far as lengths go.
    pub(crate) fn in_der(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, lengths: Lengths::Definite }
    }

    /// The next element, which must have this tag.
    pub(crate) fn need(&mut self, tag: u8) -> Result<Element<'a>, Refused> {
        self.maybe(tag)?.ok_or("an element is missing or is another one")
    }

    /// The next element if it has this tag.
    pub(crate) fn maybe(&mut self, tag: u8) -> Result<Option<Element<'a>>, Refused> {
        if self.rest.first() != Some(&tag) {
            return Ok(None);
        }
        let (element, rest) = split(self.rest, DEPTH_MAX)?;
        if self.lengths == Lengths::Definite && !element.definite {
            return Err("a length is not written as DER has it");
        }
        self.rest = rest;
        Ok(Some(element))
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), Refused> {
        if self.rest.is_empty() { Ok(()) } else { Err("bytes follow after the end") }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.rest.is_empty()
    }
}

/// The first element and what follows it.
fn split(bytes: &[u8], depth: usize) -> Result<(Element<'_>, &[u8]), Refused> {
    const SHORT: Refused = "it ends early";
    let depth = depth.checked_sub(1).ok_or("elements stand too deep in each other")?;
    let (tag, rest) = bytes.split_first().ok_or(SHORT)?;
    if tag & 0x1f == 0x1f {
        return Err("an element has a long tag");
    }
    let (first, rest) = rest.split_first().ok_or(SHORT)?;
    let (content, after, definite) = match first {
        0x80 if tag & 0x20 != 0 => {
            let content = until_end(rest, depth)?;
            (content, rest.get(content.len() + 2..).ok_or(SHORT)?, false)
        }
        0x80 => return Err("a primitive element has no length"),
        short @ 0..=0x7f => {
            let (content, after) = rest.split_at_checked(usize::from(*short)).ok_or(SHORT)?;
            (content, after, true)
        }
        long @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f)).ok_or(SHORT)?;
            let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
            if length < 0x80 || digits.first() == Some(&0) {
                return Err("a length is written longer than it need be");
            }
            let (content, after) = rest.split_at_checked(length).ok_or(SHORT)?;
            (content, after, true)
        }
        _ => return Err("a length is over the limit"),
    };
    let whole = bytes.get(..bytes.len() - after.len()).ok_or(SHORT)?;
    Ok((Element { tag: *tag, content, whole, definite }, after))
}

/// What stands before the two zeros that end an element of indefinite length.
fn until_end(bytes: &[u8], depth: usize) -> Result<&[u8], Refused> {
    let mut rest = bytes;
    loop {
        if rest.starts_with(&[0, 0]) {
            return bytes.get(..bytes.len() - rest.len()).ok_or("it ends early");
        }
        rest = split(rest, depth)?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Result<(u8, Vec<u8>), Refused> {
        let mut elements = Elements::of(bytes);
        let first = bytes.first().copied().unwrap_or_default();
        let element = elements.need(first)?;
        elements.end()?;
        assert_eq!(element.whole, bytes);
        Ok((element.tag, element.content.to_vec()))
    }

    #[test]
    fn both_forms_of_length_are_read() {
        assert_eq!(one(&[0x30, 3, 2, 1, 5]), Ok((0x30, vec![2, 1, 5])));
        assert_eq!(one(&[0x30, 0x80, 2, 1, 5, 0, 0]), Ok((0x30, vec![2, 1, 5])));
        assert_eq!(one(&[0x30, 0x80, 0x24, 0x80, 4, 1, 7, 0, 0, 0, 0]), Ok((0x30, vec![0x24, 0x80, 4, 1, 7, 0, 0])));
        let long = [vec![4, 0x81, 200], vec![9; 200]].concat();
        assert_eq!(one(&long), Ok((4, vec![9; 200])));
    }

    #[test]
    fn der_has_definite_lengths_alone() {
        let open = [0x30, 0x80, 2, 1, 5, 0, 0];
        assert!(Elements::of(&open).need(0x30).is_ok());
        assert_eq!(Elements::in_der(&open).need(0x30), Err("a length is not written as DER has it"));
        assert!(Elements::in_der(&[0x30, 3, 2, 1, 5]).need(0x30).is_ok());
    }

    #[test]
    fn what_has_a_second_way_to_be_written_or_read_is_refused() {
        for (bytes, why) in [
            (&[][..], "missing"),
            (&[0x30], "ends early"),
            (&[0x30, 2, 1], "ends early"),
            (&[4, 0x81, 3, 1, 2, 3], "longer than it need be"),
            (&[4, 0x82, 0, 0x80], "longer than it need be"),
            (&[4, 0x84, 0, 0, 0, 1, 1], "over the limit"),
            (&[4, 0x80, 0, 0], "no length"),
            (&[0x30, 0x80, 2, 1, 5], "ends early"),
            (&[0x3f, 0x81, 1, 0], "long tag"),
            (&[0x30, 0, 0], "bytes follow"),
        ] {
            let error = one(bytes).unwrap_err();
            assert!(error.contains(why), "{bytes:?}: {error}");
        }
        let deep: Vec<u8> = [0x30, 0x80].repeat(20);
        assert_eq!(one(&deep), Err("elements stand too deep in each other"));
    }
}
