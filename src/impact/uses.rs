//! What the text of a function's body does, and by which names it calls others. Knows no database: what the names stand for is weighed
//! in `weigh`. Start at [`Uses::sql`] and [`Uses::plpgsql`].

use std::collections::BTreeSet;

use super::body::{ACTS, SYNTAX, TOKENS, WRITES};
use crate::judge::{
    Analysis, Calls, Effect, EffectKind, Limits, ObjectName, Piece, Token, TokenKind, analyse,
    function_attribute_danger, function_danger, lex_bounded,
};

/// Effects of a body that are told of.
const EFFECTS: usize = 20;

/// Bytes of a name that count: `NAMEDATALEN - 1`.
const NAME: usize = 63;

/// What a body does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Uses {
    /// What it certainly does beyond reading: a clause without a subject ("deletes from orders").
    pub(super) writes: Option<String>,
    /// Why it cannot be told what it does, likewise.
    pub(super) doubt: Option<String>,
    /// Its statements, to be asked about what they call.
    pub(super) pieces: Vec<Piece>,
    /// The effects that it certainly has, if it could be read whole.
    pub(super) effects: Vec<Effect>,
    /// Names before a parenthesis that are words of the language too.
    pub(super) ambiguous: BTreeSet<String>,
}

impl Uses {
    /// Of a body that is not read, and why.
    pub(super) fn doubtful(why: impl Into<String>) -> Self {
        Self { doubt: Some(why.into()), ..Self::default() }
    }

    /// A body in SQL: the judge reads it.
    pub(super) fn sql(text: &str) -> Self {
        Self::of_analysis(analyse(text.as_bytes(), &Limits::default()))
    }

    fn of_analysis(analysis: Analysis) -> Self {
        let mut uses = Self::default();
        for effect in analysis.pieces.iter().flat_map(|piece| &piece.effects) {
            match effect.kind {
                EffectKind::Read | EffectKind::Session | EffectKind::Transaction => {}
                EffectKind::Unparsed | EffectKind::Disagreement | EffectKind::Unknown | EffectKind::Execute => {
                    uses.doubt = Some(format!("cannot be read ({})", effect.why));
                }
                EffectKind::Insert
                | EffectKind::Update
                | EffectKind::Delete
                | EffectKind::Merge
                | EffectKind::Truncate
                | EffectKind::Drop
                | EffectKind::Alter
                | EffectKind::Create
                | EffectKind::Privilege
                | EffectKind::Code
                | EffectKind::CopyServerFile
                | EffectKind::LargeObject
                | EffectKind::Admin
                | EffectKind::ReadingSetting
                | EffectKind::SensitiveSetting => {
                    uses.writes.get_or_insert_with(|| in_words(effect));
                    if uses.effects.len() < EFFECTS {
                        uses.effects.push(effect.clone());
                    }
                }
            }
        }
        // Fail closed: what it calls is not all there.
        if analysis.pieces.iter().any(|piece| piece.calls.more) {
            uses.doubt.get_or_insert_with(|| "calls more than can be listed".to_owned());
        }
        uses.pieces = analysis.pieces;
        uses
    }

    /// A body in PL/pgSQL, by its tokens: the words that write, the names before a parenthesis, and every other name as what may be a
    /// relation, a type or an attribute.
    pub(super) fn plpgsql(text: &str) -> Self {
        let Ok(read) = lex_bounded(text.as_bytes(), true, TOKENS) else {
            return Self::doubtful("cannot be read");
        };
        // Fail closed: it may run with the other meaning of backslashes.
        if read.plain_backslash
            && !lex_bounded(text.as_bytes(), false, TOKENS).is_ok_and(|other| other.tokens == read.tokens)
        {
            return Self::doubtful("means something else when standard_conforming_strings is off");
        }
        let tokens: Vec<Token> = read.tokens.iter().filter(|token| !token.kind.is_comment()).copied().collect();
        let calls = Calls { converts: true, ..Calls::default() };
        let mut body =
            Body { text, tokens: &tokens, uses: Self::default(), words: BTreeSet::new(), calls, casts: false };
        for at in 0..tokens.len() {
            body.token(at);
        }
        body.finish()
    }
}

