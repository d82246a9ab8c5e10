//! Looks at the app before anybody needs it, and says in plain words what is missing. Knows no requests.

use futures_util::future::join_all;
use serde_json::Value;

use super::settings::SlackMode;
use super::trouble::ApiError;
use super::{Inner, Slack, panels};

/// The app's manifest, to be pasted into Slack.
pub const MANIFEST: &str = include_str!("manifest.yaml");

/// What the bot token has to be granted, and what for.
const SCOPES: [(&str, &str); 6] = [
    ("chat:write", "to announce requests and to answer"),
    ("commands", "for /querygate"),
    ("usergroups:read", "to know who is in an approver group"),
    ("users:read", "to refuse guests and deactivated users"),
    ("users:read.email", "to know people by their e-mail address"),
    ("files:write", "for the whole text of long statements"),
];

/// Something about the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub kind: FindingKind,
    /// What, in a sentence, and what to do.
    pub text: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Something will not work.
    Wrong,
}

impl Slack {
    /// Checks tokens, scopes, the channel and the groups.
    pub async fn check(&self) -> Vec<Finding> {
        run(&self.inner).await
    }
}

impl Finding {
    pub(super) fn log(&self) {
        match self.kind {
            FindingKind::Good => tracing::info!("Slack: {}", self.text),
            FindingKind::Note => tracing::warn!("Slack: {}", self.text),
            FindingKind::Wrong => tracing::error!("Slack: {}", self.text),
        }
    }
}

pub(super) async fn run(inner: &Inner) -> Vec<Finding> {
    let mut findings = Vec::new();
    let workspace = match inner.workspace().await {
        Ok(workspace) => workspace,
        Err(error) => {
            findings.push(wrong(format!("bot_token: {}", error.explain(&inner.settings.channel))));
            return findings;
        }
    };
    let team = super::text::plain(&workspace.team, 80);
    findings.push(good(format!("bot_token: works in the workspace {team} ({})", workspace.team_id)));
    findings.extend(scopes(workspace.scopes.as_deref()));
    let directory = inner.directory.load_full();
    for conversation in directory.conversations() {
        findings.push(channel(inner, conversation).await);
    }
    for group in &directory.groups {
        findings.push(members(inner, group).await);
    }
    findings.push(incoming(inner).await);
    findings
}

fn scopes(granted: Option<&[String]>) -> Vec<Finding> {
    let Some(granted) = granted else {
        return vec![note("scopes: Slack did not say which ones the app has".to_owned())];
    };
    let missing = SCOPES.iter().filter(|(scope, _)| !granted.iter().any(|granted| granted == scope));
    let mut findings: Vec<_> = missing
        .map(|(scope, purpose)| {
            wrong(format!(
                "scope `{scope}` is missing, needed {purpose}: add it under OAuth & Permissions, then install the app to the \
                 workspace again"
            ))
        })
        .collect();
    if findings.is_empty() {
        findings.push(good("scopes: all there".to_owned()));
    }
    findings
}

/// A conversation in which requests are announced.
async fn channel(inner: &Inner, channel: &str) -> Finding {
    let finding = match inner.api.conversation(channel).await {
        Ok(conversation) => of_conversation(channel, &conversation),
        // The manifest does not ask for the right to read every channel's name, so this is the usual case.
        Err(error) if error.code() == Some("missing_scope") => {
            probe(inner, channel).await.map(|()| good(format!("channel: {channel} is there")))
        }
        Err(error) => Err(error),
    };
    inner.report_in(channel, &finding);
    finding.unwrap_or_else(|error| wrong(format!("channel: {}", error.explain(channel))))
}

fn of_conversation(channel: &str, conversation: &Value) -> Result<Finding, ApiError> {
    let is = |key: &str| conversation.get(key).and_then(Value::as_bool);
    if is("is_archived") == Some(true) {
        Err(ApiError::refused("is_archived"))
    } else if is("is_member") == Some(false) {
        Err(ApiError::refused("not_in_channel"))
    } else if is("is_ext_shared") == Some(true) {
        Ok(note(format!("channel: {channel} is shared with another organisation, whose people read every statement")))
    } else {
        Ok(good(format!("channel: {channel} is there, and the app is in it")))
    }
}

/// Changing a message that cannot exist: Slack says what it thinks of the channel, and nobody sees anything.
async fn probe(inner: &Inner, channel: &str) -> Result<(), ApiError> {
    let Err(error) = inner.api.update(channel, "1000000000.000000", &panels::note("check")).await else {
        return Ok(());
    };
    match error.code() {
        // What is wrong with that message is right about everything else.
        Some("message_not_found" | "cant_update_message" | "edit_window_closed") => Ok(()),
        Some(_) | None => Err(error),
    }
}

/// Looks whether people could be asked now: the token works, and every conversation takes messages. Tells health.
pub(super) async fn reach(inner: &Inner) {
    let workspace = inner.api.workspace().await;
    if workspace.is_err() {
        return inner.report(&workspace);
    }
    let directory = inner.directory.load_full();
    let probes = directory.conversations().map(|conversation| async move {
        let result = probe(inner, conversation).await;
        inner.report_in(conversation, &result);
    });
    join_all(probes).await;
}

