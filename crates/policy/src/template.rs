//! Who a token belongs to, and patterns that name it: `secret/{{identity.entity.name}}/*`.

use std::collections::BTreeMap;

/// Who a token belongs to, as far as patterns may ask. Empty for tokens without an entity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The entity of the token.
    pub entity: Option<Entity>,
    /// The groups that the entity is in, inherited ones included.
    pub groups: Vec<Group>,
}

/// An entity: one caller, however it logs in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entity {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What an operator noted about it.
    pub metadata: BTreeMap<String, String>,
    /// How each auth mount knows it.
    pub aliases: Vec<Alias>,
}

/// How one auth mount knows an entity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alias {
    /// Its id.
    pub id: String,
    /// The accessor of the auth mount.
    pub mount_accessor: String,
    /// The name there: a role id, a user name, a subject.
    pub name: String,
    /// What the method noted at the last login.
    pub metadata: BTreeMap<String, String>,
    /// What an operator noted.
    pub custom_metadata: BTreeMap<String, String>,
}

/// A group of entities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What an operator noted about it.
    pub metadata: BTreeMap<String, String>,
}

/// What of the caller decides how a pattern is filled; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DependsOn {
    /// Nothing: it is the same for everybody.
    Nothing,
    /// The entity and its groups.
    Entity,
    /// What the login proved, which may differ from one login of an entity to the next.
    Login,
}

