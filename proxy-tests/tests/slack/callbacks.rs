//! Signed HTTP callbacks, received by a server written out by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use proxy_tests::DEADLINE;
use proxy_tests::slack::{Callbacks, DeliveryFault, Redelivery, Reply, Timing, Workspace, signature};
use serde_json::{Value, json};

use crate::client::Client;

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }

    fn field(&self, name: &str) -> String {
        let found = form_urlencoded::parse(self.body.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    }

    fn is_signed_by(&self, workspace: &Workspace) -> bool {
        let expected = signature(&workspace.signing_secret(), self.header("x-slack-request-timestamp"), &self.body);
        expected == self.header("x-slack-signature")
    }
}

/// Answers requests with what it is given, in order; `None` is no answer at all.
struct App {
    address: SocketAddr,
    requests: Receiver<Request>,
    answers: Sender<Option<String>>,
}

impl App {
    fn start() -> App {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, requests) = channel();
        let (answers, given) = channel::<Option<String>>();
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                let Some(request) = read(&stream) else { continue };
                if heard.send(request).is_err() {
                    return;
                }
                match given.recv() {
                    Ok(Some(answer)) => drop((&stream).write_all(answer.as_bytes())),
                    Ok(None) => unanswered.push(stream),
                    Err(_) => return,
                }
            }
        });
        App { address, requests, answers }
    }

    fn callbacks(&self) -> Callbacks {
        let url = |path: &str| format!("http://{}/{path}", self.address);
        Callbacks { interactivity: url("interact"), commands: url("command"), events: url("event") }
    }

    fn answer(&self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        self.answers.send(Some(text)).unwrap();
    }

    fn request(&self) -> Request {
        self.requests.recv_timeout(DEADLINE).unwrap()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.remove(0).split(' ').nth(1)?.to_owned();
    let headers =
        lines.iter().filter_map(|line| line.split_once(": ")).map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut request = Request { path, headers: headers.collect(), body: String::new() };
    let mut body = vec![0; request.header("content-length").parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}

async fn with_app(timing: Timing, redelivery: Redelivery) -> (Workspace, App, String) {
    let workspace = Workspace::builder().timing(timing).redelivery(redelivery).start().await;
    workspace.add_people();
    let app = App::start();
    workspace.deliver_to(Some(app.callbacks()));
    let ts = Client::new(&workspace).say_pending("C0APPR");
    (workspace, app, ts)
}

fn hasty() -> Timing {
    Timing { acknowledge: Duration::from_secs(1), redeliver: vec![Duration::ZERO], ..Timing::default() }
}

/// The example of Slack's documentation.
#[test]
fn signatures_are_slacks() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
        response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    assert_eq!(
        signature("8f742231b10e8888abcd99yyyzzz85a5", "1531420618", body),
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    );
}

#[tokio::test]
async fn a_click_is_posted_as_a_signed_form() {
    let (workspace, app, ts) = with_app(Timing::default(), Redelivery::Everything).await;
    app.answer(200, "", "");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    let request = app.request();
    assert_eq!(
        (request.path.as_str(), request.header("content-type")),
        ("/interact", "application/x-www-form-urlencoded")
    );
    assert!(request.is_signed_by(&workspace));
    assert_eq!(serde_json::from_str::<Value>(&request.field("payload")).unwrap(), delivery.payload());
    let ending = delivery.ended().await;
    assert_eq!((ending.acknowledged, ending.answer, ending.attempts), (true, None, 1));
}

