//! HCL 1, the language of policies and of the server's configuration file, and its JSON form.
//!
//! Own parser, checked against the Go module `github.com/hashicorp/hcl` (tests/hcl_oracle.rs). It reads what that module
//! reads, and collects all mistakes instead of the first. It knows no keys: what they mean is for the caller to say.
//!
//! Kept from Go's reading on purpose: `a =` at the very end is dropped, lists may hold empty places (`[,1,,2,]`),
//! a list inside a list needs no comma after it, a heredoc's end mark must be followed by a line break.
//! Different on purpose:
//! - A string whose escapes do not make UTF-8 is refused.
//! - JSON must be whole. Go's reader stops without a word at a missing comma or brace, which can lose a `deny`; here it is
//!   a mistake. It also forgets bools and lists inside lists, which are kept here. `\/` and surrogate pairs are read.
//! - Letters outside ASCII in bare names follow Rust's tables, which know a few marks more.
//!
//! Start at [`parse`]; [`Document`] is what it returns.

mod json;
mod lexer;
mod nearest;
mod parser;
mod unquote;
mod value;

use std::fmt;

pub use nearest::nearest;
pub use value::{Block, Document, Duplicate, Form, Item, Key, Kind, Value};

/// What a document may use. All limits are on untrusted input: policies are sent by clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of text.
    pub bytes_max: usize,
    /// Deepest nesting of objects and lists.
    pub depth_max: usize,
    /// Most values, keys and items together.
    pub nodes_max: usize,
    /// Mistakes collected before reading stops.
    pub errors_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 1 << 20, depth_max: 64, nodes_max: 200_000, errors_max: 20 }
    }
}

/// A place in the text: both count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

impl Position {
    /// The first character.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// `3:14`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One mistake. Prints as Go's parser does: `At 3:14: what is wrong`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("At {at}: {message}")]
pub struct HclError {
    /// Where.
    pub at: Position,
    /// What was wrong.
    pub message: String,
}

/// Reads a document within the default [`Limits`]. With an empty list of mistakes the document is complete;
/// otherwise it holds what could be read and is good for looking on, not for acting on.
///
/// ```
/// let (document, errors) = daypass_base::hcl::parse("listener \"tcp\" { address = \"127.0.0.1:8200\" }");
/// assert!(errors.is_empty());
/// let listener = document.blocks("listener").next().unwrap();
/// assert_eq!(listener.labels, ["tcp"]);
/// assert_eq!(listener.get("address").unwrap().value.as_str(), Some("127.0.0.1:8200"));
///
/// let (_, errors) = daypass_base::hcl::parse("a = [1, 2\nb = 3");
/// assert_eq!(errors[0].at.line, 2);
/// ```
#[must_use]
pub fn parse(text: &str) -> (Document, Vec<HclError>) {
    parse_within(text, Limits::default())
}

/// Reads a document within given limits. See [`parse`].
#[must_use]
pub fn parse_within(text: &str, limits: Limits) -> (Document, Vec<HclError>) {
    if text.len() > limits.bytes_max {
        let message = format!("text has {} bytes, the limit is {}", text.len(), limits.bytes_max);
        return (Document::empty(Form::Hcl), vec![HclError { at: Position::START, message }]);
    }
    // The same rule as Go's: the first character that is no space decides.
    if text.trim_start().starts_with('{') { json::parse(text, limits) } else { parser::parse(text, limits) }
}

/// Counts what a parser uses and collects its mistakes; shared by both forms.
#[derive(Debug)]
struct Budget {
    limits: Limits,
    depth: usize,
    nodes: usize,
    errors: Vec<HclError>,
    spent: bool,
}

impl Budget {
    fn new(limits: Limits) -> Self {
        Self { limits, depth: 0, nodes: 0, errors: Vec::new(), spent: false }
    }

    /// Notes a mistake; once there are too many, reading ends.
    fn mistake(&mut self, at: Position, message: impl Into<String>) {
        if self.errors.len() < self.limits.errors_max {
            self.errors.push(HclError { at, message: message.into() });
        } else {
            self.spent = true;
        }
    }

    /// One more value, key or item; `false` when the limit is reached.
    fn node(&mut self, at: Position) -> bool {
        self.nodes += 1;
        if self.nodes > self.limits.nodes_max && !self.spent {
            self.mistake(at, format!("more than {} values", self.limits.nodes_max));
            self.spent = true;
        }
        !self.spent
    }

    /// One level deeper; `false` when the limit is reached. Each success is paired with [`Budget::leave`].
    fn enter(&mut self, at: Position) -> bool {
        if self.depth >= self.limits.depth_max {
            self.mistake(at, format!("nested deeper than {} levels", self.limits.depth_max));
            self.spent = true;
            return false;
        }
        self.depth += 1;
        true
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// The mistakes in the order of the text.
    fn into_errors(mut self) -> Vec<HclError> {
        self.errors.sort_by_key(|error| error.at);
        self.errors
    }
}

#[cfg(test)]
mod tests;
