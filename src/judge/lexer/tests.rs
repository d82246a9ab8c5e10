#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

use proptest::prelude::*;

use super::*;

fn kinds(text: &str) -> Vec<TokenKind> {
    lex(text.as_bytes(), true).unwrap().tokens.iter().map(|token| token.kind).collect()
}

fn words(text: &str) -> Vec<&str> {
    lex(text.as_bytes(), true).unwrap().tokens.iter().map(|token| &text[token.range()]).collect()
}

fn pieces(text: &str) -> Vec<&str> {
    lex(text.as_bytes(), true).unwrap().pieces.iter().map(|piece| &text[piece.range.clone()]).collect()
}

/// Our tokens lie where libpg_query's scanner (Postgres's own) puts them.
fn agrees(text: &str) -> Result<(), String> {
    let Ok(theirs) = pg_query::scan(text) else { return Ok(()) };
    let theirs: Vec<_> =
        theirs.tokens.iter().map(|token| (token.start.cast_unsigned(), token.end.cast_unsigned())).collect();
    match lex(text.as_bytes(), true) {
        // libpg_query lets letters follow a parameter; servers from 15 on do not, older ones read two tokens.
        Err(error) if error.what == Trouble::JunkAfterNumber && text.as_bytes()[error.at] == b'$' => Ok(()),
        Err(error) => Err(format!("{text:?}: ours fails ({error}), theirs is {theirs:?}")),
        Ok(ours) => {
            let ours: Vec<_> = ours.tokens.iter().map(|token| (token.start, token.end)).collect();
            if ours == theirs { Ok(()) } else { Err(format!("{text:?}:\n ours   {ours:?}\n theirs {theirs:?}")) }
        }
    }
}

#[test]
fn tokens_are_cut_as_postgres_cuts_them() {
    let table: &[(&str, &[&str])] = &[
        ("SELECT 1", &["SELECT", "1"]),
        ("a$b$ $1$$x$$", &["a$b$", "$1", "$$x$$"]),
        ("1$$;$$", &["1", "$$;$$"]),
        ("$é$ ' ; $é$", &["$é$ ' ; $é$"]),
        ("$a$ $b$ $$ $a$x", &["$a$ $b$ $$ $a$", "x"]),
        (">-- '\n 2", &[">", "-- '", "2"]),
        (">/* ' */2", &[">", "/* ' */", "2"]),
        ("1*-2", &["1", "*", "-", "2"]),
        ("1@-2", &["1", "@-", "2"]),
        ("1<>-2", &["1", "<>", "-", "2"]),
        ("X'\\'", &["X'\\'"]),
        ("B'0''1'", &["B'0'", "'1'"]),
        ("'a''b'", &["'a''b'"]),
        ("'a'\n'b'", &["'a'\n'b'"]),
        ("'a' 'b'", &["'a'", "'b'"]),
        ("'a' -- x\n 'b'", &["'a' -- x\n 'b'"]),
        ("'a' /* \n */ 'b'", &["'a'", "/* \n */", "'b'"]),
        ("E'a'\n'\\', '", &["E'a'\n'\\', '"]),
        ("E'\\''", &["E'\\''"]),
        ("N'x'", &["N", "'x'"]),
        ("U&'x' U&\"d\\0061t\" u & x", &["U&'x'", "U&\"d\\0061t\"", "u", "&", "x"]),
        ("a::b:=c..d.e:f", &["a", "::", "b", ":=", "c", "..", "d", ".", "e", ":", "f"]),
        ("1..2 .5 1. 1e5 1.5E-3", &["1", "..", "2", ".5", "1.", "1e5", "1.5E-3"]),
        ("/* /* x */ y */z", &["/* /* x */ y */", "z"]),
        ("-- x\ry", &["-- x", "y"]),
        ("\"a\"\"b\"", &["\"a\"\"b\""]),
        ("=> >= <= <> != ?| #>>", &["=>", ">=", "<=", "<>", "!=", "?|", "#>>"]),
    ];
    for (text, expected) in table {
        assert_eq!(&words(text), expected, "{text}");
        agrees(text).unwrap();
    }
}

#[test]
fn text_the_server_refuses_has_no_tokens() {
    for (text, what) in [
        ("'a", Trouble::UnterminatedString),
        ("E'\\'", Trouble::UnterminatedString),
        ("E'\\", Trouble::UnterminatedString),
        ("$a$ $b$", Trouble::UnterminatedString),
        ("\"a", Trouble::UnterminatedName),
        ("\"\"", Trouble::EmptyName),
        ("/* /* */", Trouble::UnterminatedComment),
        ("/*/*/", Trouble::UnterminatedComment),
        ("1DROP", Trouble::JunkAfterNumber),
        ("$1a", Trouble::JunkAfterNumber),
        ("1e+", Trouble::JunkAfterNumber),
        ("0x", Trouble::JunkAfterNumber),
    ] {
        assert_eq!(lex(text.as_bytes(), true).map(|_| ()).unwrap_err().what, what, "{text}");
    }
}

