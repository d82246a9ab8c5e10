//! What can go wrong with Slack, in plain words with what to do about it. Knows no requests.

use std::time::Duration;

use slack_morphism::errors::SlackClientError;

use crate::approval::channel::ChannelError;

/// Why a call did not do what it should. Never holds an answer's body or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiError {
    /// Slack said no.
    Refused {
        /// Its code.
        code: String,
        /// The scope it misses.
        needed: Option<String>,
    },
    /// Too many calls.
    Limited {
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// The call never reached Slack.
    Unsent(String),
    /// No usable answer: it may have been carried out or not.
    Unanswered(String),
}

impl ApiError {
    pub(super) fn refused(code: &str) -> Self {
        Self::Refused { code: code.to_owned(), needed: None }
    }

    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Limited { .. } | Self::Unsent(_) | Self::Unanswered(_) => None,
        }
    }

    /// Nothing was done, so doing it again cannot do it twice.
    pub(super) fn is_surely_undone(&self) -> bool {
        match self {
            Self::Limited { .. } | Self::Unsent(_) => true,
            Self::Refused { .. } | Self::Unanswered(_) => false,
        }
    }

    /// Waiting may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Limited { .. } | Self::Unsent(_) | Self::Unanswered(_) => true,
            Self::Refused { .. } => false,
        }
    }

    /// In words.
    pub(super) fn explain(&self, channel: &str) -> String {
        match self {
            Self::Refused { code, needed } => words(code, needed.as_deref(), channel),
            Self::Limited { .. } => "Slack asks to be called less often".to_owned(),
            Self::Unsent(why) => format!("Slack cannot be reached: {why}"),
            Self::Unanswered(why) => format!("Slack gave no usable answer: {why}"),
        }
    }

    pub(super) fn into_channel_error(self, channel: &str) -> ChannelError {
        let permanent = self.code().is_some_and(is_permanent);
        ChannelError { why: self.explain(channel), permanent }
    }

    /// Something is wrong with the one conversation; the app may work elsewhere.
    pub(super) fn is_of_conversation(&self) -> bool {
        matches!(
            self.code(),
            Some(
                "channel_not_found"
                    | "not_in_channel"
                    | "is_archived"
                    | "restricted_action"
                    | "restricted_action_read_only_channel"
                    | "restricted_action_thread_only_channel"
                    | "cannot_reply_to_message"
            )
        )
    }
}

impl From<SlackClientError> for ApiError {
    fn from(error: SlackClientError) -> Self {
        match error {
            SlackClientError::ApiError(error) => of_code(&error.code, error.http_response_body.as_deref()),
            SlackClientError::RateLimitError(error) => Self::Limited { retry_after: error.retry_after },
            SlackClientError::HttpError(error) => Self::Unanswered(format!("HTTP status {}", error.status_code)),
            SlackClientError::HttpProtocolError(error) => {
                let cause = error.cause.as_ref();
                let unsent = cause
                    .and_then(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>())
                    .is_some_and(hyper_util::client::legacy::Error::is_connect);
                if unsent {
                    Self::Unsent("no connection".to_owned())
                } else {
                    Self::Unanswered("the connection broke".to_owned())
                }
            }
            SlackClientError::ProtocolError(_) => Self::Unanswered("it is not Slack's JSON".to_owned()),
            SlackClientError::EndOfStream(_)
            | SlackClientError::SystemError(_)
            | SlackClientError::SocketModeProtocolError(_) => Self::Unanswered("the connection broke".to_owned()),
        }
    }
}

/// What a conversation did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) conversation: String,
    pub(super) error: ApiError,
}

impl Lost {
    pub(super) fn into_channel_error(self) -> ChannelError {
        self.error.into_channel_error(&self.conversation)
    }
}

/// An answer with `ok: false`.
pub(super) fn of_code(code: &str, body: Option<&str>) -> ApiError {
    match code {
        "ratelimited" | "rate_limited" => ApiError::Limited { retry_after: None },
        // Slack's own failures; it does not say how far it got.
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
            ApiError::Unanswered(format!("its error is {code}"))
        }
        _ => {
            let body = body.and_then(|body| serde_json::from_str::<serde_json::Value>(body).ok());
            let needed = body.and_then(|body| body.get("needed")?.as_str().map(visible));
            ApiError::Refused { code: visible(code), needed }
        }
    }
}

/// A code goes to logs and terminals.
fn visible(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(100).collect()
}

/// Trying again cannot help until the configuration or the app changes.
fn is_permanent(code: &str) -> bool {
    matches!(
        code,
        "invalid_auth"
            | "not_authed"
            | "account_inactive"
            | "token_revoked"
            | "token_expired"
            | "not_allowed_token_type"
            | "missing_scope"
            | "no_permission"
            | "channel_not_found"
            | "not_in_channel"
            | "is_archived"
            | "restricted_action"
            | "team_access_not_granted"
            | "org_login_required"
            | "ekm_access_denied"
    )
}

fn words(code: &str, needed: Option<&str>, channel: &str) -> String {
    match code {
        "missing_scope" => format!(
            "the app lacks the scope `{}`: add it under OAuth & Permissions, then install the app to the workspace again",
            needed.unwrap_or("(Slack did not say which)")
        ),
        "invalid_auth" | "not_authed" => {
            "the token is not valid: copy the Bot User OAuth Token (xoxb-…) to `bot_token`, and for Socket Mode the app-level \
             token (xapp-…) to `app_token`"
                .to_owned()
        }
        "token_revoked" | "token_expired" => {
            "the token was revoked or has expired: install the app again and copy the new token".to_owned()
        }
        "account_inactive" => "the app was removed from the workspace: install it again and copy the new token".to_owned(),
        "not_allowed_token_type" => {
            "the token is of the wrong kind: `bot_token` begins with xoxb-, `app_token` with xapp-".to_owned()
        }
        "channel_not_found" => format!(
            "there is no channel {channel} that the app can see: check the id (in Slack: channel details, at the bottom), and \
             invite the app if the channel is private"
        ),
        "not_in_channel" => format!("the app is not a member of {channel}: write `/invite @querygate` there"),
        "is_archived" => format!("the channel {channel} is archived"),
        "restricted_action" => format!("a workspace setting forbids the app to post in {channel}"),
        "user_not_found" => "Slack does not know that user".to_owned(),
        "no_such_subteam" | "subteam_not_found" => "Slack does not know that user group".to_owned(),
        "expired_trigger_id" | "trigger_expired" => "the click was too long ago to open a window; click again".to_owned(),
        other => format!("Slack refuses with `{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_scope_is_named_and_permanent() {
        let error =
            of_code("missing_scope", Some(r#"{"ok":false,"error":"missing_scope","needed":"usergroups:read"}"#));
        let told = error.into_channel_error("C01");
        assert!(told.permanent && told.why.contains("usergroups:read"), "{told}");
    }

    #[test]
    fn slacks_own_failures_may_have_been_carried_out_and_limits_not() {
        assert!(!of_code("internal_error", None).is_surely_undone());
        assert!(of_code("internal_error", None).is_passing());
        assert!(of_code("ratelimited", None).is_surely_undone());
        assert!(!of_code("channel_not_found", None).is_passing());
    }

    #[test]
    fn codes_cannot_command_a_terminal() {
        assert_eq!(of_code("a\u{1b}[2J\nb", None), ApiError::refused("a[2Jb"));
    }
}
