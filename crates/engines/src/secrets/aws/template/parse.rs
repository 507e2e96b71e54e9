//! From text to nodes.

use super::call::Function;
use super::{Command, Field, Node, Pipeline, Term};

/// Parentheses and `if`s may be nested this deep.
const DEPTH_MAX: usize = 16;

/// Parses a whole template.
pub(super) fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let pieces = pieces(text)?;
    let mut pieces = pieces.into_iter();
    let (nodes, stop) = block(&mut pieces, 0)?;
    match stop {
        Stop::Text => Ok(nodes),
        Stop::Else(_) => Err("unexpected {{else}}".to_owned()),
        Stop::End => Err("unexpected {{end}}".to_owned()),
    }
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Close,
    Open,
    Pipe,
    Quoted(String),
    Word(String),
}

/// How a block ended.
enum Stop {
    /// `{{else}}`, with the condition of `{{else if}}`.
    Else(Vec<Token>),
    End,
    Text,
}

/// Splits at `{{ }}`, and applies trim marks and comments.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut out, mut rest, mut trim_next) = (Vec::new(), text, false);
    while let Some((before, after)) = rest.split_once("{{") {
        let before = if trim_next { before.trim_start() } else { before };
        let (inner, trims_before) = match after.strip_prefix("- ") {
            Some(inner) => (inner, true),
            None => (after, false),
        };
        out.push(Piece::Text(if trims_before { before.trim_end() } else { before }.to_owned()));
        if let Some(comment) = inner.trim_start().strip_prefix("/*") {
            let (_, after) = comment.split_once("*/").ok_or("unclosed comment")?;
            let (close, after) = after.split_once("}}").ok_or("unclosed action")?;
            trim_next = close.ends_with(" -");
            rest = after;
            continue;
        }
        let (tokens, after, trims_after) = tokens(inner)?;
        out.push(Piece::Action(tokens));
        (rest, trim_next) = (after, trims_after);
    }
    out.push(Piece::Text(if trim_next { rest.trim_start() } else { rest }.to_owned()));
    Ok(out)
}

/// The tokens of an action up to its `}}`, what follows it, and whether that is to be trimmed.
fn tokens(text: &str) -> Result<(Vec<Token>, &str, bool), String> {
    let (mut out, mut rest) = (Vec::new(), text);
    loop {
        let trimmed = rest.trim_start();
        let had_space = trimmed.len() < rest.len();
        if let Some(after) = trimmed.strip_prefix("}}") {
            return Ok((out, after, false));
        }
        if let Some(after) = trimmed.strip_prefix("-}}").filter(|_| had_space) {
            return Ok((out, after, true));
        }
        let first = trimmed.chars().next().ok_or("unclosed action")?;
        rest = match first {
            '(' | ')' | '|' => {
                out.push(match first {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Pipe,
                });
                trimmed.get(1..).unwrap_or_default()
            }
            '"' => {
                let (value, after) = quoted(trimmed.get(1..).unwrap_or_default())?;
                out.push(Token::Quoted(value));
                after
            }
            '`' => {
                let (value, after) = trimmed.get(1..).unwrap_or_default().split_once('`').ok_or("unterminated raw quoted string")?;
                out.push(Token::Quoted(value.to_owned()));
                after
            }
            _ => {
                let end =
                    trimmed.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|' | '"' | '`' | '}')).unwrap_or(trimmed.len());
                let (word, after) = trimmed.split_at(end);
                if word.is_empty() {
                    return Err(format!("unexpected {first:?} in a command"));
                }
                out.push(Token::Word(word.to_owned()));
                after
            }
        };
    }
}

/// A Go string after its opening quote.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, text.get(at + 1..).unwrap_or_default())),
            '\n' => break,
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(c @ ('"' | '\\')) => out.push(c),
                Some(c) => return Err(format!("the escape \\{c} is not supported in a string")),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("unterminated quoted string".to_owned())
}

