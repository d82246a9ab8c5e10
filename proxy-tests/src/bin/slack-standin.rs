//! The Slack stand-in as a program: for trying the Slack channel by hand, and for demonstrations without a workspace.
//!
//! `cargo run -p proxy-tests --bin slack-standin`, then put the printed settings into the gate's configuration. Commands
//! (`help`) come from standard input or as the body of `POST /control`; every message is printed as plain text.
#![allow(clippy::unwrap_used, reason = "a stand-in that cannot start ends the program")]

use std::io::BufRead;

use axum::Router;
use axum::routing::post;
use clap::Parser;
use proxy_tests::slack::{Callbacks, Workspace};
use tokio::sync::{mpsc, oneshot};

/// A Slack workspace of your own, with people you can let click.
#[derive(Debug, Parser)]
#[command(name = "slack-standin")]
struct Args {
    /// Port of the Web API and of /control; 0 for any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Port of the sockets; 0 for any.
    #[arg(long, default_value_t = 0)]
    socket_port: u16,
    /// Deliver clicks, commands and events as signed requests to this address, not over sockets.
    #[arg(long, value_name = "URL")]
    callbacks: Option<String>,
    /// Answer 429 to posts that come faster than Slack allows.
    #[arg(long)]
    paced: bool,
}

/// A command and where its answer goes.
type Command = (String, Option<oneshot::Sender<String>>);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args = Args::parse();
    let (commands, mut lines) = mpsc::channel::<Command>(16);
    let mut builder = Workspace::builder().ports(args.port, args.socket_port).routes(control(commands.clone()));
    if args.paced {
        builder = builder.paced();
    }
    let workspace = builder.start().await;
    workspace.add_people();
    if let Some(url) = args.callbacks {
        workspace.deliver_to(Some(Callbacks { interactivity: url.clone(), commands: url.clone(), events: url }));
    }
    greet(&workspace).await;
    std::thread::spawn(move || read_stdin(&commands));
    let work = async {
        while let Some((line, answer)) = lines.recv().await {
            if matches!(line.trim(), "quit" | "exit") {
                return;
            }
            let text = workspace.console(&line).await;
            match answer {
                Some(answer) => drop(answer.send(text)),
                None => println!("{text}"),
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = workspace.follow(|text| println!("{text}")) => {}
    }
}

async fn greet(workspace: &Workspace) {
    println!("api_url = \"{}\"", workspace.api_url());
    println!("bot_token = \"{}\"", workspace.bot_token());
    println!("app_token = \"{}\"", workspace.app_token());
    println!("signing_secret = \"{}\"", workspace.signing_secret());
    println!("control = \"{}\"\n", workspace.api_url().replace("/api", "/control"));
    println!("{}\n", workspace.console("people").await);
    println!("Commands: help");
}

/// `POST /control`: the body is a command, the answer is what it says.
fn control(commands: mpsc::Sender<Command>) -> Router {
    Router::new().route(
        "/control",
        post(move |line: String| {
            let commands = commands.clone();
            async move {
                let (answer, said) = oneshot::channel();
                let _ = commands.send((line, Some(answer))).await;
                said.await.map(|text| text + "\n").unwrap_or_default()
            }
        }),
    )
}

/// The end of the input is not the end of the program: it may run without a terminal.
fn read_stdin(commands: &mpsc::Sender<Command>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if !line.trim().is_empty() && commands.blocking_send((line, None)).is_err() {
            return;
        }
    }
}
