//! What stands beside the code: the compose file, the README's commands, the checklist.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proxy_tests::gate;
use proxy_tests::psql::python_script;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

#[test]
fn the_compose_file_and_its_configuration_are_valid() {
    let compose = root().join("docker-compose.yml");
    python_script("check_compose.py", &[compose.to_str().unwrap(), gate::binary().to_str().unwrap()]).ok();
}

#[test]
fn the_readmes_two_commands_exist_and_can_be_run() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for script in [".ci/demo", ".ci/test"] {
        assert!(readme.contains(&format!("\n    {script}\n")), "README names {script}");
        let mode = fs::metadata(root().join(script)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is executable");
    }
}

#[test]
fn the_visible_top_level_is_what_the_design_names() {
    let expected = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "config.example.toml",
        "docker-compose.yml",
        "proxy-tests",
        "src",
    ];
    let mut found: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_row_of_the_wire_checklist_names_tests_that_exist_or_says_why_not() {
    let checklist = fs::read_to_string(root().join("proxy-tests/docs/wire-checklist.md")).unwrap();
    let tests: Vec<String> =
        ["proxy-tests/tests", "src"].iter().flat_map(|directory| test_names(&root().join(directory))).collect();
    let mut rows = Vec::new();
    for line in checklist.lines() {
        let Some((number, rest)) = line.strip_prefix("| ").and_then(|line| line.split_once(" | ")) else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        rows.push(number);
        let named: Vec<&str> = rest.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
        assert!(!named.is_empty() || rest.contains("Not met:"), "row {number} has neither a test nor a reason");
        for name in named {
            let function = name.rsplit("::").next().unwrap();
            assert!(tests.iter().any(|test| test == function), "row {number} names {name}, which does not exist");
        }
    }
    assert_eq!(rows, (1..=36).collect::<Vec<_>>());
}

/// Names of all functions that follow a test attribute.
fn test_names(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            names.extend(test_names(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut after_attribute = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[") && line.contains("test") {
                    after_attribute = true;
                } else if let Some(name) = line.trim_start_matches("async ").strip_prefix("fn ")
                    && std::mem::take(&mut after_attribute)
                {
                    names.extend(name.split('(').next().map(str::to_owned));
                }
            }
        }
    }
    names
}
