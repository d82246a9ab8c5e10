//! The SQLite file: opened, locked, checked and brought to the present form. Knows nothing of what is in its tables.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;

/// Marks a file as a store of this program (`PRAGMA application_id`): "QGAT".
const APPLICATION_ID: i32 = 0x5147_4154;

/// Steps from an empty file to the present form; `PRAGMA user_version` counts those taken. Add, never change.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// Only the owner: statements and values are in it.
const PRIVATE: u32 = 0o600;

/// An open store file, and the lock that keeps others out while it lives.
pub(super) struct Database {
    pub(super) connection: Connection,
    /// Released after the connection is closed: fields are dropped in the order they stand.
    _lock: Option<Flock<File>>,
}

impl Database {
    /// Opens the file, making it if need be; `None` for one in memory.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let Some(path) = path else {
            let connection =
                Connection::open_in_memory().map_err(|error| StoreError::file(Path::new("memory"), &error))?;
            return Self::prepare(connection, Path::new("memory"), None);
        };
        let file = OpenOptions::new().read(true).append(true).create(true).mode(PRIVATE).open(path);
        let file = file.map_err(|error| StoreError::file(path, &error))?;
        // Of the file itself, so that two names of it (a symbolic link) have one lock.
        let path = path.canonicalize().map_err(|error| StoreError::file(path, &error))?;
        let lock = lock(&path)?;
        // A store made by hand or restored from a backup may be readable by others.
        file.set_permissions(Permissions::from_mode(PRIVATE)).map_err(|error| StoreError::file(&path, &error))?;
        // Closing any descriptor of a file drops SQLite's own locks on it, so this one is closed before SQLite opens its own.
        drop(file);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|error| trouble(&path, &error))?;
        Self::prepare(connection, &path, Some(lock))
    }

    fn prepare(mut connection: Connection, path: &Path, lock: Option<Flock<File>>) -> Result<Self, StoreError> {
        let failed = |error: rusqlite::Error| trouble(path, &error);
        known(&connection, path)?;
        // FULL: a commit is on the disk when it returns, also with a write-ahead log.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;
                 PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA journal_size_limit = 67108864;",
            )
            .map_err(failed)?;
        check(&connection, path)?;
        migrate(&mut connection).map_err(failed)?;
        Ok(Self { connection, _lock: lock })
    }
}

/// Opens a store for reading only, while a gate uses it or not.
pub(super) fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| trouble(path, &error))?;
    connection
        .execute_batch("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;")
        .map_err(|error| trouble(path, &error))?;
    match known(&connection, path)? {
        0 => Err(StoreError::NotOurs { path: path.to_owned(), why: "is empty: no gate has used it yet".to_owned() }),
        _ => Ok(connection),
    }
}

/// An empty store in a temporary file.
pub(super) fn scratch() -> Result<Connection, StoreError> {
    let path = Path::new("temporary database");
    let mut connection = Connection::open("").map_err(|error| trouble(path, &error))?;
    migrate(&mut connection).map_err(|error| trouble(path, &error))?;
    Ok(connection)
}

/// Refuses what is no store, or one of a later version. Returns the version, 0 for an empty file.
fn known(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let failed = |error: rusqlite::Error| trouble(path, &error);
    let not_ours = |why: &str| StoreError::NotOurs { path: path.to_owned(), why: why.to_owned() };
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    match (application, tables) {
        (0, 0) => Ok(0),
        (APPLICATION_ID, _) if version > MIGRATIONS.len() => {
            Err(not_ours("was made by a later version of querygate; use that one"))
        }
        (APPLICATION_ID, _) => Ok(version),
        _ => Err(not_ours("is a database of another program")),
    }
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    let word = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    let word = word.map_err(|error| damaged(error.to_string()))?;
    if word != "ok" {
        return Err(damaged(word));
    }
    let mut violations = connection.prepare("PRAGMA foreign_key_check").map_err(|error| damaged(error.to_string()))?;
    let violated = violations.exists([]).map_err(|error| damaged(error.to_string()))?;
    if violated { Err(damaged("rows refer to rows that are gone".to_owned())) } else { Ok(()) }
}

/// All steps that are missing, in one transaction: a crash in between leaves the old form.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let taken: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let missing = MIGRATIONS.get(usize::try_from(taken).unwrap_or(usize::MAX)..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let step = connection.transaction()?;
    for migration in missing {
        step.execute_batch(migration)?;
    }
    step.pragma_update(None, "application_id", APPLICATION_ID)?;
    step.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
    step.commit()
}

/// Takes the lock beside the store. A file of its own: locks on the database file are SQLite's business.
fn lock(store: &Path) -> Result<Flock<File>, StoreError> {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(PRIVATE).open(&path);
    let file = file.map_err(|error| StoreError::file(&path, &error))?;
    let mut lock = exclusive(file, store)?;
    // Only words for whoever is refused; the lock is what counts.
    let _unsaid = lock.set_len(0).and_then(|()| writeln!(lock, "process {}", std::process::id()));
    Ok(lock)
}

/// Locks a file of the record until the result is dropped (or the process ends).
pub(super) fn exclusive(file: File, shown: &Path) -> Result<Flock<File>, StoreError> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, errno)| {
        if errno != Errno::EWOULDBLOCK {
            return StoreError::file(shown, &format!("cannot lock it: {}", errno.desc()));
        }
        let mut holder = String::new();
        let read = Read::by_ref(&mut file).take(64).read_to_string(&mut holder);
        let named = read.is_ok() && holder.starts_with("process ");
        let by = if named { holder.trim().to_owned() } else { "another process".to_owned() };
        StoreError::InUse { path: shown.to_owned(), by }
    })
}

/// SQLite's word, as ours.
fn trouble(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            StoreError::NotOurs { path: path.to_owned(), why: "is no SQLite database".to_owned() }
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path: path.to_owned(), why: "it is malformed".to_owned() }
        }
        _ => StoreError::file(path, &error),
    }
}