/// What an effect does, without a subject.
fn in_words(effect: &Effect) -> String {
    let names: Vec<String> = effect.objects.iter().take(3).map(ToString::to_string).collect();
    let names = names.join(", ");
    match effect.kind {
        EffectKind::Insert => format!("inserts into {names}"),
        EffectKind::Update => format!("updates {names}"),
        EffectKind::Delete => format!("deletes from {names}"),
        EffectKind::Merge => format!("merges into {names}"),
        EffectKind::Truncate => format!("truncates {names}"),
        EffectKind::Drop => format!("drops {names}"),
        EffectKind::Alter => format!("alters {names}"),
        EffectKind::Create => format!("creates {names}"),
        EffectKind::Read
        | EffectKind::Privilege
        | EffectKind::Code
        | EffectKind::CopyServerFile
        | EffectKind::LargeObject
        | EffectKind::Admin
        | EffectKind::ReadingSetting
        | EffectKind::SensitiveSetting
        | EffectKind::Session
        | EffectKind::Transaction
        | EffectKind::Execute
        | EffectKind::Unparsed
        | EffectKind::Disagreement
        | EffectKind::Unknown => format!("has the effect {}: {}", effect.kind, effect.why),
    }
}

/// As the server cuts a name that is too long (`truncate_identifier` in scansup.c).
fn cut(mut name: String) -> String {
    let end = (0..=NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.truncate(end.unwrap_or_default());
    name
}

/// A body in PL/pgSQL while it is read.
struct Body<'t> {
    text: &'t str,
    tokens: &'t [Token],
    uses: Uses,
    words: BTreeSet<String>,
    calls: Calls,
    /// A cast is written.
    casts: bool,
}

/// What the grammar makes of words for types (`SimpleTypename` in gram.y).
const TYPE_WORDS: &[(&str, &[&str])] = &[
    ("int", &["int4"]),
    ("integer", &["int4"]),
    ("smallint", &["int2"]),
    ("bigint", &["int8"]),
    ("real", &["float4"]),
    ("float", &["float4", "float8"]),
    ("double", &["float8"]),
    ("decimal", &["numeric"]),
    ("dec", &["numeric"]),
    ("boolean", &["bool"]),
    ("char", &["bpchar", "varchar"]),
    ("character", &["bpchar", "varchar"]),
    ("nchar", &["bpchar", "varchar"]),
    ("bit", &["bit", "varbit"]),
    ("time", &["time", "timetz"]),
    ("timestamp", &["timestamp", "timestamptz"]),
];

/// Statements that begin with these words stand nowhere but at the beginning of one; elsewhere the words are names.
const ONLY_FIRST: &[&str] = &["comment", "copy", "import", "cluster", "reassign", "refresh"];
/// Words behind which a statement begins.
const BEFORE_STATEMENTS: &[&str] = &["begin", "then", "else", "loop"];
/// Words between what is done and what to.
const BETWEEN: &[&str] = &["from", "into", "only", "table"];

