//! The audit file: the events' lines, appended and synchronised, in agreement with the store. The store comes first: what the
//! file lacks is taken from there, and what the file says beyond or beside it is an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, fallocate};
use rusqlite::Connection;

use super::StoreError;
use super::chain::{Head, Links};
use super::database::exclusive;
use super::project::number;

/// Created readable by the owner only; whoever should read more may be given more.
const PRIVATE: u32 = 0o600;
/// Disk space taken ahead, so that a full disk is noticed before anything is committed.
const RESERVE: u64 = 1 << 20;
/// Lines are written in portions of about so many bytes.
const PORTION: usize = 4 << 20;

/// The open file.
pub(super) struct AuditFile {
    path: PathBuf,
    /// Locked, so that gates with different stores do not share it.
    file: Flock<File>,
    /// What is certainly on the disk: the last line's number, and the length.
    seq: u64,
    length: u64,
    /// Up to where space is reserved.
    reserved: u64,
    /// The last write failed: behind `length` anything may stand.
    unsure: bool,
}

/// What reading the whole record found.
pub(super) struct Verified {
    /// Its end.
    pub(super) head: Head,
    /// The policy version of its last line.
    pub(super) policy_version: String,
    /// Lines the audit file lacked.
    pub(super) appended: u64,
}

/// Checks the store's chain, makes the audit file agree with it, and opens that.
pub(super) fn open(
    store: &Path,
    connection: &Connection,
    path: Option<&Path>,
) -> Result<(Option<AuditFile>, Verified), StoreError> {
    let mut file = path.map(AuditFile::open).transpose()?;
    let verified = verify(store, connection, file.as_mut())?;
    Ok((file, verified))
}

/// Reads the store from its beginning, and the file beside it.
fn verify(store: &Path, connection: &Connection, file: Option<&mut AuditFile>) -> Result<Verified, StoreError> {
    let damaged = |why: String| StoreError::Damaged { path: store.to_owned(), why };
    let sql = |error: rusqlite::Error| damaged(error.to_string());
    let (mut head, mut policy_version) = (Head::default(), String::new());
    let mut reader = file.as_deref().map(Beside::new).transpose()?;
    let mut statement = connection.prepare("SELECT seq, line, hash FROM events ORDER BY seq").map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (seq, line, hash): (i64, String, String) =
            (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?, row.get(2).map_err(sql)?);
        let links = Links::read(line.as_bytes()).map_err(|error| damaged(format!("event {seq}: {error}")))?;
        let follows = links.seq == head.seq.saturating_add(1) && links.prev == head.hash;
        if !follows || number(links.seq) != seq || links.hash != hash {
            return Err(damaged(format!("event {seq} does not follow event {}", head.seq)));
        }
        if let Some(reader) = &mut reader {
            reader.compare(links.seq, &line)?;
        }
        policy_version.clone_from(&links.policy_version);
        head = links.head();
    }
    let mut appended = 0;
    let agrees = reader.map(|reader| reader.finish(&head)).transpose()?;
    if let (Some((seq, length)), Some(file)) = (agrees, file) {
        (file.seq, file.length) = (seq, length);
        appended = head.seq.saturating_sub(seq);
        file.unsure = true;
        file.catch_up(connection).map_err(|why| StoreError::file(&file.path, &why))?;
    }
    Ok(Verified { head, policy_version, appended })
}

/// The audit file, read line by line beside the store.
struct Beside<'f> {
    path: &'f Path,
    reader: BufReader<&'f File>,
    /// Lines that agree, and their bytes.
    seq: u64,
    length: u64,
    /// The file ended (perhaps within a line) and the store goes on.
    ended: bool,
}

impl<'f> Beside<'f> {
    fn new(file: &'f AuditFile) -> Result<Self, StoreError> {
        let mut handle: &File = &file.file;
        handle.seek(SeekFrom::Start(0)).map_err(|error| StoreError::file(&file.path, &error))?;
        Ok(Self { path: &file.path, reader: BufReader::new(handle), seq: 0, length: 0, ended: false })
    }

    /// The store's next line.
    fn compare(&mut self, seq: u64, line: &str) -> Result<(), StoreError> {
        if self.ended {
            return Ok(());
        }
        // One more than the line and its line feed, so that a longer line of the file shows.
        let limit = (line.len() as u64).saturating_add(1);
        let mut found = Vec::with_capacity(line.len().saturating_add(1));
        let mut limited = self.reader.by_ref().take(limit);
        limited.read_until(b'\n', &mut found).map_err(|error| StoreError::file(self.path, &error))?;
        match found.strip_suffix(b"\n") {
            Some(whole) if whole == line.as_bytes() => {
                (self.seq, self.length) = (seq, self.length.saturating_add(limit));
                Ok(())
            }
            // A crash while it was written, or before.
            None if (found.len() as u64) < limit && line.as_bytes().starts_with(&found) => {
                self.ended = true;
                Ok(())
            }
            _ => Err(self.disagree(seq, format!("it is not what the store has as event {seq}"))),
        }
    }

