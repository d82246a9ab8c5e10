//! `policy test`: cases in files, and a diff of what is not so.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use super::{load, word};
use crate::approval::Person;
use crate::cli::unless_unread;
use crate::clock;
use crate::judge::{Bytes, Facts, Judge, Measure, NothingPrepared, ObjectName, Reached, Somebody, Verdict};
use crate::server::settings::Settings;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<toml::Spanned<Case>>,
}

/// Who sends what, and what is said to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    name: String,
    #[serde(default)]
    user: String,
    database: Option<String>,
    #[serde(default)]
    application_name: String,
    address: Option<IpAddr>,
    certificate: Option<String>,
    /// Instead of those whom the configuration knows by certificate or database user.
    people: Option<Vec<String>>,
    /// Now without it.
    at: Option<Timestamp>,
    #[serde(default)]
    in_transaction: bool,
    /// What it would touch; not known without it.
    impact: Option<Impact>,
    sql: String,
    verdict: Verdict,
    rule: Option<String>,
    /// Rules that tell of what passes; any without it.
    told: Option<Vec<String>>,
}

/// What a look into the database would have found. What is left out is not known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Impact {
    rows: Option<u64>,
    bytes: Option<Bytes>,
    rewrites: Option<bool>,
    triggers: Option<bool>,
    /// Everything it names, as `schema.name`.
    touches: Option<Vec<String>>,
    /// Everything that foreign keys lead to, likewise.
    #[serde(default)]
    cascades: Vec<String>,
}

impl Impact {
    fn measure(&self) -> Result<Measure, String> {
        let read = |name: &String, by_cascade: bool| {
            let (schema, name) =
                name.split_once('.').ok_or_else(|| format!("`{name}` is no `schema.name`, as the catalogue has it"))?;
            let object = ObjectName { schema: Some(schema.to_owned()), name: name.to_owned() };
            Ok::<_, String>(Reached { object, by_cascade })
        };
        let named = self.touches.iter().flatten().map(|name| read(name, false));
        let reached = named.chain(self.cascades.iter().map(|name| read(name, true))).collect::<Result<_, _>>()?;
        Ok(Measure {
            rows: self.rows,
            bytes: self.bytes.map(|Bytes(bytes)| bytes),
            rewrites: self.rewrites,
            triggers: self.triggers,
            reached,
            complete: self.touches.is_some(),
            said: String::new(),
        })
    }
}

/// Whether a case failed.
pub(super) fn run(config: Option<&Path>, files: &[PathBuf]) -> Result<bool, String> {
    let settings = match config {
        Some(path) => load(path)?.settings,
        None => Settings::default(),
    };
    let judge = Judge::new(settings.policy.clone());
    let (mut passed, mut failed) = (0_usize, 0_usize);
    let mut out = io::stdout().lock();
    let broken = |error: io::Error| format!("cannot write the answer: {error}");
    for path in files {
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let file: File = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for written in file.case {
            let line = text.get(..written.span().start).unwrap_or_default().matches('\n').count().saturating_add(1);
            let case = written.into_inner();
            match run_case(&case, &settings, &judge).map_err(|why| format!("{}:{line}: {why}", path.display()))? {
                None => passed = passed.saturating_add(1),
                Some(diff) => {
                    failed = failed.saturating_add(1);
                    unless_unread(write!(out, "{}:{line}: {}\n{diff}", path.display(), case.name)).map_err(broken)?;
                }
            }
        }
    }
    unless_unread(writeln!(out, "{passed} passed, {failed} failed")).map_err(broken)?;
    Ok(failed > 0)
}

/// `None`: it is so. Otherwise what was expected and what is.
fn run_case(case: &Case, settings: &Settings, judge: &Judge) -> Result<Option<String>, String> {
    let everybody = &settings.approval.people;
    let people: Vec<Somebody> = match &case.people {
        None => everybody.working_as(case.certificate.as_deref(), &case.user).map(Person::to_judge).collect(),
        Some(names) => {
            let somebody = |name: &String| {
                let person = everybody.named(name).map(Person::to_judge);
                person.ok_or_else(|| format!("there is no person `{name}` in [[people]]"))
            };
            names.iter().map(somebody).collect::<Result<_, _>>()?
        }
    };
    let class = judge.class(&Facts {
        user: &case.user,
        database: case.database.as_deref().unwrap_or(&case.user),
        application_name: &case.application_name,
        client_addr: case.address,
        people: &people,
        now: case.at.unwrap_or_else(clock::wall),
    });
    let measure = match &case.impact {
        Some(impact) => impact.measure()?,
        None => Measure::unknown("the case does not tell"),
    };
    let analysis = judge.analyse(case.sql.as_bytes());
    let judgement = class.decide_measured(&analysis, case.in_transaction, &NothingPrepared, &measure);
    let told: Vec<String> = judgement.remarks.iter().map(|remark| remark.rule.to_string()).collect();
    let is = Answer { verdict: judgement.verdict, rule: Some(&judgement.rule), told: Some(&told) };
    let wanted = Answer { verdict: case.verdict, rule: case.rule.as_deref(), told: case.told.as_deref() };
    if wanted.is_met_by(&is) {
        return Ok(None);
    }
    let mut diff = String::new();
    for line in case.sql.trim().lines() {
        let _ = writeln!(diff, "  {}", line.escape_debug());
    }
    let _ = writeln!(diff, "- {wanted}\n+ {is}\n  because: {}", judgement.why.escape_debug());
    Ok(Some(diff))
}

/// What is said to a case; what is `None` does not matter.
struct Answer<'a> {
    verdict: Verdict,
    rule: Option<&'a str>,
    told: Option<&'a [String]>,
}

impl Answer<'_> {
    fn is_met_by(&self, is: &Answer<'_>) -> bool {
        self.verdict == is.verdict
            && (self.rule.is_none() || self.rule == is.rule)
            && (self.told.is_none() || self.told == is.told)
    }
}

impl std::fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(word(self.verdict))?;
        if let Some(rule) = self.rule {
            write!(f, " by {rule}")?;
        }
        match self.told {
            Some(told) if !told.is_empty() => write!(f, ", told by {}", told.join(", ")),
            Some(_) | None => Ok(()),
        }
    }
}
