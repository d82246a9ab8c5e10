//! Relaying authentication: bytes pass, the order is kept, and the channel-binding trap is named.
//!
//! With TLS on both legs libpq sees a server that offers SCRAM-SHA-256-PLUS and binds its proof to the gate's certificate;
//! Postgres compares with its own and refuses. Without the offer libpq says so (gs2 flag `y`) and Postgres, which did offer
//! it, refuses that as a downgrade (`src/backend/libpq/auth-scram.c`, `read_client_first_message`).

use super::{Action, Machine, Outbox, Phase};
use crate::wire::backend::{self, Authentication};
use crate::wire::frame;
use crate::wire::frontend;
use crate::wire::reply::Report;

/// What the backend is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Answer,
    /// SASL with channel binding offered.
    Binding,
}

/// What to do with the client's next message while authenticating.
pub(super) enum AuthStep {
    /// Forward so many bytes.
    Forward(usize),
    /// It is not its turn, or not all here.
    Stay,
    /// Send this on, then nothing more.
    Refuse(Vec<u8>),
    /// The connection was given up.
    Closed,
}

impl Machine {
    /// A client message while authentication goes on. Only `p` messages may come, each only when asked for.
    pub(super) fn auth_frame(&mut self, asked: Asked, input: &[u8]) -> AuthStep {
        if asked == Asked::Nothing {
            // Sent ahead: perhaps a first query behind the startup packet. It waits for its turn.
            return AuthStep::Stay;
        }
        let Some((&[tag, a, b, c, d], rest)) = input.split_first_chunk::<{ frame::HEADER }>() else {
            return AuthStep::Stay;
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if tag == b'X' {
            return AuthStep::Refuse(frame::build(b'X', &[]));
        }
        if tag != b'p' || !(4..=frame::AUTH_LENGTH.saturating_add(4)).contains(&length) {
            // The server judges the type byte and the length before it reads a body, and ends the connection.
            return AuthStep::Refuse(vec![tag, a, b, c, d]);
        }
        let Some(body) = rest.get(..length.saturating_sub(4)) else {
            return AuthStep::Stay;
        };
        if asked == Asked::Binding && binds_channel(body) {
            self.close(channel_binding_report());
            return AuthStep::Closed;
        }
        self.phase = Phase::Authenticating(Asked::Nothing);
        AuthStep::Forward(length.saturating_add(1))
    }

    /// An authentication message of the backend.
    pub(super) fn auth_request(&mut self, body: &[u8]) {
        if !self.is_authenticating() {
            return;
        }
        let asked = match backend::authentication(body) {
            Some(Authentication::Ok | Authentication::Final) => Asked::Nothing,
            Some(Authentication::Sasl(mechanisms))
                if self.settings.client_tls && backend::offers(mechanisms, b"SCRAM-SHA-256-PLUS") =>
            {
                Asked::Binding
            }
            Some(Authentication::Sasl(_) | Authentication::Answer) | None => Asked::Answer,
        };
        self.phase = Phase::Authenticating(asked);
    }

    /// The first ReadyForQuery.
    pub(super) fn auth_done(&mut self) {
        self.phase = Phase::Ready;
        self.act(Action::Ready);
    }

    /// Forwards authentication messages, from `at` on, until one is missing. Returns where it stopped.
    pub(super) fn auth_frames(&mut self, input: &[u8], mut at: usize, out: &mut Outbox) -> usize {
        while let Phase::Authenticating(asked) = self.phase {
            let rest = input.get(at..).unwrap_or_default();
            match self.auth_frame(asked, rest) {
                AuthStep::Forward(count) => {
                    let end = at.saturating_add(count);
                    self.from_client.pass(count);
                    self.from_client.advance(&mut at, end, &mut out.backend);
                }
                AuthStep::Stay | AuthStep::Closed => break,
                AuthStep::Refuse(bytes) => {
                    self.send_backend(bytes, out);
                    self.phase = Phase::Refusing;
                }
            }
        }
        at
    }
}

/// The client bound its proof to the TLS channel, or says that it could have (gs2 flag `p` or `y`, RFC 5802 section 7).
fn binds_channel(body: &[u8]) -> bool {
    frontend::sasl_initial(body).is_some_and(|(mechanism, first)| {
        mechanism == b"SCRAM-SHA-256-PLUS" || matches!(first.first(), Some(b'p' | b'y'))
    })
}

fn channel_binding_report() -> Report {
    Report::fatal(
        "28000",
        "querygate: SCRAM channel binding cannot pass through a proxy that ends TLS",
    )
    .with_detail(
        "Both the client's and the upstream connection use TLS, so the proof of the password would be bound to the gate's \
         certificate and Postgres would refuse it.",
    )
    .with_hint(
        "Connect with channel_binding=disable (PGCHANNELBINDING=disable), or let the gate reach Postgres over a Unix socket \
         or with upstream.sslmode = \"disable\".",
    )
}
