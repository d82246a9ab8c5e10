//! The record's lines one after the other, from the audit file or from the store, without taking part in either: a gate may
//! be writing them. Start at [`Lines`].

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{StoreError, database, read};

/// Longer "lines" are none of ours (see the worker's limit); reading stops there instead of filling the memory.
const MAX_LINE_BYTES: u64 = 1_000_000_000;
/// Lines taken from the store at once.
const PAGE: u64 = 64;

/// A line as it stands, without its line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLine {
    /// Which line of the file, or which event of the store, from 1.
    pub number: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// It ended with a line feed.
    pub complete: bool,
}

/// Where lines come from.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File { reader: BufReader<File>, number: u64 },
    Store { connection: Connection, page: std::vec::IntoIter<RawLine>, last: u64 },
    Failed,
}

impl Lines {
    /// Of an audit file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn of_file(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|error| StoreError::file(path, &error))?;
        Ok(Self { path: path.to_owned(), source: Source::File { reader: BufReader::new(file), number: 0 } })
    }

    /// Of a store.
    ///
    /// # Errors
    /// It cannot be opened, or is none.
    pub fn of_store(path: &Path) -> Result<Self, StoreError> {
        let connection = database::read_only(path)?;
        let page = Vec::new().into_iter();
        Ok(Self { path: path.to_owned(), source: Source::Store { connection, page, last: 0 } })
    }

    fn step(&mut self) -> Result<Option<RawLine>, StoreError> {
        let failed = |error: &dyn std::fmt::Display| StoreError::file(&self.path, &error);
        match &mut self.source {
            Source::Failed => Ok(None),
            Source::File { reader, number } => {
                let mut bytes = Vec::new();
                let mut limited = reader.take(MAX_LINE_BYTES);
                let length = limited.read_until(b'\n', &mut bytes).map_err(|error| failed(&error))?;
                if length == 0 {
                    return Ok(None);
                }
                *number = number.saturating_add(1);
                let complete = bytes.last() == Some(&b'\n');
                if complete {
                    bytes.pop();
                }
                Ok(Some(RawLine { number: *number, bytes, complete }))
            }
            Source::Store { connection, page, last } => {
                if page.len() == 0 {
                    let lines = read::lines(connection, *last, PAGE).map_err(|error| failed(&error))?;
                    *page = lines.into_iter();
                }
                let line = page.next();
                if let Some(line) = &line {
                    *last = line.number;
                }
                Ok(line)
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<RawLine, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.source = Source::Failed;
        }
        step.transpose()
    }
}

/// The number of a store's last event and the hash of a certain one, while a gate may be using it.
#[derive(Debug)]
pub struct Glance(Connection);

impl Glance {
    /// Opens a store for looking.
    ///
    /// # Errors
    /// It cannot be opened, or is none.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        database::read_only(path).map(Self)
    }

    /// The end of the record now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn head(&self) -> Result<super::Head, StoreError> {
        let sql = "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1";
        let head = self
            .0
            .query_row(sql, [], |row| Ok(super::Head { seq: row.get::<_, i64>(0)?.unsigned_abs(), hash: row.get(1)? }));
        match head {
            Ok(head) => Ok(head),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(super::Head::default()),
            Err(error) => Err(StoreError::Unreadable(error.to_string())),
        }
    }

    /// The hash of an event; `None` if there is no such event.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn hash(&self, seq: u64) -> Result<Option<String>, StoreError> {
        read::hash(&self.0, seq)
    }

    /// Compares the tables with what the events add up to, and says where they differ first, if they do.
    ///
    /// # Errors
    /// The store cannot be read, or events in it cannot.
    pub fn difference(&self) -> Result<Option<String>, StoreError> {
        let unreadable = |error: rusqlite::Error| StoreError::Unreadable(error.to_string());
        // One state of the store, whatever a gate writes meanwhile.
        let now = self.0.unchecked_transaction().map_err(unreadable)?;
        // Without a name it is a temporary file, not memory: records are long.
        let fresh = database::scratch()?;
        fresh.execute_batch("BEGIN").map_err(unreadable)?;
        let mut last = 0;
        loop {
            let lines = read::lines(&now, last, PAGE)?;
            let Some(end) = lines.last() else { break };
            last = end.number;
            for line in &lines {
                super::project::replay(&fresh, line)?;
            }
        }
        for (table, key) in
            [("events", "seq"), ("requests", "id"), ("answers", "seq"), ("announcements", "request, channel")]
        {
            if let Some(row) = differing_row(&now, &fresh, table, key).map_err(unreadable)? {
                return Ok(Some(format!("table {table}, row {row}")));
            }
        }
        Ok(None)
    }
}

/// The key of the first row that differs, in words.
fn differing_row(one: &Connection, two: &Connection, table: &str, key: &str) -> rusqlite::Result<Option<String>> {
    use rusqlite::types::Value;
    let sql = format!("SELECT * FROM {table} ORDER BY {key}");
    let (mut one, mut two) = (one.prepare(&sql)?, two.prepare(&sql)?);
    let columns = one.column_count();
    let values = |row: Option<&rusqlite::Row<'_>>| -> rusqlite::Result<Option<Vec<Value>>> {
        row.map(|row| (0..columns).map(|column| row.get(column)).collect()).transpose()
    };
    let (mut ones, mut twos) = (one.query([])?, two.query([])?);
    loop {
        let (a, b) = (values(ones.next()?)?, values(twos.next()?)?);
        if a == b {
            if a.is_none() {
                return Ok(None);
            }
            continue;
        }
        let first = a.or(b).and_then(|row| row.into_iter().next());
        return Ok(Some(match first {
            Some(Value::Text(text)) => text,
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Null | Value::Real(_) | Value::Blob(_)) | None => "(no key)".to_owned(),
        }));
    }
}
