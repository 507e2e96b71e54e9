//! One row of a snapshot, as bytes.
//!
//! A record is its length (a varint) and a message with three fields as protobuf writes them: 1 the name, 2 the value, 15 a number. Names begin
//! with the kind: `config/…` is the path itself (`config-hex/…` where a key is no text), `token/`, `lease/` and `index/` are followed by the key
//! in hex, `due/` by shard, nanoseconds and id, `claim/` by shard and nanoseconds. Vault's tools read fields 1 and 2 of such messages, and so
//! can count what is in ours.
//!
//! The order is that of [`Record`]'s `Ord`, strictly rising: a record that comes twice, or late, is an error.

use std::io::{self, Read};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use daypass_base::Timestamp;

use crate::{Due, KEY_BYTES_MAX, Key, OWNER_BYTES_MAX, Row, Space, VALUE_BYTES_MAX};

/// One thing that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A row.
    Row(Key, Row),
    /// An entry of the expiry index.
    Due(Due),
    /// Who works on a shard.
    Claim {
        /// The shard.
        shard: u8,
        /// Until when.
        until: Timestamp,
        /// The number of the claim.
        epoch: u64,
        /// Whose it is.
        owner: String,
    },
}

/// [`Record`], borrowed from where it lies.
#[derive(Debug, Clone, Copy)]
pub enum RecordRef<'a> {
    /// A row.
    Row {
        /// Its kind.
        space: Space,
        /// Its key.
        key: &'a [u8],
        /// How often it was put.
        version: u64,
        /// Its value.
        value: &'a [u8],
    },
    /// An entry of the expiry index.
    Due {
        /// Its shard.
        shard: u8,
        /// When.
        at: Timestamp,
        /// What.
        id: &'a [u8],
    },
    /// Who works on a shard.
    Claim {
        /// The shard.
        shard: u8,
        /// Until when.
        until: Timestamp,
        /// The number of the claim.
        epoch: u64,
        /// Whose it is.
        owner: &'a str,
    },
}

impl Record {
    /// The same, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> RecordRef<'_> {
        match self {
            Self::Row(key, row) => RecordRef::Row { space: key.space, key: &key.bytes, version: row.version, value: &row.value },
            Self::Due(due) => RecordRef::Due { shard: due.shard, at: due.at, id: &due.id },
            Self::Claim { shard, until, epoch, owner } => RecordRef::Claim { shard: *shard, until: *until, epoch: *epoch, owner },
        }
    }

    /// Where it stands among others.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Row(key, _) => Place::Row(key.clone()),
            Self::Due(due) => Place::Due(due.clone()),
            Self::Claim { shard, .. } => Place::Claim(*shard),
        }
    }
}

/// What the order goes by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Row(Key),
    Due(Due),
    Claim(u8),
}

/// Appends a record with its length.
pub fn encode(record: &RecordRef<'_>, out: &mut Vec<u8>) {
    let (name, value, number) = match record {
        RecordRef::Row { space, key, version, value } => (row_name(*space, key), *value, *version),
        RecordRef::Due { shard, at, id } => (format!("due/{shard}/{}/{}", at.nanos(), HEXLOWER.encode(id)), &[][..], 0),
        RecordRef::Claim { shard, until, epoch, owner } => (format!("claim/{shard}/{}", until.nanos()), owner.as_bytes(), *epoch),
    };
    let size = |bytes: usize| 1 + varint_size(bytes as u64) + bytes;
    let length = size(name.len()) + size(value.len()) + 1 + varint_size(number);
    out.reserve(length + VARINT_BYTES_MAX);
    varint(length as u64, out);
    out.push(TAG_NAME);
    varint(name.len() as u64, out);
    out.extend_from_slice(name.as_bytes());
    out.push(TAG_VALUE);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
    out.push(TAG_NUMBER);
    varint(number, out);
}

fn row_name(space: Space, key: &[u8]) -> String {
    let kind = match space {
        Space::Config => match std::str::from_utf8(key) {
            Ok(text) => return format!("{CONFIG}{text}"),
            Err(_no_text) => CONFIG_HEX,
        },
        Space::Token => TOKEN,
        Space::Lease => LEASE,
        Space::Index => INDEX,
    };
    format!("{kind}{}", HEXLOWER.encode(key))
}

