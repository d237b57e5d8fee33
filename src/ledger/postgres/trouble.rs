//! What goes wrong with a database, by what may be done about it, in an operator's words.

use sqlx::error::DatabaseError;

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Nothing was written; the same may succeed at once.
    Again,
    /// Nothing was written; the database cannot be used at present.
    Away,
    /// Nothing was written, nor will be: the database refuses the data.
    Data,
    /// Whether it was written is not known.
    Unknown,
    /// The database is of no use until somebody changes something.
    Hopeless,
}

/// When it went wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage<'a> {
    /// While a connection to this place was made.
    Connecting(&'a str),
    /// Before the transaction was committed.
    Working,
    /// While it was committed.
    Committing,
}

/// Something that went wrong.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    worth: Worth,
    cause: String,
}

impl Trouble {
    pub(super) fn again(cause: impl Into<String>) -> Self {
        Self { worth: Worth::Again, cause: cause.into() }
    }

    pub(super) fn away(cause: impl Into<String>) -> Self {
        Self { worth: Worth::Away, cause: cause.into() }
    }

    pub(super) fn data(cause: impl Into<String>) -> Self {
        Self { worth: Worth::Data, cause: cause.into() }
    }

    pub(super) fn unknown(cause: impl Into<String>) -> Self {
        Self { worth: Worth::Unknown, cause: cause.into() }
    }

    pub(super) fn hopeless(cause: impl Into<String>) -> Self {
        Self { worth: Worth::Hopeless, cause: cause.into() }
    }

    pub(super) const fn worth(&self) -> Worth {
        self.worth
    }

    pub(super) fn cause(&self) -> &str {
        &self.cause
    }

    /// Judges what the library says.
    pub(super) fn of(error: &sqlx::Error, stage: Stage<'_>) -> Self {
        let cause = words(error, stage);
        let worth = match (stage, error) {
            // The answer may have been lost, not the commit.
            (Stage::Committing, _) => Worth::Unknown,
            (Stage::Connecting(_), sqlx::Error::Database(error)) => connecting(error.as_ref()),
            (Stage::Working, sqlx::Error::Database(error)) => working(error.as_ref()),
            (Stage::Connecting(_), sqlx::Error::Configuration(_) | sqlx::Error::Tls(_)) => Worth::Hopeless,
            (Stage::Connecting(_), _) => Worth::Away,
            // The connection was dead already, or died: another one may do.
            (Stage::Working, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => Worth::Again,
            (Stage::Working, _) => Worth::Data,
        };
        Self { worth, cause }
    }

    /// What a statement before the commit ran into.
    #[allow(clippy::needless_pass_by_value)] // So that it fits into `map_err`.
    pub(super) fn working(error: sqlx::Error) -> Self {
        Self::of(&error, Stage::Working)
    }

    /// What a commit ran into.
    #[allow(clippy::needless_pass_by_value)] // As above.
    pub(super) fn committing(error: sqlx::Error) -> Self {
        Self::of(&error, Stage::Committing)
    }
}

fn code(error: &dyn DatabaseError) -> String {
    error.code().unwrap_or_default().into_owned()
}

/// By SQLSTATE (PostgreSQL manual, appendix A).
fn connecting(error: &dyn DatabaseError) -> Worth {
    match code(error).as_str() {
        // Too many connections, starting up, shutting down, and what else passes.
        code if ["53", "57", "08", "58", "XX"].iter().any(|class| code.starts_with(class)) => Worth::Away,
        _ => Worth::Hopeless,
    }
}

fn working(error: &dyn DatabaseError) -> Worth {
    let code = code(error);
    match code.as_str() {
        // Serialisation failure, deadlock, unique violation: another came first. Shut down by an
        // administrator, crashed, idle for too long, and connections that broke.
        "40001" | "40P01" | "23505" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => Worth::Again,
        code if code.starts_with("08") => Worth::Again,
        // Data exceptions, integrity violations, limits of rows and indexes.
        code if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => Worth::Data,
        _ => Worth::Away,
    }
}

fn words(error: &sqlx::Error, stage: Stage<'_>) -> String {
    let what = match error {
        sqlx::Error::Database(error) => said(error.as_ref()),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) | sqlx::Error::Configuration(error) => {
            format!("no secure connection: {error}")
        }
        other => other.to_string(),
    };
    match stage {
        Stage::Connecting(place) => format!("{place}: {what}"),
        Stage::Working => what,
        Stage::Committing => format!("the connection was lost during a commit: {what}"),
    }
}

fn said(error: &dyn DatabaseError) -> String {
    let (code, message) = (code(error), error.message());
    match code.as_str() {
        "53100" => format!("the database's disk is full ({message})"),
        "57014" | "55P03" => format!("the database takes too long ({message})"),
        "28000" | "28P01" => format!("the database does not let the gateway in ({message})"),
        "42501" => format!("the database's user may not do what the ledger needs ({message})"),
        _ => format!("{message} (SQLSTATE {code})"),
    }
}
