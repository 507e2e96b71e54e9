//! Whole numbers in JSON that 64 bits do not hold. A reader that has nothing but 64-bit numbers makes a float of them, and loses digits that somebody
//! meant: what is written as a fraction or with an exponent is known to be rounded, a serial number is not.

/// A whole number of a JSON text would lose digits. Its text is for whoever sent it, and does not repeat the number: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the whole number at line {line} column {column} does not fit into 64 bits and would lose digits: send it as a string, in quotes")]
pub struct Beyond64Bits {
    /// From 1.
    pub line: usize,
    /// Bytes, from 1.
    pub column: usize,
}

/// Looks through a text that has been read as JSON already. Errors: one of its whole numbers, without point and exponent, is neither an `i64` nor a `u64`.
///
/// ```
/// use daypass_base::whole::check;
///
/// assert!(check(br#"{"a": 18446744073709551615, "b": 1e300, "c": "18446744073709551616"}"#).is_ok());
/// assert_eq!(check(b"{\n\"a\": 18446744073709551616}").unwrap_err().line, 2);
/// ```
pub fn check(json: &[u8]) -> Result<(), Beyond64Bits> {
    let mut rest = json;
    while let Some((first, behind)) = rest.split_first() {
        rest = match first {
            b'"' => behind_string(behind),
            b'-' | b'0'..=b'9' => {
                let (number, behind) = rest.split_at(rest.iter().position(|byte| !is_of_number(*byte)).unwrap_or(rest.len()));
                if !fits(number) {
                    return Err(place(json, json.len() - rest.len()));
                }
                behind
            }
            _ => behind,
        };
    }
    Ok(())
}

/// What follows a string, of which this is the rest behind its first quote.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [] | [b'\\'] => return &[],
            [b'"', behind @ ..] => return behind,
            [b'\\', _, behind @ ..] | [_, behind @ ..] => behind,
        }
    }
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

fn fits(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    if digits.len() < DIGITS_OF_ALL || !digits.iter().all(u8::is_ascii_digit) {
        return true;
    }
    std::str::from_utf8(number).is_ok_and(|text| text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok())
}

fn place(json: &[u8], at: usize) -> Beyond64Bits {
    let before = json.get(..at).unwrap_or_default();
    let lines = before.split(|byte| *byte == b'\n');
    let column = lines.clone().next_back().map_or(0, <[u8]>::len) + 1;
    Beyond64Bits { line: lines.count(), column }
}

/// Numbers with fewer digits than 2^63 has fit.
const DIGITS_OF_ALL: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_fit_up_to_the_last_of_64_bits() {
        for fine in ["-9223372036854775808", "18446744073709551615", "9223372036854775808", "-0", "0", "999999999999999999"] {
            assert!(check(fine.as_bytes()).is_ok(), "{fine}");
        }
        for beyond in ["-9223372036854775809", "18446744073709551616", "123456789012345678901234567890", "-18446744073709551615"] {
            assert_eq!(check(beyond.as_bytes()), Err(Beyond64Bits { line: 1, column: 1 }), "{beyond}");
            for around in [format!("[1,{beyond}]"), format!("{{\"a\":{{\"b\": {beyond} }}}}"), format!("[[],{beyond},\"x\"]")] {
                assert!(check(around.as_bytes()).is_err(), "{around}");
            }
        }
    }

    #[test]
    fn what_is_written_as_a_float_is_one() {
        for float in
            ["1e300", "1E+30", "18446744073709551616.0", "18446744073709551616e0", "0.12345678901234567890", "-123456789012345678901e-3"]
        {
            assert!(check(float.as_bytes()).is_ok(), "{float}");
        }
    }

    #[test]
    fn digits_in_strings_are_text_however_the_string_is_written() {
        let digits = "18446744073709551616";
        for text in [
            format!(r#""{digits}""#),
            format!(r#"{{"{digits}":1}}"#),
            format!(r#"["\"{digits}"]"#),
            format!(r#"["\\\"{digits}\\"]"#),
            format!(r#"["\u0022{digits}"]"#),
            format!(r#"["é{digits}"]"#),
        ] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
        for number in [format!(r#"["\\",{digits}]"#), format!(r#"{{"a\"":{digits}}}"#), format!(r#"["",{digits}]"#)] {
            assert!(check(number.as_bytes()).is_err(), "{number}");
        }
    }

    #[test]
    fn the_place_is_that_of_the_first_digit() {
        let beyond = check(b"{\n  \"a\": 1,\n  \"b\": 18446744073709551616\n}").unwrap_err();
        assert_eq!((beyond.line, beyond.column), (3, 8));
        assert!(beyond.to_string().starts_with("the whole number at line 3 column 8 does not fit"));
    }

    #[test]
    fn what_is_no_json_does_no_harm() {
        for text in ["", "\"", "\"\\", "-", "1-2", "nul"] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
    }
}
