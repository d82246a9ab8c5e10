//! Claims about `querygate audit`; the commands themselves are run in the end-to-end tests.

use jiff::{SignedDuration, Timestamp};

use super::export::harmless;
use super::select::time;

#[test]
fn cells_that_a_spreadsheet_would_run_begin_with_an_apostrophe() {
    for cell in ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\r=1", "\n=1", "＝1", "\u{a0}=1", "\tDELETE"] {
        assert_eq!(harmless(cell), format!("'{cell}"));
    }
    for cell in ["", "DELETE FROM a WHERE b = -1", "2025-11-21T08:30:00Z", "a=b", "'quoted'"] {
        assert_eq!(harmless(cell), cell);
    }
}

#[test]
fn times_are_read_as_people_write_them() {
    let now: Timestamp = "2025-11-21T12:00:00Z".parse().unwrap();
    for (text, expected) in [
        ("2025-11-20", "2025-11-20T00:00:00Z"),
        ("2025-11-20T08:30", "2025-11-20T08:30:00Z"),
        ("2025-11-20T08:30:00+02:00", "2025-11-20T06:30:00Z"),
        (" 2025-11-20 08:30:01 ", "2025-11-20T08:30:01Z"),
    ] {
        assert_eq!(time(text, now).unwrap().to_string(), expected, "{text}");
    }
    assert_eq!(time("36h", now).unwrap(), now - SignedDuration::from_hours(36));
    assert_eq!(time("7d", now).unwrap(), now - SignedDuration::from_hours(168));
    for wrong in ["", "yesterday", "2025-13-01", "12:00", "-1h"] {
        assert!(time(wrong, now).is_err(), "{wrong}");
    }
}
