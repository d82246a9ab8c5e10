//! Which keys there are and where their values go. The one place to add a key; `config.example.toml` must then show it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::reader::{Document, Problem, Section, Size, Span};
use super::{
    LogSettings, Settings, Sources, approval, impact, integration, owners, people, rules, slack, undo, webhook,
};
use crate::session::{ClientCertificate, ListenTlsMode};
use crate::store::StoreSettings;

/// Reads a whole configuration: the settings (as far as they could be read), the problems, and every key that exists.
pub(super) fn read(text: &str, sources: &dyn Sources) -> (Settings, Vec<Problem>, BTreeSet<String>) {
    let document = Document::new(text);
    let mut settings = Settings::default();
    {
        let mut root = document.root();
        listen(root.section("listen"), sources, &mut settings);
        upstream(root.section("upstream"), sources, &mut settings);
        limits(root.section("limits"), &mut settings);
        hold(root.section("hold"), &mut settings);
        admin(root.section("admin"), &mut settings);
        store(root.section("store"), sources, &mut settings.store);
        audit(root.section("audit"), sources, &mut settings);
        people::read(&mut root, sources, &mut settings);
        let owners_file = rules::read(&mut root, sources, &mut settings);
        let mentions = approval::read(&mut root, &mut settings);
        slack::read(&mut root, sources, &mut settings);
        webhook::read(&mut root, sources, &mut settings);
        integration::read(&mut root, sources, &mut settings);
        impact::read(&mut root, sources, &mut settings);
        impact::check_rules(&root, &settings);
        undo::read(&mut root, sources, &mut settings);
        approval::check_channels(&root, &mentions, &settings);
        owners::check_channels(&root, owners_file.as_ref(), &settings);
        settings.approval.slack = settings.slack.as_ref().map(|slack| slack.name.clone());
        log(root.section("log"), &mut settings.log);
        root.finish();
    }
    let (problems, keys) = document.finish();
    (settings, problems, keys)
}

fn listen(mut section: Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    section.set("address", &mut settings.listen.address);
    let mut tls = section.section("tls");
    let slot = &mut settings.listen.tls;
    tls.set("mode", &mut slot.mode);
    path(&mut tls, "certificate", sources, &mut slot.certificate);
    path(&mut tls, "key", sources, &mut slot.key);
    path(&mut tls, "client_ca", sources, &mut slot.client_ca);
    tls.set("client_certificate", &mut slot.client_certificate);
    let offered = match slot.mode {
        ListenTlsMode::Disable => false,
        ListenTlsMode::Prefer | ListenTlsMode::Require => true,
    };
    if offered && (slot.certificate.is_none() || slot.key.is_none()) {
        tls.document().error(tls.span(), "TLS for clients needs both `certificate` and `key` in [listen.tls]");
    }
    if slot.client_certificate == ClientCertificate::Required
        && (slot.client_ca.is_none() || slot.mode != ListenTlsMode::Require)
    {
        let message = "`client_certificate = \"required\"` needs `client_ca`, and `mode = \"require\"`: no certificate comes in the clear";
        tls.document().error(tls.span(), message);
    }
    tls.finish();
    section.finish();
}

fn upstream(mut section: Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    let slot = &mut settings.upstream;
    section.set("host", &mut slot.host);
    section.set("port", &mut slot.port);
    section.set("sslmode", &mut slot.sslmode);
    path(&mut section, "ca", sources, &mut slot.ca);
    path(&mut section, "certificate", sources, &mut slot.certificate);
    path(&mut section, "key", sources, &mut slot.key);
    time(&mut section, "connect_timeout", Zero::No, &mut slot.connect_timeout);
    if slot.certificate.is_some() != slot.key.is_some() {
        section.document().error(section.span(), "`certificate` and `key` in [upstream] go together");
    }
    section.finish();
}

fn limits(mut section: Section<'_, '_>, settings: &mut Settings) {
    let session = &mut settings.session;
    count(&mut section, "connections", &mut settings.limits.connections);
    if let Some((workers, span)) = section.take_spanned::<usize>("workers") {
        if workers == 0 {
            section.document().error(Some(span), "`limits.workers`: at least one; leave it out to go by the cores");
        }
        settings.limits.workers = Some(workers);
    }
    size(&mut section, "verdict_cache_bytes", &mut settings.limits.verdict_cache_bytes);
    time(&mut section, "startup_deadline", Zero::No, &mut session.startup_deadline);
    time(&mut section, "drain_deadline", Zero::Allowed, &mut session.drain_deadline);
    time(&mut section, "tcp_keepalive", Zero::No, &mut session.tcp_keepalive);
    size(&mut section, "max_startup_packet", &mut session.max_startup_packet);
    size(&mut section, "max_statement_bytes", &mut session.max_statement_bytes);
    size(&mut section, "read_ahead_bytes", &mut session.read_ahead_bytes);
    size(&mut section, "inline_analysis_bytes", &mut session.inline_analysis_bytes);
    section.set("allow_replication", &mut session.allow_replication);
    section.set("allow_function_call", &mut session.allow_function_call);
    section.set_as("extra_startup_settings", &mut session.extra_startup_settings, |names: Vec<String>| {
        names.into_iter().map(|name| name.to_lowercase()).collect()
    });
    section.finish();
}

/// What to do with a statement that would be held inside a transaction.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum InTransaction {
    Hold,
    Reject,
}

