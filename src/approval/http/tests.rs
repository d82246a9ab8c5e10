//! The API over real connections on port 0.

#![allow(clippy::indexing_slicing, clippy::string_slice, clippy::arithmetic_side_effects)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::approval::desk::Change;
use crate::approval::testing::{at, held, request, settings, settled_desk, taken_in, token};
use crate::approval::{AdminSettings, ApprovalDesk, People};
use crate::hold::{Board, Cause, HoldSettings, Outcome, Ticket};

use super::view::{LIST_TEXT_BYTES, State};

struct Server {
    address: SocketAddr,
    board: Board,
    desk: Arc<ApprovalDesk>,
    stop: watch::Sender<bool>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(AdminSettings::default()).await
    }

    async fn start_with(limits: AdminSettings) -> Self {
        Self::start_on(Board::new(HoldSettings::default()), limits).await
    }

    async fn start_on(board: Board, limits: AdminSettings) -> Self {
        let desk = settled_desk(&board).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = super::serve(listener, Arc::clone(&desk), limits, super::Vitals::default(), stopped);
        let task = tokio::spawn(serving);
        Self { address, board, desk, stop, task }
    }

    async fn call(&self, method: &str, path: &str, who: &str, body: &str) -> (u16, Value) {
        let token = if who.is_empty() { String::new() } else { format!("Authorization: Bearer {}\r\n", token(who)) };
        let (status, _, body) = self.raw(method, path, &token, body).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    async fn get(&self, path: &str, who: &str) -> (u16, Value) {
        self.call("GET", path, who, "").await
    }

    async fn decide(&self, ticket: &Ticket, verb: &str, who: &str, body: &str) -> (u16, Value) {
        let path = format!("/v1/requests/{}/{verb}", ticket.id());
        self.call("POST", &path, who, body).await
    }

    async fn raw(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }
}

#[tokio::test]
async fn everything_but_health_and_the_description_needs_a_token() {
    let server = Server::start_with(AdminSettings { failure_burst: 100, ..AdminSettings::default() }).await;
    assert_eq!(server.get("/health", "").await.0, 200);
    let (status, description) = server.get("/openapi.json", "").await;
    assert_eq!(status, 200);
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.replace("{id}", "qg-0000000000");
            let (status, problem) = server.call(&method.to_uppercase(), &path, "", "").await;
            if operation["security"] == serde_json::json!([{}]) {
                assert_eq!((path.as_str(), status), ("/health", 200));
            } else {
                assert_eq!(status, 401, "{method} {path}");
                assert_eq!(problem["error"], "unauthenticated");
                assert!(problem["hint"].is_string());
            }
        }
    }
}

