//! The file a ledger is kept in, and the lock that keeps it to one gateway.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::OpenError;
use super::fault::Fault;
use super::mount;
use super::schema::{self, Kind, MIGRATIONS};

/// How long a step waits for another program that keeps the file locked.
const BUSY: Duration = Duration::from_secs(2);
/// Largest file that is read whole at start to see whether it is sound, in bytes.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

// cache_size is in KiB when negative. A thread of its own moves the log into the database.
const FOR_WRITING: &str = "
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 67108864;
PRAGMA cell_size_check = ON;
PRAGMA trusted_schema = OFF;
PRAGMA foreign_keys = OFF;
";
const FOR_READING: &str = "
PRAGMA cache_size = -8192;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;
PRAGMA trusted_schema = OFF;
PRAGMA query_only = ON;
";

/// A ledger's file, held by this process alone. The lock ends with the process, however it ends.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) path: PathBuf,
    _lock: File,
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(formatter)
    }
}

/// Opens the ledger at `path` for the one gateway that may write to it, and creates it if need be.
pub(super) fn open(path: &Path) -> Result<(Connection, Held), OpenError> {
    let path = resolve(path)?;
    check_mount(&path)?;
    let lock = lock(&path)?;
    create(&path)?;
    let failed = |fault: Fault| OpenError(format!("the ledger {}: {fault}", path.display()));
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let version = match schema::kind(&connection).map_err(failed)? {
        Kind::Empty => 0,
        Kind::Ledger(version) => check_version(&path, version)?,
        Kind::Foreign => return Err(foreign(&path)),
    };
    prepare(&connection, version).map_err(failed)?;
    check_sound(&path, &connection)?;
    Ok((connection, Held { path, _lock: lock }))
}

/// Opens the ledger at `path` for reading, beside whoever writes to it.
pub(super) fn open_to_read(path: &Path) -> Result<(Connection, PathBuf), OpenError> {
    let path = resolve(path)?;
    let there = path.try_exists().map_err(|error| cannot("read", &path, &error))?;
    if !there {
        return Err(OpenError(format!("there is no ledger at {}", path.display())));
    }
    let failed = |fault: Fault| OpenError(format!("the ledger {}: {fault}", path.display()));
    let connection = reader(&path).map_err(failed)?;
    match schema::kind(&connection).map_err(failed)? {
        Kind::Ledger(version) if check_version(&path, version)? < MIGRATIONS.len() => {
            Err(OpenError(format!(
                "the ledger {} was written by an older version; start the gateway once to bring it up to date",
                path.display()
            )))
        }
        Kind::Ledger(_) => Ok((connection, path)),
        Kind::Empty => {
            Err(OpenError(format!("the ledger {} is empty: no gateway used it yet", path.display())))
        }
        Kind::Foreign => Err(foreign(&path)),
    }
}

/// Another connection that may write, for the process that holds the file.
pub(super) fn beside(held: &Held) -> Result<Connection, Fault> {
    let connection = connect(&held.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch(FOR_WRITING)?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, Fault> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch(FOR_READING)?;
    Ok(connection)
}

/// A database in memory.
pub(super) fn in_memory() -> Result<Connection, Fault> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(FOR_WRITING)?;
    connection.set_prepared_statement_cache_capacity(64);
    schema::migrate(&connection, 0, MIGRATIONS)?;
    Ok(connection)
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, Fault> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn prepare(connection: &Connection, version: usize) -> Result<(), Fault> {
    connection.execute_batch(FOR_WRITING)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if journal != "wal" {
        return Err(Fault::Damaged(format!("its journal is \"{journal}\" and cannot be \"wal\"")));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    schema::migrate(connection, version, MIGRATIONS)
}

/// The path without symbolic links, so that one file has one lock.
fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            OpenError(format!("the folder {} for the ledger does not exist; create it", folder.display()))
        }
        ErrorKind::NotADirectory => OpenError(format!("{} is not a folder", folder.display())),
        _ => cannot("use the folder", folder, &error),
    })?;
    let Some(name) = path.file_name() else {
        return Err(OpenError(format!("{} is not the name of a file", path.display())));
    };
    let path = folder.join(name);
    match path.canonicalize() {
        Ok(path) if path.is_dir() => {
            Err(OpenError(format!("{} is a folder; name a file for the ledger", path.display())))
        }
        Ok(path) => Ok(path),
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => Ok(path),
        Err(error) => Err(cannot("use", &path, &error)),
    }
}

