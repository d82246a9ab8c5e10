//! What a session may be told by configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::undo::UndoSettings;

/// Limits and switches of sessions. All sizes in bytes.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration")]
pub struct SessionSettings {
    /// Largest startup packet accepted; Postgres's own limit is 10,000 (`MAX_STARTUP_PACKET_LENGTH`).
    pub max_startup_packet: usize,
    /// From accept to the end of authentication.
    pub startup_deadline: Duration,
    /// Largest message carrying SQL text (Query, Parse) that is accepted; beyond it the statement fails with 54000.
    pub max_statement_bytes: usize,
    /// Frames a client may send behind a held statement before the hold is withdrawn.
    pub read_ahead_bytes: usize,
    /// Text longer than this is analysed off the session's thread.
    pub inline_analysis_bytes: usize,
    /// How long a statement waits for a decision.
    pub hold_deadline: Duration,
    /// How often the client is reminded with a NOTICE while held; zero for never.
    pub reminder_interval: Duration,
    /// Refuse holds inside an open transaction instead of keeping its locks while people are asked.
    pub reject_holds_in_transaction: bool,
    /// Ask the server to parse a text before people are asked about it.
    pub parse_first: bool,
    /// Ask the session for its role and `search_path` before a statement is held.
    pub ask_session: bool,
    /// Relay replication connections (`replication=…` at startup).
    pub allow_replication: bool,
    /// Settings clients may set at startup beyond those known to be harmless, in lower case.
    pub extra_startup_settings: Vec<String>,
    /// Relay FunctionCall messages.
    pub allow_function_call: bool,
    /// TCP keepalive: idle time before the first probe, on both legs.
    pub tcp_keepalive: Duration,
    /// Time given to running statements at shutdown.
    pub drain_deadline: Duration,
    /// Keeping rows that released statements change.
    pub undo: Option<UndoSettings>,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            max_startup_packet: 10_000,
            startup_deadline: Duration::from_secs(60),
            max_statement_bytes: 256 << 20,
            read_ahead_bytes: 1 << 20,
            inline_analysis_bytes: 16 << 10,
            hold_deadline: Duration::from_secs(15 * 60),
            reminder_interval: Duration::from_secs(60),
            reject_holds_in_transaction: false,
            parse_first: true,
            ask_session: true,
            allow_replication: false,
            extra_startup_settings: Vec::new(),
            allow_function_call: false,
            tcp_keepalive: Duration::from_secs(60),
            drain_deadline: Duration::from_secs(30),
            undo: None,
        }
    }
}

/// Whether clients may, or must, use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenTlsMode {
    /// SSLRequest is answered `N`.
    #[default]
    Disable,
    /// SSLRequest is answered `S`; a client may also come in the clear.
    Prefer,
    /// Sessions in the clear are refused, except over Unix sockets.
    Require,
}

/// TLS on the client's leg.
#[derive(Debug, Clone, Default)]
pub struct ListenTlsSettings {
    /// Whether there is any.
    pub mode: ListenTlsMode,
    /// PEM file with the certificate and its chain. Needed unless `Disable`.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key. Needed unless `Disable`.
    pub key: Option<PathBuf>,
    /// PEM file with the authorities of clients' certificates. Without it none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client needs one.
    pub client_certificate: ClientCertificate,
}

/// Whether clients have to prove themselves with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// One that is shown must be good; none is fine.
    #[default]
    Optional,
    /// Without a good one there is no session.
    Required,
}

/// TLS on the backend's leg, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server offers it. Protects from nobody who can change traffic.
    #[default]
    Prefer,
    /// Always. The server's certificate is checked only if a CA file is given, as in libpq.
    Require,
    /// Always, and the certificate must come from the CA.
    VerifyCa,
    /// Always, and the certificate must come from the CA and name the host.
    VerifyFull,
}

/// The Postgres server behind the gate.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Name or address; a directory (it begins with `/`) means the Unix socket in it.
    pub host: String,
    /// Port; also part of the Unix socket's name.
    pub port: u16,
    /// TLS.
    pub sslmode: SslMode,
    /// PEM file with the certificates to trust. Without one, `VerifyFull` trusts the public ones.
    pub ca: Option<PathBuf>,
    /// PEM file with a certificate (and chain) to show to the server.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// For resolving, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 5432,
            sslmode: SslMode::default(),
            ca: None,
            certificate: None,
            key: None,
            connect_timeout: Duration::from_secs(10),
        }
    }
}
