//! The part of Go's template language that `username_template` needs.
//!
//! Text, `{{ pipeline }}`, `{{ if }} … {{ else if }} … {{ else }} … {{ end }}`, comments and trim marks; fields `.Type`,
//! `.DisplayName`, `.PolicyName`; the functions of Vault's username templates (Vault docs, "Username Templating"). Variables, `range`,
//! `with` and nested templates are refused when the template is written, not when it is used. Templates of a role know one field more:
//! `.Claims.<name>`, or `index .Claims "<name>"`, which is what the caller's login proved.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::{Clock, Entropy};

mod call;
mod layout;
mod parse;

use call::Function;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Show(Pipeline),
    If { arms: Vec<(Pipeline, Vec<Node>)>, otherwise: Vec<Node> },
}

/// Commands joined by `|`; each takes the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
struct Pipeline(Vec<Command>);

#[derive(Debug, Clone, PartialEq)]
enum Command {
    Value(Term),
    Call(Function, Vec<Term>),
}

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Bool(bool),
    Field(Field),
    Group(Pipeline),
    Number(i64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Claim(String),
    DisplayName,
    PolicyName,
    Type,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Bool(bool),
    Number(i64),
    Text(String),
}

/// What a template is filled with.
pub(crate) struct Facts<'a> {
    /// `.Type`: `IAM` or `STS`.
    pub(crate) kind: &'static str,
    /// `.DisplayName`.
    pub(crate) display_name: &'a str,
    /// `.PolicyName`.
    pub(crate) policy_name: &'a str,
    /// `.Claims`.
    pub(crate) claims: Claims<'a>,
    /// Makes what an action shows fit to stand where it is shown, or says why it may not.
    pub(crate) quote: Quote,
    /// For the times.
    pub(crate) clock: &'a Arc<dyn Clock>,
    /// For `random` and `uuid`.
    pub(crate) entropy: &'a Arc<dyn Entropy>,
}

/// What `.Claims` gives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Claims<'a> {
    /// There are none where this template is used.
    Absent,
    /// Any name has a value: a template is being checked.
    Any,
    /// These. One that is missing fails the template: an empty text in its place could mean more rights.
    Of(&'a BTreeMap<String, String>),
}

/// Quotes one shown value.
pub(crate) type Quote = fn(String) -> Result<String, String>;

/// Longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 4096;
/// Longest text that a template or a step of it makes, in bytes.
const OUTPUT_BYTES_MAX: usize = 4096;

impl Template {
    /// Parses a template. The error says what is wrong with it and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("the template is {} bytes long, over the limit of {TEMPLATE_BYTES_MAX}", text.len()));
        }
        parse::nodes(text).map(|nodes| Self { nodes })
    }

    /// The template as a pattern: `*` for whatever an action can show.
    pub(crate) fn pattern(&self) -> String {
        let parts = self.nodes.iter().map(|node| match node {
            Node::Text(text) => text.as_str(),
            Node::Show(_) | Node::If { .. } => "*",
        });
        parts.collect()
    }

    /// Whether its own text has a star, which stands for more than itself in a pattern.
    pub(crate) fn has_star(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node, Node::Text(text) if text.contains('*')))
    }

    /// The first function in it that gives something else each time.
    pub(crate) fn fickle(&self) -> Option<&'static str> {
        self.nodes.iter().find_map(Node::fickle)
    }

    /// Fills the template.
    pub(crate) fn fill(&self, facts: &Facts<'_>) -> Result<String, String> {
        let mut out = String::new();
        fill(&self.nodes, facts, &mut out)?;
        Ok(out)
    }
}

/// A text with `*` in place of its actions; one that is no template stays as it is.
pub(crate) fn pattern_of(text: &str) -> String {
    Template::parse(text).map_or_else(|_| text.to_owned(), |template| template.pattern())
}

fn fill(nodes: &[Node], facts: &Facts<'_>, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Show(pipeline) => out.push_str(&(facts.quote)(pipeline.value(facts)?.into_text())?),
            Node::If { arms, otherwise } => {
                let mut chosen = otherwise;
                for (condition, body) in arms {
                    if condition.value(facts)?.is_true() {
                        chosen = body;
                        break;
                    }
                }
                fill(chosen, facts, out)?;
            }
        }
        bounded(out)?;
    }
    Ok(())
}

/// Refuses a text that grew too long.
fn bounded(text: &str) -> Result<(), String> {
    if text.len() > OUTPUT_BYTES_MAX {
        return Err(format!("the template makes more than {OUTPUT_BYTES_MAX} bytes"));
    }
    Ok(())
}

impl Node {
    fn fickle(&self) -> Option<&'static str> {
        match self {
            Self::Text(_) => None,
            Self::Show(pipeline) => pipeline.fickle(),
            Self::If { arms, otherwise } => {
                let of_arm = |(condition, body): &(Pipeline, Vec<Self>)| condition.fickle().or_else(|| body.iter().find_map(Self::fickle));
                arms.iter().find_map(of_arm).or_else(|| otherwise.iter().find_map(Self::fickle))
            }
        }
    }
}

impl Pipeline {
    fn fickle(&self) -> Option<&'static str> {
        let of_term = |term: &Term| if let Term::Group(group) = term { group.fickle() } else { None };
        self.0.iter().find_map(|command| match command {
            Command::Value(term) => of_term(term),
            Command::Call(function, terms) => function.is_fickle().then(|| function.name()).or_else(|| terms.iter().find_map(of_term)),
        })
    }

    fn value(&self, facts: &Facts<'_>) -> Result<Value, String> {
        let mut last: Option<Value> = None;
        for command in &self.0 {
            last = Some(match command {
                Command::Value(term) => term.value(facts)?,
                Command::Call(function, terms) => {
                    let mut arguments = terms.iter().map(|term| term.value(facts)).collect::<Result<Vec<_>, _>>()?;
                    arguments.extend(last);
                    function.call(arguments, facts)?
                }
            });
            if let Some(Value::Text(text)) = &last {
                bounded(text)?;
            }
        }
        last.ok_or_else(|| "missing value for command".to_owned())
    }
}

impl Term {
    fn value(&self, facts: &Facts<'_>) -> Result<Value, String> {
        Ok(match self {
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Field(Field::Claim(name)) => Value::Text(facts.claims.get(name)?.to_owned()),
            Self::Field(Field::DisplayName) => Value::Text(facts.display_name.to_owned()),
            Self::Field(Field::PolicyName) => Value::Text(facts.policy_name.to_owned()),
            Self::Field(Field::Type) => Value::Text(facts.kind.to_owned()),
            Self::Group(pipeline) => pipeline.value(facts)?,
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(text.clone()),
        })
    }
}

impl Claims<'_> {
    fn get(&self, name: &str) -> Result<&str, String> {
        match self {
            Self::Absent => Err("there are no claims here: .Claims is for the templates of a role".to_owned()),
            Self::Any => Ok("claim"),
            Self::Of(claims) => claims
                .get(name)
                .map(String::as_str)
                .ok_or_else(|| format!("the caller's login proved no {name:?}; log in through a method and role that does")),
        }
    }
}

impl Value {
    /// Go's truth: not empty, not zero.
    fn is_true(&self) -> bool {
        match self {
            Self::Bool(flag) => *flag,
            Self::Number(number) => *number != 0,
            Self::Text(text) => !text.is_empty(),
        }
    }

    fn into_text(self) -> String {
        match self {
            Self::Bool(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

#[cfg(test)]
mod tests;
