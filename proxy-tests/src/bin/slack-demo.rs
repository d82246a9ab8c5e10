//! The demo with Slack: `querygate demo` with its throw-away Postgres, and the Slack stand-in, together. `.ci/demo --slack` runs it.
//!
//! A statement held in psql appears here as the message that approvers would see; a typed command is a click. With `--script`
//! it plays by itself and checks every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a demonstration that goes wrong ends, and says where")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy_tests::gate::binary;
use proxy_tests::psql::{Psql, finish};
use proxy_tests::slack::{Message, State, Workspace};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

const CHANNEL: &str = "C0APPR";
/// Ended by a signal, as shells count it.
const INTERRUPTED: u8 = 130;

/// querygate, a throw-away Postgres and a Slack to click in.
#[derive(Debug, Parser)]
#[command(name = "slack-demo")]
struct Args {
    /// Play a session by itself and check every step.
    #[arg(long)]
    script: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let workspace = Workspace::with_people().await;
    // Even who may decide does not decide what they asked for.
    workspace.change_group("S0DBA", |group| group.members.extend(["U0REQ".to_owned()]));
    let mut gate = tokio::select! {
        gate = Gate::start(&workspace) => gate,
        () = interrupted() => return ExitCode::from(INTERRUPTED),
    };
    let Some(conninfo) = gate.conninfo.take() else {
        return ExitCode::FAILURE;
    };
    workspace.wait_for_sockets(2).await;
    tokio::select! {
        code = show(&args, &workspace, &conninfo) => code,
        () = interrupted() => ExitCode::from(INTERRUPTED),
    }
}

async fn show(args: &Args, workspace: &Workspace, conninfo: &str) -> ExitCode {
    if args.script {
        script(workspace, &Psql::conninfo(conninfo).arg("-vVERBOSITY=verbose")).await;
        println!("\nEvery step did what it says.");
    } else {
        by_hand(workspace, conninfo).await;
    }
    ExitCode::SUCCESS
}

async fn interrupted() {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).expect("signals can be listened for"));
    let [interrupt, terminate, hangup] = &mut signals;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// `querygate demo`, and everything of it is gone when this is dropped.
struct Gate {
    process: Child,
    /// Where psql connects; `None` if it did not start, and has said why.
    conninfo: Option<String>,
    _configuration: TempDir,
}

impl Gate {
    async fn start(workspace: &Workspace) -> Gate {
        let place = TempDir::with_prefix("querygate-slack-demo-").expect("a temporary directory");
        let file = place.path().join("querygate.toml");
        fs::write(&file, configuration(workspace)).expect("write the configuration");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode of our own file");
        println!("Starting a Postgres, querygate before it, and a Slack workspace for it …");
        let mut command = Command::new(binary());
        command.args(["demo", "--config"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("querygate starts");
        let said = BufReader::new(process.stdout.take().expect("its output is ours"));
        let mut gate = Gate { process, conninfo: None, _configuration: place };
        // Reads on to the end, for whoever writes into a pipe that nobody reads stops.
        let (lines, mut told) = mpsc::channel(16);
        std::thread::spawn(move || {
            let address = |line: String| Some(line.split_once("psql")?.1.split('"').nth(1)?.to_owned());
            for line in said.lines().map_while(Result::ok) {
                if let Some(address) = address(line) {
                    let _nobody_asks_twice = lines.try_send(address);
                }
            }
        });
        gate.conninfo = told.recv().await;
        gate
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It ends its Postgres and removes its files.
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _gone_already = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ended = self.process.wait();
    }
}

/// What a team would write: who asks, who decides, and where.
fn configuration(workspace: &Workspace) -> String {
    format!(
        "[log]\nfilter = \"warn\"\n\
         [approval]\napprover_groups = [\"slack:S0DBA\"]\n\
         [[people]]\nname = \"rita\"\nslack_user = \"U0REQ\"\ndatabase_users = [\"app\"]\n\
         [[people]]\nname = \"ann\"\nslack_user = \"U0APP1\"\n\
         [[people]]\nname = \"bob\"\nslack_user = \"U0APP2\"\n\
         [slack]\nchannel = \"{CHANNEL}\"\napi_url = \"{}\"\nbot_token = \"{}\"\napp_token = \"{}\"\n",
        workspace.api_url(),
        workspace.bot_token(),
        workspace.app_token(),
    )
}

const HOW: &str = "\
Try     SELECT count(*) FROM orders;                  which passes, and
        DELETE FROM orders WHERE id = 1;             which waits.
The message that appears in Slack appears here. You are everybody in this Slack; type
        click 1 approve ann                  ann, of the group @dba, lets message 1 run
        click 1 reject bob                   bob does not; a window asks him why:
        submit bob why=not during the sale
        click 1 approve rita                 rita, also of @dba, asked for it herself
        help                                 what else people do, and what can go wrong
Ctrl-C here ends everything and leaves nothing behind.
";

async fn by_hand(workspace: &Workspace, conninfo: &str) {
    println!("In a second terminal:\n\n    psql \"{conninfo}\"\n\n{HOW}");
    let (commands, mut lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if !line.trim().is_empty() && commands.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let work = async {
        while let Some(line) = lines.recv().await {
            if matches!(line.trim(), "quit" | "exit") {
                return;
            }
            println!("{}", workspace.console(&line).await);
        }
        // The end of the input is not the end of the demo: it may run without a terminal.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = work => {}
        () = workspace.follow(|text| println!("{}", readable(text))) => {}
    }
}

/// Says what holds, or ends the demonstration.
fn check(what: &str, holds: bool, seen: &str) {
    println!("    {} {what}", if holds { "✓" } else { "✗" });
    assert!(holds, "{what}: {seen}");
}

fn show_message(message: &Message) {
    println!("    In Slack:");
    for line in readable(&message.rendered()).lines() {
        println!("    │ {line}");
    }
}

/// Names and times as Slack shows them to people.
fn readable(text: &str) -> String {
    let names = [("<@U0REQ>", "@rita"), ("<@U0APP1>", "@ann"), ("<@U0APP2>", "@bob"), ("<!subteam^S0DBA>", "@dba")];
    let text = names.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name));
    let mut parts = text.split("<!date^");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (date, rest) = part.split_once('>').unwrap_or((part, ""));
        shown.push_str(date.rsplit_once('|').map_or(date, |(_, words)| words));
        shown.push_str(rest);
    }
    shown
}

