//! Claims about windows and freezes.

use super::*;

fn window(toml: &str) -> TimeWindow {
    toml::from_str(toml).unwrap()
}

fn wrong(toml: &str) -> String {
    toml::from_str::<TimeWindow>(toml).unwrap_err().to_string()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_window_has_its_first_minute_and_not_its_last() {
    let window = window("from = \"09:00\"\nuntil = \"17:30\"");
    for (time, expected) in [
        ("2026-03-02T08:59:59.999Z", false),
        ("2026-03-02T09:00:00Z", true),
        ("2026-03-02T17:29:59.999Z", true),
        ("2026-03-02T17:30:00Z", false),
    ] {
        assert_eq!(window.contains(at(time)), expected, "{time}");
    }
}

#[test]
fn a_window_past_midnight_belongs_to_the_day_on_which_it_begins() {
    // 2026-03-06 is a Friday.
    let friday = window("days = [\"fri\"]\nfrom = \"22:00\"\nuntil = \"06:00\"");
    for (time, expected) in [
        ("2026-03-06T05:59:00Z", false),
        ("2026-03-06T21:59:00Z", false),
        ("2026-03-06T22:00:00Z", true),
        ("2026-03-06T23:59:59Z", true),
        ("2026-03-07T00:00:00Z", true),
        ("2026-03-07T05:59:59Z", true),
        ("2026-03-07T06:00:00Z", false),
        ("2026-03-07T22:00:00Z", false),
        ("2026-03-08T01:00:00Z", false),
    ] {
        assert_eq!(friday.contains(at(time)), expected, "{time}");
    }
    let sunday = window("days = [\"sun\"]\nfrom = \"23:00\"\nuntil = \"01:00\"");
    assert!(sunday.contains(at("2026-03-09T00:30:00Z")) && !sunday.contains(at("2026-03-08T00:30:00Z")));
    let evening = window("days = [\"fri\"]\nfrom = \"22:00\"\nuntil = \"00:00\"");
    assert!(evening.contains(at("2026-03-06T23:59:59Z")) && !evening.contains(at("2026-03-07T00:00:00Z")));
    let whole = window("days = [\"sat-sun\"]");
    assert!(whole.contains(at("2026-03-07T00:00:00Z")) && whole.contains(at("2026-03-08T23:59:59Z")));
    assert!(!whole.contains(at("2026-03-06T23:59:59Z")) && !whole.contains(at("2026-03-09T00:00:00Z")));
}

#[test]
fn a_window_follows_the_summer_time_of_its_zone() {
    let night = window("from = \"22:00\"\nuntil = \"06:00\"\nzone = \"Europe/Berlin\"");
    for (time, expected) in [
        // Winter: one hour ahead; summer: two.
        ("2026-01-15T20:59:59Z", false),
        ("2026-01-15T21:00:00Z", true),
        ("2026-07-15T20:00:00Z", true),
        ("2026-07-16T03:59:59Z", true),
        ("2026-07-16T04:00:00Z", false),
        // The clocks go forward on 29 March 2026 at 01:00 UTC: the night is an hour shorter.
        ("2026-03-29T03:59:59Z", true),
        ("2026-03-29T04:00:00Z", false),
        // They go back on 25 October 2026 at 01:00 UTC: it is an hour longer.
        ("2026-10-25T04:59:59Z", true),
        ("2026-10-25T05:00:00Z", false),
    ] {
        assert_eq!(night.contains(at(time)), expected, "{time}");
    }
    let hour = window("from = \"02:00\"\nuntil = \"03:00\"\nzone = \"Europe/Berlin\"");
    let times = |day: &str| (0..6).filter(|utc| hour.contains(at(&format!("{day}T{utc:02}:30:00Z")))).count();
    assert_eq!(times("2026-03-29"), 0, "there is no such hour");
    assert_eq!(times("2026-10-25"), 2, "there are two of them");
    assert_eq!(times("2026-06-01"), 1);
}

#[test]
fn what_is_no_window_is_refused_with_a_reason() {
    for (text, part) in [
        ("from = \"9:00\"", "HH:MM"),
        ("from = \"24:01\"", "HH:MM"),
        ("from = \"12:60\"", "HH:MM"),
        ("from = \"+1:00\"", "HH:MM"),
        ("from = \"12:00\"\nuntil = \"12:00\"", "ends as it begins"),
        ("from = \"24:00\"\nuntil = \"12:00\"", "24:00"),
        ("days = []", "no day at all"),
        ("days = [\"monday\"]", "is no day"),
        ("days = [\"mon-\"]", "is no day"),
        ("zone = \"Europe/Nowhere\"", "no time zone"),
        ("zone = \"local\"", "no time zone"),
        ("until = \"12:00\"\nday = [\"mon\"]", "unknown field"),
    ] {
        let told = wrong(text);
        assert!(told.contains(part), "{text}: {told}");
    }
}

#[test]
fn a_window_is_written_as_it_is_read() {
    let one = window("days = [\"fri-mon\", \"wed\"]\nfrom = \"22:00\"\nzone = \"Asia/Kolkata\"");
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(
        json,
        r#"{"days":["mon","wed","fri","sat","sun"],"from":"22:00","until":"24:00","zone":"Asia/Kolkata"}"#
    );
    assert_eq!(serde_json::from_str::<TimeWindow>(&json).unwrap(), one);
}

#[test]
fn nothing_changes_before_the_next_minute() {
    assert_eq!(next_minute(at("2026-03-02T08:59:00Z")), at("2026-03-02T09:00:00Z"));
    assert_eq!(next_minute(at("2026-03-02T08:59:59.999Z")), at("2026-03-02T09:00:00Z"));
    assert_eq!(next_minute(Timestamp::MAX), Timestamp::MAX);
}

#[test]
fn a_freeze_is_read_from_dates_times_and_offsets() {
    let freeze = |text: &str| toml::from_str::<Freeze>(&format!("name = \"f\"\n{text}"));
    let span = |text: &str| freeze(text).map(|freeze| (freeze.from, freeze.until)).unwrap();
    let year_end = (at("2026-12-19T23:00:00Z"), at("2027-01-03T23:00:00Z"));
    assert_eq!(span("from = 2026-12-20\nuntil = 2027-01-04\nzone = \"Europe/Berlin\""), year_end);
    assert_eq!(span("from = \"2026-12-20\"\nuntil = \"2027-01-04\"\nzone = \"Europe/Berlin\""), year_end);
    assert_eq!(span("from = 2026-12-20T00:00:00+01:00\nuntil = \"2027-01-04T00:00:00+01:00\""), year_end);
    let hours = (at("2026-12-20T18:00:00Z"), at("2026-12-20T20:00:00Z"));
    assert_eq!(span("from = 2026-12-20T18:00:00\nuntil = 2026-12-20 20:00:00"), hours);
    for wrong in [
        "from = 2026-12-20\nuntil = 2026-12-20",
        "from = 2026-12-20\nuntil = 2026-12-19",
        "from = 18:00:00\nuntil = 2026-12-19",
        "from = \"soon\"\nuntil = 2026-12-19",
        "from = 2026-12-18\nuntil = 2026-12-19\ntill = 1",
    ] {
        assert!(freeze(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn frozen_means_any_none_or_one_of_the_named() {
    let any = Frozen::Any(true);
    let none = Frozen::Any(false);
    let named = Frozen::Named(OneOf::try_from(vec!["a".to_owned(), "b".to_owned()]).unwrap());
    for (active, expected) in
        [(&[][..], [false, true, false]), (&["c"][..], [true, false, false]), (&["c", "a"][..], [true, false, true])]
    {
        assert_eq!([any.matches(active), none.matches(active), named.matches(active)], expected, "{active:?}");
    }
}
