//! The tree of a document: ordered items, each with its keys, its value and where it stands.

use serde_json::{Map, Number};

use super::Position;

/// Which form the text had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// HCL itself.
    Hcl,
    /// JSON: the text began with `{`.
    Json,
}

/// A whole text.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The items at the top, in order.
    pub items: Vec<Item>,
    /// Which form the text had.
    pub form: Form,
}

/// `name = value`, or `name "label" { ... }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The name and then the labels; at least one.
    pub keys: Vec<Key>,
    /// Where `=` (in JSON `:`) stands; a block has none.
    pub assign: Option<Position>,
    /// What it is set to.
    pub value: Value,
}

/// A name or a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The text, escapes resolved.
    pub text: String,
    /// Whether it was written in quotes.
    pub quoted: bool,
    /// Where it begins.
    pub at: Position,
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub at: Position,
}

/// What a value can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `true`, `false`.
    Bool(bool),
    /// `1.5`, `2e3`; always finite.
    Float(f64),
    /// `42`, `0x2a`, `052`.
    Int(i64),
    /// `[ ... ]`.
    List(Vec<Value>),
    /// JSON's `null`; HCL has none.
    Null,
    /// `{ ... }`.
    Object(Vec<Item>),
    /// `"..."` or a heredoc.
    Text(String),
}

/// One block by its labels, the same for HCL (`a "b" { }`) and JSON (`{"a": {"b": { }}}`, lists of objects included).
#[derive(Debug, Clone, PartialEq)]
pub struct Block<'a> {
    /// The labels after the name.
    pub labels: Vec<&'a str>,
    /// What stands in the braces.
    pub items: &'a [Item],
    /// Where the block's name (in JSON its innermost label) begins.
    pub at: Position,
}

/// A name that was set twice in the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// The name.
    pub key: String,
    /// Where it is set again.
    pub at: Position,
}

impl Document {
    /// A document without items.
    #[must_use]
    pub fn empty(form: Form) -> Self {
        Self { items: Vec::new(), form }
    }

    /// All items of that name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Item> {
        self.items.iter().filter(move |item| item.name() == name)
    }

    /// All blocks of that name with the labels that HCL writes before the brace. In JSON one level of labels is read from
    /// the keys: `{"listener": {"tcp": {...}}}`, also `{"listener": [{"tcp": {...}}, {"unix": {...}}]}`.
    /// Items whose value is no object are left out; see [`Document::named`] for those.
    pub fn blocks<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Block<'a>> {
        self.named(name).flat_map(|item| item.blocks(self.form))
    }

    /// Names that were set twice with `=` in the same object, which Vault warns about. Blocks may repeat; JSON is not looked at.
    #[must_use]
    pub fn duplicates(&self) -> Vec<Duplicate> {
        let mut found = Vec::new();
        if self.form == Form::Hcl {
            find_duplicates(&self.items, &mut found);
        }
        found
    }
}

impl Item {
    /// The first key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.keys.first().map_or("", |key| key.text.as_str())
    }

    /// Where the first key begins.
    #[must_use]
    pub fn at(&self) -> Position {
        self.keys.first().map_or(self.value.at, |key| key.at)
    }

    /// The line of the item.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.at().line
    }

    /// The line of `=`, 0 for a block: the number that Vault's messages about unknown keys carry.
    #[must_use]
    pub fn assign_line(&self) -> u32 {
        self.assign.map_or(0, |at| at.line)
    }

    /// The blocks that this item writes; see [`Document::blocks`].
    #[must_use]
    pub fn blocks(&self, form: Form) -> Vec<Block<'_>> {
        let labels: Vec<&str> = self.keys.iter().skip(1).map(|key| key.text.as_str()).collect();
        let mut found = Vec::new();
        for items in self.value.objects() {
            if form == Form::Hcl || !labels.is_empty() {
                found.push(Block { labels: labels.clone(), items, at: self.at() });
                continue;
            }
            for inner in items {
                let objects = inner.value.objects();
                found.extend(objects.into_iter().map(|items| Block { labels: vec![inner.name()], items, at: inner.at() }));
            }
        }
        found
    }
}

impl Block<'_> {
    /// The last item of that name: like Go's decoder, the later one wins.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Item> {
        self.items.iter().rev().find(|item| item.name() == name)
    }
}

impl Value {
    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    /// A bool.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Kind::Bool(value) = self.kind { Some(value) } else { None }
    }

    /// A whole number.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        if let Kind::Int(value) = self.kind { Some(value) } else { None }
    }

    /// The entries of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Kind::List(values) = &self.kind { Some(values) } else { None }
    }

    /// The items of an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&[Item]> {
        if let Kind::Object(items) = &self.kind { Some(items) } else { None }
    }

    /// A string, or a whole number as text: Go's decoder takes both where a string is wanted.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        match &self.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Int(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The objects in it: itself, or the entries of a list that holds nothing but objects.
    #[must_use]
    pub fn objects(&self) -> Vec<&[Item]> {
        match &self.kind {
            Kind::Object(items) => vec![items],
            Kind::List(values) if values.iter().all(|value| value.as_object().is_some()) => {
                values.iter().filter_map(Self::as_object).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What kind it is, for messages: `a string`, `a list`.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Bool(_) => "a bool",
            Kind::Float(_) | Kind::Int(_) => "a number",
            Kind::List(_) => "a list",
            Kind::Null => "null",
            Kind::Object(_) => "an object",
            Kind::Text(_) => "a string",
        }
    }

    /// The value as JSON. Labels become nested objects; of a name set twice the last stays.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Bool(value) => (*value).into(),
            Kind::Float(value) => Number::from_f64(*value).map_or(serde_json::Value::Null, serde_json::Value::Number),
            Kind::Int(value) => (*value).into(),
            Kind::List(values) => values.iter().map(Self::to_json).collect(),
            Kind::Null => serde_json::Value::Null,
            Kind::Object(items) => serde_json::Value::Object(items_to_json(items)),
            Kind::Text(text) => text.as_str().into(),
        }
    }
}

fn items_to_json(items: &[Item]) -> Map<String, serde_json::Value> {
    let mut object = Map::new();
    for item in items {
        let value = item
            .keys
            .iter()
            .skip(1)
            .rev()
            .fold(item.value.to_json(), |inner, label| serde_json::Value::Object(Map::from_iter([(label.text.clone(), inner)])));
        object.insert(item.name().to_owned(), value);
    }
    object
}

fn find_duplicates(items: &[Item], found: &mut Vec<Duplicate>) {
    let mut seen = std::collections::HashSet::new();
    for item in items {
        if item.assign.is_some() {
            for key in &item.keys {
                // Go compares the names as written, so that `a` and `"a"` are two names.
                if !seen.insert((key.quoted, key.text.as_str())) {
                    found.push(Duplicate { key: key.text.clone(), at: key.at });
                }
            }
        }
        find_in_value(&item.value, found);
    }
}

fn find_in_value(value: &Value, found: &mut Vec<Duplicate>) {
    match &value.kind {
        Kind::Object(items) => find_duplicates(items, found),
        Kind::List(values) => values.iter().for_each(|value| find_in_value(value, found)),
        _ => {}
    }
}
