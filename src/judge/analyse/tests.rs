#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

use serde::Deserialize;

use super::*;

mod corpus;
mod details;
mod fuzz;
mod hostile;

/// A line of a corpus file.
#[derive(Debug, Deserialize)]
struct Line {
    id: String,
    sql: String,
    verdict: String,
}

fn corpus(name: &str) -> Vec<Line> {
    let path = format!("{}/proxy-tests/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{path}: {error}: {line}")))
        .collect()
}

fn read(text: &str) -> Analysis {
    analyse(text.as_bytes(), &Limits::default())
}

/// The verdict of the shipped policy, in a session that has prepared nothing.
fn verdict(text: &str) -> &'static str {
    let held =
        |piece: &Piece| piece.effects.iter().any(|effect| is_danger(effect) || effect.kind == EffectKind::Execute);
    if read(text).pieces.iter().any(held) { "hold" } else { "pass" }
}

fn kinds(text: &str) -> Vec<EffectKind> {
    let mut kinds: Vec<_> =
        read(text).pieces.iter().flat_map(|piece| &piece.effects).map(|effect| effect.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}
