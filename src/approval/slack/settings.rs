//! What Slack may be told by configuration. Knows no TOML.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The Slack channel's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlackSettings {
    /// The channel's name: in rules, in the record, and wherever else the configuration means it.
    pub name: String,
    /// How clicks come in.
    pub mode: SlackMode,
    /// The bot's token (`xoxb-…`).
    pub bot_token: Secret,
    /// The app's token (`xapp-…`), for Socket Mode.
    pub app_token: Option<Secret>,
    /// The signing secret, for the HTTP endpoint.
    pub signing_secret: Option<Secret>,
    /// Where requests are announced: a channel's id (`C…`, `G…`).
    pub channel: String,
    /// Further conversations that profiles name.
    pub conversations: Vec<String>,
    /// Where the Web API is.
    pub api_url: String,
    /// User groups (`S…`) whose members are looked up for every click, and who are mentioned in announcements.
    pub approver_groups: Vec<String>,
    /// The workspace (`T…`) the token has to belong to; `None`: whichever it belongs to.
    pub team_id: Option<String>,
    /// What happens to Approve when a statement is too long to be shown whole.
    pub long_statements: LongStatements,
    /// Largest file with a statement's text, in bytes.
    pub max_file_bytes: usize,
    /// The requester hears of the outcome in a direct message, where their Slack user is known.
    pub tell_requester: bool,
    /// Statements that pass and that a rule wants told are told in its conversations.
    pub tell_passed: bool,
    /// How many sockets there are in Socket Mode; a second one takes clicks while the first reconnects.
    pub sockets: usize,
    /// Where the signed HTTP endpoint listens.
    pub callback_address: SocketAddr,
    /// From calling the Web API to its whole answer.
    pub call_deadline: Duration,
    /// For opening a socket: the address, the connection, the handshake and Slack's hello each.
    pub open_deadline: Duration,
    /// Without a frame of Slack for so long, a socket is given up.
    pub idle_deadline: Duration,
    /// Between two posts to one conversation.
    pub post_interval: Duration,
    /// Longest pause between attempts to connect.
    pub longest_pause: Duration,
}

/// How clicks come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlackMode {
    /// Over sockets that the gate opens: nothing has to be reachable from outside.
    Socket,
    /// As signed HTTP requests of Slack's.
    Http,
}

/// What happens to Approve when a statement is too long to be shown whole in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongStatements {
    /// It goes: such statements are approved in the console, where they are shown whole.
    Console,
    /// It stays once the whole text is a file in the thread.
    File,
}

impl SlackSettings {
    /// The defaults around what has none.
    #[must_use]
    pub fn new(bot_token: Secret, channel: String) -> Self {
        Self {
            name: "slack".to_owned(),
            mode: SlackMode::Socket,
            bot_token,
            app_token: None,
            signing_secret: None,
            channel,
            conversations: Vec::new(),
            api_url: "https://slack.com/api".to_owned(),
            approver_groups: Vec::new(),
            team_id: None,
            long_statements: LongStatements::Console,
            max_file_bytes: 1 << 20,
            tell_requester: true,
            tell_passed: true,
            sockets: 2,
            callback_address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7433),
            call_deadline: Duration::from_secs(10),
            open_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(60),
            post_interval: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// A text that must not be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whom it is meant.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether a text is an id of Slack's: one of the letters, then capitals and digits.
#[must_use]
pub fn is_slack_id(text: &str, letters: &str) -> bool {
    let mut characters = text.chars();
    let Some(first) = characters.next() else {
        return false;
    };
    letters.contains(first)
        && (3..=32).contains(&text.len())
        && characters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let settings = SlackSettings::new(Secret::new("xoxb-hidden".to_owned()), "C01".to_owned());
        assert!(!format!("{settings:?}").contains("hidden"));
    }

    #[test]
    fn ids_are_a_letter_with_capitals_and_digits() {
        for (id, letters, expected) in [
            ("C01ABC", "CG", true),
            ("S03", "S", true),
            ("c01abc", "CG", false),
            ("C0 1", "CG", false),
            ("U01>", "U", false),
            ("", "U", false),
            ("U", "U", false),
        ] {
            assert_eq!(is_slack_id(id, letters), expected, "{id}");
        }
    }
}