async fn script(workspace: &Workspace, psql: &Psql) {
    println!("\nA harmless statement passes, unnoticed");
    check("psql got its answer", psql.command("SELECT count(*) FROM customers").ok().trim() == "100", "another");
    approved(workspace, psql).await;
    rejected(workspace, psql).await;
    workspace.assert_no_violations();
}

async fn approved(workspace: &Workspace, psql: &Psql) {
    const DELETE: &str = "DELETE FROM order_items WHERE order_id = 1 RETURNING product_id";
    const ROWS: &str = "SELECT count(*) FROM order_items WHERE order_id = 1";
    println!("\nA DELETE is held; a click in Slack lets it run\n    psql> {DELETE};");
    let mut held = psql.start(DELETE);
    let message = workspace.wait_for_message(CHANNEL, 1).await;
    show_message(&message);
    let shown = message.rendered();
    check("the message shows the very statement", shown.contains(DELETE), &shown);
    check("who asks, and until when it waits", shown.contains("<@U0REQ>") && shown.contains("expires"), &shown);
    check("the rows are still there", psql.command(ROWS).ok().trim() == "3", "they are not");
    check("psql still waits", held.try_wait().is_ok_and(|ended| ended.is_none()), "it does not");

    println!("    rita, who asked, is of @dba too, and clicks Approve");
    workspace.click(CHANNEL, &message.ts, "approve", "U0REQ").unwrap().ended().await;
    let told = |state: &State| state.ephemerals("U0REQ").first().map(|told| told.content.rendered());
    let told = workspace.wait_for("an answer to rita", told).await;
    println!("    │ (only she sees) {}", readable(&told));
    check("nobody decides their own request", told.contains("nobody decides their own request"), &told);
    check("psql still waits", held.try_wait().is_ok_and(|ended| ended.is_none()), "it does not");

    println!("    ann, of @dba, clicks Approve");
    workspace.click(CHANNEL, &message.ts, "approve", "U0APP1").unwrap().ended().await;
    let said = finish(held);
    check("psql got the ordinary answer", said.status == Some(0) && said.stdout.lines().count() == 3, &said.stderr);
    check("the rows are gone", psql.command(ROWS).ok().trim() == "0", "they are not");
    let ended = workspace.wait_for("the result in Slack", |state| ended(state, &message.ts, "Done: DELETE")).await;
    show_message(&ended);
    check("the message has the result, and no buttons", ended.rendered().contains("3 rows"), &ended.rendered());
}

async fn rejected(workspace: &Workspace, psql: &Psql) {
    const DROP: &str = "DROP TABLE customers CASCADE";
    const WHY: &str = "we still have customers";
    println!("\nA DROP is held; a click and a reason in Slack refuse it\n    psql> {DROP};");
    let held = psql.start(DROP);
    let message = workspace.wait_for_message(CHANNEL, 2).await;
    println!("    bob, of @dba, clicks Reject… and writes: {WHY}");
    workspace.click(CHANNEL, &message.ts, "reject", "U0APP2").unwrap().ended().await;
    workspace.wait_for("a window for bob", |state| state.modal("U0APP2").map(|_| ())).await;
    workspace.submit_view("U0APP2", &[("why", WHY)]).unwrap().ended().await;
    let said = finish(held);
    said.stderr.lines().for_each(|line| println!("    psql| {line}"));
    check("psql got an ordinary error, SQLSTATE 42501", said.stderr.contains("42501"), &said.stderr);
    check("which says why", said.stderr.contains(WHY), &said.stderr);
    check("the table is still there", psql.command("SELECT count(*) FROM customers").ok().trim() == "100", "it is not");
    let ended = workspace.wait_for("the end in Slack", |state| ended(state, &message.ts, "Rejected: DROP")).await;
    check("the message says who rejected it and why", ended.rendered().contains(WHY), &ended.rendered());
}

/// The message once it says how it ended.
fn ended(state: &State, ts: &str, text: &str) -> Option<Message> {
    let message = state.message(CHANNEL, ts)?;
    (message.rendered().contains(text) && message.buttons().is_empty()).then(|| message.clone())
}