fn hold(mut section: Section<'_, '_>, settings: &mut Settings) {
    time(&mut section, "deadline", Zero::No, &mut settings.session.hold_deadline);
    time(&mut section, "reminder_interval", Zero::Allowed, &mut settings.session.reminder_interval);
    let slot = &mut settings.session.reject_holds_in_transaction;
    section.set_as("in_transaction", slot, |choice| match choice {
        InTransaction::Hold => false,
        InTransaction::Reject => true,
    });
    section.set("parse_first", &mut settings.session.parse_first);
    section.set("ask_session", &mut settings.session.ask_session);
    count(&mut section, "per_user", &mut settings.hold.per_user);
    count(&mut section, "total", &mut settings.hold.total);
    size(&mut section, "total_bytes", &mut settings.hold.total_bytes);
    section.set("history", &mut settings.hold.history);
    size(&mut section, "history_bytes", &mut settings.hold.history_bytes);
    count(&mut section, "event_backlog", &mut settings.hold.event_backlog);
    section.finish();
}

fn admin(mut section: Section<'_, '_>, settings: &mut Settings) {
    let slot = &mut settings.admin;
    if let Some((address, span)) = section.take_spanned::<String>("address") {
        match address.parse::<SocketAddr>() {
            Ok(address) => slot.address = Some(address),
            Err(_) if address == "none" => slot.address = None,
            Err(_) => section.document().error(
                Some(span),
                "`admin.address`: expected an address and port such as \"127.0.0.1:7432\", or \"none\"",
            ),
        }
    }
    count(&mut section, "max_connections", &mut slot.max_connections);
    count(&mut section, "unproved_per_address", &mut slot.unproved_per_address);
    time(&mut section, "token_deadline", Zero::No, &mut slot.token_deadline);
    size(&mut section, "max_body_bytes", &mut slot.max_body_bytes);
    time(&mut section, "request_deadline", Zero::No, &mut slot.request_deadline);
    time(&mut section, "idle_deadline", Zero::No, &mut slot.idle_deadline);
    time(&mut section, "keep_alive", Zero::No, &mut slot.keep_alive);
    section.set("failure_burst", &mut slot.failure_burst);
    time(&mut section, "failure_refill", Zero::No, &mut slot.failure_refill);
    section.finish();
}

fn store(mut section: Section<'_, '_>, sources: &dyn Sources, slot: &mut StoreSettings) {
    section.set_as("path", &mut slot.path, Some);
    slot.path = slot.path.take().map(|path| sources.path(&path));
    count(&mut section, "queue", &mut slot.queue);
    time(&mut section, "patience", Zero::No, &mut slot.patience);
    section.finish();
}

fn audit(mut section: Section<'_, '_>, sources: &dyn Sources, settings: &mut Settings) {
    let passing = &mut settings.passing;
    section.set("record_passing", &mut passing.record);
    time(&mut section, "record_passing_every", Zero::No, &mut passing.every);
    count(&mut section, "record_passing_rows", &mut passing.rows);
    let slot = &mut settings.store;
    section.set_as("file", &mut slot.audit_file, |path: PathBuf| (path != Path::new("none")).then_some(path));
    slot.audit_file = slot.audit_file.take().map(|path| sources.path(&path));
    path(&mut section, "checkpoint_key", sources, &mut slot.checkpoint_key);
    if let Some((every, span)) = section.take_spanned("checkpoint_every") {
        if every == 0 {
            section.document().error(Some(span), "`checkpoint_every`: at least one");
        } else {
            slot.checkpoint_every = every;
        }
    }
    time(&mut section, "checkpoint_interval", Zero::No, &mut slot.checkpoint_interval);
    section.set("redact", &mut slot.redact);
    section.finish();
}

fn log(mut section: Section<'_, '_>, slot: &mut LogSettings) {
    if let Some((filter, span)) = section.take_spanned::<String>("filter") {
        if let Err(error) = filter.parse::<tracing_subscriber::EnvFilter>() {
            section.document().error(Some(span), format!("`log.filter`: {error}"));
        }
        slot.filter = filter;
    }
    section.set("format", &mut slot.format);
    section.finish();
}

fn path(section: &mut Section<'_, '_>, key: &'static str, sources: &dyn Sources, slot: &mut Option<PathBuf>) {
    section.set_as(key, slot, |written: PathBuf| Some(sources.path(&written)));
}

/// Whether a time of zero means something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    No,
}

/// Longer times are mistakes, and some would overflow a clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(super) fn time(section: &mut Section<'_, '_>, key: &'static str, zero: Zero, slot: &mut Duration) {
    if let Some((Span(time), span)) = section.take_spanned(key) {
        if time.is_zero() && zero == Zero::No {
            section.document().error(Some(span), format!("`{key}`: a time of zero leaves no time at all"));
        } else if time > LONGEST {
            section.document().error(Some(span), format!("`{key}`: more than a year"));
        } else {
            *slot = time;
        }
    }
}

pub(super) fn size(section: &mut Section<'_, '_>, key: &'static str, slot: &mut usize) {
    if let Some((Size(bytes), span)) = section.take_spanned(key) {
        // Lengths on the wire are signed 32-bit numbers, so no limit of ours can usefully be larger.
        if bytes == 0 || i32::try_from(bytes).is_err() {
            section.document().error(Some(span), format!("`{key}`: between 1 byte and 2 GiB"));
        } else {
            *slot = bytes;
        }
    }
}

pub(super) fn count(section: &mut Section<'_, '_>, key: &'static str, slot: &mut usize) {
    if let Some((count, span)) = section.take_spanned(key) {
        if count == 0 {
            section.document().error(Some(span), format!("`{key}`: at least one"));
        } else {
            *slot = count;
        }
    }
}
