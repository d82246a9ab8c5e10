//! What tells one state of the configuration's files from another.

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{Sources as _, World};

/// SHA-256 of the configuration, the files it includes and the owners file; `None`: it cannot be read.
pub type Fingerprint = Option<[u8; 32]>;

/// Of what is there now. A configuration that is not valid has one, too.
pub fn fingerprint(path: &Path) -> Fingerprint {
    let text = content(path)?;
    let mut hash = Sha256::new();
    add(&mut hash, path, Some(&text));
    let world = World { directory: path.parent().unwrap_or(Path::new("")).to_owned(), mode: 0 };
    for pattern in included(&text) {
        for file in world.matching(&pattern).unwrap_or_default() {
            add(&mut hash, &file, content(&file).as_deref());
        }
    }
    if let Some(owners) = policy(&text).as_ref().and_then(|policy| policy.get("owners")?.as_str()) {
        let file = world.path(Path::new(owners));
        add(&mut hash, &file, content(&file).as_deref());
    }
    Some(hash.finalize().into())
}

/// Of a file only: a pipe in its place would be waited for, and drained of what somebody else was to read.
fn content(path: &Path) -> Option<Vec<u8>> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    fs::read(path).ok()
}

/// The section `[policy]`, if it can be read.
fn policy(text: &[u8]) -> Option<toml::Table> {
    let table: toml::Table = std::str::from_utf8(text).ok().and_then(|text| toml::from_str(text).ok())?;
    table.get("policy")?.as_table().cloned()
}

fn included(text: &[u8]) -> Vec<String> {
    let policy = policy(text);
    let lists = ["include", "rego", "rego_data"];
    let patterns = lists.into_iter().filter_map(|list| policy.as_ref()?.get(list)?.as_array());
    patterns.flatten().filter_map(|pattern| pattern.as_str().map(str::to_owned)).collect()
}

fn add(hash: &mut Sha256, path: &Path, content: Option<&[u8]>) {
    for part in [Some(path.as_os_str().as_encoded_bytes()), content] {
        hash.update([u8::from(part.is_some())]);
        let part = part.unwrap_or_default();
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_counts_changes_it_and_no_other() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("querygate.toml");
        assert_eq!(fingerprint(&path), None);
        let mut seen = Vec::new();
        let mut write = |name: &str, text: &str, counts: bool| {
            fs::write(dir.path().join(name), text).unwrap();
            let now = fingerprint(&path);
            assert_eq!(seen.contains(&now), !counts, "{name} {text:?}");
            seen.push(now);
        };
        write("querygate.toml", "[policy]\ninclude = [\"p/*.toml\", \"one.toml\"]\n", true);
        fs::create_dir(dir.path().join("p")).unwrap();
        write("p/a.toml", "", true);
        write("p/a.toml", "# x", true);
        write("p/b.toml", "", true);
        write("p/c.txt", "", false);
        write("other.toml", "", false);
        write("one.toml", "", true);
        write("querygate.toml", "[policy]\nowners = \"OWNERS\"\n", true);
        write("OWNERS", "", true);
        write("OWNERS", "a ann", true);
        write("one.toml", "# y", false);
        write("querygate.toml", "[policy", true);
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("querygate.toml");
        fs::write(&path, "[policy]\nowners = \"OWNERS\"\n").unwrap();
        fs::write(dir.path().join("OWNERS"), "").unwrap();
        let before = fingerprint(&path);
        fs::remove_file(dir.path().join("OWNERS")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("OWNERS"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(before.is_some() && fingerprint(&path).is_some());
        assert_ne!(fingerprint(&path), before);
    }
}