fn block(pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<(Vec<Node>, Stop), String> {
    if depth > DEPTH_MAX {
        return Err(format!("conditions are nested deeper than {DEPTH_MAX}"));
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                if !text.is_empty() {
                    nodes.push(Node::Text(text));
                }
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        match tokens.split_first() {
            Some((Token::Word(word), others)) => match word.as_str() {
                "if" => nodes.push(condition(others, pieces, depth)?),
                "else" => return Ok((nodes, Stop::Else(others.to_vec()))),
                "end" if others.is_empty() => return Ok((nodes, Stop::End)),
                "block" | "break" | "continue" | "define" | "range" | "template" | "with" => {
                    return Err(format!("{{{{{word}}}}} is not supported; there are if, else and end"));
                }
                _ => nodes.push(Node::Show(pipeline(&tokens)?)),
            },
            _ => nodes.push(Node::Show(pipeline(&tokens)?)),
        }
    }
    Ok((nodes, Stop::Text))
}

fn condition(first: &[Token], pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<Node, String> {
    let (mut arms, mut asked) = (Vec::new(), pipeline(first)?);
    loop {
        let (body, end) = block(pieces, depth + 1)?;
        arms.push((asked, body));
        match end {
            Stop::End => return Ok(Node::If { arms, otherwise: Vec::new() }),
            Stop::Text => return Err("unexpected EOF: an {{if}} has no {{end}}".to_owned()),
            Stop::Else(tokens) => match tokens.split_first() {
                Some((Token::Word(word), others)) if word == "if" => asked = pipeline(others)?,
                Some(_) => return Err("unexpected words in {{else}}".to_owned()),
                None => {
                    let (otherwise, end) = block(pieces, depth + 1)?;
                    return match end {
                        Stop::End => Ok(Node::If { arms, otherwise }),
                        Stop::Else(_) => Err("expected {{end}}; found {{else}}".to_owned()),
                        Stop::Text => Err("unexpected EOF: an {{if}} has no {{end}}".to_owned()),
                    };
                }
            },
        }
    }
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut tokens = tokens.iter();
    let pipeline = commands(&mut tokens, 0, false)?;
    Ok(pipeline)
}

fn commands(tokens: &mut std::slice::Iter<'_, Token>, depth: usize, in_group: bool) -> Result<Pipeline, String> {
    if depth > DEPTH_MAX {
        return Err(format!("parentheses are nested deeper than {DEPTH_MAX}"));
    }
    let (mut done, mut words) = (Vec::new(), Vec::new());
    loop {
        match tokens.next() {
            Some(Token::Open) => words.push(Word::Term(Term::Group(commands(tokens, depth + 1, true)?))),
            Some(Token::Quoted(text)) => words.push(Word::Term(Term::Text(text.clone()))),
            Some(Token::Word(word)) if word == "index" => words.push(Word::Term(indexed(tokens)?)),
            Some(Token::Word(word)) => words.push(named(word)?),
            Some(Token::Pipe) => done.push(command(std::mem::take(&mut words), !done.is_empty())?),
            Some(Token::Close) if in_group => break,
            Some(Token::Close) => return Err("unexpected right paren".to_owned()),
            None if in_group => return Err("unclosed left paren".to_owned()),
            None => break,
        }
    }
    done.push(command(words, !done.is_empty())?);
    Ok(Pipeline(done))
}

enum Word {
    Function(Function),
    Term(Term),
}

/// What follows `index`: `.Claims` and a name in quotes.
fn indexed(tokens: &mut std::slice::Iter<'_, Token>) -> Result<Term, String> {
    match (tokens.next(), tokens.next()) {
        (Some(Token::Word(map)), Some(Token::Quoted(name))) if map == ".Claims" => Ok(Term::Field(Field::Claim(name.clone()))),
        _ => Err("index takes .Claims and a name in quotes".to_owned()),
    }
}

fn named(word: &str) -> Result<Word, String> {
    if let Some(name) = word.strip_prefix(".Claims.") {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        return if plain {
            Ok(Word::Term(Term::Field(Field::Claim(name.to_owned()))))
        } else {
            Err(format!("write (index .Claims {name:?}) for a claim whose name is not letters, digits and _ alone"))
        };
    }
    let term = match word {
        ".DisplayName" => Term::Field(Field::DisplayName),
        ".PolicyName" => Term::Field(Field::PolicyName),
        ".Type" => Term::Field(Field::Type),
        "true" => Term::Bool(true),
        "false" => Term::Bool(false),
        _ => {
            if let Some(field) = word.strip_prefix('.') {
                return Err(format!(
                    "there is no field .{field}; there are .Type, .DisplayName, .PolicyName and, in roles, .Claims.<name>"
                ));
            }
            if word.starts_with('$') {
                return Err("variables are not supported".to_owned());
            }
            if let Ok(number) = word.parse() {
                return Ok(Word::Term(Term::Number(number)));
            }
            return match Function::named(word) {
                Some(function) => Ok(Word::Function(function)),
                None => Err(format!("function {word:?} not defined; there are {}", Function::names())),
            };
        }
    };
    Ok(Word::Term(term))
}

fn command(words: Vec<Word>, piped: bool) -> Result<Command, String> {
    let mut words = words.into_iter();
    let first = words.next().ok_or("missing value for command")?;
    let mut terms = Vec::new();
    for word in words {
        terms.push(match word {
            Word::Term(term) => term,
            Word::Function(function) => Term::Group(Pipeline(vec![checked(function, Vec::new(), false)?])),
        });
    }
    match first {
        Word::Function(function) => checked(function, terms, piped),
        Word::Term(_) if piped => Err("what follows a | must be a function".to_owned()),
        Word::Term(term) if terms.is_empty() => Ok(Command::Value(term)),
        Word::Term(_) => Err("only a function takes arguments".to_owned()),
    }
}

fn checked(function: Function, terms: Vec<Term>, piped: bool) -> Result<Command, String> {
    let given = terms.len() + usize::from(piped);
    let (least, most) = function.arguments();
    if given < least || given > most {
        return Err(format!("wrong number of args for {}: want {least} got {given}", function.name()));
    }
    Ok(Command::Call(function, terms))
}
