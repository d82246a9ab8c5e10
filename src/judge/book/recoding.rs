//! Names in a database whose encoding is not UTF-8: what the judge reads as two names may be one there. Knows no database. Start at
//! [`recoded`].

use std::borrow::Cow;

use super::super::{ObjectName, Piece};

/// Bytes of a name that count: `NAMEDATALEN - 1`.
const NAME: usize = 63;

/// `name` as all names are compared that an encoding other than UTF-8 may take for the same: in those of one byte the server folds every letter
/// (`downcase_identifier` in scansup.c), and it cuts at 63 bytes of its own encoding, the judge's parser at 63 of UTF-8.
pub(crate) fn recoded(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        return Cow::Borrowed(name);
    }
    let folded = |letter: char| match letter {
        // In Turkish.
        'İ' => 'i',
        _ if letter.is_ascii() => letter,
        _ => {
            let mut lower = letter.to_lowercase();
            let first = lower.next().unwrap_or(letter);
            if lower.next().is_none() { first } else { letter }
        }
    };
    let mut folded: String = name.chars().map(folded).collect();
    folded.truncate((0..=NAME.min(folded.len())).rev().find(|end| folded.is_char_boundary(*end)).unwrap_or_default());
    Cow::Owned(folded)
}

/// A statement with its names so. `None`: all are ASCII.
pub(super) fn recoded_piece(piece: &Piece) -> Option<Piece> {
    let ascii = |name: &ObjectName| name.name.is_ascii() && name.schema.as_ref().is_none_or(|schema| schema.is_ascii());
    let calls = &piece.calls;
    let words = [&calls.attributes, &calls.types, &calls.own_types];
    let mut names = calls.functions.iter().chain(piece.effects.iter().flat_map(|effect| &effect.objects));
    if names.all(ascii) && words.into_iter().flatten().all(|word| word.is_ascii()) {
        return None;
    }
    let mut piece = piece.clone();
    let calls = &mut piece.calls;
    for word in [&mut calls.attributes, &mut calls.types, &mut calls.own_types].into_iter().flatten() {
        *word = recoded(word).into_owned();
    }
    let objects = piece.effects.iter_mut().flat_map(|effect| &mut effect.objects);
    for name in calls.functions.iter_mut().chain(objects) {
        name.name = recoded(&name.name).into_owned();
        // Behind the database's name it is cut by itself.
        let schema = name.schema.as_ref().map(|schema| schema.split('.').map(recoded).collect::<Vec<_>>().join("."));
        name.schema = schema;
    }
    Some(piece)
}
