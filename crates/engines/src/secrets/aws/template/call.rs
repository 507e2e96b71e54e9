//! The functions of a template.

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};

use super::{Facts, Value, layout};

/// Most characters that `random` makes.
const RANDOM_MAX: i64 = 1024;
/// `truncate_sha256` puts this many characters of the hash at the end.
const HASH_SIZE: usize = 8;
/// Most arguments of `printf`, format included.
const PRINTF_ARGUMENTS_MAX: usize = 16;
/// Widest field of `printf`.
const WIDTH_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Base64,
    Eq,
    Lowercase,
    Ne,
    Not,
    Printf,
    Random,
    Replace,
    Sha256,
    Timestamp,
    Truncate,
    TruncateSha256,
    UnixTime,
    UnixTimeMillis,
    Uppercase,
    Uuid,
}

const ALL: [Function; 16] = [
    Function::Base64,
    Function::Eq,
    Function::Lowercase,
    Function::Ne,
    Function::Not,
    Function::Printf,
    Function::Random,
    Function::Replace,
    Function::Sha256,
    Function::Timestamp,
    Function::Truncate,
    Function::TruncateSha256,
    Function::UnixTime,
    Function::UnixTimeMillis,
    Function::Uppercase,
    Function::Uuid,
];

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|function| function.name() == name)
    }

    pub(super) fn names() -> String {
        ALL.map(Self::name).join(", ")
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Eq => "eq",
            Self::Lowercase => "lowercase",
            Self::Ne => "ne",
            Self::Not => "not",
            Self::Printf => "printf",
            Self::Random => "random",
            Self::Replace => "replace",
            Self::Sha256 => "sha256",
            Self::Timestamp => "timestamp",
            Self::Truncate => "truncate",
            Self::TruncateSha256 => "truncate_sha256",
            Self::UnixTime => "unix_time",
            Self::UnixTimeMillis => "unix_time_millis",
            Self::Uppercase => "uppercase",
            Self::Uuid => "uuid",
        }
    }

    /// Whether it gives something else each time, by time or by chance.
    pub(super) fn is_fickle(self) -> bool {
        matches!(self, Self::Random | Self::Timestamp | Self::UnixTime | Self::UnixTimeMillis | Self::Uuid)
    }

    /// Fewest and most arguments, the piped one included.
    pub(super) fn arguments(self) -> (usize, usize) {
        match self {
            Self::UnixTime | Self::UnixTimeMillis | Self::Uuid => (0, 0),
            Self::Base64 | Self::Lowercase | Self::Not | Self::Random | Self::Sha256 | Self::Timestamp | Self::Uppercase => (1, 1),
            Self::Ne | Self::Truncate | Self::TruncateSha256 => (2, 2),
            Self::Replace => (3, 3),
            Self::Eq => (2, PRINTF_ARGUMENTS_MAX),
            Self::Printf => (1, PRINTF_ARGUMENTS_MAX),
        }
    }

    pub(super) fn call(self, arguments: Vec<Value>, facts: &Facts<'_>) -> Result<Value, String> {
        let mut given = arguments.into_iter();
        let mut next = || given.next().ok_or_else(|| format!("{} has too few arguments", self.name()));
        Ok(Value::Text(match self {
            Self::Base64 => BASE64.encode(text(next()?)?.as_bytes()),
            Self::Eq => {
                let first = next()?;
                return Ok(Value::Bool(given.any(|other| other == first)));
            }
            Self::Lowercase => text(next()?)?.to_lowercase(),
            Self::Ne => return Ok(Value::Bool(next()? != next()?)),
            Self::Not => return Ok(Value::Bool(!next()?.is_true())),
            Self::Printf => {
                let format = text(next()?)?;
                printf(&format, given)?
            }
            Self::Random => random(number(next()?)?, facts)?,
            Self::Replace => {
                let (from, to) = (text(next()?)?, text(next()?)?);
                // Replacing nothing would put `to` between all characters.
                if from.is_empty() { text(next()?)? } else { text(next()?)?.replace(&from, &to) }
            }
            Self::Sha256 => sha256(&text(next()?)?),
            Self::Timestamp => layout::format(facts.clock.now(), &text(next()?)?),
            Self::Truncate => {
                let most = size(number(next()?)?)?;
                cut(&text(next()?)?, most).to_owned()
            }
            Self::TruncateSha256 => {
                let most = size(number(next()?)?)?;
                truncate_sha256(&text(next()?)?, most)?
            }
            Self::UnixTime => facts.clock.now().seconds().to_string(),
            Self::UnixTimeMillis => facts.clock.now().millis().to_string(),
            Self::Uppercase => text(next()?)?.to_uppercase(),
            Self::Uuid => uuid::Builder::from_random_bytes(facts.entropy.bytes()).into_uuid().to_string(),
        }))
    }
}