/// Reads the next record; `None` at the end. Errors: `InvalidData` says what is wrong, `UnexpectedEof` that it was cut.
pub fn decode(source: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<Record>> {
    let Some(length) = read_length(source)? else { return Ok(None) };
    if length > RECORD_BYTES_MAX {
        return Err(wrong(format!("a record of {length} bytes; {RECORD_BYTES_MAX} are the most")));
    }
    buffer.clear();
    // Grows with what comes, not with what is announced.
    if source.by_ref().take(length).read_to_end(buffer)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut rest = buffer.as_slice();
    let name = field(&mut rest, TAG_NAME)?;
    let value = field(&mut rest, TAG_VALUE)?;
    tag(&mut rest, TAG_NUMBER)?;
    let number = take_varint(&mut rest)?;
    if !rest.is_empty() {
        return Err(wrong("a record with more fields than it may have"));
    }
    let name = std::str::from_utf8(name).map_err(|_no_text| wrong("a record whose name is no text"))?;
    parse(name, value, number).map(Some)
}

fn parse(name: &str, value: &[u8], number: u64) -> io::Result<Record> {
    if let Some(rest) = name.strip_prefix("due/") {
        let mut parts = rest.splitn(3, '/');
        let (Some(shard), Some(at), Some(id)) = (parts.next(), parts.next(), parts.next()) else { return Err(no_name(name)) };
        if !value.is_empty() || number != 0 {
            return Err(wrong("an expiry entry with a value"));
        }
        return Ok(Record::Due(Due {
            shard: decimal(shard, name)?,
            at: Timestamp::from_nanos(decimal(at, name)?),
            id: key_from_hex(id, name)?,
        }));
    }
    if let Some(rest) = name.strip_prefix("claim/") {
        let (shard, until) = rest.split_once('/').ok_or_else(|| no_name(name))?;
        let owner = std::str::from_utf8(value).ok().filter(|owner| owner.len() <= OWNER_BYTES_MAX);
        let owner = owner.ok_or_else(|| wrong("a claim whose owner is no name"))?.to_owned();
        let until = Timestamp::from_nanos(decimal(until, name)?);
        return Ok(Record::Claim { shard: decimal(shard, name)?, until, epoch: in_range(number)?, owner });
    }
    let key = if let Some(text) = name.strip_prefix(CONFIG) {
        Key::new(Space::Config, Bytes::copy_from_slice(text.as_bytes()))
    } else {
        let spaces = [(CONFIG_HEX, Space::Config), (TOKEN, Space::Token), (LEASE, Space::Lease), (INDEX, Space::Index)];
        let found = spaces.into_iter().find_map(|(kind, space)| name.strip_prefix(kind).map(|hex| (space, hex)));
        let (space, hex) = found.ok_or_else(|| no_name(name))?;
        let bytes = key_from_hex(hex, name)?;
        if space == Space::Config && std::str::from_utf8(&bytes).is_ok() {
            return Err(wrong("a text in hex: one key has one name"));
        }
        Key::new(space, bytes)
    };
    if key.bytes.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        return Err(wrong("a row whose key or value is over the limit"));
    }
    if number == 0 {
        return Err(wrong("a row of version 0"));
    }
    Ok(Record::Row(key, Row { value: Bytes::copy_from_slice(value), version: in_range(number)? }))
}

/// One name for one thing: `+1` and `01` are no numbers.
fn decimal<T: std::str::FromStr + ToString>(text: &str, name: &str) -> io::Result<T> {
    text.parse::<T>().ok().filter(|number| number.to_string() == text).ok_or_else(|| no_name(name))
}

fn key_from_hex(hex: &str, name: &str) -> io::Result<Bytes> {
    let bytes = HEXLOWER.decode(hex.as_bytes()).ok().filter(|bytes| bytes.len() <= KEY_BYTES_MAX);
    bytes.map(Bytes::from).ok_or_else(|| no_name(name))
}

/// SQLite counts with a sign.
fn in_range(number: u64) -> io::Result<u64> {
    i64::try_from(number).map(|_fits| number).map_err(|_too_large| wrong(format!("the number {number} is too large")))
}

fn no_name(name: &str) -> io::Error {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
    wrong(format!("a record with the name {shown:?}, which is none of those that this daypass knows"))
}

pub(crate) fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// `None` where nothing comes any more.
fn read_length(source: &mut impl Read) -> io::Result<Option<u64>> {
    let mut bytes = [0; VARINT_BYTES_MAX];
    for (count, slot) in bytes.iter_mut().enumerate() {
        let mut one = [0];
        match source.read_exact(&mut one) {
            Ok(()) => {}
            Err(error) if count == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [byte] = one;
        *slot = byte;
        if byte & 0x80 == 0 {
            break;
        }
    }
    take_varint(&mut bytes.as_slice()).map(Some)
}

fn field<'a>(rest: &mut &'a [u8], wanted: u8) -> io::Result<&'a [u8]> {
    tag(rest, wanted)?;
    let length = usize::try_from(take_varint(rest)?).unwrap_or(usize::MAX);
    let (field, left) = rest.split_at_checked(length).ok_or_else(|| wrong("a field that is longer than its record"))?;
    *rest = left;
    Ok(field)
}

fn tag(rest: &mut &[u8], wanted: u8) -> io::Result<()> {
    match rest.split_first() {
        Some((found, left)) if *found == wanted => {
            *rest = left;
            Ok(())
        }
        _ => Err(wrong("a record without one of its fields")),
    }
}

fn take_varint(rest: &mut &[u8]) -> io::Result<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first().ok_or_else(|| wrong("a number that is cut off"))?;
        *rest = left;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            // One form for one number, so that what is read is written the same.
            return if *byte == 0 && shift > 0 { Err(wrong("a number with needless bytes")) } else { Ok(number) };
        }
    }
    Err(wrong("a number that is too long"))
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn varint_size(number: u64) -> usize {
    let bits = 64 - number.leading_zeros().min(63);
    usize::try_from(bits.div_ceil(7)).unwrap_or(VARINT_BYTES_MAX)
}

const CONFIG: &str = "config/";
const CONFIG_HEX: &str = "config-hex/";
const TOKEN: &str = "token/";
const LEASE: &str = "lease/";
const INDEX: &str = "index/";
const TAG_NAME: u8 = 0x0a;
const TAG_VALUE: u8 = 0x12;
const TAG_NUMBER: u8 = 0x78;
const VARINT_BYTES_MAX: usize = 10;
/// The largest value with the longest name, and what stands around them.
const RECORD_BYTES_MAX: u64 = VALUE_BYTES_MAX as u64 + 2 * KEY_BYTES_MAX as u64 + 256;
