//! What `check` prints: statements with verdict, rule, effects, objects and why.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use crate::judge::{Analysis, Finding, Judgement, Match, Ownership, PieceJudgement, Risk, Step, Verdict};

/// Characters of a statement shown in a line.
const SHOWN: usize = 100;
/// Effects of a statement, and objects of an effect, shown to people.
const LISTED: usize = 50;

/// A judged message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) judgement: Judgement,
    statements: Vec<Statement>,
}

#[derive(Debug, Serialize)]
struct Statement {
    sql: String,
    verdict: Verdict,
    rule: String,
    effects: Vec<EffectLine>,
    /// Who has to agree besides, because they own what it touches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owners: Vec<Ownership>,
    why: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    risks: Vec<Risk>,
    /// Functions it calls of which a text alone says nothing: a gate can look them up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown_functions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Debug, Serialize)]
struct EffectLine {
    kind: String,
    objects: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_where: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<String>,
    verdict: Verdict,
    rule: String,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Vec<Asked>>,
}

/// A rule that was asked.
#[derive(Debug, Serialize)]
struct Asked {
    rule: String,
    matches: &'static str,
    /// Conditions that do not match, or cannot be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<&'static str>,
}

impl Asked {
    fn new(step: Step) -> Self {
        let matches = match step.matches {
            Match::No => "no",
            Match::Possibly => "possibly",
            Match::Surely => "surely",
        };
        Self { rule: step.rule, matches, because: step.because }
    }
}

impl Message {
    pub(super) fn new(
        text: &[u8],
        judgement: Judgement,
        pieces: Vec<PieceJudgement>,
        analysis: &Analysis,
        explain: impl Fn(&Finding) -> Option<Vec<Step>>,
    ) -> Self {
        let known = |index: usize| {
            let piece = analysis.pieces.get(index);
            let functions =
                piece.into_iter().flat_map(|piece| piece.calls.strange()).map(ToString::to_string).collect();
            (piece.and_then(|piece| analysis.risks_of(piece)).unwrap_or_default(), functions)
        };
        let pieces = pieces.into_iter().enumerate();
        let statements = pieces.map(|(index, piece)| Statement::new(text, piece, known(index), &explain)).collect();
        Self { judgement, statements }
    }
}

impl Statement {
    fn new(
        text: &[u8],
        piece: PieceJudgement,
        (risks, unknown_functions): (Vec<Risk>, Vec<String>),
        explain: &impl Fn(&Finding) -> Option<Vec<Step>>,
    ) -> Self {
        let sql = text.get(piece.range).unwrap_or(text);
        Self {
            sql: String::from_utf8_lossy(sql).trim().to_owned(),
            verdict: piece.judgement.verdict,
            rule: piece.judgement.rule.to_string(),
            effects: piece.findings.into_iter().map(|finding| EffectLine::new(finding, explain)).collect(),
            owners: piece.judgement.owners,
            why: piece.judgement.why,
            risks,
            unknown_functions,
            message: piece.judgement.message.map(|message| message.to_string()),
            advice: piece.judgement.advice.map(|advice| advice.to_string()),
        }
    }
}

impl EffectLine {
    fn new(finding: Finding, explain: &impl Fn(&Finding) -> Option<Vec<Step>>) -> Self {
        let steps = explain(&finding);
        Self {
            explain: steps.map(|steps| steps.into_iter().map(Asked::new).collect()),
            kind: finding.effect.kind.to_string(),
            objects: finding.effect.objects.iter().map(ToString::to_string).collect(),
            has_where: finding.effect.has_where,
            columns: finding.effect.columns,
            verdict: finding.verdict,
            rule: finding.rule.to_string(),
            why: finding.effect.why,
        }
    }
}

/// For programs: an array with an object per statement.
pub(super) fn json(messages: &[Message], out: &mut dyn Write) -> io::Result<()> {
    let statements: Vec<&Statement> = messages.iter().flat_map(|message| &message.statements).collect();
    serde_json::to_writer_pretty(&mut *out, &statements)?;
    writeln!(out)
}

/// For people.
pub(super) fn text(messages: &[Message], out: &mut dyn Write) -> io::Result<()> {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut first = true;
    for message in messages {
        for statement in &message.statements {
            if !first {
                writeln!(out)?;
            }
            first = false;
            statement.print(colour, out)?;
        }
        match message.statements.len() {
            0 => writeln!(out, "{} (there is no statement in it)", word(message.judgement.verdict, colour))?,
            1 => {}
            count => {
                let verdict = word(message.judgement.verdict, colour);
                writeln!(out, "\n{verdict} all {count} statements of this message: it goes on, or waits, as a whole")?;
            }
        }
    }
    out.flush()
}

impl Statement {
    fn print(&self, colour: bool, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} {}", word(self.verdict, colour), beginning(&self.sql))?;
        writeln!(out, "       rule    {}", one_line(&self.rule))?;
        for (index, effect) in self.effects.iter().take(LISTED).enumerate() {
            let label = if index == 0 { "effects" } else { "       " };
            let mut line = effect.kind.clone();
            for (index, object) in effect.objects.iter().take(LISTED).enumerate() {
                let _ = write!(line, "{}{}", if index == 0 { " of " } else { ", " }, object);
            }
            if let Some(more) = effect.objects.len().checked_sub(LISTED).filter(|more| *more > 0) {
                let _ = write!(line, " and {more} more");
            }
            if effect.has_where == Some(false) {
                line.push_str(" without a condition on rows");
            }
            let _ = write!(line, " → {} by {}", plain(effect.verdict), effect.rule);
            writeln!(out, "       {label} {}", one_line(&line))?;
            for asked in effect.explain.iter().flatten() {
                let because = if asked.because.is_empty() { "" } else { ": " };
                let line = format!("{} {}{because}{}", asked.rule, asked.matches, asked.because.join("; "));
                writeln!(out, "                 asked {}", one_line(&line))?;
            }
        }
        if let Some(more) = self.effects.len().checked_sub(LISTED).filter(|more| *more > 0) {
            writeln!(out, "               … and {more} more")?;
        }
        for owner in self.owners.iter().take(LISTED) {
            let lines: Vec<String> = owner.lines.iter().map(ToString::to_string).collect();
            let line = format!("{} (line {})", owner.in_words(), lines.join(", "));
            writeln!(out, "       owners  {}", one_line(&line))?;
        }
        if let Some(more) = self.owners.len().checked_sub(LISTED).filter(|more| *more > 0) {
            writeln!(out, "               … and {more} more")?;
        }
        writeln!(out, "       why     {}", one_line(&self.why))?;
        for risk in &self.risks {
            writeln!(out, "       risk    {}: {}", risk.kind, one_line(&risk.text))?;
        }
        if !self.unknown_functions.is_empty() {
            let named: Vec<&str> = self.unknown_functions.iter().take(LISTED).map(String::as_str).collect();
            let line = format!(
                "what {} does is not known here; a gate with [impact] looks it up, and judges by that",
                named.join(", ")
            );
            writeln!(out, "       calls   {}", one_line(&line))?;
        }
        for (label, words) in [("says   ", &self.message), ("advises", &self.advice)] {
            for line in words.iter().flat_map(|words| words.lines()) {
                writeln!(out, "       {label} {}", one_line(line))?;
            }
        }
        Ok(())
    }
}

fn plain(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Hold => "hold",
        Verdict::Reject => "reject",
    }
}

/// Six characters wide, so that statements line up.
fn word(verdict: Verdict, colour: bool) -> String {
    let ansi = match verdict {
        Verdict::Allow => 32,
        Verdict::Hold => 33,
        Verdict::Reject => 31,
    };
    let word = plain(verdict);
    if colour { format!("\u{1b}[1;{ansi}m{word:<6}\u{1b}[0m") } else { format!("{word:<6}") }
}

/// A statement's beginning, as much as a line holds.
fn beginning(sql: &str) -> String {
    let line = one_line(sql);
    let mut cut: String = line.chars().take(SHOWN).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut
}

/// White space joined; control characters cannot reach the terminal.
fn one_line(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.chars().flat_map(visible).collect()
}

fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_unicode());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}
