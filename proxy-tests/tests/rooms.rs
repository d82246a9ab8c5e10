//! The rooms of the library and their direction, read from the sources: which `crate::room` each room names.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]
#![allow(clippy::arithmetic_side_effects, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Room → what it may use. A room stands after everything it may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("wire", &[]),
    ("size", &[]),
    ("judge", &["size"]),
    ("hold", &["clock", "judge"]),
    ("undo", &[]),
    ("session::machine", &["wire", "judge", "hold", "undo"]),
    ("session", &["clock", "wire", "judge", "hold", "undo", "session::machine"]),
    ("impact", &["clock", "judge"]),
    ("store", &["clock", "judge", "hold", "impact"]),
    ("approval", &["clock", "judge", "hold", "impact", "store"]),
    (
        "server",
        &[
            "clock",
            "size",
            "wire",
            "judge",
            "hold",
            "undo",
            "session::machine",
            "session",
            "impact",
            "store",
            "approval",
        ],
    ),
    (
        "cli",
        &[
            "clock",
            "wire",
            "judge",
            "hold",
            "undo",
            "session::machine",
            "session",
            "impact",
            "store",
            "approval",
            "server",
        ],
    ),
];

/// Rooms that do no I/O, and what would be I/O in them.
const PURE: &[&str] = &["wire", "judge", "hold", "undo", "session::machine"];
const INPUT_OUTPUT: &[&str] = &[
    "tokio::net",
    "tokio::fs",
    "tokio::time",
    "std::fs",
    "std::process",
    "std::env",
    "TcpStream",
    "UnixStream",
    "TcpListener",
];

/// Reading a clock, in any of its spellings.
const CLOCK_READS: &[&str] = &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", ".elapsed()"];

#[test]
fn rooms_use_only_rooms_before_them() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let allowed = ROOMS.iter().find(|(name, _)| *name == room).unwrap().1;
        for used in source.rooms_used() {
            if used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: `{room}` uses `{used}`", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_path_leaves_its_room_through_super() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let inside = source.modules.len() - room.split("::").count();
        // An inline `mod tests` is one deeper than its file.
        let inline = usize::from(source.code.contains("mod tests {"));
        for (at, _) in source.code.match_indices("super::") {
            if source.code[..at].ends_with("super::") {
                continue;
            }
            let supers = source.code[at..].split("::").take_while(|part| *part == "super").count();
            if supers > inside + inline {
                wrong.push(format!("{}: {supers} × super", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_do_no_input_or_output() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.is_test() || !source.room().is_some_and(|room| PURE.contains(&room.as_str())) {
            continue;
        }
        for word in INPUT_OUTPUT {
            if source.production().contains(word) {
                wrong.push(format!("{}: {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_clock_module_reads_the_clock() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.room().as_deref() == Some("clock") {
            continue;
        }
        for word in CLOCK_READS {
            if source.production().contains(word) {
                wrong.push(format!("{}: {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_directory_of_the_library_is_a_known_room() {
    let known: BTreeSet<&str> = ROOMS.iter().map(|(name, _)| name.split("::").next().unwrap()).collect();
    for source in sources() {
        let Some(first) = source.modules.first() else { continue };
        assert!(known.contains(first.as_str()), "{} is in no room of the table", source.path.display());
    }
}

#[test]
fn the_scanner_sees_every_spelling_of_a_use() {
    let source = |code: &str| Source {
        path: PathBuf::new(),
        modules: vec!["session".into(), "machine".into(), "x".into()],
        code: code.into(),
    };
    let used = |code: &str| source(code).rooms_used().into_iter().collect::<Vec<_>>();
    assert_eq!(used("use crate::wire::Frame;"), ["wire"]);
    assert_eq!(used("use crate::{hold, judge::{a, b}, wire};"), ["hold", "judge", "wire"]);
    assert_eq!(used("fn f(x: crate::session::Stream, y: crate::session::machine::M)"), ["session", "session::machine"]);
    assert_eq!(used("pub(in crate::session) fn f()"), ["session"]);
    assert_eq!(strip_comments("use a; // crate::cli\n//! crate::cli\nb \"// not\" c"), "use a; \n\nb \"// not\" c\n");
    assert_eq!(source("").room().unwrap(), "session::machine");
}

struct Source {
    path: PathBuf,
    /// The module path below `crate`.
    modules: Vec<String>,
    /// Without comments.
    code: String,
}

impl Source {
    fn room(&self) -> Option<String> {
        // The longest name wins: `session::machine` before `session`.
        ROOMS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| self.modules.iter().map(String::as_str).take(name.split("::").count()).eq(name.split("::")))
            .max_by_key(|name| name.len())
            .map(str::to_owned)
    }

    fn is_test(&self) -> bool {
        self.modules.iter().any(|module| module == "tests" || module.ends_with("_tests") || module == "proptests")
    }

    /// The code before the file's own test module.
    fn production(&self) -> &str {
        if self.is_test() {
            return "";
        }
        let end = self
            .code
            .find("#[cfg(test)]\nmod ")
            .filter(|at| self.code[*at..].contains(" {"))
            .unwrap_or(self.code.len());
        &self.code[..end]
    }

    fn rooms_used(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for (at, _) in self.code.match_indices("crate::") {
            let before = self.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &self.code[at + "crate::".len()..];
            if let Some(group) = rest.strip_prefix('{') {
                for item in top_level_items(group) {
                    used.insert(room_of(item.trim()));
                }
            } else {
                used.insert(room_of(rest));
            }
        }
        for (at, _) in self.code.match_indices("in crate::") {
            used.insert(room_of(&self.code[at + "in crate::".len()..]));
        }
        used.retain(|name| !name.is_empty());
        used
    }
}

/// The room that a path below `crate::` begins with; the bare first word if it is none.
fn room_of(path: &str) -> String {
    let words: Vec<&str> = path
        .split("::")
        .take(2)
        .map(|word| word.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
        .collect();
    let joined = words.join("::");
    if ROOMS.iter().any(|(name, _)| *name == joined) { joined } else { words[0].to_owned() }
}

fn top_level_items(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0_usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => (),
        }
    }
    items
}

/// Removes `//` comments; good enough for code that rustfmt accepts, where `"//"` in a string stands behind a quote.
fn strip_comments(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let end = line
            .match_indices("//")
            .map(|(at, _)| at)
            .find(|at| line[..*at].matches('"').count() % 2 == 0)
            .unwrap_or(line.len());
        code.push_str(&line[..end]);
        code.push('\n');
    }
    code
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap().with_extension("");
                let mut modules: Vec<String> =
                    relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
                if modules.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
                    modules.pop();
                }
                found.push(Source { code: strip_comments(&fs::read_to_string(&path).unwrap()), path, modules });
            }
        }
    }
    assert!(found.len() > 10, "the sources were found");
    found
}