async fn members(inner: &Inner, group: &str) -> Finding {
    match inner.api.group_members(group).await {
        Ok(members) if members.is_empty() => note(format!("group {group}: has no members")),
        Ok(members) => good(format!("group {group}: {} members", members.len())),
        Err(error) => wrong(format!("group {group}: {}", error.explain(&inner.settings.channel))),
    }
}

/// How clicks come in.
async fn incoming(inner: &Inner) -> Finding {
    match inner.settings.mode {
        SlackMode::Socket if inner.settings.app_token.is_none() => wrong(
            "app_token: Socket Mode needs an app-level token (xapp-…) with the scope `connections:write`".to_owned(),
        ),
        // The address is not used; Slack forgets it.
        SlackMode::Socket => match inner.api.open_socket().await {
            Ok(_) => good("app_token: Socket Mode works".to_owned()),
            Err(error) => wrong(format!("app_token: {}", error.explain(&inner.settings.channel))),
        },
        SlackMode::Http if inner.settings.signing_secret.is_none() => {
            wrong("signing_secret: the signed endpoint needs it (Basic Information, App Credentials)".to_owned())
        }
        SlackMode::Http => note(format!(
            "callbacks: set the Request URLs of Interactivity, Slash Commands and Event Subscriptions to https://…/slack, led to {}",
            inner.settings.callback_address
        )),
    }
}

fn good(text: String) -> Finding {
    Finding { kind: FindingKind::Good, text }
}

fn note(text: String) -> Finding {
    Finding { kind: FindingKind::Note, text }
}

fn wrong(text: String) -> Finding {
    Finding { kind: FindingKind::Wrong, text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_missing_scope_is_named() {
        let granted: Vec<String> = ["chat:write", "commands", "users:read"].map(str::to_owned).into();
        let told: Vec<String> = scopes(Some(&granted)).into_iter().map(|finding| finding.text).collect();
        assert_eq!(told.len(), 3);
        for (scope, told) in ["usergroups:read", "users:read.email", "files:write"].iter().zip(&told) {
            assert!(told.contains(scope), "{told}");
        }
        let all: Vec<String> = SCOPES.iter().map(|(scope, _)| (*scope).to_owned()).collect();
        assert_eq!(scopes(Some(&all)), [good("scopes: all there".to_owned())]);
        assert_eq!(scopes(None)[0].kind, FindingKind::Note);
    }

    #[test]
    fn the_manifest_asks_for_exactly_the_scopes_that_are_checked() {
        let asked: Vec<&str> = MANIFEST
            .lines()
            .skip_while(|line| line.trim() != "bot:")
            .skip(1)
            .map_while(|line| line.trim().strip_prefix("- "))
            .map(|scope| scope.split_whitespace().next().unwrap())
            .collect();
        assert_eq!(asked, SCOPES.map(|(scope, _)| scope));
    }

    #[test]
    fn every_method_that_is_called_has_its_scope_in_the_manifest() {
        // As each method's page names it; none needed where the scope is empty.
        let needs = [
            ("auth.test", ""),
            ("chat.postMessage", "chat:write"),
            ("chat.update", "chat:write"),
            ("chat.postEphemeral", "chat:write"),
            ("views.open", ""),
            ("views.publish", ""),
            ("users.info", "users:read"),
            ("users.lookupByEmail", "users:read.email"),
            ("usergroups.users.list", "usergroups:read"),
            ("files.getUploadURLExternal", "files:write"),
            ("files.completeUploadExternal", "files:write"),
            // Only asked by the check, which does without where the scope is not granted: see `probed`.
            ("conversations.info", ""),
            // Of the app's own token, which the manifest cannot make.
            ("apps.connections.open", ""),
        ];
        let source = include_str!("api.rs");
        let is_method = |word: &&str| {
            let shape = word.chars().all(|c| c.is_ascii_alphabetic() || c == '.');
            let family = word.split('.').next().unwrap_or_default();
            let families =
                ["auth", "chat", "views", "users", "usergroups", "files", "conversations", "apps", "reactions", "im"];
            shape && word.contains('.') && families.contains(&family)
        };
        let mut called: Vec<&str> = source.split(['"', '`']).filter(is_method).collect();
        called.sort_unstable();
        called.dedup();
        assert!(called.len() >= 10, "{called:?}");
        for method in called {
            let known = needs.iter().find(|(name, _)| *name == method);
            let (_, scope) = known.unwrap_or_else(|| panic!("{method} is called, and its scope is not known here"));
            assert!(scope.is_empty() || SCOPES.iter().any(|(granted, _)| granted == scope), "{method} needs {scope}");
        }
    }

    #[test]
    fn a_channel_that_will_not_do_is_told_in_words() {
        for (conversation, kind, part) in [
            (json!({"is_archived": true}), FindingKind::Wrong, "archived"),
            (json!({"is_member": false}), FindingKind::Wrong, "/invite"),
            (json!({"is_member": true, "is_ext_shared": true}), FindingKind::Note, "another organisation"),
            (json!({"is_member": true}), FindingKind::Good, "is there"),
        ] {
            let (told, text) = match of_conversation("C01", &conversation) {
                Ok(finding) => (finding.kind, finding.text),
                Err(error) => (FindingKind::Wrong, error.explain("C01")),
            };
            assert!(told == kind && text.contains(part), "{told:?} {text}");
        }
    }
}
