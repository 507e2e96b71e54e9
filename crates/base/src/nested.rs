//! JSON that is nested deeper than serde_json reads by itself.

use serde::Deserialize;

/// Reads JSON that is nested however deep: what this server has written. It was bounded when it came ([`crate::Limits::json_depth`], 300 as in Vault), and
/// what may be written must be read again; serde_json alone stops at 128. Errors: it is no JSON, or not of this shape.
///
/// ```
/// let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
/// assert!(daypass_base::nested::read::<serde_json::Value>(deep.as_bytes()).is_ok());
/// ```
pub fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}
