//! `querygate check`: says what the policy would do with SQL, without running it.

mod jsonl;
mod report;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;

use crate::approval::{People, Person};
use crate::cli::complain;
use crate::clock;
use crate::judge::{
    Analysis, Facts, Finding, Judge, Measure, Prepared, Scene, SessionAct, SessionClass, Somebody, Verdict,
};
use crate::server::settings::Settings;

/// Exit status when something would be held.
pub const HELD: u8 = 10;
/// Exit status when something would be rejected.
pub const REJECTED: u8 = 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 everything is allowed, 10 something is held, 20 something is rejected, 2 wrong usage or input.\n\n\
    Each argument and each file is one message, as a client would send it: it may hold several statements, and is held whole. \
    Statements prepared by one message are known to the next."
)]
pub struct Args {
    /// Configuration with the rules; the shipped policy without it.
    #[arg(long, value_name = "FILE", env = "QUERYGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Database user to judge for.
    #[arg(long, default_value = "")]
    user: String,
    /// Database to judge for.
    #[arg(long, default_value = "")]
    database: String,
    /// `application_name` to judge for.
    #[arg(long, default_value = "")]
    application: String,
    /// Client address to judge for; without it, rules with `addresses` do not match.
    #[arg(long)]
    address: Option<IpAddr>,
    /// Common name of the client certificate to judge for.
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
    /// Person of the configuration to judge for, whatever the database user; may be given again where it could be several.
    #[arg(long, value_name = "NAME")]
    person: Vec<String>,
    /// Time to judge for, such as 2026-12-24T03:00:00Z; now without it.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Judge as inside a transaction block.
    #[arg(long)]
    in_transaction: bool,
    /// Say of each effect which rules were asked before the one that judged it, and why they did not.
    #[arg(long)]
    explain: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Read `{"id", "sql"}` lines from standard input and print a line of JSON for each.
    #[arg(long, conflicts_with_all = ["sql", "file", "format", "explain"])]
    jsonl: bool,
    /// Judge the text of a file.
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// SQL to judge; `-` for standard input.
    #[arg(value_name = "SQL", required_unless_present_any = ["file", "jsonl"])]
    sql: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON array.
    Json,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    match super::on_deep_stack(|| judge(args)) {
        Ok(code) => code,
        Err(message) => {
            complain!("{message}");
            ExitCode::from(super::USAGE)
        }
    }
}

/// The exit status that tells a verdict.
fn status(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Allow => ExitCode::SUCCESS,
        Verdict::Hold => ExitCode::from(HELD),
        Verdict::Reject => ExitCode::from(REJECTED),
    }
}

fn judge(args: &Args) -> Result<ExitCode, String> {
    let settings = match &args.config {
        Some(path) => Settings::load(path).map_err(|error| super::load_error(&error))?.settings,
        None => Settings::default(),
    };
    let people = people(args, &settings.approval.people)?;
    let judge = Judge::new(settings.policy);
    let facts = Facts {
        user: &args.user,
        database: if args.database.is_empty() { &args.user } else { &args.database },
        application_name: &args.application,
        client_addr: args.address,
        people: &people,
        now: args.at.unwrap_or_else(clock::wall),
    };
    let class = judge.class(&facts);
    if args.jsonl {
        let (input, output) = (io::stdin().lock(), io::stdout().lock());
        return quiet_pipe(jsonl::run(&judge, &class, args.in_transaction, input, output));
    }
    let explained = args.explain.then_some(facts);
    let in_transaction = args.in_transaction;
    let mut session = Session { judge: &judge, class, explained, in_transaction, prepared: Names::default() };
    let messages: Vec<report::Message> = texts(args)?.iter().map(|text| session.judge(text)).collect();
    let strictest = messages.iter().map(|message| message.judgement.verdict).max().unwrap_or(Verdict::Allow);
    let written = match args.format {
        Format::Text => report::text(&messages, &mut io::stdout().lock()),
        Format::Json => report::json(&messages, &mut io::stdout().lock()),
    };
    quiet_pipe(written.map(|()| status(strictest)))
}

/// Who is behind the session.
fn people(args: &Args, everybody: &People) -> Result<Vec<Somebody>, String> {
    if args.person.is_empty() {
        return Ok(everybody.working_as(args.certificate.as_deref(), &args.user).map(Person::to_judge).collect());
    }
    let named = |name: &String| {
        let person = everybody.named(name).map(Person::to_judge);
        person.ok_or_else(|| format!("there is no person `{name}` in [[people]]"))
    };
    args.person.iter().map(named).collect()
}

/// A reader that went away (`| head`) is no failure to complain about.
fn quiet_pipe(result: io::Result<ExitCode>) -> Result<ExitCode, String> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::from(super::USAGE)),
        other => other.map_err(|error| format!("cannot write the answer: {error}")),
    }
}

/// The messages, in the order: files, then arguments.
fn texts(args: &Args) -> Result<Vec<Vec<u8>>, String> {
    let mut texts = Vec::new();
    for path in &args.file {
        texts.push(fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?);
    }
    for sql in &args.sql {
        if sql == "-" {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text).map_err(|error| format!("cannot read standard input: {error}"))?;
            texts.push(text);
        } else {
            texts.push(sql.clone().into_bytes());
        }
    }
    Ok(texts)
}

/// The session that the messages would belong to.
struct Session<'j> {
    judge: &'j Judge,
    class: SessionClass,
    /// Explain for these.
    explained: Option<Facts<'j>>,
    in_transaction: bool,
    prepared: Names,
}

impl Session<'_> {
    fn judge(&mut self, text: &[u8]) -> report::Message {
        let analysis = self.judge.analyse(text);
        // Nobody can look into it here.
        let unknown = Measure::unknown("no database is asked here");
        let judgement = self.class.decide_measured(&analysis, self.in_transaction, &self.prepared, &unknown);
        let pieces = self.class.decide_pieces(&analysis, self.in_transaction, &self.prepared, &unknown);
        for act in analysis.pieces.iter().flat_map(|piece| &piece.acts) {
            self.prepared.follow(act);
        }
        let explain = |finding: &Finding| {
            let facts = self.explained.as_ref()?;
            let (effect, object) = (&finding.effect, finding.effect.objects.first());
            let column = finding.effect.columns.first().map(String::as_str);
            let risks = finding.risks.as_deref();
            let effects = &finding.effects;
            let (in_transaction, tags) = (self.in_transaction, &analysis.tags);
            let scene = Scene { in_transaction, tags, risks, effects, impact: None };
            Some(self.judge.policy().explain(facts, effect, object, column, scene))
        };
        report::Message::new(text, judgement, pieces, &analysis, explain)
    }
}

/// Statements prepared by the messages so far.
#[derive(Default)]
struct Names(HashMap<String, Arc<Analysis>>);

impl Names {
    fn follow(&mut self, act: &SessionAct) {
        match act {
            SessionAct::Prepare { name, body } => {
                self.0.insert(name.clone(), body.clone());
            }
            SessionAct::Deallocate { name: Some(name) } => {
                self.0.remove(name);
            }
            SessionAct::Deallocate { name: None } => self.0.clear(),
            SessionAct::Execute { .. }
            | SessionAct::SetReason { .. }
            | SessionAct::CopyIn
            | SessionAct::EndTransaction => {}
        }
    }
}

impl Prepared for Names {
    fn prepared(&self, name: &str) -> Option<Arc<Analysis>> {
        self.0.get(name).cloned()
    }
}