#[tokio::test]
async fn the_description_names_every_path_and_its_types() {
    let server = Server::start().await;
    let (_, description) = server.get("/openapi.json", "").await;
    let paths: Vec<_> = description["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/health",
            "/v1/decisions",
            "/v1/events",
            "/v1/me",
            "/v1/requests",
            "/v1/requests/{id}",
            "/v1/requests/{id}/approve",
            "/v1/requests/{id}/reject",
            "/v1/requests/{id}/review",
            "/v1/requests/{id}/revoke",
            "/v1/requests/{id}/withdraw"
        ]
    );
    let schemas = &description["components"]["schemas"];
    for name in ["RequestView", "ListView", "ChangeView", "ProblemBody", "MeView"] {
        assert!(schemas[name].is_object(), "{name}");
    }
    assert_eq!(description["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}

#[tokio::test]
async fn a_request_is_shown_whole_with_its_parameters_exactly() {
    let server = Server::start().await;
    let text = format!("DELETE /* \"é\u{202e}\\\u{1b}\0 */ FROM t{}", " ".repeat(LIST_TEXT_BYTES));
    let mut held = request("app", &text);
    held.parameters[0].value = Some("x'\n\u{200b}".to_owned());
    let mut large = held.parameters[0].clone();
    large.value = Some("y".repeat(LIST_TEXT_BYTES));
    held.parameters.push(large);
    let ticket = server.board.open(held).unwrap();
    taken_in(&server.desk, &ticket).await;
    let (status, shown) = server.get(&format!("/v1/requests/{}", ticket.id()), "ann").await;
    assert_eq!(status, 200);
    assert_eq!(shown["statement"]["text"], *text);
    assert_eq!(shown["statement"]["complete"], true);
    assert_eq!(shown["parameters"][0]["value"], "x'\n\u{200b}");
    assert_eq!(shown["parameters"][0]["type"], "integer");
    assert_eq!(shown["effects"][0]["kind"], "delete");
    assert_eq!(shown["effects"][0]["objects"][0], "public.customers");
    assert_eq!(shown["may_decide"], true);
    assert_eq!(shown["in_transaction"], true);

    let (_, list) = server.get("/v1/requests", "ann").await;
    let listed = &list["requests"][0]["statement"];
    assert_eq!(listed["complete"], false);
    assert_eq!(listed["bytes"], text.len());
    let parameters = &list["requests"][0]["parameters"];
    assert_eq!((&parameters[0]["complete"], &parameters[1]["complete"]), (&true.into(), &false.into()));
    let cut = parameters[1]["value"].as_str().unwrap();
    assert!(cut.len() < LIST_TEXT_BYTES);
    assert_eq!(shown["parameters"][1]["value"].as_str().unwrap().len(), LIST_TEXT_BYTES);
}

#[tokio::test]
async fn an_approval_wakes_the_session_and_the_second_hears_who_was_first() {
    let server = Server::start().await;
    let mut ticket = held(&server.desk, &server.board, "app").await;
    let (status, approved) = server.decide(&ticket, "approve", "ann", r#"{"reason":"checked"}"#).await;
    assert_eq!((status, &approved["state"]), (200, &"approved".into()));
    assert_eq!(approved["decision"]["by"], "ann");
    assert!(approved["note"].as_str().unwrap().contains("being carried out"), "{approved}");
    let decision = ticket.decision().await;
    assert_eq!((decision.by(), decision.reason()), ("ann", Some("checked")));

    let (status, problem) = server.decide(&ticket, "reject", "bob", "").await;
    assert_eq!((status, &problem["error"]), (409, &"already-decided".into()));
    assert_eq!(problem["detail"], "already decided by ann");

    let path = format!("/v1/requests/{}", ticket.id());
    assert_eq!(ticket.finish(at(1)), Outcome::Released);
    let (_, shown) = server.get(&path, "bob").await;
    assert_eq!((&shown["state"], &shown["note"]), (&"released".into(), &Value::Null));
    assert_eq!(shown["may_decide"], false);
}

#[tokio::test]
async fn a_rejection_carries_its_reason_to_the_session() {
    let server = Server::start().await;
    let mut ticket = held(&server.desk, &server.board, "app").await;
    let body = r#"{"reason":"use the archive"}"#;
    assert_eq!(server.decide(&ticket, "reject", "carol", body).await.0, 200);
    let decision = ticket.decision().await;
    assert_eq!(decision.reason(), Some("use the archive"));
    assert_eq!(ticket.finish(at(1)), Outcome::Rejected);
}

#[tokio::test]
async fn who_may_not_decide_is_told_why_and_nothing_happens() {
    let server = Server::start().await;
    let own = held(&server.desk, &server.board, "ann_db").await;
    let devs = held(&server.desk, &server.board, "dev_db").await;
    let others = held(&server.desk, &server.board, "app").await;
    for (ticket, who, status, error) in [
        (&own, "ann", 403, "own-request"),
        (&devs, "dev", 403, "not-an-approver"),
        (&others, "dev", 404, "no-such-request"),
    ] {
        let (got, problem) = server.decide(ticket, "approve", who, "").await;
        assert_eq!((got, &problem["error"]), (status, &error.into()));
    }
    let (_, list) = server.get("/v1/requests", "ann").await;
    let requests = list["requests"].as_array().unwrap();
    assert!(requests.iter().all(|request| request["state"] == "pending"));
    assert_eq!(requests.len(), 3);
    let own = requests.iter().find(|r| r["id"] == own.id().0.as_str());
    assert_eq!(own.unwrap()["may_not_decide_because"], "nobody decides their own request");
}

#[tokio::test]
async fn what_is_over_or_was_not_shown_cannot_be_decided() {
    let server = Server::start().await;
    let ticket = held(&server.desk, &server.board, "app").await;
    let other = format!(r#"{{"statement_sha256":"{}"}}"#, "ab".repeat(32));
    let (status, problem) = server.decide(&ticket, "approve", "ann", &other).await;
    assert_eq!((status, &problem["error"]), (409, &"other-statement".into()));

    let path = format!("/v1/requests/{}/approve", ticket.id());
    ticket.withdraw(Cause::CancelRequest, at(1));
    let (status, problem) = server.call("POST", &path, "ann", "").await;
    assert_eq!((status, &problem["error"]), (409, &"withdrawn".into()));

    let mut expired = held(&server.desk, &server.board, "app").await;
    expired.expire(at(1_000)).unwrap();
    let (status, problem) = server.decide(&expired, "approve", "ann", "").await;
    assert_eq!((status, &problem["error"]), (409, &"expired".into()));

    let mut late = request("app", "DROP TABLE t");
    late.deadline = at(-1);
    let late = server.board.open(late).unwrap();
    taken_in(&server.desk, &late).await;
    let (status, problem) = server.decide(&late, "approve", "ann", "").await;
    assert_eq!((status, &problem["error"]), (409, &"expired".into()));
}

#[tokio::test]
async fn malformed_oversized_and_misdirected_requests_get_json_errors() {
    let server = Server::start().await;
    let ticket = held(&server.desk, &server.board, "app").await;
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_001));
    let huge = "x".repeat(65_537);
    for (body, status, error) in [
        ("{", 400, "bad-request"),
        (r#"{"resaon":"typo"}"#, 400, "bad-request"),
        (long.as_str(), 400, "bad-request"),
        (huge.as_str(), 413, "too-large"),
    ] {
        let (got, problem) = server.decide(&ticket, "reject", "ann", body).await;
        assert_eq!((got, &problem["error"]), (status, &error.into()));
    }
    for (method, path, status, error) in [
        ("GET", "/v1/requests/qg-nope", 404, "no-such-request"),
        ("GET", "/v1/requests/%ff", 404, "no-such-request"),
        ("GET", "/v1/nothing", 404, "no-such-path"),
        ("DELETE", "/v1/requests", 405, "method-not-allowed"),
        ("GET", "/v1/requests?state=odd", 400, "bad-request"),
        ("GET", "/v1/requests?stat=all", 400, "bad-request"),
    ] {
        let (got, problem) = server.call(method, path, "ann", "").await;
        assert_eq!((got, &problem["error"]), (status, &error.into()), "{path}");
    }
    assert_eq!(server.board.list().len(), 1);
}

#[tokio::test]
async fn failed_tokens_are_throttled_and_right_ones_from_the_same_address_pass() {
    let server = Server::start_with(AdminSettings {
        failure_burst: 2,
        failure_refill: Duration::from_secs(3_600),
        ..AdminSettings::default()
    })
    .await;
    for header in ["", "Authorization: Bearer wrong-wrong-wrong\r\n"] {
        let (status, head, _) = server.raw("GET", "/v1/me", header, "").await;
        assert_eq!(status, 401);
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
    }
    let (status, head, _) = server.raw("GET", "/v1/me", "Authorization: Bearer other-wrong-token\r\n", "").await;
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: "), "{head}");
    assert_eq!(server.get("/v1/me", "ann").await.0, 200);
    assert_eq!(server.get("/v1/me", "").await.0, 429, "a valid token gives no tries back");
    assert_eq!(server.get("/health", "").await.0, 200);
}

#[tokio::test]
async fn a_second_authorization_header_or_another_scheme_proves_nobody() {
    let server = Server::start().await;
    let right = format!("Authorization: Bearer {}\r\n", token("ann"));
    assert_eq!(server.raw("GET", "/v1/me", &right, "").await.0, 200);
    let twice = format!("{right}{right}");
    let basic = right.replace("Bearer", "Basic");
    for header in [twice, basic] {
        assert_eq!(server.raw("GET", "/v1/me", &header, "").await.0, 401);
    }
}

/// An event stream being read.
struct Reader {
    lines: tokio::io::Lines<BufReader<TcpStream>>,
}

impl Reader {
    async fn connect(server: &Server, who: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET /v1/events HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {}\r\n\r\n", token(who));
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { lines: BufReader::new(stream).lines() }
    }

    /// The next event's name and data; `None` when the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        loop {
            let line = self.lines.next_line().await.ok()??;
            // The chunk that ends the body (RFC 9112, section 7.1).
            if line == "0" {
                return None;
            }
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn the_stream_starts_with_a_snapshot_and_tells_every_change() {
    let server = Server::start().await;
    let first = held(&server.desk, &server.board, "app").await;
    let mut reader = Reader::connect(&server, "ann").await;
    let (name, snapshot) = reader.next().await.unwrap();
    assert_eq!(name, "snapshot");
    assert_eq!(snapshot["requests"][0]["id"], first.id().0);

    let second = held(&server.desk, &server.board, "app").await;
    server.decide(&second, "reject", "bob", "").await;
    let id = second.id().0.clone();
    second.finish(at(1));
    for (expected, state) in [("opened", State::Pending), ("decided", State::Rejected), ("ended", State::Rejected)] {
        let (name, change) = reader.next().await.unwrap();
        assert_eq!((name.as_str(), &change["request"]["id"]), (expected, &id.as_str().into()));
        assert_eq!(change["request"]["state"], serde_json::to_value(state).unwrap());
    }
}

#[tokio::test]
async fn the_stream_tells_outsiders_only_of_their_own_requests() {
    let server = Server::start().await;
    let mut reader = Reader::connect(&server, "dev").await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    let _others = held(&server.desk, &server.board, "app").await;
    let own = held(&server.desk, &server.board, "dev_db").await;
    let (_, change) = reader.next().await.unwrap();
    assert_eq!(change["request"]["id"], own.id().0);
}

#[tokio::test]
async fn a_stream_that_missed_changes_starts_over_with_a_snapshot() {
    let server = Server::start().await;
    let ticket = held(&server.desk, &server.board, "app").await;
    let mut reader = Reader::connect(&server, "ann").await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    // The stream's task cannot run before the next `await`, by when the desk's backlog has overflowed.
    for _ in 0..10_000 {
        server.desk.tell(Change::Remind(ticket.id().clone()));
    }
    let (name, snapshot) = reader.next().await.unwrap();
    assert_eq!(name, "snapshot");
    assert_eq!(snapshot["requests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_ends_at_shutdown_and_the_server_with_it() {
    let server = Server::start().await;
    let mut reader = Reader::connect(&server, "ann").await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    server.stop.send(true).unwrap();
    assert_eq!(reader.next().await, None);
    drop(reader);
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn somebody_removed_from_the_configuration_hears_no_more() {
    let server = Server::start().await;
    let mut reader = Reader::connect(&server, "ann").await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    let mut without = settings();
    let others = without.people.iter().filter(|person| person.name != "ann");
    without.people = People::new(others.cloned().collect()).unwrap();
    server.desk.reload(without);
    let _unheard = held(&server.desk, &server.board, "app").await;
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let server =
        Server::start_with(AdminSettings { request_deadline: Duration::from_millis(50), ..AdminSettings::default() })
            .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHo").await.unwrap();
    let mut answer = Vec::new();
    // Ends only because the server closes it: end of file, or a reset.
    let _either = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_silent_connection_is_closed_but_a_quiet_stream_is_not() {
    let server = Server::start_with(AdminSettings {
        idle_deadline: Duration::from_millis(400),
        keep_alive: Duration::from_millis(20),
        ..AdminSettings::default()
    })
    .await;
    let mut reader = Reader::connect(&server, "ann").await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
    // By now the stream has been quiet for longer than the deadline.
    let _told = held(&server.desk, &server.board, "app").await;
    assert_eq!(reader.next().await.unwrap().0, "opened");
}

/// Reads until the server closes, be it with an end of file or a reset.
async fn closed(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).await.unwrap_or(0) == 0
}

#[tokio::test]
async fn silent_connections_make_way_for_callers_and_leave_streams_alone() {
    let server = Server::start_with(AdminSettings {
        max_connections: 3,
        unproved_per_address: 2,
        token_deadline: Duration::from_secs(3_600),
        ..AdminSettings::default()
    })
    .await;
    let mut reader = Reader::connect(&server, "ann").await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.get("/v1/me", "ann").await.0, 200);
    for stream in silent.iter_mut().take(4) {
        assert!(closed(stream).await);
    }
    let _told = held(&server.desk, &server.board, "app").await;
    assert_eq!(reader.next().await.unwrap().0, "opened");
}

#[tokio::test]
async fn a_connection_without_a_valid_token_ends_at_the_deadline_and_one_with_stays() {
    let server =
        Server::start_with(AdminSettings { token_deadline: Duration::from_millis(200), ..AdminSettings::default() })
            .await;
    let mut reader = Reader::connect(&server, "ann").await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    let mut asking = TcpStream::connect(server.address).await.unwrap();
    asking.write_all(b"GET /health HTTP/1.1\r\nHost: gate\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Kept open by both sides, as HTTP/1.1 does; ends at the deadline.
    let _either = asking.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(closed(&mut silent).await);
    let _told = held(&server.desk, &server.board, "app").await;
    assert_eq!(reader.next().await.unwrap().0, "opened");
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let server = Server::start_with(AdminSettings { max_connections: 1, ..AdminSettings::default() }).await;
    let mut reader = Reader::connect(&server, "ann").await;
    assert_eq!(reader.next().await.unwrap().0, "snapshot");
    let waiting = server.get("/health", "");
    tokio::pin!(waiting);
    let _told = held(&server.desk, &server.board, "app").await;
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("answered beyond the limit"),
        event = reader.next() => assert_eq!(event.unwrap().0, "opened"),
    }
    drop(reader);
    assert_eq!(waiting.await.0, 200);
}
