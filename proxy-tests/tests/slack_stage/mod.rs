//! A desk, its clerk, the Slack adapter and a workspace, wired as the gate wires them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proxy_tests::DEADLINE;
use proxy_tests::slack::{Message, Redelivery, Workspace};
use querygate::approval::channel::{Channel as _, Desk};
use querygate::approval::slack::settings::{Secret, SlackMode, SlackSettings};
use querygate::approval::slack::{Health, Running, Slack};
use querygate::approval::{
    ApprovalDesk, ApprovalSettings, Approvers, Forgetful, People, Person, Profile, UnknownRequester, clerk, publisher,
};
use querygate::hold::{Board, HoldId, HoldRequest, HoldSettings, Origin, SessionId, Standing, StatementText, Ticket};
use querygate::judge::{Effect, EffectKind, ObjectName};
use tokio::sync::watch;

/// Where requests are announced.
pub(crate) const CHANNEL: &str = "C0APPR";

pub(crate) struct Stage {
    pub(crate) workspace: Workspace,
    pub(crate) board: Board,
    pub(crate) desk: Arc<ApprovalDesk>,
    pub(crate) slack: Slack,
    pub(crate) running: Running,
    _stop: watch::Sender<bool>,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SlackSettings)) -> Self {
        // As in Slack, a click that nobody acknowledged does not come again.
        let workspace = Workspace::builder().redelivery(Redelivery::EventsOnly).start().await;
        workspace.add_people();
        let mut settings = settings(&workspace);
        change(&mut settings);
        let needs_sockets = settings.mode == SlackMode::Socket;
        let people = people();
        let slack = Slack::new(settings, people.clone()).unwrap();
        let board = Board::new(HoldSettings::default());
        let desk = Arc::new(ApprovalDesk::new(board.clone(), approval(people), Arc::new(Forgetful)));
        let (sender, stop) = watch::channel(false);
        tokio::spawn(clerk::run(Arc::clone(&desk), stop.clone()));
        tokio::spawn(publisher::run(Arc::clone(&desk), Arc::new(slack.clone()), stop.clone()));
        let as_desk: Arc<dyn Desk> = Arc::new(Arc::clone(&desk));
        let running = slack.start(as_desk, store(), stop).await.unwrap();
        if needs_sockets {
            workspace.wait_for_sockets(2).await;
        }
        let stage = Self { workspace, board, desk, slack, running, _stop: sender };
        stage.health(|health| health.reachable).await;
        stage
    }

    /// Another adapter for the same workspace.
    pub(crate) fn another_slack(&self, change: impl FnOnce(&mut SlackSettings)) -> Slack {
        let mut settings = settings(&self.workspace);
        change(&mut settings);
        Slack::new(settings, people()).unwrap()
    }

    /// A held statement that one approver may release.
    pub(crate) fn hold(&self, user: &str, text: &str) -> Ticket {
        self.board.open(request(user, text, "deletes")).unwrap()
    }

    /// One that two have to approve.
    pub(crate) fn hold_by_two(&self, text: &str) -> Ticket {
        self.board.open(request("app_rw", text, "two")).unwrap()
    }

    /// One under the rule of that name.
    pub(crate) fn hold_under(&self, rule: &str, user: &str, text: &str) -> Ticket {
        self.board.open(request(user, text, rule)).unwrap()
    }

    /// One that two have to approve, or ann alone in an emergency.
    pub(crate) fn hold_with_glass(&self, text: &str) -> Ticket {
        self.board.open(request("app_rw", text, "glass")).unwrap()
    }

    /// The `count`-th announcement.
    pub(crate) async fn message(&self, count: usize) -> Message {
        self.workspace.wait_for_message(CHANNEL, count).await
    }

    /// A message once it says something.
    pub(crate) async fn message_saying(&self, ts: &str, text: &str) -> Message {
        let probe = |state: &proxy_tests::slack::State| {
            state.message(CHANNEL, ts).filter(|message| message.rendered().contains(text)).cloned()
        };
        self.workspace.wait_for(text, probe).await
    }

    /// Shows a request again, as the publisher does after a change.
    pub(crate) async fn again(&self, id: &HoldId) {
        let view = self.desk.view_of(id).unwrap();
        self.slack.show(&view, None).await.unwrap();
    }

    /// Waits until the channel's health is as wanted.
    pub(crate) async fn health(&self, wanted: impl Fn(&Health) -> bool) {
        let poll = async {
            // Nobody is told when health changes, so it is looked at.
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while !wanted(&self.slack.health()) {
                ticks.tick().await;
            }
        };
        let became = tokio::time::timeout(DEADLINE, poll).await;
        assert!(became.is_ok(), "health stays {:?}", self.slack.health());
    }
}