#[test]
fn statements_end_where_the_grammar_ends_them() {
    let table: &[(&str, &[&str])] = &[
        ("", &[]),
        (" ; ;; -- x", &[]),
        ("SELECT 1", &["SELECT 1"]),
        ("SELECT 1 END; DROP TABLE t;", &["SELECT 1 END", "DROP TABLE t"]),
        ("/* a */ SELECT 1 /* b */ ; -- c\n SELECT 2", &["SELECT 1", "SELECT 2"]),
        ("SELECT ';' ; SELECT $$;$$", &["SELECT ';'", "SELECT $$;$$"]),
        (
            "CREATE RULE r AS ON INSERT TO a DO (DELETE FROM b; NOTIFY x); SELECT 1",
            &["CREATE RULE r AS ON INSERT TO a DO (DELETE FROM b; NOTIFY x)", "SELECT 1"],
        ),
        (
            "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end; SELECT 1",
            &[
                "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end",
                "SELECT 1",
            ],
        ),
        ("BEGIN; SELECT atomic; END", &["BEGIN", "SELECT atomic", "END"]),
        ("SELECT 1); SELECT 2", &["SELECT 1)", "SELECT 2"]),
    ];
    for (text, expected) in table {
        assert_eq!(&pieces(text), expected, "{text}");
    }
}

#[test]
fn both_string_modes_are_lexed() {
    let text = b"SELECT 'a\\'; DROP TABLE t; --'";
    assert_eq!(lex(text, true).unwrap().pieces.len(), 2);
    assert_eq!(lex(text, false).unwrap().pieces.len(), 1);
    assert!(lex(text, true).unwrap().plain_backslash);
    assert!(!lex(b"SELECT E'\\n', \"\\\", $$\\$$", true).unwrap().plain_backslash);
}

#[test]
fn depths_and_kinds_are_reported() {
    let tokens = lex(b"((a[1])) /* /* */ */ 'x'\n'y'", true).unwrap();
    assert_eq!((tokens.paren_depth, tokens.comment_depth, tokens.continued), (3, 2, true));
    assert!(tokens.saw(TokenKind::BlockComment) && !tokens.saw(TokenKind::LineComment));
    assert_eq!(kinds("N'x'"), [TokenKind::National, TokenKind::String]);
}

#[test]
fn the_token_bound_holds() {
    let text = b";".repeat(100);
    assert_eq!(lex_bounded(&text, true, 99).unwrap_err().what, Trouble::TooManyTokens);
    assert!(lex_bounded(&text, true, 100).is_ok());
}

/// Fragments that meet each other badly.
const FRAGMENTS: &[&str] = &[
    "SELECT",
    "e",
    "E",
    "u",
    "U&",
    "b",
    "X",
    "n",
    "'",
    "''",
    "\"",
    "\\",
    "\\'",
    "$",
    "$$",
    "$a$",
    "$é$",
    "$1",
    "1",
    "0x",
    "_",
    ".",
    "..",
    ":",
    "::",
    ":=",
    "-",
    "--",
    "+",
    "*",
    "/",
    "/*",
    "*/",
    "<",
    ">",
    "=",
    "!",
    "@",
    "|",
    "&",
    "?",
    "\n",
    "\r",
    "\t",
    "\x0c",
    " ",
    ";",
    "(",
    ")",
    "[",
    "]",
    ",",
    "é",
    "€",
    "end",
    "BEGIN ATOMIC",
    "UESCAPE",
    "%",
    "^",
    "`",
    "#",
    "~",
    "1e",
];

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(FRAGMENTS), 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn boundaries_agree_with_postgres_on_soup(text in soup()) {
        prop_assert_eq!(agrees(&text), Ok(()));
    }

    #[test]
    fn tokens_and_spaces_cover_the_text(text in soup(), conforming: bool) {
        if let Ok(tokens) = lex(text.as_bytes(), conforming) {
            let mut at = 0;
            for token in &tokens.tokens {
                let gap = &text.as_bytes()[at..token.start as usize];
                prop_assert!(gap.iter().all(|byte| b" \t\n\r\x0b\x0c".contains(byte)), "{:?}", gap);
                prop_assert!(token.end > token.start);
                at = token.end as usize;
            }
            prop_assert!(text[at..].bytes().all(|byte| b" \t\n\r\x0b\x0c".contains(&byte)));
        }
    }

    #[test]
    fn pieces_hold_every_token_but_semicolons_and_comments(text in soup()) {
        if let Ok(tokens) = lex(text.as_bytes(), true) {
            let mut inside = vec![false; tokens.tokens.len()];
            for piece in &tokens.pieces {
                prop_assert_eq!(tokens.tokens[piece.tokens.start].start as usize, piece.range.start);
                prop_assert_eq!(tokens.tokens[piece.tokens.end - 1].end as usize, piece.range.end);
                inside[piece.tokens.clone()].fill(true);
            }
            for (token, inside) in tokens.tokens.iter().zip(inside) {
                let loose = token.kind.is_comment() || token.kind == TokenKind::Semicolon;
                prop_assert!(inside || loose);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), conforming: bool) {
        let _ = lex(&bytes, conforming);
    }
}
