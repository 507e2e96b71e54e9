//! The figures of bench/README.md.

pub(crate) fn main(_arguments: &[&str]) -> Result<(), String> {
    Err("no benchmark yet".to_owned())
}
