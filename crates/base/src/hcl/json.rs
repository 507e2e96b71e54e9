//! The JSON form. The tree is the one of the text: labels are read from nested objects by [`Document::blocks`].

use super::lexer::{Lexer, Token, TokenKind};
use super::unquote::Rules;
use super::{Budget, Document, Form, HclError, Item, Key, Kind, Limits, Position, Value};

/// Reads JSON. See [`super::parse_within`]. The first mistake in the structure ends the reading.
pub(super) fn parse(text: &str, limits: Limits) -> (Document, Vec<HclError>) {
    let mut reader = Reader {
        lexer: Lexer::new(text, Rules::Json),
        token: Token { kind: TokenKind::End, at: Position::START },
        budget: Budget::new(limits),
    };
    reader.advance();
    let items = reader.document().unwrap_or_default();
    (Document { items, form: Form::Json }, reader.budget.into_errors())
}

struct Reader<'a> {
    lexer: Lexer<'a>,
    token: Token,
    budget: Budget,
}

/// The mistake is noted.
struct Lost;

impl Reader<'_> {
    fn advance(&mut self) {
        self.token = self.lexer.next(&mut self.budget);
    }

    fn lost(&mut self, expected: &str) -> Lost {
        if self.token.kind != TokenKind::Illegal {
            self.budget.mistake(self.token.at, format!("expected: {expected} got: {}", self.token.kind.name()));
        }
        Lost
    }

    fn document(&mut self) -> Result<Vec<Item>, Lost> {
        let items = self.object()?;
        if self.token.kind == TokenKind::End { Ok(items) } else { Err(self.lost("EOF")) }
    }

    fn object(&mut self) -> Result<Vec<Item>, Lost> {
        if self.token.kind != TokenKind::LeftBrace {
            return Err(self.lost("LBRACE"));
        }
        if !self.budget.enter(self.token.at) {
            return Err(Lost);
        }
        self.advance();
        let mut items = Vec::new();
        while self.token.kind != TokenKind::RightBrace {
            items.push(self.item()?);
            match self.token.kind {
                TokenKind::Comma => self.advance(),
                TokenKind::RightBrace => {}
                _ => return Err(self.lost("COMMA | RBRACE")),
            }
        }
        self.advance();
        self.budget.leave();
        Ok(items)
    }

    fn item(&mut self) -> Result<Item, Lost> {
        let at = self.token.at;
        let TokenKind::Text(text) = &mut self.token.kind else { return Err(self.lost("STRING")) };
        let key = Key { text: std::mem::take(text), quoted: true, at };
        if !self.budget.node(at) {
            return Err(Lost);
        }
        self.advance();
        let assign = Some(self.token.at);
        if self.token.kind != TokenKind::Colon {
            return Err(self.lost("COLON"));
        }
        self.advance();
        Ok(Item { keys: vec![key], assign, value: self.value()? })
    }

    fn value(&mut self) -> Result<Value, Lost> {
        let at = self.token.at;
        if !self.budget.node(at) {
            return Err(Lost);
        }
        let kind = match &mut self.token.kind {
            TokenKind::LeftBrace => return self.object().map(|items| Value { kind: Kind::Object(items), at }),
            TokenKind::LeftBracket => return self.list().map(|values| Value { kind: Kind::List(values), at }),
            TokenKind::Bool(value) => Kind::Bool(*value),
            TokenKind::Float(value) => Kind::Float(*value),
            TokenKind::Int(value) => Kind::Int(*value),
            TokenKind::Null => Kind::Null,
            TokenKind::Text(text) => Kind::Text(std::mem::take(text)),
            _ => return Err(self.lost("a value")),
        };
        self.advance();
        Ok(Value { kind, at })
    }

    fn list(&mut self) -> Result<Vec<Value>, Lost> {
        if !self.budget.enter(self.token.at) {
            return Err(Lost);
        }
        self.advance();
        let mut values = Vec::new();
        while self.token.kind != TokenKind::RightBracket {
            values.push(self.value()?);
            match self.token.kind {
                TokenKind::Comma => self.advance(),
                TokenKind::RightBracket => {}
                _ => return Err(self.lost("COMMA | RBRACK")),
            }
        }
        self.advance();
        self.budget.leave();
        Ok(values)
    }
}