#[tokio::test]
async fn commands_are_form_fields_and_events_are_json() {
    let (workspace, app, _) = with_app(Timing::default(), Redelivery::Everything).await;
    app.answer(200, "Content-Type: application/json\r\n", r#"{"text":"nothing waits"}"#);
    let command = workspace.slash("C0APPR", "/querygate", "pending", "U0APP1").unwrap();
    let request = app.request();
    assert_eq!(
        (request.path.as_str(), request.field("command"), request.field("text")),
        ("/command", "/querygate".into(), "pending".into())
    );
    assert!(request.is_signed_by(&workspace));
    assert!(command.ended().await.acknowledged);
    assert_eq!(workspace.look(|state| state.ephemerals("U0APP1")[0].content.rendered()), "nothing waits");
    app.answer(200, "", "");
    let event = workspace.open_home("U0APP1").unwrap();
    let request = app.request();
    assert_eq!((request.path.as_str(), request.header("content-type")), ("/event", "application/json"));
    assert_eq!(serde_json::from_str::<Value>(&request.body).unwrap()["event"]["user"], json!("U0APP1"));
    assert!(request.is_signed_by(&workspace) && event.ended().await.acknowledged);
}

#[tokio::test]
async fn what_is_not_answered_in_time_or_not_with_200_is_posted_again() {
    let (workspace, app, ts) = with_app(hasty(), Redelivery::Everything).await;
    app.answers.send(None).unwrap();
    app.answer(500, "", "oops");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    assert_eq!(app.request().header("x-slack-retry-num"), "");
    let second = app.request();
    assert_eq!((second.header("x-slack-retry-num"), second.header("x-slack-retry-reason")), ("1", "http_timeout"));
    let ending = delivery.ended().await;
    assert_eq!((ending.acknowledged, ending.attempts), (false, 2));
    let replies: Vec<Reply> = delivery.record().attempts.into_iter().map(|attempt| attempt.reply.unwrap().0).collect();
    assert_eq!(replies, [Reply::TimedOut, Reply::Refused(500)]);
}

#[tokio::test]
async fn an_app_may_ask_not_to_be_asked_again() {
    let (workspace, app, ts) = with_app(hasty(), Redelivery::Everything).await;
    app.answer(503, "X-Slack-No-Retry: 1\r\n", "");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    assert_eq!(delivery.ended().await.attempts, 1);
}

#[tokio::test]
async fn forged_stale_and_repeated_requests_can_be_sent() {
    let (workspace, app, ts) = with_app(hasty(), Redelivery::Nothing).await;
    let fetch = |fault: DeliveryFault, status: u16| {
        workspace.fail_delivery(fault);
        app.answer(status, "", "");
        let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
        (app.request(), delivery)
    };
    let (request, delivery) = fetch(DeliveryFault::WrongSignature, 401);
    assert!(!request.is_signed_by(&workspace) && request.header("x-slack-signature").starts_with("v0="));
    assert!(!delivery.ended().await.acknowledged);
    let (request, delivery) = fetch(DeliveryFault::NoSignature, 401);
    assert_eq!(request.header("x-slack-signature"), "");
    delivery.ended().await;
    let (request, delivery) = fetch(DeliveryFault::SignedBefore(600), 401);
    let age =
        querygate::clock::wall().as_second() - request.header("x-slack-request-timestamp").parse::<i64>().unwrap();
    assert!(request.is_signed_by(&workspace) && (600..660).contains(&age), "{age}");
    delivery.ended().await;
    let (request, delivery) = fetch(DeliveryFault::Truncated, 400);
    assert!(request.is_signed_by(&workspace));
    assert!(serde_json::from_str::<Value>(&request.field("payload")).is_err());
    delivery.ended().await;
    app.answer(200, "", "");
    let (request, delivery) = fetch(DeliveryFault::Twice, 200);
    assert_eq!(app.request(), request, "a replay is the same to the byte");
    assert_eq!(delivery.ended().await.attempts, 2);
    workspace.fail_delivery(DeliveryFault::Lost);
    let lost = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    assert_eq!((lost.ended().await.attempts, app.requests.try_recv().is_err()), (0, true));
}

#[tokio::test]
async fn an_acknowledgement_over_http_can_be_lost_too() {
    let (workspace, app, ts) = with_app(hasty(), Redelivery::Nothing).await;
    workspace.fail_delivery(DeliveryFault::AckLost);
    app.answer(200, "", "");
    app.answer(200, "", "");
    let delivery = workspace.click("C0APPR", &ts, "approve", "U0APP1").unwrap();
    let (first, second) = (app.request(), app.request());
    assert_eq!((first.field("payload"), second.header("x-slack-retry-num")), (second.field("payload"), "1"));
    assert_eq!(delivery.ended().await.attempts, 2);
}

#[tokio::test]
async fn nobody_listening_is_told_apart() {
    let workspace = Workspace::builder().timing(hasty()).redelivery(Redelivery::Nothing).start().await;
    workspace.add_people();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/");
    workspace.deliver_to(Some(Callbacks { interactivity: url.clone(), commands: url.clone(), events: url }));
    let delivery = workspace.open_home("U0APP1").unwrap();
    assert!(!delivery.ended().await.acknowledged);
    assert_eq!(delivery.record().attempts[0].reply.as_ref().unwrap().0, Reply::Unreachable);
}
