//! From characters to tokens. Mistakes go to the [`Budget`]; the lexer then goes on as well as it can.

use super::unquote::{Rules, unquote};
use super::{Budget, Position};
use crate::Brief;

/// A token and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) at: Position,
}

/// What a token can be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Assign,
    Bool(bool),
    Colon,
    Comma,
    End,
    Float(f64),
    /// A string that spans lines, `<<END`.
    Heredoc(String),
    Ident(String),
    /// Something that was already reported.
    Illegal,
    Int(i64),
    LeftBrace,
    LeftBracket,
    Null,
    /// `+`, `-` and `.` by themselves: known, and of no use anywhere.
    Operator(char),
    RightBrace,
    RightBracket,
    Text(String),
}

impl TokenKind {
    /// The token's name in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Assign => "ASSIGN",
            Self::Bool(_) => "BOOL",
            Self::Colon => "COLON",
            Self::Comma => "COMMA",
            Self::End => "EOF",
            Self::Float(_) => "FLOAT",
            Self::Heredoc(_) => "HEREDOC",
            Self::Ident(_) => "IDENT",
            Self::Illegal => "ILLEGAL",
            Self::Int(_) => "NUMBER",
            Self::LeftBrace => "LBRACE",
            Self::LeftBracket => "LBRACK",
            Self::Null => "NULL",
            Self::Operator('+') => "ADD",
            Self::Operator('-') => "SUB",
            Self::Operator(_) => "PERIOD",
            Self::RightBrace => "RBRACE",
            Self::RightBracket => "RBRACK",
            Self::Text(_) => "STRING",
        }
    }
}

