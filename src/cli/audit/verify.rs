//! `querygate audit verify`.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Trouble, Which, complain, shown};
use crate::store::checkpoint::{self, PublicKey};
use crate::store::lines::{Glance, Lines};
use crate::store::verify::{Anchor, Verified, verify};
use crate::store::{Head, StoreError};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 the record is whole, 1 it is not (what is wrong and where is printed), 2 wrong usage, or \
a file cannot be read.\n\nWithout --file and --store both are verified, as configured, and compared. A chain of hashes shows by itself \
every edit, removal, insertion and change of order, but not that its end was cut off, nor that it was written anew by somebody who \
computes hashes: for that give a hash that was kept elsewhere (--head), or checkpoints, or compare with the store."
)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Signed checkpoints; those beside the audit file if the configuration names a key.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// PEM file with the key that checks them; the configuration's key without it.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// An event's number and hash that must be in the record, as the gate told them once. May be repeated.
    #[arg(long, value_name = "SEQ:HASH")]
    head: Vec<Head>,
}

/// What to verify, after arguments and configuration.
struct Plan {
    file: Option<PathBuf>,
    store: Option<PathBuf>,
    checkpoints: Option<(PathBuf, PathBuf)>,
}

/// `Ok(false)`: something is wrong.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<bool, Trouble> {
    let plan = plan(args)?;
    let mut anchors: Vec<Anchor> =
        args.head.iter().map(|head| Anchor { head: head.clone(), from: "--head".to_owned() }).collect();
    let mut sound = true;
    if let Some((path, key)) = &plan.checkpoints {
        let signed = checkpoints(path, key)?;
        if signed.is_empty() {
            writeln!(out, "{}: no checkpoint in it is signed with this key", shown(path))?;
            sound = false;
        }
        anchors.extend(signed);
    }
    let mut file = None;
    if let Some(path) = &plan.file {
        let verified = match &plan.store {
            Some(store) => beside_store(path, store, &anchors)?,
            None => verify(opened(Lines::of_file(path))?, &anchors)?,
        };
        sound &= report(out, path, &verified)?;
        file = Some(verified.head);
    }
    if let Some(path) = &plan.store {
        let glance = opened(Glance::at(path))?;
        let verified = verify(opened(Lines::of_store(path))?, &anchors)?;
        sound &= report(out, path, &verified)?;
        if let Some(file) = file.filter(|file| file.seq > 0)
            && glance.hash(file.seq)?.as_ref() != Some(&file.hash)
        {
            writeln!(out, "{}: it does not have event {} as the audit file has it", shown(path), file.seq)?;
            sound = false;
        }
        if let Some(place) = glance.difference()? {
            writeln!(out, "{}: {place}: it is not what the events add up to", shown(path))?;
            sound = false;
        }
    }
    if sound && anchors.is_empty() && plan.store.is_none() {
        writeln!(out, "nothing vouches for its end: whether anything was cut off there cannot be told (see --help)")?;
    }
    Ok(sound)
}

fn plan(args: &Args) -> Result<Plan, Trouble> {
    let Which { file, store, .. } = &args.which;
    let configured = args.which.configured()?;
    let (file, store) = match (file, store) {
        (None, None) => (configured.audit_file.clone(), configured.path.clone()),
        (file, store) => (file.clone(), store.clone()),
    };
    let beside = || {
        let path = checkpoint::beside(file.as_deref().or(store.as_deref())?);
        (configured.checkpoint_key.is_some() && path.exists()).then_some(path)
    };
    let checkpoints = match args.checkpoint.clone().or_else(beside) {
        None => None,
        Some(path) => {
            let Some(key) = args.public_key.clone().or(configured.checkpoint_key.clone()) else {
                let words = "querygate: --checkpoint needs --public-key, or a configuration with a `checkpoint_key`";
                return Err(Trouble::Usage(words.to_owned()));
            };
            Some((path, key))
        }
    };
    Ok(Plan { file, store, checkpoints })
}

/// What cannot even be opened is wrong usage rather than a broken record.
fn opened<T>(result: Result<T, StoreError>) -> Result<T, Trouble> {
    result.map_err(|error| Trouble::Usage(format!("querygate: {error}")))
}

/// Those whose signature is right. Others vouch for nothing, as if they were not there; they are told of.
fn checkpoints(path: &Path, key: &Path) -> Result<Vec<Anchor>, Trouble> {
    let key = opened(PublicKey::load(key))?;
    let mut anchors = Vec::new();
    for (line, checkpoint) in opened(checkpoint::read(path))? {
        match checkpoint {
            Ok(checkpoint) if key.verifies(&checkpoint) => {
                let from = format!("the checkpoint in line {line} of {}", shown(path));
                anchors.push(Anchor { head: checkpoint.head(), from });
            }
            Ok(_) => complain(&format!("{}:{line}: warning: it is not signed with this key", shown(path))),
            Err(why) => complain(&format!("{}:{line}: warning: it is no checkpoint: {why}", shown(path))),
        }
    }
    Ok(anchors)
}

/// Verifies a file with the store's word for its end. A gate that is writing has the store ahead of the file for a moment.
fn beside_store(path: &Path, store: &Path, anchors: &[Anchor]) -> Result<Verified, Trouble> {
    let head = opened(Glance::at(store))?.head()?;
    let mut anchors = anchors.to_vec();
    anchors.push(Anchor { head: head.clone(), from: format!("the store {}", shown(store)) });
    let first = verify(opened(Lines::of_file(path))?, &anchors)?;
    if first.head.seq >= head.seq && !first.unfinished {
        return Ok(first);
    }
    Ok(verify(opened(Lines::of_file(path))?, &anchors)?)
}

fn report(out: &mut impl Write, path: &Path, verified: &Verified) -> Result<bool, Trouble> {
    let name = shown(path);
    for finding in &verified.findings {
        match finding.line {
            Some(line) => writeln!(out, "{name}:{line}: {}", finding.what)?,
            None => writeln!(out, "{name}: {}", finding.what)?,
        }
    }
    if verified.more > 0 {
        writeln!(out, "{name}: and {} more", verified.more)?;
    }
    if !verified.findings.is_empty() {
        return Ok(false);
    }
    let vouched = match verified.anchored {
        0 => String::new(),
        1 => ", vouched for by one hash kept elsewhere".to_owned(),
        many => format!(", vouched for by {many} hashes kept elsewhere"),
    };
    writeln!(out, "{name}: whole, {} events, head {}{vouched}", verified.head.seq, verified.head)?;
    Ok(true)
}