/// In memory.
fn store() -> querygate::store::Store {
    querygate::store::Store::open(&querygate::store::StoreSettings::default()).unwrap().0
}

fn settings(workspace: &Workspace) -> SlackSettings {
    let mut settings = SlackSettings::new(Secret::new(workspace.bot_token()), CHANNEL.to_owned());
    settings.app_token = Some(Secret::new(workspace.app_token()));
    settings.signing_secret = Some(Secret::new(workspace.signing_secret()));
    settings.api_url = workspace.api_url();
    settings.approver_groups = vec!["S0DBA".to_owned()];
    settings.team_id = Some(workspace.team_id());
    settings.post_interval = Duration::ZERO;
    settings.open_deadline = Duration::from_secs(2);
    settings.longest_pause = Duration::from_secs(2);
    settings
}

/// rita asks as `app_rw`; ann by her Slack user, bob by his address.
fn people() -> People {
    let person = |name: &str, slack: Option<&str>, email: Option<&str>, users: &[&str]| Person {
        name: name.to_owned(),
        slack_user: slack.map(str::to_owned),
        email: email.map(str::to_owned),
        database_users: users.iter().map(|user| (*user).to_owned()).collect(),
        ..Person::default()
    };
    People::new(vec![
        person("rita", Some("U0REQ"), None, &["app_rw"]),
        person("ann", Some("U0APP1"), None, &["ann"]),
        person("bob", None, Some("bob@example.com"), &["bob"]),
        person("nora", None, None, &["app_nora"]),
    ])
    .unwrap()
}

fn approval(people: People) -> ApprovalSettings {
    let profile = |quorum: usize| Profile {
        approvers: Approvers { groups: vec!["slack:S0DBA".to_owned()], people: Vec::new() },
        quorum,
        unknown_requester: UnknownRequester::Allow,
        ..Profile::default()
    };
    let mut approval = ApprovalSettings { people, default: Arc::new(profile(1)), ..ApprovalSettings::default() };
    approval.profiles.insert("two".to_owned(), Arc::new(profile(2)));
    approval
        .profiles
        .insert("glass".to_owned(), Arc::new(Profile { break_glass: vec!["ann".to_owned()], ..profile(2) }));
    for (name, unknown_requester) in [("careful", UnknownRequester::TwoApprovals), ("strict", UnknownRequester::Refuse)]
    {
        approval.profiles.insert(name.to_owned(), Arc::new(Profile { unknown_requester, ..profile(1) }));
    }
    for name in ["two", "glass", "careful", "strict"] {
        approval.by_rule.insert(name.to_owned(), name.to_owned());
    }
    approval
}

fn request(user: &str, text: &str, rule: &str) -> HoldRequest {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let life = Duration::from_secs(900);
    HoldRequest {
        id: HoldId::generate().unwrap(),
        origin: Origin {
            session: SessionId(NEXT.fetch_add(1, Ordering::Relaxed)),
            user: user.to_owned(),
            database: "shop".to_owned(),
            application_name: "psql".to_owned(),
            certificate_name: None,
            client: "10.2.3.4:5000".to_owned(),
            backend_pid: Some(42),
        },
        statement: StatementText { text: Arc::from(text), lossy: false, sha256: "0f".repeat(32) },
        parameters: Vec::new(),
        effects: vec![Effect {
            kind: EffectKind::Delete,
            objects: vec![ObjectName { schema: None, name: "orders".to_owned() }],
            has_where: Some(false),
            columns: Vec::new(),
            why: "DELETE removes rows".to_owned(),
        }],
        risks: Vec::new(),
        rule: Arc::from(rule),
        why: "deletes rows of orders".to_owned(),
        also: Vec::new(),
        owners: Vec::new(),
        policy_version: Arc::from("v1"),
        in_transaction: false,
        redact: querygate::judge::Redact::None,
        reason: Some("clean-up for OPS-311".to_owned()),
        opened_at: now(),
        deadline: now() + jiff::SignedDuration::from_secs(900),
        time_to_live: life,
        standing: Standing::default(),
        guard: None,
        beforehand: None,
        undoes: None,
        message: None,
        advice: None,
        setting: None,
    }
}

pub(crate) fn now() -> jiff::Timestamp {
    querygate::clock::wall()
}

/// Longer than a message shows, with a character that could deceive at its end.
pub(crate) fn long_statement() -> String {
    format!("DELETE FROM orders WHERE id IN ({}1)", "12345, ".repeat(1_000))
}
