//! From tokens to the tree, for HCL itself. One mistake does not end the reading: the parser skips to the next item.

use super::lexer::{Lexer, Token, TokenKind};
use super::unquote::Rules;
use super::{Budget, Document, Form, HclError, Item, Key, Kind, Limits, Position, Value};
use crate::Brief;

/// Reads HCL. See [`super::parse_within`].
pub(super) fn parse(text: &str, limits: Limits) -> (Document, Vec<HclError>) {
    // Go reads every line break as `\n`, in heredocs too.
    let unified = text.contains("\r\n").then(|| text.replace("\r\n", "\n"));
    let mut parser = Parser::new(unified.as_deref().unwrap_or(text), limits);
    let mut items = Vec::new();
    loop {
        parser.items(&mut items, Position::START);
        if parser.budget.spent || parser.token.kind == TokenKind::End {
            break;
        }
        // Only a closing brace without its opening one ends the items early.
        parser.wrong_key();
        parser.advance();
    }
    (Document { items, form: Form::Hcl }, parser.budget.into_errors())
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    budget: Budget,
}

/// The mistake is noted; the caller looks for a place to go on.
struct Lost;

impl<'a> Parser<'a> {
    fn new(text: &'a str, limits: Limits) -> Self {
        let mut parser = Self {
            lexer: Lexer::new(text, Rules::Hcl),
            token: Token { kind: TokenKind::End, at: Position::START },
            budget: Budget::new(limits),
        };
        parser.advance();
        parser
    }

    fn advance(&mut self) {
        self.token = if self.budget.spent { Token { kind: TokenKind::End, at: self.token.at } } else { self.lexer.next(&mut self.budget) };
    }

    fn lost(&mut self, message: impl Into<String>) -> Lost {
        // What the lexer found illegal is reported already.
        if self.token.kind != TokenKind::Illegal {
            self.budget.mistake(self.token.at, message);
        }
        Lost
    }

    fn wrong_key(&mut self) -> Lost {
        let message = format!("expected: IDENT | STRING | ASSIGN | LBRACE got: {}", self.token.kind.name());
        self.lost(message)
    }

    /// Items up to a closing brace or the end, neither of them taken.
    fn items(&mut self, items: &mut Vec<Item>, opened: Position) {
        while !matches!(self.token.kind, TokenKind::End | TokenKind::RightBrace) {
            let line = self.token.at.line;
            match self.item() {
                Ok(Some(item)) => items.push(item),
                // `name =` and then nothing: dropped at the top, and inside an object the missing brace is reported.
                Ok(None) => return,
                Err(Lost) => self.recover(line),
            }
            if self.token.kind == TokenKind::Comma {
                self.advance();
            }
            if !self.budget.node(opened) {
                return;
            }
        }
    }

    fn item(&mut self) -> Result<Option<Item>, Lost> {
        let keys = self.keys()?;
        let assign = (self.token.kind == TokenKind::Assign).then_some(self.token.at);
        if assign.is_some() {
            self.advance();
            if self.token.kind == TokenKind::End {
                return Ok(None);
            }
        }
        let value = self.value()?;
        Ok(Some(Item { keys, assign, value }))
    }

    /// The name and labels; stands at `=` or `{` then.
    fn keys(&mut self) -> Result<Vec<Key>, Lost> {
        let mut keys: Vec<Key> = Vec::new();
        loop {
            let at = self.token.at;
            match &mut self.token.kind {
                TokenKind::Ident(text) => keys.push(Key { text: std::mem::take(text), quoted: false, at }),
                TokenKind::Text(text) => keys.push(Key { text: std::mem::take(text), quoted: true, at }),
                TokenKind::Assign if keys.is_empty() => return Err(self.lost("no object keys found!")),
                TokenKind::Assign if keys.len() > 1 => return Err(self.lost("nested object expected: LBRACE got: ASSIGN")),
                TokenKind::LeftBrace if keys.is_empty() => return Err(self.lost("expected: IDENT | STRING got: LBRACE")),
                TokenKind::Assign | TokenKind::LeftBrace => return Ok(keys),
                TokenKind::End | TokenKind::RightBrace if !keys.is_empty() => {
                    let names: Vec<&str> = keys.iter().map(|key| key.text.as_str()).collect();
                    let message = format!("key '{}' expected start of object ('{{') or assignment ('=')", Brief(&names.join(" ")));
                    return Err(self.lost(message));
                }
                _ => return Err(self.wrong_key()),
            }
            self.budget.node(at);
            self.advance();
        }
    }

