//! Checkpoints: the record's head, signed now and then and kept in a file of their own, so that a record that was cut short
//! or written anew from some point on does not pass for whole. Knows nothing of events.
//!
//! Signed with Ed25519 rather than with a shared secret (HMAC): whoever verifies needs the public key only, and so can prove
//! what the record says without being able to forge one.
//!
//! # A line, exactly
//!
//! `{"seq":N,"hash":"…","at":"…","signature":"…"}`: the head, when it was signed, and in hexadecimal digits the Ed25519
//! signature of the UTF-8 bytes `querygate checkpoint 1` LF `seq` LF `hash` LF `at`, the three as in the line.
//!
//! The file protects what it knows of as long as it is kept from whoever might change the record: copy it, or its last line,
//! to somewhere else. A head that was posted to a channel does the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::chain::Head;

/// Bytes of an Ed25519 public key.
const KEY_BYTES: usize = 32;
/// What stands before them in a SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A signed head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Number of lines.
    pub seq: u64,
    /// The last line's hash.
    pub hash: String,
    /// When it was signed.
    pub at: Timestamp,
    /// Hexadecimal digits.
    pub signature: String,
}

impl Checkpoint {
    /// What it vouches for.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash.clone() }
    }
}

fn signed_bytes(head: &Head, at: Timestamp) -> Vec<u8> {
    format!("querygate checkpoint 1\n{}\n{}\n{at}", head.seq, head.hash).into_bytes()
}

/// Checks signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Reads a PEM file with a public key (`openssl pkey -in KEY -pubout`), or with the private one.
    ///
    /// # Errors
    /// [`StoreError::Key`].
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        let pem = fs::read(path).map_err(|error| wrong(path, &error.to_string()))?;
        if let Ok(info) = SubjectPublicKeyInfoDer::from_pem_slice(&pem) {
            let key = info.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
            return key.map(Self).ok_or_else(|| wrong(path, "it is no Ed25519 key"));
        }
        let pair = pair(path, &pem)?;
        let key = pair.public_key().as_ref().try_into();
        key.map(Self).map_err(|_| wrong(path, "it is no Ed25519 key"))
    }

    /// Whether this key's owner signed it.
    #[must_use]
    pub fn verifies(&self, checkpoint: &Checkpoint) -> bool {
        let Ok(signature) = hex::decode(&checkpoint.signature) else {
            return false;
        };
        let message = signed_bytes(&checkpoint.head(), checkpoint.at);
        UnparsedPublicKey::new(&ED25519, self.0).verify(&message, &signature).is_ok()
    }
}

fn pair(path: &Path, pem: &[u8]) -> Result<Ed25519KeyPair, StoreError> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
        .map_err(|_| wrong(path, "it is no PEM file with a key; `openssl genpkey -algorithm ed25519` makes one"))?;
    // OpenSSL writes keys without their public half; it is derived here.
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
        .map_err(|_| wrong(path, "it is no Ed25519 key; `openssl genpkey -algorithm ed25519` makes one"))
}

fn wrong(path: &Path, why: &str) -> StoreError {
    StoreError::Key { path: path.to_owned(), why: why.to_owned() }
}

/// A line of a file of checkpoints: its number from 1, and what it says, or why it says nothing.
pub type NumberedCheckpoint = (u64, Result<Checkpoint, String>);

/// Reads a file of checkpoints: each line's number with what it says, or why it says nothing.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> Result<Vec<NumberedCheckpoint>, StoreError> {
    let text = fs::read(path).map_err(|error| StoreError::file(path, &error))?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok((1..).zip(lines.map(|line| serde_json::from_slice(line).map_err(|error| error.to_string()))).collect())
}

/// Where checkpoints of a record stand: `.checkpoints` behind the audit file's name, or the store's without one.
#[must_use]
pub fn beside(record: &Path) -> PathBuf {
    let mut path = record.as_os_str().to_owned();
    path.push(".checkpoints");
    path.into()
}

/// Signs heads and writes them down.
pub(super) struct Notary {
    path: PathBuf,
    file: File,
    pair: Ed25519KeyPair,
    every: u64,
    interval: Duration,
    /// The last head that was signed.
    signed: u64,
    /// When the first event behind it came.
    since: Option<Instant>,
    /// The last attempt failed, and was complained of.
    failing: bool,
}

impl Notary {
    /// Opens the file and compares its checkpoints with the record, by `hash_of` an event.
    pub(super) fn open(
        key: &Path,
        path: PathBuf,
        (every, interval): (u64, Duration),
        head: &Head,
        hash_of: impl Fn(u64) -> Result<Option<String>, StoreError>,
    ) -> Result<Self, StoreError> {
        let pem = fs::read(key).map_err(|error| wrong(key, &error.to_string()))?;
        let pair = pair(key, &pem)?;
        let public = PublicKey::load(key)?;
        let trouble = |error: io::Error| StoreError::file(&path, &error);
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path).map_err(trouble)?;
        let mut signed = 0;
        for (line, checkpoint) in read(&path)? {
            // A line cut short by a crash, or signed with an earlier key, says nothing here.
            let Some(checkpoint) = checkpoint.ok().filter(|checkpoint| public.verifies(checkpoint)) else { continue };
            if hash_of(checkpoint.seq)?.as_ref() != Some(&checkpoint.hash) {
                let why = format!(
                    "it vouches for event {} with another hash than the store, which ends with event {}",
                    checkpoint.seq, head.seq
                );
                return Err(StoreError::Disagree { path, line, why });
            }
            signed = signed.max(checkpoint.seq);
        }
        if !fs::read(&path).map_err(trouble)?.ends_with(b"\n") && file.metadata().map_err(trouble)?.len() > 0 {
            file.write_all(b"\n").map_err(trouble)?;
        }
        super::file::sync_directory(&path).map_err(trouble)?;
        Ok(Self { path, file, pair, every: every.max(1), interval, signed, since: None, failing: false })
    }

    /// When the next checkpoint is due by time, if anything happened since the last.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.and_then(|since| since.checked_add(self.interval))
    }

    /// Signs `head` if it is time to, or if `last`.
    pub(super) fn consider(&mut self, head: &Head, now: (Instant, Timestamp), last: bool) {
        let unsigned = head.seq.saturating_sub(self.signed);
        if unsigned == 0 {
            return;
        }
        let since = *self.since.get_or_insert(now.0);
        let waited = now.0.saturating_duration_since(since);
        if !last && unsigned < self.every && waited < self.interval {
            return;
        }
        match self.sign(head, now.1) {
            Ok(()) => {
                (self.signed, self.since, self.failing) = (head.seq, None, false);
            }
            Err(error) => {
                // The record itself is sound; the next event, or the next interval, is the next occasion.
                if !self.failing {
                    tracing::error!(file = %self.path.display(), %error, "a checkpoint cannot be written");
                }
                (self.since, self.failing) = (Some(now.0), true);
            }
        }
    }

    fn sign(&mut self, head: &Head, at: Timestamp) -> io::Result<()> {
        let signature = hex::encode(self.pair.sign(&signed_bytes(head, at)));
        let checkpoint = Checkpoint { seq: head.seq, hash: head.hash.clone(), at, signature };
        let mut line = serde_json::to_vec(&checkpoint)?;
        line.push(b'\n');
        let length = self.file.metadata()?.len();
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a line would spoil the next.
            self.file.set_len(length)?;
        }
        written
    }
}
