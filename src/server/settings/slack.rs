//! `[slack]`: the app, its tokens, and the channel. Read after approval, whose groups it looks up.

use std::net::SocketAddr;

use super::reader::Section;
use super::secret::{Keys, secret};
use super::sections::{Zero, size, time};
use super::{Settings, Sources};
use crate::approval::audience::conversation_of;
use crate::approval::slack::settings::{Secret, SlackMode, SlackSettings, is_slack_id};
use crate::judge::Owners;

pub(super) fn read(root: &mut Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    let mut section = root.section("slack");
    let bot_token = secret(&mut section, "slack", BOT_TOKEN, sources);
    let app_token = secret(&mut section, "slack", APP_TOKEN, sources);
    let signing_secret = secret(&mut section, "slack", SIGNING_SECRET, sources);
    let channel = slack_id(
        &mut section,
        "channel",
        "CG",
        "a channel's id such as \"C012AB3CD\" (channel details, at the bottom)",
    );
    let written = section.span().is_some();
    let complete = bot_token.is_some() && channel.is_some();
    // Texts only so that reading can go on: without them there is an error, or there is no section.
    let bot_token = bot_token.unwrap_or_else(|| Secret::new(String::new()));
    let mut slack = SlackSettings::new(bot_token, channel.unwrap_or_default());
    slack.app_token = app_token;
    slack.signing_secret = signing_secret;
    rest(&mut section, &mut slack);
    let span = section.span();
    let document = section.document();
    section.finish();
    if !written {
        return;
    }
    if !complete {
        document.error(span.clone(), "[slack] needs `bot_token` (or `bot_token_env`, `bot_token_file`) and `channel`");
    }
    let missing = match slack.mode {
        SlackMode::Socket if slack.app_token.is_none() => Some("mode \"socket\" needs `app_token` (xapp-…)"),
        SlackMode::Http if slack.signing_secret.is_none() => Some("mode \"http\" needs `signing_secret`"),
        SlackMode::Socket | SlackMode::Http => None,
    };
    if let Some(missing) = missing {
        document.error(span, format!("[slack]: {missing}"));
    }
    add_groups(settings, &mut slack);
    add_conversations(settings, &mut slack);
    settings.slack = Some(slack);
}

fn rest(section: &mut Section<'_, '_>, slack: &mut SlackSettings) {
    section.set("name", &mut slack.name);
    section.set("mode", &mut slack.mode);
    section.set("api_url", &mut slack.api_url);
    if let Some((groups, span)) = section.take_spanned::<Vec<String>>("approver_groups") {
        if groups.iter().any(|group| !is_slack_id(group, "S")) {
            let message = "`slack.approver_groups`: expected ids of user groups such as \"S012AB3CD\"";
            section.document().error(Some(span), message);
        }
        slack.approver_groups = groups;
    }
    slack.team_id = slack_id(section, "team_id", "T", "a workspace's id such as \"T012AB3CD\"");
    section.set("long_statements", &mut slack.long_statements);
    size(section, "max_file_bytes", &mut slack.max_file_bytes);
    section.set("tell_requester", &mut slack.tell_requester);
    section.set("tell_passed", &mut slack.tell_passed);
    if let Some((sockets, span)) = section.take_spanned::<usize>("sockets") {
        // Slack takes ten per app, of which a gate that reconnects needs twice as many for a moment.
        if !(1..=4).contains(&sockets) {
            section.document().error(Some(span), "`slack.sockets`: between 1 and 4");
        }
        slack.sockets = sockets;
    }
    section.set::<SocketAddr>("callback_address", &mut slack.callback_address);
    time(section, "call_deadline", Zero::No, &mut slack.call_deadline);
    time(section, "open_deadline", Zero::No, &mut slack.open_deadline);
    time(section, "idle_deadline", Zero::No, &mut slack.idle_deadline);
    time(section, "post_interval", Zero::Allowed, &mut slack.post_interval);
    time(section, "longest_pause", Zero::No, &mut slack.longest_pause);
}

/// A group that a profile names is looked up, otherwise its members could never decide.
fn add_groups(settings: &Settings, slack: &mut SlackSettings) {
    let approval = &settings.approval;
    for profile in approval.profiles.values().chain([&approval.default]) {
        let later = profile.escalation.iter().map(|step| &step.approvers);
        for group in [&profile.approvers].into_iter().chain(later).flat_map(|approvers| &approvers.groups) {
            let Some(id) = group.strip_prefix("slack:").filter(|id| is_slack_id(id, "S")) else { continue };
            if !slack.approver_groups.iter().any(|known| known == id) {
                slack.approver_groups.push(id.to_owned());
            }
        }
    }
    let lines = settings.policy.owners().map(Owners::lines).unwrap_or_default();
    for group in lines.iter().flat_map(|line| &line.owners).flat_map(|owner| &owner.groups) {
        let Some(id) = group.strip_prefix("slack:").filter(|id| is_slack_id(id, "S")) else { continue };
        if !slack.approver_groups.iter().any(|known| known == id) {
            slack.approver_groups.push(id.to_owned());
        }
    }
}

/// What profiles and their escalations name besides the usual conversation.
fn add_conversations(settings: &Settings, slack: &mut SlackSettings) {
    let approval = &settings.approval;
    for profile in approval.profiles.values().chain([&approval.default]) {
        let later = profile.escalation.iter().flat_map(|step| &step.channels);
        for name in profile.channels.iter().chain(later) {
            let Some(id) = conversation_of(name, &slack.name).filter(|id| is_slack_id(id, "CG")) else { continue };
            if id != slack.channel && !slack.conversations.iter().any(|known| known == id) {
                slack.conversations.push(id.to_owned());
            }
        }
    }
    let lines = settings.policy.owners().map(Owners::lines).unwrap_or_default();
    for id in lines.iter().flat_map(|line| &line.slack).filter(|id| is_slack_id(id, "CG")) {
        if *id != slack.channel && !slack.conversations.contains(id) {
            slack.conversations.push(id.clone());
        }
    }
}

fn slack_id(section: &mut Section<'_, '_>, key: &'static str, letters: &str, what: &str) -> Option<String> {
    let (id, span) = section.take_spanned::<String>(key)?;
    if !is_slack_id(&id, letters) {
        section.document().error(Some(span), format!("`slack.{key}`: expected {what}"));
    }
    Some(id)
}

/// The three keys of a secret.
const BOT_TOKEN: Keys = ["bot_token", "bot_token_env", "bot_token_file"];
const APP_TOKEN: Keys = ["app_token", "app_token_env", "app_token_file"];
const SIGNING_SECRET: Keys = ["signing_secret", "signing_secret_env", "signing_secret_file"];
