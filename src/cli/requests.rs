//! `querygate requests`: lists and decides held statements over the admin API.
//!
//! [`api`] speaks HTTP, [`text`] lays requests out for reading, [`live`] is the live view.

pub mod api;
pub mod live;
pub mod text;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::approval::http::view::{AnswerBody, CreateBody, ListView, RequestView, State};
use api::{Api, ApiError, Change, Which};

/// Where the admin API listens unless told otherwise.
const DEFAULT_API: &str = "http://127.0.0.1:7432";

/// Exit status when a request was decided before, is over, or its client went before the decision was carried out.
const TOO_LATE: u8 = 5;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 done, 1 the gate cannot be reached or is in trouble, 2 wrong usage, \
3 not allowed, 4 no such request, 5 decided before, over, changed, or withdrawn before the decision was carried out.")]
pub struct Args {
    /// Address of the admin API.
    #[arg(long, env = "QUERYGATE_API", default_value = DEFAULT_API, global = true, value_name = "URL")]
    api: String,
    /// File with the token; without it the token is taken from the environment variable `QUERYGATE_TOKEN`.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How to print: text for people, JSON with full statement text and parameters for programs.
    #[arg(long, global = true, default_value = "text")]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what waits for a decision.
    List {
        /// Also list what ended lately.
        #[arg(long)]
        all: bool,
        /// List emergency releases that nobody else has looked at yet, instead.
        #[arg(long, conflicts_with = "all")]
        reviews: bool,
        /// List approvals that stand: for the same statement again in its session, instead.
        #[arg(long, conflicts_with_all = ["all", "reviews"])]
        grants: bool,
        /// Most requests to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one request with its whole statement and parameters.
    Show {
        /// The request's name, such as qg-7k2m9x4c1d.
        id: String,
    },
    /// Approve a request: its statement runs, once enough people have.
    Approve {
        /// Which, and why.
        #[command(flatten)]
        answer: Answer,
        /// Release it alone, in an emergency; for those the configuration names, and with a reason.
        #[arg(long, requires = "reason")]
        break_glass: bool,
        /// Let the same statement run again in its session for so long ("10m", whole minutes), where the configuration permits that.
        #[arg(long, value_name = "TIME", value_parser = minutes, conflicts_with = "break_glass")]
        again: Option<u32>,
    },
    /// Reject a request: its client gets an error.
    Reject(Answer),
    /// Say that you have looked at what one person released alone in an emergency.
    Review {
        /// The request's name, such as qg-7k2m9x4c1d.
        id: String,
        /// What you make of it.
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
    /// End a standing approval (`approve --again`): its statement is asked about again.
    Revoke {
        /// The request's name, such as qg-7k2m9x4c1d.
        id: String,
    },
    /// Ask for statements before they run. Once approved, each passes once, by the same database user, until the window is over.
    Create {
        /// File with the statements.
        #[arg(long, value_name = "FILE")]
        sql_file: PathBuf,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Database user that will run them; may be left out by people who work as one only.
        #[arg(long)]
        user: Option<String>,
        /// In this database.
        #[arg(long)]
        database: String,
        /// The rule whose approvers are asked.
        #[arg(long)]
        rule: Option<String>,
        /// For so long from now ("2h", whole minutes).
        #[arg(long, value_name = "TIME", value_parser = minutes)]
        window: u32,
    },
    /// Take back what you asked for before it runs.
    Withdraw {
        /// The request's name, such as qg-7k2m9x4c1d.
        id: String,
    },
    /// Watch live, and decide with a key; prints changes line by line when the output is not a terminal.
    Watch,
}

#[derive(Debug, clap::Args)]
struct Answer {
    /// The request's name, such as qg-7k2m9x4c1d.
    id: String,
    /// Why; the requester is told.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Count only if the statement has this digest (as `show` prints it).
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // Its words are printed.
        Err(Trouble::NotCarriedOut) => ExitCode::from(TOO_LATE),
        Err(Trouble::Api(error)) => {
            complain(&error.to_string());
            ExitCode::from(error.exit_status())
        }
        // Whoever reads has heard enough (`… | head`).
        Err(Trouble::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Trouble::Output(error)) => {
            complain(&format!("cannot write: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the decision came too late")]
    NotCarriedOut,
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

fn try_run(args: &Args) -> Result<(), Trouble> {
    let token = api::token(args.token_file.as_deref())?;
    let api = Api::new(&args.api, &token)?;
    let out = &mut std::io::stdout().lock();
    match &args.command {
        Command::List { all, reviews, grants, limit } => {
            let which = match (all, reviews, grants) {
                (_, _, true) => Which::Grants,
                (_, true, false) => Which::Reviews,
                (true, false, false) => Which::All,
                (false, false, false) => Which::Pending,
            };
            list(&api, which, *limit, args.format, out)
        }
        Command::Show { id } => {
            let shown = api.show(id)?;
            match args.format {
                Format::Json => json(out, &shown),
                Format::Text => Ok(out.write_all(text::request(&shown, crate::clock::wall()).as_bytes())?),
            }
        }
        Command::Approve { answer, break_glass, again } => {
            let body = AnswerBody { break_glass: *break_glass, again_minutes: *again, ..body(answer) };
            decide(&api, true, &answer.id, &body, args.format, out)
        }
        Command::Reject(answer) => decide(&api, false, &answer.id, &body(answer), args.format, out),
        Command::Review { id, comment } => {
            let seen = api.review(id, comment.as_deref())?;
            match args.format {
                Format::Json => json(out, &seen),
                Format::Text => Ok(writeln!(out, "{}  reviewed", seen.id)?),
            }
        }
        Command::Revoke { id } => said(args.format, &api.revoke(id)?, "its approval stands no more", out),
        Command::Create { sql_file, reason, user, database, rule, window } => {
            let sql = std::fs::read_to_string(sql_file)
                .map_err(|error| ApiError::Usage(format!("cannot read {}: {error}", sql_file.display())))?;
            let body = CreateBody {
                sql,
                reason: reason.clone(),
                user: user.clone(),
                database: database.clone(),
                rule: rule.clone(),
                window_minutes: *window,
            };
            let seen = api.create(&body)?;
            match args.format {
                Format::Json => json(out, &seen),
                Format::Text => {
                    Ok(writeln!(out, "{}  asked; each statement may run once when it is approved", seen.id)?)
                }
            }
        }
        Command::Withdraw { id } => said(args.format, &api.withdraw(id)?, "withdrawn", out),
        Command::Watch if args.format == Format::Text && std::io::stdout().is_terminal() => {
            live::run(&api)?;
            Ok(())
        }
        Command::Watch => watch_lines(&api, args.format, out),
    }
}

fn list(api: &Api, which: Which, limit: usize, format: Format, out: &mut impl Write) -> Result<(), Trouble> {
    let mut list = api.list(which, limit)?;
    if format == Format::Text {
        let none = match which {
            Which::Reviews => "nothing waits for a review",
            Which::Grants => "no approval stands",
            Which::Pending | Which::All => "nothing waits for a decision",
        };
        out.write_all(text::list(&list, none).as_bytes())?;
        return Ok(());
    }
    // Lists are cut short by the gate; programs are promised everything.
    for request in &mut list.requests {
        if !text::is_complete(request) {
            *request = api.show(&request.id)?;
        }
    }
    json(out, &list)
}

/// The request after what was done to it, in few words.
fn said(format: Format, seen: &RequestView, words: &str, out: &mut impl Write) -> Result<(), Trouble> {
    match format {
        Format::Json => json(out, seen),
        Format::Text => Ok(writeln!(out, "{}  {words}", seen.id)?),
    }
}

/// Whole minutes.
fn minutes(words: &str) -> Result<u32, String> {
    let time = humantime::parse_duration(words).map_err(|error| error.to_string())?;
    let minutes = time.as_secs().checked_div(60).filter(|minutes| *minutes > 0 && time.as_secs().is_multiple_of(60));
    minutes.and_then(|minutes| u32::try_from(minutes).ok()).ok_or_else(|| "give whole minutes, such as 10m".to_owned())
}

fn body(answer: &Answer) -> AnswerBody {
    AnswerBody { reason: answer.reason.clone(), statement_sha256: answer.sha256.clone(), ..AnswerBody::default() }
}

fn decide(
    api: &Api,
    approve: bool,
    id: &str,
    body: &AnswerBody,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Trouble> {
    let decided = api.decide(id, approve, body)?;
    // The decision stands; failing to see its outcome takes nothing from it.
    let seen = api.outcome(decided.clone()).unwrap_or(decided);
    match format {
        Format::Json => json(out, &seen)?,
        Format::Text => writeln!(out, "{}", text::decided(&seen))?,
    }
    match seen.state {
        State::Withdrawn | State::Expired => Err(Trouble::NotCarriedOut),
        State::Pending | State::Approved | State::Released | State::Rejected => Ok(()),
    }
}

/// For pipes and logs: one line (or one JSON object) per change, over lost connections too.
fn watch_lines(api: &Api, format: Format, out: &mut impl Write) -> Result<(), Trouble> {
    let mut known = text::Known::default();
    api.follow(|change| match (&change, format) {
        (Change::Trouble(error), _) => {
            complain(&format!("{error}; trying again"));
            Ok(())
        }
        (Change::Alive, _) => Ok(()),
        (Change::Snapshot(list), Format::Json) => json_line(out, "snapshot", list),
        (Change::One(kind, one), Format::Json) => json_line(out, kind, one),
        (Change::Snapshot(list), Format::Text) => lines(out, &mut known, list),
        (Change::One(_, one), Format::Text) => {
            let list = ListView { now: one.now, requests: vec![one.request.clone()] };
            lines(out, &mut known, &list)
        }
    })
}

fn lines(out: &mut impl Write, known: &mut text::Known, list: &ListView) -> Result<(), Trouble> {
    for request in &list.requests {
        if let Some(line) = known.news(request, list.now) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out.flush()?)
}

fn json(out: &mut impl Write, value: &impl Serialize) -> Result<(), Trouble> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

fn json_line(out: &mut impl Write, event: &str, value: &impl Serialize) -> Result<(), Trouble> {
    let line = serde_json::json!({ "event": event, "data": value });
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn complain(words: &str) {
    // Nothing can be done if not even this can be written.
    let _unheard = writeln!(std::io::stderr(), "querygate: {words}");
}