impl Body<'_> {
    fn written(&self, at: usize) -> &str {
        self.tokens.get(at).and_then(|token| self.text.get(token.range())).unwrap_or_default()
    }

    fn kind(&self, at: Option<usize>) -> Option<TokenKind> {
        at.and_then(|at| self.tokens.get(at)).map(|token| token.kind)
    }

    /// A word or name at this place, as it is compared.
    fn name(&self, at: usize) -> Option<String> {
        let kind = self.kind(Some(at))?;
        if kind == TokenKind::Word {
            return Some(cut(self.written(at).to_ascii_lowercase()));
        }
        let quoted = |written: &str| {
            let inner = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(written);
            cut(inner.replace("\"\"", "\""))
        };
        (kind == TokenKind::QuotedName).then(|| quoted(self.written(at)))
    }

    fn token(&mut self, at: usize) {
        let (before, after) = (at.checked_sub(1), at.checked_add(1));
        match self.kind(Some(at)) {
            // Fail closed: a name that is spelled so is hiding.
            Some(TokenKind::UnicodeName) => self.doubt(format!("has the name {}", self.written(at))),
            Some(TokenKind::Operator) => {
                let operator = self.written(at).to_owned();
                self.calls.operators.push(operator);
            }
            Some(TokenKind::DoubleColon) => self.casts = true,
            Some(TokenKind::Word | TokenKind::QuotedName) => {
                let Some(name) = self.name(at) else { return };
                let word = self.kind(Some(at)) == Some(TokenKind::Word);
                let behind_dot = self.kind(before) == Some(TokenKind::Dot);
                if word && !behind_dot {
                    self.keyword(at, &name);
                }
                if behind_dot {
                    self.attribute(&name);
                }
                self.casts |= word && name == "cast";
                if self.kind(after) == Some(TokenKind::OpenParen) {
                    self.call(at, word && !behind_dot, &name);
                }
                self.words.insert(name);
            }
            _ => {}
        }
    }

    fn keyword(&mut self, at: usize, word: &str) {
        let before = at.checked_sub(1);
        let previous = before.and_then(|before| self.name(before)).unwrap_or_default();
        let first = match self.kind(before) {
            None | Some(TokenKind::Semicolon | TokenKind::Operator) => true,
            Some(_) => BEFORE_STATEMENTS.contains(&previous.as_str()),
        };
        // `SELECT … FOR UPDATE` locks and writes nothing.
        let locks = word == "update" && matches!(previous.as_str(), "for" | "key");
        if WRITES.contains(&word) && !locks && (first || !ONLY_FIRST.contains(&word)) {
            let done = self.done(at, word);
            self.uses.writes.get_or_insert(done);
        } else if ACTS.contains(&word) {
            self.doubt(match word {
                "execute" => "runs a text (EXECUTE)".to_owned(),
                _ => format!("has {}", word.to_ascii_uppercase()),
            });
        }
    }

    /// "deletes from public.orders", as far as it is written.
    fn done(&self, at: usize, word: &str) -> String {
        let verb = match word {
            "insert" => "inserts into",
            "update" => "updates",
            "delete" => "deletes from",
            "merge" => "merges into",
            "truncate" => "truncates",
            _ => return format!("has {}", word.to_ascii_uppercase()),
        };
        let mut names = (at.saturating_add(1)..self.tokens.len())
            .skip_while(|at| self.name(*at).is_some_and(|name| BETWEEN.contains(&name.as_str())));
        let mut target = String::new();
        while let Some(at) = names.next().filter(|at| self.name(*at).is_some()) {
            target.push_str(self.written(at));
            if self.kind(at.checked_add(1)) != Some(TokenKind::Dot) {
                break;
            }
            target.push('.');
            names.next();
        }
        if target.is_empty() { format!("has {}", word.to_ascii_uppercase()) } else { format!("{verb} {target}") }
    }

    /// `x.name`, which may be the call `name(x)`.
    fn attribute(&mut self, name: &str) {
        if function_attribute_danger(name).is_some() {
            self.uses.writes.get_or_insert_with(|| format!("calls {name}()"));
        }
        self.calls.attributes.push(name.to_owned());
    }

    fn call(&mut self, at: usize, plain_word: bool, name: &str) {
        if plain_word && SYNTAX.contains(&name) {
            self.uses.ambiguous.insert(name.to_owned());
            return;
        }
        let dotted = at.checked_sub(1).filter(|before| self.kind(Some(*before)) == Some(TokenKind::Dot));
        let schema = dotted.and_then(|dot| dot.checked_sub(1)).and_then(|before| self.name(before));
        if function_danger(schema.as_deref(), name).is_some() || name == "set_config" {
            self.uses.writes.get_or_insert_with(|| format!("calls {name}()"));
        }
        let name = ObjectName { schema, name: name.to_owned() };
        if !self.calls.functions.contains(&name) {
            self.calls.functions.push(name);
        }
    }

    fn doubt(&mut self, why: String) {
        self.uses.doubt.get_or_insert(why);
    }

    fn finish(self) -> Uses {
        let Self { mut uses, words, mut calls, casts, .. } = self;
        for list in [&mut calls.attributes, &mut calls.operators] {
            list.sort_unstable();
            list.dedup();
        }
        calls.types = words.iter().cloned().collect();
        if casts {
            let meant = TYPE_WORDS.iter().filter(|(word, _)| words.contains(*word)).flat_map(|(_, types)| *types);
            calls.own_types = meant.map(|name| (*name).to_owned()).collect();
        }
        let objects = words.into_iter().map(|name| ObjectName { schema: None, name }).collect();
        let reads = Effect {
            kind: EffectKind::Read,
            objects,
            has_where: None,
            columns: Vec::new(),
            why: "it reads".to_owned(),
        };
        uses.pieces = vec![Piece { range: 0..0, effects: vec![reads], acts: Vec::new(), risks: Vec::new(), calls }];
        uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_it_does_and_to_what() {
        for (body, expected) in [
            ("BEGIN DELETE FROM ONLY public.orders WHERE id = 1; END", "deletes from public.orders"),
            ("BEGIN IF x THEN UPDATE t SET a = 1; END IF; END", "updates t"),
            ("BEGIN INSERT INTO \"My t\" VALUES (1); END", "inserts into \"My t\""),
            ("BEGIN TRUNCATE TABLE t; END", "truncates t"),
            ("BEGIN WITH d AS (DELETE FROM t RETURNING 1) SELECT 1 INTO y FROM d; END", "deletes from t"),
            ("BEGIN COPY t TO '/tmp/x'; END", "has COPY"),
            ("<<l>> COPY t TO '/tmp/x'; END", "has COPY"),
            ("BEGIN PERFORM lo_unlink(1); END", "calls lo_unlink()"),
            ("BEGIN PERFORM set_config('a', 'b', false); END", "calls set_config()"),
        ] {
            assert_eq!(Uses::plpgsql(body).writes.as_deref(), Some(expected), "{body}");
        }
        for (body, expected) in [
            ("DELETE FROM orders WHERE id = $1", "deletes from orders"),
            ("SELECT 1; DROP TABLE a, b", "drops a, b"),
            ("INSERT INTO audit.log VALUES ($1)", "inserts into audit.log"),
        ] {
            assert_eq!(Uses::sql(body).writes.as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_in_doubt_and_what_only_reads_is_not() {
        for body in [
            "BEGIN EXECUTE 'x'; END",
            "BEGIN EXECUTE format('DROP TABLE %I', t); END",
            "BEGIN RETURN QUERY EXECUTE x; END",
            "BEGIN OPEN c FOR EXECUTE 'x'; END",
            "BEGIN SET LOCAL role = x; END",
            "BEGIN CALL p(); END",
            "BEGIN PERFORM U&\"\\006fther\"(1); END",
            "BEGIN 'x",
        ] {
            assert!(Uses::plpgsql(body).doubt.is_some(), "{body}");
        }
        assert!(Uses::sql("SELCT").doubt.is_some());
        for body in [
            "BEGIN RETURN x + 1; END",
            "BEGIN SELECT comment, t.delete INTO a, b FROM t WHERE copy = 'x' FOR UPDATE; RETURN a; END",
            "BEGIN RETURN QUERY SELECT id, count(*) FROM t WHERE name IN ('delete', 'drop') GROUP BY id; END",
            "BEGIN SELECT max(id) INTO STRICT n FROM t FOR NO KEY UPDATE; RAISE NOTICE 'update %', n; RETURN n; END",
        ] {
            let uses = Uses::plpgsql(body);
            assert_eq!((uses.writes, uses.doubt), (None, None), "{body}");
        }
        let uses = Uses::sql("SELECT id FROM t WHERE id = $1");
        assert_eq!((uses.writes, uses.doubt), (None, None));
    }

    #[test]
    fn names_are_read_as_the_server_reads_them() {
        let long = format!("{}ä", "x".repeat(62));
        let uses = Uses::plpgsql(&format!("BEGIN PERFORM {long}y(1), a FROM \"\"\"V\"\"\"; END"));
        let piece = uses.pieces.first().unwrap();
        assert!(piece.calls.functions.iter().any(|name| name.name == "x".repeat(62)), "{:?}", piece.calls.functions);
        assert!(piece.calls.types.iter().any(|name| name == "\"V\""));
    }

    #[test]
    fn the_names_of_a_body_are_kept_for_those_who_know_what_they_mean() {
        let uses = Uses::plpgsql(
            "DECLARE r app.v%ROWTYPE; BEGIN SELECT a.b(1) + r.total INTO n FROM x; PERFORM reverse('x'); END",
        );
        let piece = uses.pieces.first().unwrap();
        let call = ObjectName { schema: Some("a".to_owned()), name: "b".to_owned() };
        assert!(piece.calls.functions.contains(&call));
        assert!(piece.calls.attributes.iter().any(|name| name == "total"));
        assert!(piece.effects.iter().any(|effect| effect.objects.iter().any(|name| name.name == "v")));
        assert!(uses.ambiguous.contains("reverse"));
    }
}