/// Walks over the text and knows the line and column.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    offset: usize,
    line: u32,
    column: u32,
    rules: Rules,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, rules: Rules) -> Self {
        Self { text, offset: 0, line: 1, column: 1, rules }
    }

    /// The next token; `End` again and again at the end.
    pub(super) fn next(&mut self, budget: &mut Budget) -> Token {
        self.skip_blank(budget);
        let at = self.position();
        let kind = match self.peek() {
            None => TokenKind::End,
            Some(c) if is_letter(c) => self.word(budget, at),
            Some('0'..='9') => self.number(budget, at),
            Some('-') if self.rest().chars().nth(1).is_some_and(|c| c.is_ascii_digit()) => self.number(budget, at),
            Some('.') if self.rules == Rules::Hcl && self.rest().chars().nth(1).is_some_and(|c| c.is_ascii_digit()) => {
                self.bare_fraction(budget, at)
            }
            Some('"') => self.string(budget, at),
            Some('<') if self.rules == Rules::Hcl => self.heredoc(budget, at),
            Some(c) => self.punctuation(c, budget, at),
        };
        Token { kind, at }
    }

    /// Where the next character stands.
    pub(super) fn position(&self) -> Position {
        Position { line: self.line, column: self.column }
    }

    fn punctuation(&mut self, c: char, budget: &mut Budget, at: Position) -> TokenKind {
        self.bump();
        let hcl = self.rules == Rules::Hcl;
        match c {
            '[' => TokenKind::LeftBracket,
            ']' => TokenKind::RightBracket,
            '{' => TokenKind::LeftBrace,
            '}' => TokenKind::RightBrace,
            ',' => TokenKind::Comma,
            '=' if hcl => TokenKind::Assign,
            '+' | '-' | '.' if hcl => TokenKind::Operator(c),
            ':' if !hcl => TokenKind::Colon,
            '\0' => self.illegal(budget, at, "unexpected null character (0x00)"),
            other => self.illegal(budget, at, format!("illegal char {other:?}")),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as one of the lexer's answers")]
    fn illegal(&self, budget: &mut Budget, at: Position, message: impl Into<String>) -> TokenKind {
        budget.mistake(at, message);
        TokenKind::Illegal
    }

    fn word(&mut self, budget: &mut Budget, at: Position) -> TokenKind {
        let word = self.take_while(|c| is_letter(c) || is_digit(c) || c == '-' || c == '.');
        match (word, self.rules) {
            ("true", _) => TokenKind::Bool(true),
            ("false", _) => TokenKind::Bool(false),
            ("null", Rules::Json) => TokenKind::Null,
            (word, Rules::Json) => {
                let message = format!("{:?} is no JSON value", Brief(word));
                self.illegal(budget, at, message)
            }
            (word, Rules::Hcl) => TokenKind::Ident(word.to_owned()),
        }
    }

    /// Numbers end where Go's scanner ends them; whether they mean something is decided on the whole text.
    fn number(&mut self, budget: &mut Budget, at: Position) -> TokenKind {
        let begin = self.offset;
        if self.peek() == Some('-') {
            self.bump();
        }
        let mut float = false;
        if self.rules == Rules::Hcl && (self.rest().starts_with("0x") || self.rest().starts_with("0X")) {
            self.bump();
            self.bump();
            self.take_while(|c| c.is_ascii_hexdigit());
        } else {
            self.take_while(|c| c.is_ascii_digit());
            if self.peek() == Some('.') {
                float = true;
                self.bump();
                self.take_while(|c| c.is_ascii_digit());
            }
            if matches!(self.peek(), Some('e' | 'E')) {
                float = true;
                self.bump();
                if matches!(self.peek(), Some('+' | '-')) {
                    self.bump();
                }
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let text = self.text.get(begin..self.offset).unwrap_or_default();
        if float { self.float(text, budget, at) } else { self.int(text, budget, at) }
    }

    /// `.5`, without an exponent: Go's scanner ends the number before its digits.
    fn bare_fraction(&mut self, budget: &mut Budget, at: Position) -> TokenKind {
        let begin = self.offset;
        self.bump();
        self.take_while(|c| c.is_ascii_digit());
        if matches!(self.peek(), Some('e' | 'E')) {
            return self.illegal(budget, at, "a number with an exponent needs a digit before its point");
        }
        let text = self.text.get(begin..self.offset).unwrap_or_default();
        self.float(text, budget, at)
    }

    fn float(&self, text: &str, budget: &mut Budget, at: Position) -> TokenKind {
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => TokenKind::Float(value),
            _ => self.illegal(budget, at, format!("{} is no number that fits in 64 bits", Brief(text))),
        }
    }

    fn int(&self, text: &str, budget: &mut Budget, at: Position) -> TokenKind {
        let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
        let parsed = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => i64::from_str_radix(&format!("{sign}{}", digits.get(2..).unwrap_or_default()), 16),
            [b'0', _, ..] if self.rules == Rules::Json => return self.illegal(budget, at, "numbers cannot start with 0"),
            [b'0', _, ..] => i64::from_str_radix(&format!("{sign}{digits}"), 8),
            _ => text.parse(),
        };
        match parsed {
            Ok(value) => TokenKind::Int(value),
            Err(_) => self.illegal(budget, at, format!("{} is no whole number that fits in 64 bits", Brief(text))),
        }
    }

    fn string(&mut self, budget: &mut Budget, at: Position) -> TokenKind {
        self.bump();
        let begin = self.offset;
        let mut braces = 0_usize;
        loop {
            let Some(c) = self.peek() else { return self.illegal(budget, at, "literal not terminated") };
            match c {
                '\n' if braces == 0 => return self.illegal(budget, at, "literal not terminated"),
                '"' if braces == 0 => break,
                '\0' => {
                    budget.mistake(self.position(), "unexpected null character (0x00)");
                    self.bump();
                }
                // The pair is skipped; what it means is checked when the string is whole.
                '\\' => {
                    self.bump();
                    if self.peek() != Some('\n') {
                        self.bump();
                    }
                }
                _ => {
                    if self.rules == Rules::Hcl {
                        braces = self.braces_after(c, braces);
                    }
                    self.bump();
                }
            }
        }
        let raw = self.text.get(begin..self.offset).unwrap_or_default();
        self.bump();
        match check_escapes(raw, self.rules).and_then(|()| unquote(raw, self.rules)) {
            Ok(text) => TokenKind::Text(text),
            Err(message) => self.illegal(budget, at, message),
        }
    }

    /// Quotes and line breaks are plain text inside `${...}`.
    fn braces_after(&mut self, c: char, braces: usize) -> usize {
        match c {
            '$' if braces == 0 && self.rest().starts_with("${") => {
                self.bump();
                1
            }
            '{' if braces > 0 => braces + 1,
            '}' => braces.saturating_sub(1),
            _ => braces,
        }
    }

    fn heredoc(&mut self, budget: &mut Budget, at: Position) -> TokenKind {
        let begin = self.offset;
        self.bump();
        if self.peek() != Some('<') {
            return self.illegal(budget, at, "heredoc expected second '<', didn't see it");
        }
        self.bump();
        let mark_at = self.offset;
        if self.peek() == Some('-') {
            self.bump();
        }
        self.take_while(|c| is_letter(c) || is_digit(c));
        if self.rest().starts_with("\r\n") {
            self.bump();
        }
        // With its `-`, as Go counts it.
        let mark = self.text.get(mark_at..self.offset).unwrap_or_default();
        match self.peek() {
            None => return self.illegal(budget, at, "heredoc not terminated"),
            Some('\n') => self.bump(),
            Some(_) => return self.illegal(budget, at, "invalid characters in heredoc anchor"),
        }
        if mark.is_empty() || mark == "-" {
            return self.illegal(budget, at, "zero-length heredoc anchor");
        }
        loop {
            let line = self.take_while(|c| c != '\n' && c != '\0');
            if self.peek() != Some('\n') {
                return self.illegal(budget, at, "heredoc not terminated");
            }
            self.bump();
            if ends_heredoc(line, mark) {
                break;
            }
        }
        let whole = self.text.get(begin..self.offset).unwrap_or_default();
        match heredoc_text(whole) {
            Some(text) => TokenKind::Heredoc(text),
            None => self.illegal(budget, at, "heredoc with a misplaced end mark"),
        }
    }

    /// Skips spaces and comments.
    fn skip_blank(&mut self, budget: &mut Budget) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            let at = self.position();
            if self.rules == Rules::Json {
                return;
            }
            if self.rest().starts_with("/*") {
                let Some(end) = self.rest().get(2..).and_then(|rest| rest.find("*/")) else {
                    budget.mistake(at, "comment not terminated");
                    while self.peek().is_some() {
                        self.bump();
                    }
                    return;
                };
                let until = self.offset + 2 + end + 2;
                self.skip_comment(budget, |lexer| lexer.offset >= until);
            } else if self.rest().starts_with('#') || self.rest().starts_with("//") {
                self.skip_comment(budget, |lexer| lexer.peek() == Some('\n'));
            } else if self.rest().starts_with('/') {
                budget.mistake(at, "expected '/' for comment");
                self.bump();
            } else {
                return;
            }
        }
    }

    fn skip_comment(&mut self, budget: &mut Budget, ended: impl Fn(&Self) -> bool) {
        while let Some(c) = self.peek() {
            if ended(self) {
                return;
            }
            if c == '\0' {
                budget.mistake(self.position(), "unexpected null character (0x00)");
            }
            self.bump();
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) {
        if let Some(c) = self.peek() {
            self.offset += c.len_utf8();
            if c == '\n' {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            } else {
                self.column = self.column.saturating_add(1);
            }
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let begin = self.offset;
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        self.text.get(begin..self.offset).unwrap_or_default()
    }
}

/// Go's scanner checks each escape by itself, also inside `${...}`, where unquoting does not look.
fn check_escapes(raw: &str, rules: Rules) -> Result<(), String> {
    if rules == Rules::Json || !raw.contains("${") {
        return Ok(());
    }
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        let escape: &str = rest.get(at..).unwrap_or_default();
        let length = match escape.chars().nth(1) {
            Some('0'..='7' | 'x') => 4,
            Some('u') => 6,
            Some('U') => 10,
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' | '"') => 2,
            _ => return Err("illegal char escape".to_owned()),
        };
        let (head, tail) = escape.split_at_checked(length).ok_or("illegal char escape")?;
        let base = if length == 4 && !head.starts_with("\\x") { 8 } else { 16 };
        let digits = head.get(if base == 8 { 1 } else { 2 }..).unwrap_or_default();
        if length > 2 && !digits.chars().all(|c| c.is_digit(base)) {
            return Err("illegal char escape".to_owned());
        }
        rest = tail;
    }
    Ok(())
}

