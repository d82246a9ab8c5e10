//! Transaction control that does nothing but begin a transaction, or end it keeping what was done in it. Pure.

/// Whether a statement is a plain BEGIN or COMMIT: no isolation level or other mode, no savepoint, nothing that takes back or chains.
/// Read word by word, so that a comment in it makes it another.
#[must_use]
pub fn is_plain_control(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let words: Vec<String> = text.split_ascii_whitespace().map(str::to_ascii_uppercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    matches!(
        words.as_slice(),
        ["BEGIN" | "COMMIT" | "END"] | ["BEGIN" | "COMMIT" | "END", "WORK" | "TRANSACTION"] | ["START", "TRANSACTION"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_more_than_beginning_and_keeping_is_not_plain() {
        for plain in ["BEGIN", " begin  work ", "start\ntransaction", "COMMIT", "End Transaction"] {
            assert!(is_plain_control(plain.as_bytes()), "{plain}");
        }
        for other in [
            "",
            "ROLLBACK",
            "ABORT",
            "SAVEPOINT a",
            "RELEASE a",
            "ROLLBACK TO a",
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION READ ONLY",
            "COMMIT AND CHAIN",
            "COMMIT PREPARED 'a'",
            "BEGIN/**/",
            "BEGIN; COMMIT",
        ] {
            assert!(!is_plain_control(other.as_bytes()), "{other}");
        }
    }
}