/// A pattern with the places that depend on the caller, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `None`: a directive that nobody knows, which no caller ever fills.
    Value(Option<Selector>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    Alias { accessor: String, field: AliasField },
    EntityId,
    EntityMetadata(String),
    EntityName,
    Group { by: GroupKey, field: GroupField },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AliasField {
    CustomMetadata(String),
    Id,
    Metadata(String),
    Name,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum GroupKey {
    Id(String),
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum GroupField {
    Id,
    Metadata(String),
    Name,
}

/// What becomes of a pattern for a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filled {
    /// A value is missing or empty, as it is for callers that the stanza is not about.
    Missing,
    /// The pattern.
    Pattern(String),
    /// A value is there and could change what the pattern means.
    Unsafe {
        /// The text before it, with the values before it.
        head: String,
    },
}

/// `{{` and `}}` do not pair up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unbalanced;

impl Template {
    /// Splits a pattern into literal text and directives.
    pub(crate) fn parse(text: &str) -> Result<Self, Unbalanced> {
        let mut pieces = text.split("{{");
        let first = pieces.next().unwrap_or_default();
        if first.contains("}}") {
            return Err(Unbalanced);
        }
        let mut parts = vec![Part::Literal(first.to_owned())];
        for piece in pieces {
            let (directive, literal) = piece.split_once("}}").ok_or(Unbalanced)?;
            if literal.contains("}}") {
                return Err(Unbalanced);
            }
            parts.push(Part::Value(selector(directive.trim())));
            parts.push(Part::Literal(literal.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The pattern as written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What of the caller decides how it is filled.
    pub(crate) fn depends_on(&self) -> DependsOn {
        let of_part = |part: &Part| match part {
            Part::Literal(_) => DependsOn::Nothing,
            Part::Value(Some(Selector::Alias { .. })) => DependsOn::Login,
            // Also what nobody fills: who asks is told apart rather once too often.
            Part::Value(_) => DependsOn::Entity,
        };
        self.parts.iter().map(of_part).max().unwrap_or(DependsOn::Nothing)
    }

    /// Whether it holds a directive that no caller ever fills.
    pub(crate) fn has_unknown_directive(&self) -> bool {
        self.parts.contains(&Part::Value(None))
    }

    /// The pattern for a caller.
    pub(crate) fn fill(&self, identity: &Identity) -> Filled {
        let mut out = String::with_capacity(self.text.len());
        let mut head = None;
        let mut missing = false;
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value(selector) => {
                    let value = selector.as_ref().and_then(|selector| value_of(selector, identity)).filter(|value| !value.is_empty());
                    let Some(value) = value else {
                        missing = true;
                        continue;
                    };
                    if value.contains(['*', '+', '/']) {
                        head.get_or_insert_with(|| out.clone());
                    }
                    out.push_str(value);
                }
            }
        }
        match head {
            _ if missing => Filled::Missing,
            Some(head) => Filled::Unsafe { head },
            None => Filled::Pattern(out),
        }
    }
}

fn selector(directive: &str) -> Option<Selector> {
    if let Some(rest) = directive.strip_prefix("identity.entity.") {
        return match rest {
            "id" => Some(Selector::EntityId),
            "name" => Some(Selector::EntityName),
            _ => rest.strip_prefix("metadata.").map(|key| Selector::EntityMetadata(key.to_owned())).or_else(|| alias_selector(rest)),
        };
    }
    let (by, rest) = directive.strip_prefix("identity.groups.")?.split_once('.')?;
    let (group, field) = rest.split_once('.')?;
    let by = match by {
        "ids" => GroupKey::Id(group.to_owned()),
        "names" => GroupKey::Name(group.to_owned()),
        _ => return None,
    };
    let field = match field {
        "id" => GroupField::Id,
        "name" => GroupField::Name,
        _ => GroupField::Metadata(field.strip_prefix("metadata.")?.to_owned()),
    };
    Some(Selector::Group { by, field })
}

fn alias_selector(rest: &str) -> Option<Selector> {
    let (accessor, field) = rest.strip_prefix("aliases.")?.split_once('.')?;
    let field = match field {
        "id" => AliasField::Id,
        "name" => AliasField::Name,
        _ => match field.strip_prefix("metadata.") {
            Some(key) => AliasField::Metadata(key.to_owned()),
            None => AliasField::CustomMetadata(field.strip_prefix("custom_metadata.")?.to_owned()),
        },
    };
    Some(Selector::Alias { accessor: accessor.to_owned(), field })
}

fn value_of<'a>(selector: &Selector, identity: &'a Identity) -> Option<&'a str> {
    let entity = identity.entity.as_ref();
    Some(match selector {
        Selector::Alias { accessor, field } => {
            let alias = entity?.aliases.iter().find(|alias| alias.mount_accessor == *accessor)?;
            match field {
                AliasField::CustomMetadata(key) => alias.custom_metadata.get(key)?,
                AliasField::Id => &alias.id,
                AliasField::Metadata(key) => alias.metadata.get(key)?,
                AliasField::Name => &alias.name,
            }
        }
        Selector::EntityId => &entity?.id,
        Selector::EntityMetadata(key) => entity?.metadata.get(key)?,
        Selector::EntityName => &entity?.name,
        Selector::Group { by, field } => {
            let is_meant = |group: &&Group| match by {
                GroupKey::Id(id) => group.id == *id,
                GroupKey::Name(name) => group.name == *name,
            };
            let group = identity.groups.iter().find(is_meant)?;
            match field {
                GroupField::Id => &group.id,
                GroupField::Metadata(key) => group.metadata.get(key)?,
                GroupField::Name => &group.name,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Identity {
            entity: Some(Entity {
                id: "e-1".into(),
                name: "ada".into(),
                metadata: pair("team.name", "blue"),
                aliases: vec![Alias {
                    id: "a-1".into(),
                    mount_accessor: "auth_jwt_1".into(),
                    name: "org/repo".into(),
                    metadata: pair("ref", "main"),
                    custom_metadata: pair("k", "*"),
                }],
            }),
            groups: vec![Group { id: "g-1".into(), name: "ops".into(), metadata: pair("x", "") }],
        }
    }

    fn filled(text: &str) -> Filled {
        Template::parse(text).unwrap().fill(&identity())
    }

    fn pattern(text: &str) -> Filled {
        Filled::Pattern(text.to_owned())
    }

    #[test]
    fn directives_are_filled_from_the_identity() {
        for (text, expected) in [
            ("kv/{{identity.entity.id}}/{{ identity.entity.name }}/*", "kv/e-1/ada/*"),
            ("{{identity.entity.metadata.team.name}}", "blue"),
            ("{{identity.entity.aliases.auth_jwt_1.id}}-{{identity.entity.aliases.auth_jwt_1.metadata.ref}}", "a-1-main"),
            ("{{identity.groups.ids.g-1.name}}/{{identity.groups.names.ops.id}}", "ops/g-1"),
            ("plain/+/*", "plain/+/*"),
        ] {
            assert_eq!(filled(text), pattern(expected), "{text}");
        }
    }

    #[test]
    fn missing_and_empty_values_leave_the_stanza_out() {
        for directive in [
            "identity.entity.metadata.other",
            "identity.entity.aliases.other.id",
            "identity.groups.names.ops.metadata.x",
            "identity.groups.names.dev.id",
            "identity.nothing",
            "",
        ] {
            assert_eq!(filled(&format!("a/{{{{{directive}}}}}/b")), Filled::Missing, "{directive}");
        }
        assert_eq!(Template::parse("{{identity.entity.id}}").unwrap().fill(&Identity::default()), Filled::Missing);
    }

    /// Somebody of whom everything that a pattern may ask for is the same text.
    fn all_the_same(value: &str) -> Identity {
        let pairs = BTreeMap::from([("k".to_owned(), value.to_owned())]);
        let (id, name) = (value.to_owned(), value.to_owned());
        let alias = Alias {
            id: id.clone(),
            mount_accessor: "a".into(),
            name: name.clone(),
            metadata: pairs.clone(),
            custom_metadata: pairs.clone(),
        };
        Identity {
            entity: Some(Entity { id: id.clone(), name: name.clone(), metadata: pairs.clone(), aliases: vec![alias] }),
            groups: vec![
                Group { id: "g".into(), name: name.clone(), metadata: pairs.clone() },
                Group { id, name: "n".into(), metadata: pairs },
            ],
        }
    }

    const EVERY_FORM: [&str; 11] = [
        "identity.entity.id",
        "identity.entity.name",
        "identity.entity.metadata.k",
        "identity.entity.aliases.a.id",
        "identity.entity.aliases.a.name",
        "identity.entity.aliases.a.metadata.k",
        "identity.entity.aliases.a.custom_metadata.k",
        "identity.groups.ids.g.name",
        "identity.groups.ids.g.metadata.k",
        "identity.groups.names.n.id",
        "identity.groups.names.n.metadata.k",
    ];

    #[test]
    fn no_form_lets_a_value_change_what_the_pattern_means() {
        for form in EVERY_FORM {
            let template = Template::parse(&format!("a/{{{{{form}}}}}/b")).unwrap();
            for value in ["x", "x y", "..", "x:y@z", "x,y", "\u{e4}"] {
                assert_eq!(template.fill(&all_the_same(value)), pattern(&format!("a/{value}/b")), "{form} {value:?}");
            }
            for value in ["*", "x*", "+", "x+y", "/", "x/y"] {
                assert_eq!(template.fill(&all_the_same(value)), Filled::Unsafe { head: "a/".to_owned() }, "{form} {value:?}");
            }
            assert_eq!(template.fill(&all_the_same("")), Filled::Missing, "{form}");
            // A value that looks like a directive is text.
            let sly = "{{identity.entity.id}}";
            assert_eq!(template.fill(&all_the_same(sly)), pattern(&format!("a/{sly}/b")), "{form}");
            assert_eq!(template.fill(&Identity::default()), Filled::Missing, "{form} of nobody");
        }
    }

    #[test]
    fn a_pattern_says_what_of_the_caller_it_depends_on() {
        for form in EVERY_FORM {
            let expected = if form.contains("aliases") { DependsOn::Login } else { DependsOn::Entity };
            assert_eq!(Template::parse(&format!("{{{{{form}}}}}")).unwrap().depends_on(), expected, "{form}");
        }
        assert_eq!(Template::parse("a/+/*").unwrap().depends_on(), DependsOn::Nothing);
        assert_eq!(Template::parse("{{identity.nothing}}").unwrap().depends_on(), DependsOn::Entity);
    }

    #[test]
    fn braces_must_pair_up() {
        for text in ["a/{{b", "a}}b", "{{a}}b}}", "{{a{{b}}", "}}{{"] {
            assert_eq!(Template::parse(text), Err(Unbalanced), "{text}");
        }
        assert!(Template::parse("{a}").is_ok_and(|template| template.depends_on() == DependsOn::Nothing));
        assert!(Template::parse("{{identity.x}}").is_ok_and(|template| template.has_unknown_directive()));
    }
}
