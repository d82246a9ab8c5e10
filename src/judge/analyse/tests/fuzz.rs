//! Texts nobody wrote: the corpora cut, joined and mutated, always the same ones (the generator is seeded). They must not
//! crash the judge, and what the server's grammar reads as dangerous must never pass.

use super::*;

/// xorshift64*: enough for shuffling text, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.roll(list.len())]
    }
}

const SPICE: &[&str] = &[
    ";",
    "'",
    "''",
    "\"",
    "\\",
    "\\'",
    "E'",
    "U&'",
    "U&\"",
    "$$",
    "$a$",
    "--",
    "\n",
    "\r",
    "/*",
    "*/",
    "(",
    ")",
    " END ",
    "X'",
    "B'",
    "N'",
    ",",
    "::",
    ".",
    " AS ",
    " WITH x AS (",
    " ONLY ",
    " EXPLAIN ",
    " ANALYZE ",
    "\u{a0}",
    "é",
    "€",
    "\u{feff}",
    "0x",
    "1e",
    "$1",
    "@",
    "&>",
    "?",
];

fn mutate(text: &str, others: &[Line], dice: &mut Dice) -> String {
    let mut out: Vec<char> = text.chars().collect();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(out.len() + 1).min(out.len());
        match dice.roll(6) {
            0 => out.truncate(at),
            1 => out.splice(at..at, dice.pick(SPICE).chars()).for_each(|_: char| ()),
            2 if at < out.len() => {
                out.remove(at);
            }
            3 => out.splice(at..at, dice.pick(others).sql.chars()).for_each(|_: char| ()),
            4 => out.splice(at.., dice.pick(others).sql.chars().skip(at)).for_each(|_: char| ()),
            _ => {
                let end = at + dice.roll(out.len() - at + 1);
                let copied: Vec<char> = out[at..end].to_vec();
                let to = dice.roll(out.len() + 1).min(out.len());
                out.splice(to..to, copied).for_each(|_: char| ());
            }
        }
    }
    out.into_iter().take(4_000).collect()
}

/// A crude and independent reader of the grammar's tree: the debug print of every node. It knows nothing of where a node
/// stands, so it is only right for texts without EXPLAIN.
fn grammar_sees_danger(text: &str) -> bool {
    let Ok(parsed) = pg_query::parse(text, 0) else { return false };
    let print = format!("{:?}", parsed.protobuf);
    [
        "DeleteStmt(",
        "DropStmt(",
        "TruncateStmt(",
        "AlterTableStmt(",
        "GrantStmt(",
        "DoStmt(",
        "CallStmt(",
        "CreateFunctionStmt(",
    ]
    .iter()
    .any(|node| print.contains(node))
        || print.contains("sval: \"lo_unlink\"")
            && print.contains("FuncCall(")
            && print.contains("funcname: [Node { node: Some(String(String { sval: \"lo_unlink\"")
}

#[test]
fn mutated_corpora_never_crash_and_never_slip_through() {
    let lines: Vec<_> = ["statements.jsonl", "attacks.jsonl", "harmless.jsonl"].into_iter().flat_map(corpus).collect();
    let mut dice = Dice(0x5eed_0f9a_7e00_0001);
    for _ in 0..6_000 {
        let text = mutate(&dice.pick(&lines).sql.clone(), &lines, &mut dice);
        let passes = verdict(&text) == "pass";
        let explains = text.to_ascii_lowercase().contains("explain");
        assert!(!passes || explains || !grammar_sees_danger(&text), "passes: {text:?}");
        if !passes {
            continue;
        }
        // What passes alone is held as soon as something dangerous follows.
        assert_eq!(verdict(&format!("{text}\n;\nDROP TABLE t")), "hold", "{text:?}");
    }
}

#[test]
fn bytes_of_any_kind_never_crash() {
    let lines = corpus("attacks.jsonl");
    let mut dice = Dice(0x5eed_0f9a_7e00_0002);
    for _ in 0..3_000 {
        let mut bytes = dice.pick(&lines).sql.clone().into_bytes();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(bytes.len());
            bytes[at] = u8::try_from(dice.roll(256)).unwrap();
        }
        assert!(analyse(&bytes, &Limits::default()).pieces.iter().all(|piece| !piece.effects.is_empty()));
    }
}

/// The text with other words in its plain strings and other digits in its numbers: the same shape.
fn reworded(text: &str, dice: &mut Dice) -> String {
    const WORDS: &[&str] =
        &["", "%", "off", "role", "standard_conforming_strings", "true", "0", "x''y", "lo_unlink", "DROP TABLE t"];
    let mut out = String::new();
    let mut at = 0;
    for token in lex_bounded(text.as_bytes(), true, 10_000).unwrap().tokens {
        out.push_str(&text[at..token.range().start]);
        let word = &text[token.range()];
        if token.kind == TokenKind::String {
            let chosen: &str = dice.pick::<&str>(WORDS);
            out.extend(["'", chosen, "'"]);
        } else if token.kind == TokenKind::Integer && word.len() < 9 {
            out.push_str(&dice.roll(1_000).to_string());
        } else {
            out.push_str(word);
        }
        at = token.range().end;
    }
    out.push_str(&text[at..]);
    out
}

#[test]
fn texts_of_one_shape_have_one_set_of_effects() {
    let stripped =
        |text: &str| -> Vec<_> { read(text).pieces.into_iter().map(|piece| (piece.effects, piece.acts)).collect() };
    let lines: Vec<_> =
        ["statements.jsonl", "attacks.jsonl", "harmless.jsonl", "tools.jsonl"].into_iter().flat_map(corpus).collect();
    let mut dice = Dice(0x5eed_0f9a_7e00_0003);
    let mut shared = 0;
    for line in lines.iter().filter(|line| read(&line.sql).literal_independent) {
        for _ in 0..3 {
            let other = reworded(&line.sql, &mut dice);
            assert_eq!(stripped(&other), stripped(&line.sql), "{}: {other}", line.id);
            shared += 1;
        }
    }
    assert!(shared > 1_000, "{shared} texts compared");
}
