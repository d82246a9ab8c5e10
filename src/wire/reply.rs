//! Messages the gate itself sends to a client: errors, notices, ReadyForQuery. Encoded by pgwire.
//!
//! Field codes: PostgreSQL documentation, "Error and Notice Message Fields" (protocol-error-fields).

use std::borrow::Cow;

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

/// What a client is told: the severity words, SQLSTATE and texts of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Severity, as in the protocol: `ERROR`, `FATAL`, `NOTICE`, `WARNING`.
    pub severity: Severity,
    /// SQLSTATE, five characters (PostgreSQL documentation, appendix A).
    pub sqlstate: &'static str,
    /// One line: what happened.
    pub message: Cow<'static, str>,
    /// More, possibly several lines.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<Cow<'static, str>>,
}

/// Severity of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    /// For information.
    Notice,
    /// Something to look at.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

impl Report {
    /// A report with a message only.
    pub fn new(severity: Severity, sqlstate: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { severity, sqlstate, message: message.into(), detail: None, hint: None }
    }

    /// `ERROR`.
    pub fn error(sqlstate: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Error, sqlstate, message)
    }

    /// `FATAL`: the connection ends after it.
    pub fn fatal(sqlstate: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Fatal, sqlstate, message)
    }

    /// `NOTICE` with SQLSTATE 00000.
    pub fn notice(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Notice, "00000", message)
    }

    /// Adds a DETAIL.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// A hint, behind the policy's own advice if it has any.
    #[must_use]
    pub fn with_advice(self, advice: Option<&str>, hint: &'static str) -> Self {
        match advice {
            Some(advice) => self.with_hint(format!("{advice}\n{hint}")),
            None => self.with_hint(hint),
        }
    }

    /// Adds a HINT.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Appends the encoded message: `N` for notices and warnings, `E` otherwise.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut buffer = BytesMut::new();
        let fields = self.fields();
        let encoded = match self.severity {
            Severity::Error | Severity::Fatal => ErrorResponse::new(fields).encode(&mut buffer),
            Severity::Notice | Severity::Warning => NoticeResponse::new(fields).encode(&mut buffer),
        };
        // Writing into memory cannot fail; if it ever did, nothing half-written is sent.
        if encoded.is_ok() {
            out.extend_from_slice(&buffer);
        }
    }

    /// The encoded message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    fn fields(&self) -> Vec<(u8, String)> {
        let word = self.severity.word();
        let mut fields = vec![
            (b'S', word.to_owned()),
            (b'V', word.to_owned()),
            (b'C', self.sqlstate.to_owned()),
            (b'M', clean(&self.message)),
        ];
        if let Some(detail) = &self.detail {
            fields.push((b'D', clean(detail)));
        }
        if let Some(hint) = &self.hint {
            fields.push((b'H', clean(hint)));
        }
        fields
    }
}

/// A NUL would end the field early; clients would misread the rest as field codes.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// What an error may say to a client: SQLSTATE and texts, never SQL text or secrets.
pub trait ClientFacing {
    /// The report to send.
    fn report(&self) -> Report;
}

/// ReadyForQuery with a transaction status byte (`I`, `T` or `E`).
pub const fn ready_for_query(status: u8) -> [u8; 6] {
    [b'Z', 0, 0, 0, 5, status]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_encoded_with_its_fields_in_protocol_form() {
        let bytes = Report::error("42501", "no\0pe").with_hint("ask").to_bytes();
        assert_eq!(bytes[0], b'E');
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        assert_eq!(length + 1, bytes.len());
        let body = &bytes[5..];
        assert_eq!(body, "SERROR\0VERROR\0C42501\0Mno\u{FFFD}pe\0Hask\0\0".as_bytes());
    }

    #[test]
    fn a_notice_is_an_n_message() {
        assert_eq!(Report::notice("held").to_bytes()[0], b'N');
    }
}