fn check_mount(path: &Path) -> Result<(), OpenError> {
    let Some(kind) = mount::kind_of(path) else { return Ok(()) };
    if mount::is_remote(&kind) {
        return Err(OpenError(format!(
            "the ledger {} would be on a network file system ({kind}), where SQLite cannot keep its promises; \
             keep it on a local disk, or use PostgreSQL",
            path.display()
        )));
    }
    if matches!(kind.as_str(), "tmpfs" | "ramfs") {
        tracing::warn!(path = %path.display(), "the ledger is on {kind}: it is lost when the machine stops");
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|error| cannot("create", &name, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Whoever holds it wrote its number into it; without that the message is just shorter.
            let _ = file.take(20).read_to_string(&mut holder);
            let holder =
                holder.trim().parse::<u32>().map(|id| format!(" (process {id})")).unwrap_or_default();
            return Err(OpenError(format!(
                "another gateway{holder} uses the ledger {}; one file is for one gateway, and several share a \
                 PostgreSQL database",
                path.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(cannot("lock", &name, &error)),
    }
    // Only for the message above: a full disk must not keep the gateway from starting.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

/// Creates the file, for nobody else to read, and makes its name durable.
fn create(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let metadata = path.metadata().map_err(|error| cannot("read", path, &error))?;
            if !metadata.is_file() {
                return Err(OpenError(format!("{} is not a file", path.display())));
            }
            if metadata.permissions().mode() & 0o077 != 0 {
                tracing::warn!(path = %path.display(), "the ledger can be read by others; chmod 600 keeps it private");
            }
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map_err(|error| cannot("write", path, &error))?;
        }
        Err(error) => return Err(cannot("create", path, &error)),
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| cannot("make durable what is in", folder, &error))
}

fn check_version(path: &Path, version: usize) -> Result<usize, OpenError> {
    if version > MIGRATIONS.len() {
        return Err(OpenError(format!(
            "the ledger {} was written by a newer version (schema {version}; this one knows {}); use that version",
            path.display(),
            MIGRATIONS.len()
        )));
    }
    Ok(version)
}

/// Looks for damage, where that takes no time to speak of.
fn check_sound(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let size = path.metadata().map(|metadata| metadata.len());
    if size.is_ok_and(|size| size > CHECKED_BYTES_MAX) {
        return Ok(());
    }
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    let damage = match found {
        Ok(found) if found == "ok" => return Ok(()),
        Ok(found) => found,
        Err(error) => Fault::from(error).to_string(),
    };
    Err(OpenError(format!(
        "the ledger {} is damaged ({damage}); restore it from a backup, or move it and the files beside it away \
         to begin a new one",
        path.display()
    )))
}

fn foreign(path: &Path) -> OpenError {
    OpenError(format!(
        "{} is a database of another program; name another file for the ledger",
        path.display()
    ))
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> OpenError {
    let shown = path.display();
    let why = match error.kind() {
        ErrorKind::PermissionDenied => {
            "permission denied; the ledger's folder and files must be writable for the user the gateway runs as"
                .to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => "it is on a file system that is mounted read-only".to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full".to_owned(),
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::NotADirectory => "a part of the path is not a folder".to_owned(),
        _ => error.to_string(),
    };
    OpenError(format!("cannot {verb} {shown}: {why}"))
}