    /// After the store's last line.
    fn finish(mut self, head: &Head) -> Result<(u64, u64), StoreError> {
        let mut more = [0];
        let read = self.reader.read(&mut more).map_err(|error| StoreError::file(self.path, &error))?;
        if read > 0 {
            let why = match head.seq {
                0 => "the store is empty, this file is not".to_owned(),
                seq => format!("the store ends with event {seq}, this file goes on"),
            };
            return Err(self.disagree(head.seq.saturating_add(1), why));
        }
        Ok((self.seq, self.length))
    }

    fn disagree(&self, line: u64, why: String) -> StoreError {
        StoreError::Disagree { path: self.path.to_owned(), line, why }
    }
}

impl AuditFile {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let trouble = |error: io::Error| StoreError::file(path, &error);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(PRIVATE).open(path).map_err(trouble)?;
        if !file.metadata().map_err(trouble)?.is_file() {
            return Err(StoreError::file(path, &"it is not a regular file"));
        }
        let file = exclusive(file, path)?;
        sync_directory(path).map_err(trouble)?;
        Ok(Self { path: path.to_owned(), file, seq: 0, length: 0, reserved: 0, unsure: false })
    }

    /// Makes sure that lines can be appended: undoes a failed write, adds what the file lacks, and takes the space.
    pub(super) fn prepare(&mut self, connection: &Connection, bytes: usize) -> Result<(), String> {
        self.settle(connection).map_err(|why| format!("{}: {why}", self.path.display()))?;
        self.reserve(bytes as u64).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// Appends lines (with their line feeds), the last one being `seq`, and waits until they are on the disk.
    pub(super) fn append(&mut self, lines: &[u8], seq: u64) -> Result<(), String> {
        self.unsure = true;
        let mut file: &File = &self.file;
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        written.map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.length = self.length.saturating_add(lines.len() as u64);
        self.seq = seq;
        self.unsure = false;
        Ok(())
    }

    fn settle(&mut self, connection: &Connection) -> Result<(), String> {
        if !self.is_in_place() {
            // Moved away or deleted: nobody would ever read what is written there.
            tracing::warn!(file = %self.path.display(), "the audit file is gone; it is written again from the store");
            let mut file = Self::open(&self.path).map_err(|error| error.to_string())?;
            verify(Path::new("store"), connection, Some(&mut file)).map_err(|error| error.to_string())?;
            *self = file;
            return Ok(());
        }
        if self.unsure {
            return self.catch_up(connection);
        }
        let length = self.file.metadata().map_err(|error| error.to_string())?.len();
        if length == self.length {
            return Ok(());
        }
        Err(format!("another program changed it: it should have {} bytes and has {length}", self.length))
    }

    fn is_in_place(&self) -> bool {
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(here)) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => false,
            // Trouble of another kind shows when writing.
            _ => true,
        }
    }

    /// Cuts off what is not certain and writes from the store what is missing.
    fn catch_up(&mut self, connection: &Connection) -> Result<(), String> {
        let cut = || {
            // Never makes the file longer: that would be a hole of zeros.
            if self.file.metadata()?.len() > self.length {
                self.file.set_len(self.length)?;
            }
            self.file.sync_all()
        };
        cut().map_err(|error: io::Error| error.to_string())?;
        self.reserved = 0;
        let sql = |error: rusqlite::Error| error.to_string();
        let mut statement =
            connection.prepare("SELECT seq, line FROM events WHERE seq > ?1 ORDER BY seq").map_err(sql)?;
        let mut rows = statement.query([number(self.seq)]).map_err(sql)?;
        let (mut portion, mut last) = (Vec::new(), self.seq);
        while let Some(row) = rows.next().map_err(sql)? {
            let (seq, line): (i64, String) = (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?);
            portion.extend_from_slice(line.as_bytes());
            portion.push(b'\n');
            last = seq.unsigned_abs();
            if portion.len() >= PORTION {
                self.append(&portion, last)?;
                portion.clear();
            }
        }
        self.append(&portion, last)
    }

    /// Takes disk space behind the end without making the file longer.
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.length.saturating_add(bytes);
        if end <= self.reserved {
            return Ok(());
        }
        for more in [bytes.saturating_add(RESERVE), bytes] {
            let (from, length) = (offset(self.length), offset(more));
            match fallocate(&*self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, length) {
                Ok(()) => {
                    self.reserved = self.length.saturating_add(more);
                    return Ok(());
                }
                Err(Errno::ENOSPC | Errno::EFBIG | Errno::EDQUOT) if more > bytes => {}
                // Not every file system can; then a full disk shows a little later.
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINTR) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

fn offset(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A new file's name is on the disk only when its directory is.
pub(super) fn sync_directory(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
