//! What a request wants done.

/// An operation on a path. `POST` and `PUT` are [`Operation::Create`] where the endpoint can tell that the thing does not exist
/// yet, else [`Operation::Update`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `POST`/`PUT` of something new.
    Create,
    /// `DELETE`.
    Delete,
    /// `HEAD`.
    Header,
    /// `GET ?help=1`.
    Help,
    /// `LIST`, or `GET ?list=true`.
    List,
    /// `PATCH`.
    Patch,
    /// `GET`.
    Read,
    /// `POST`/`PUT`.
    Update,
}

impl Operation {
    /// As audit records and `path-help` name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Header => "header",
            Self::Help => "help",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Read => "read",
            Self::Update => "update",
        }
    }

    /// Whether it changes something: create, update, patch or delete.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Delete | Self::Patch | Self::Update)
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
