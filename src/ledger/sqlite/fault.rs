//! What goes wrong with a database, in the operator's words.

use std::fmt;

use rusqlite::ErrorCode;

use super::super::LedgerError;

/// `SQLITE_IOERR_FSYNC` and `SQLITE_IOERR_DIR_FSYNC` (<https://sqlite.org/rescode.html>).
const NOT_SYNCED: [i32; 2] = [rusqlite::ffi::SQLITE_IOERR_FSYNC, rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC];

const NOT_KEPT: &str = "the disk failed to keep what was written to it";

/// Why something could not be read or written.
#[derive(Debug)]
pub(super) enum Fault {
    /// What SQLite says.
    Sql(rusqlite::Error),
    /// The disk failed to keep what was written to it some time ago.
    Unsynced,
    /// A record is not one that was written here.
    Damaged(String),
}

impl Fault {
    /// Whether nothing that follows can be trusted either, until somebody has looked at the disk.
    ///
    /// After a failed fsync the system may take for written what is not on the disk, so that a later
    /// fsync that succeeds proves nothing.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Sql(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                    || NOT_SYNCED.contains(&error.extended_code)
            }
            Self::Unsynced => true,
            Self::Sql(_) | Self::Damaged(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Damaged(what) => return write!(formatter, "its record is damaged: {what}"),
            Self::Unsynced => return formatter.write_str(NOT_KEPT),
            Self::Sql(rusqlite::Error::SqliteFailure(error, _)) => error,
            Self::Sql(other) => return other.fmt(formatter),
        };
        let words = match error.code {
            ErrorCode::DiskFull => "the disk is full",
            ErrorCode::DatabaseCorrupt => "the file is damaged; restore it from a backup",
            ErrorCode::NotADatabase => "the file is not an SQLite database",
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
                "the file cannot be written: permission denied"
            }
            ErrorCode::CannotOpen => "the file or one beside it cannot be opened",
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "another program keeps the file locked",
            ErrorCode::SystemIoFailure if NOT_SYNCED.contains(&error.extended_code) => NOT_KEPT,
            ErrorCode::SystemIoFailure => "the disk cannot be read or written",
            _ => return error.fmt(formatter),
        };
        write!(formatter, "{words} (SQLite code {})", error.extended_code)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: i32) -> Fault {
        Fault::Sql(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
    }

    #[test]
    fn only_what_later_success_cannot_disprove_is_lasting() {
        use rusqlite::ffi;
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_CORRUPT_INDEX,
            ffi::SQLITE_NOTADB,
        ] {
            assert!(fault(code).is_lasting(), "{code}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_BUSY] {
            assert!(!fault(code).is_lasting(), "{code}");
        }
        assert!(!Fault::Damaged("amount".into()).is_lasting());
    }

    #[test]
    fn faults_are_told_in_the_operators_words() {
        use rusqlite::ffi;
        for (code, words) in [
            (ffi::SQLITE_FULL, "the disk is full (SQLite code 13)"),
            (ffi::SQLITE_IOERR_FSYNC, "the disk failed to keep what was written to it (SQLite code 1034)"),
            (ffi::SQLITE_IOERR_WRITE, "the disk cannot be read or written (SQLite code 778)"),
            (ffi::SQLITE_NOTADB, "the file is not an SQLite database (SQLite code 26)"),
        ] {
            assert_eq!(fault(code).to_string(), words);
        }
    }
}
