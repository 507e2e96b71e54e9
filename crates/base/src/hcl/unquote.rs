//! From the text between quotes to the string that it means.

/// What the escapes of one form mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// HCL: `${...}` is copied as it stands, escapes inside included.
    Hcl,
    /// JSON as Go's HCL reads it, which knows Go's escapes too, and what JSON itself adds: `\/` and surrogate pairs.
    Json,
}

/// Resolves the escapes of `raw`, the text between the quotes. The error says what is wrong.
pub(super) fn unquote(raw: &str, rules: Rules) -> Result<String, String> {
    if !raw.contains(['\\', '$']) {
        return Ok(raw.to_owned());
    }
    let mut out: Vec<u8> = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(first) = rest.chars().next() {
        if rules == Rules::Hcl && rest.starts_with("${") {
            rest = copy_interpolation(rest, &mut out)?;
        } else if first == '\\' {
            rest = escape(rest, rules, &mut out)?;
        } else {
            push(&mut out, first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    String::from_utf8(out).map_err(|_bytes| "the escapes of this string do not make UTF-8".to_owned())
}

/// Copies `${...}` with balanced braces and returns what follows.
fn copy_interpolation<'a>(text: &'a str, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let mut depth = 0_usize;
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            // Go's reader takes this character for its own error mark.
            char::REPLACEMENT_CHARACTER => return Err("U+FFFD inside ${...}".to_owned()),
            _ => {}
        }
        if c == '}' && depth == 0 {
            let (copied, rest) = text.split_at(index + 1);
            out.extend_from_slice(copied.as_bytes());
            return Ok(rest);
        }
    }
    Err("${ without its closing brace".to_owned())
}

/// Reads one escape, `text` beginning with the backslash, and returns what follows.
fn escape<'a>(text: &'a str, rules: Rules, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let mut chars = text.chars();
    chars.next();
    let kind = chars.next().ok_or("a backslash ends the string")?;
    let rest = chars.as_str();
    let plain = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        '/' if rules == Rules::Json => b'/',
        '0'..='7' => return octal(text, out),
        'x' => {
            let (value, rest) = digits(rest, 2, 16)?;
            out.push(u8::try_from(value).unwrap_or(u8::MAX));
            return Ok(rest);
        }
        'u' => {
            let (value, rest) = digits(rest, 4, 16)?;
            return code_point(value, rest, rules, out);
        }
        'U' => {
            let (value, rest) = digits(rest, 8, 16)?;
            return code_point(value, rest, rules, out);
        }
        other => return Err(format!("illegal char escape \\{other}")),
    };
    out.push(plain);
    Ok(rest)
}

/// `\101`: three octal digits, one byte.
fn octal<'a>(text: &'a str, out: &mut Vec<u8>) -> Result<&'a str, String> {
    let (value, rest) = digits(text.get(1..).unwrap_or_default(), 3, 8)?;
    out.push(u8::try_from(value).map_err(|_large| format!("octal escape \\{value:o} is over \\377"))?);
    Ok(rest)
}

fn code_point<'a>(value: u32, rest: &'a str, rules: Rules, out: &mut Vec<u8>) -> Result<&'a str, String> {
    if let Some(c) = char::from_u32(value) {
        push(out, c);
        return Ok(rest);
    }
    match rules {
        // Go's HCL reader turns half a surrogate pair into U+FFFD, and the overflow of its 32 bits into a byte.
        Rules::Hcl if (0xd800..0xe000).contains(&value) => push(out, char::REPLACEMENT_CHARACTER),
        Rules::Hcl if value >= 0x8000_0000 => out.push(value.to_le_bytes()[0]),
        Rules::Json if (0xd800..0xdc00).contains(&value) => {
            let (low, rest) = rest
                .strip_prefix("\\u")
                .ok_or("half a surrogate pair")
                .and_then(|rest| digits(rest, 4, 16).map_err(|_bad| "half a surrogate pair"))?;
            let pair = char::decode_utf16([low16(value), low16(low)]).next().and_then(Result::ok).ok_or("half a surrogate pair")?;
            push(out, pair);
            return Ok(rest);
        }
        _ => return Err(format!("\\u{value:x} is no character")),
    }
    Ok(rest)
}

fn low16(value: u32) -> u16 {
    u16::try_from(value & 0xffff).unwrap_or_default()
}

/// Exactly `count` digits to that base.
fn digits(text: &str, count: usize, base: u32) -> Result<(u32, &str), String> {
    let wrong = || format!("illegal char escape: {count} digits to base {base} expected");
    let (head, rest) = text.split_at_checked(count).ok_or_else(wrong)?;
    if !head.chars().all(|c| c.is_digit(base)) {
        return Err(wrong());
    }
    u32::from_str_radix(head, base).map(|value| (value, rest)).map_err(|_checked| wrong())
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