fn random(length: i64, facts: &Facts<'_>) -> Result<String, String> {
    match usize::try_from(length) {
        Ok(length @ 1..) if i64::try_from(length).is_ok_and(|length| length <= RANDOM_MAX) => Ok(facts.entropy.base62(length)),
        _ => Err(format!("random takes a length of 1 to {RANDOM_MAX}, not {length}")),
    }
}

fn truncate_sha256(value: &str, most: usize) -> Result<String, String> {
    if most <= HASH_SIZE {
        return Err(format!("max length must be > {HASH_SIZE} but was {most}"));
    }
    if value.len() <= most {
        return Ok(value.to_owned());
    }
    let kept = cut(value, most - HASH_SIZE);
    let hash = sha256(value.get(kept.len()..).unwrap_or_default());
    Ok(format!("{kept}{}", cut(&hash, HASH_SIZE)))
}

fn sha256(value: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, value.as_bytes()).as_ref())
}

/// At most `most` bytes, never half a character.
fn cut(value: &str, most: usize) -> &str {
    let mut end = most.min(value.len());
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default()
}

fn size(number: i64) -> Result<usize, String> {
    usize::try_from(number).ok().filter(|size| *size > 0).ok_or_else(|| format!("max length must be > 0 but was {number}"))
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(format!("a text is wanted, not {}", other.into_text())),
    }
}

fn number(value: Value) -> Result<i64, String> {
    match value {
        Value::Number(number) => Ok(number),
        other => Err(format!("a number is wanted, not {:?}", other.into_text())),
    }
}

/// Go's `printf` for `%s %v %d %q %t %%`, with `-`, `0`, width and precision.
fn printf(format: &str, mut given: impl Iterator<Item = Value>) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zeros) = (false, false);
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0')) {
            (left, zeros) = (left || flag == '-', zeros || flag == '0');
        }
        let width = digits(&mut chars).unwrap_or(0);
        let precision = if chars.next_if_eq(&'.').is_some() { Some(digits(&mut chars).unwrap_or(0)) } else { None };
        if width > WIDTH_MAX {
            return Err(format!("printf takes a width of at most {WIDTH_MAX}, not {width}"));
        }
        let verb = chars.next().ok_or("printf: a % at the end")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = given.next().ok_or_else(|| format!("printf {format:?} has more verbs than arguments"))?;
        let shown = match (verb, value) {
            ('q', Value::Text(text)) => format!("{text:?}"),
            ('d' | 'v', Value::Number(number)) => number.to_string(),
            ('t' | 'v', Value::Bool(flag)) => flag.to_string(),
            ('s' | 'v', Value::Text(text)) => match precision {
                Some(most) => text.chars().take(most).collect(),
                None => text,
            },
            (verb, value) => return Err(format!("printf cannot show {:?} as %{verb}", value.into_text())),
        };
        let fill = width.saturating_sub(shown.chars().count());
        match (left, zeros) {
            (true, _) => out.extend([shown, " ".repeat(fill)]),
            (false, true) => out.extend(["0".repeat(fill), shown]),
            (false, false) => out.extend([" ".repeat(fill), shown]),
        }
    }
    match given.next() {
        Some(_) => Err(format!("printf {format:?} has fewer verbs than arguments")),
        None => Ok(out),
    }
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut number: Option<usize> = None;
    while let Some(digit) = chars.next_if(char::is_ascii_digit).and_then(|c| c.to_digit(10)) {
        number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
    }
    number
}
