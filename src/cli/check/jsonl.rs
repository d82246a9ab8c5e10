//! `check --jsonl`: a stream of statements in, a stream of verdicts out, in the same order. Each line is judged on its own, as
//! the first message of a session. A line that cannot be read gets `{"id", "line", "verdict": "hold", "error"}`; the others are
//! still judged, and the exit status says that something was wrong.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::super::USAGE;
use super::status;
use crate::judge::{Effect, EffectKind, Judge, Measure, NothingPrepared, RiskKind, SessionClass, Verdict};

#[derive(Deserialize)]
struct Question<'a> {
    id: serde_json::Value,
    #[serde(borrow)]
    sql: Cow<'a, str>,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a serde_json::Value,
    verdict: Verdict,
    rule: &'a str,
    effects: Vec<Does>,
    why: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    risks: Vec<RiskKind>,
}

#[derive(Serialize)]
struct Does {
    kind: EffectKind,
    objects: Vec<String>,
}

#[derive(Serialize)]
struct Failure {
    id: Option<serde_json::Value>,
    line: u64,
    verdict: Verdict,
    error: String,
}

/// Answers every line of `input`.
pub(super) fn run(
    judge: &Judge,
    class: &SessionClass,
    in_transaction: bool,
    input: impl Read,
    output: impl Write,
) -> io::Result<ExitCode> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut output = BufWriter::with_capacity(1 << 16, output);
    let (mut strictest, mut failed) = (Verdict::Allow, false);
    let mut line = Vec::new();
    let mut number = 0_u64;
    while input.read_until(b'\n', &mut line)? > 0 {
        number = number.saturating_add(1);
        if !line.trim_ascii().is_empty() {
            match answer(judge, class, in_transaction, &line, &mut output)? {
                Ok(verdict) => strictest = strictest.max(verdict),
                Err(error) => {
                    failed = true;
                    let id = serde_json::from_slice::<serde_json::Value>(&line).ok();
                    let id = id.and_then(|value| value.get("id").cloned());
                    serde_json::to_writer(
                        &mut output,
                        &Failure { id, line: number, verdict: Verdict::Hold, error: error.to_string() },
                    )?;
                }
            }
            output.write_all(b"\n")?;
        }
        line.clear();
        // Somebody may be waiting for the answer before asking the next question.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.flush()?;
    Ok(if failed { ExitCode::from(USAGE) } else { status(strictest) })
}

fn answer(
    judge: &Judge,
    class: &SessionClass,
    in_transaction: bool,
    line: &[u8],
    output: &mut impl Write,
) -> io::Result<Result<Verdict, serde_json::Error>> {
    let question: Question<'_> = match serde_json::from_slice(line) {
        Ok(question) => question,
        Err(error) => return Ok(Err(error)),
    };
    let analysis = judge.analyse(question.sql.as_bytes());
    let unknown = Measure::unknown("no database is asked here");
    let judgement = class.decide_measured(&analysis, in_transaction, &NothingPrepared, &unknown);
    let effects = analysis.pieces.iter().flat_map(|piece| &piece.effects).map(Does::new).collect();
    let mut risks: Vec<_> = analysis.all_risks().unwrap_or_default().into_iter().map(|risk| risk.kind).collect();
    risks.dedup();
    let (rule, why) = (&judgement.rule, &judgement.why);
    let answer = Answer { id: &question.id, verdict: judgement.verdict, rule, effects, why, risks };
    serde_json::to_writer(output, &answer)?;
    Ok(Ok(judgement.verdict))
}

impl Does {
    fn new(effect: &Effect) -> Self {
        Self { kind: effect.kind, objects: effect.objects.iter().map(ToString::to_string).collect() }
    }
}