    fn value(&mut self) -> Result<Value, Lost> {
        let at = self.token.at;
        let kind = match &mut self.token.kind {
            TokenKind::LeftBrace => return self.object(),
            TokenKind::LeftBracket => return self.list(),
            TokenKind::Bool(value) => Kind::Bool(*value),
            TokenKind::Float(value) => Kind::Float(*value),
            TokenKind::Int(value) => Kind::Int(*value),
            TokenKind::Text(text) | TokenKind::Heredoc(text) => Kind::Text(std::mem::take(text)),
            other => {
                let message = format!("a value was expected, got: {}", other.name());
                return Err(self.lost(message));
            }
        };
        self.budget.node(at);
        self.advance();
        Ok(Value { kind, at })
    }

    fn object(&mut self) -> Result<Value, Lost> {
        let at = self.token.at;
        if !self.budget.enter(at) {
            return Err(Lost);
        }
        self.advance();
        let mut items = Vec::new();
        self.items(&mut items, at);
        self.budget.leave();
        if self.token.kind != TokenKind::RightBrace {
            let message = format!("object expected closing RBRACE got: {} (the object begins at {at})", self.token.kind.name());
            return Err(self.lost(message));
        }
        self.advance();
        Ok(Value { kind: Kind::Object(items), at })
    }

    fn list(&mut self) -> Result<Value, Lost> {
        let at = self.token.at;
        if !self.budget.enter(at) {
            return Err(Lost);
        }
        self.advance();
        let values = self.list_values(at);
        self.budget.leave();
        Ok(Value { kind: Kind::List(values?), at })
    }

    /// The entries of a list and its closing bracket.
    fn list_values(&mut self, opened: Position) -> Result<Vec<Value>, Lost> {
        let mut values = Vec::new();
        let mut need_comma = false;
        loop {
            match &self.token.kind {
                TokenKind::RightBracket => break,
                TokenKind::Comma => {
                    need_comma = false;
                    self.advance();
                    continue;
                }
                other if need_comma => {
                    let message = format!("error parsing list, expected comma or list end, got: {}", other.name());
                    return Err(self.lost(message));
                }
                TokenKind::Ident(_) | TokenKind::End => {
                    let message = format!("unexpected token while parsing list: {}", self.token.kind.name());
                    return Err(self.lost(message));
                }
                // Go asks for a comma after anything but a list.
                other => need_comma = *other != TokenKind::LeftBracket,
            }
            values.push(self.value()?);
            if !self.budget.node(opened) {
                return Err(Lost);
            }
        }
        self.advance();
        Ok(values)
    }

    /// Skips to where the next item may begin: a name on a later line, or the brace that closes this object.
    fn recover(&mut self, line: u32) {
        let mut open = 0_usize;
        loop {
            match self.token.kind {
                TokenKind::End => return,
                TokenKind::LeftBrace | TokenKind::LeftBracket => open += 1,
                TokenKind::RightBrace if open == 0 => return,
                TokenKind::RightBrace | TokenKind::RightBracket => open = open.saturating_sub(1),
                TokenKind::Ident(_) | TokenKind::Text(_) if open == 0 && self.token.at.line > line => return,
                _ => {}
            }
            self.advance();
        }
    }
}