/// Whether a line is the end mark: spaces, the mark, and carriage returns. Go first compares lengths with the `-` counted.
fn ends_heredoc(line: &str, mark: &str) -> bool {
    let bare = mark.strip_prefix('-').unwrap_or(mark);
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let after = line.trim_start_matches(space).strip_prefix(bare);
    line.len() >= mark.len() && after.is_some_and(|after| after.chars().all(|c| c == '\r'))
}

/// What a heredoc means, `whole` from `<<` to the line break after its end mark. Offsets are Go's, which count the bytes
/// of the first line to find the end; where they miss the text, Go breaks and we refuse.
fn heredoc_text(whole: &str) -> Option<String> {
    let first = whole.find('\n')?;
    let (from, to) = (first + 1, (whole.len() + 1).checked_sub(first)?);
    if whole.as_bytes().get(2) != Some(&b'-') {
        return whole.get(from..to).map(str::to_owned);
    }
    let lines: Vec<&str> = whole.get(from..to + 1)?.split('\n').collect();
    let (indent, body) = lines.split_last()?;
    if !body.iter().all(|line| line.starts_with(indent)) {
        return whole.get(from..to).map(|text| text.trim_end_matches([' ', '\t']).to_owned());
    }
    let mut text = String::with_capacity(whole.len());
    for line in body {
        text.push_str(line.strip_prefix(indent).unwrap_or(line));
        text.push('\n');
    }
    Some(text)
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (!c.is_ascii() && c.is_alphabetic())
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric() && !c.is_alphabetic())
}
