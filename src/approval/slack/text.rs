//! User data made safe for Slack's text fields. Knows no requests.
//!
//! A field of type `mrkdwn` obeys what it holds: `<!channel>` pings everybody, backticks and line feeds forge structure. What
//! comes from users goes through here, into one line, with odd characters spelled out, and `&`, `<`, `>` escaped.

// Writing into a string cannot fail.
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::approval::people::People;
use crate::approval::{is_deceptive, one_line, spell_out};

use super::settings::is_slack_id;

/// Length as Slack's limits are counted here: UTF-16 units, which is never less than characters.
pub(super) fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// At most `most` units of the text, the last an ellipsis if anything is missing.
pub(super) fn clip(text: &str, most: usize) -> String {
    if length(text) <= most {
        return text.to_owned();
    }
    let mut clipped = start(text, most.saturating_sub(1)).to_owned();
    clipped.push('…');
    clipped
}

/// The longest beginning of at most `most` units.
pub(super) fn start(text: &str, most: usize) -> &str {
    let mut units = 0_usize;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        units = units.saturating_add(c.len_utf16());
        if units > most {
            break;
        }
        end = at.saturating_add(c.len_utf8());
    }
    text.get(..end).unwrap_or_default()
}

/// For `mrkdwn`: the three characters Slack asks to be escaped.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One visible line. Whoever writes megabytes does not get them read.
fn line(text: &str) -> String {
    const READ: usize = 8_000;
    let beginning = start(text, READ);
    let mut line = one_line(beginning);
    if beginning.len() < text.len() {
        line.push('…');
    }
    line
}

/// A user's words for `mrkdwn`: one visible line of at most `most` units before escaping.
pub(super) fn words(text: &str, most: usize) -> String {
    escape(&clip(&line(text), most))
}

/// A user's name for something, for `mrkdwn`, in monospace. A backtick would end that, so a look-alike stands for it.
pub(super) fn code(text: &str, most: usize) -> String {
    let line = clip(&line(text), most).replace('`', "ˋ");
    if line.is_empty() { "_none_".to_owned() } else { format!("`{}`", escape(&line)) }
}

/// One line for `plain_text`, which obeys nothing but emoji names.
pub(super) fn plain(text: &str, most: usize) -> String {
    clip(&line(text), most)
}

/// Literal text (`rich_text_preformatted`): lines stay, odd characters are spelled out.
pub(super) fn literal(text: &str) -> String {
    spell_out(text).into_owned()
}

/// A literal value on one line, whose line feeds and tabs are spelled out too so that it cannot look like more than one.
pub(super) fn literal_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) || matches!(c, '\n' | '\t') {
            let _infallible = write!(line, "⟨U+{:04X}⟩", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line
}

/// A moment in the reader's own time zone, for `mrkdwn`.
pub(super) fn moment(at: Timestamp) -> String {
    format!("<!date^{}^{{time_secs}}|{}>", at.as_second(), utc(at))
}

/// The same with the day.
pub(super) fn day_and_moment(at: Timestamp) -> String {
    format!("<!date^{}^{{date_short_pretty}} {{time_secs}}|{}>", at.as_second(), utc(at))
}

/// A moment where Slack cannot translate it.
pub(super) fn utc(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S UTC").to_string()
}

/// The same with the day.
pub(super) fn utc_day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A length of time, roughly.
pub(super) fn span(seconds: i64) -> String {
    match seconds {
        ..=0 => "0 s".to_owned(),
        1..=59 => format!("{seconds} s"),
        60..=3_599 => match seconds % 60 {
            0 => format!("{} min", seconds / 60),
            rest => format!("{} min {rest} s", seconds / 60),
        },
        _ => match seconds % 3_600 / 60 {
            0 => format!("{} h", seconds / 3_600),
            rest => format!("{} h {rest} min", seconds / 3_600),
        },
    }
}

/// Milliseconds, roughly.
pub(super) fn milliseconds(duration: u64) -> String {
    match duration {
        0..=9_999 => format!("{duration} ms"),
        _ => span(i64::try_from(duration / 1_000).unwrap_or(i64::MAX)),
    }
}

/// Somebody as a mention: a person with a Slack user, or the channel's own name for somebody (`slack:T01/U02`).
pub(super) fn person(name: &str, people: &People) -> String {
    if let Some(mention) = mention(name) {
        return mention;
    }
    let user = people.named(name).and_then(|person| person.slack_user.as_deref());
    user.map_or_else(|| words(name, 80), |user| format!("<@{user}>"))
}

/// Words of the desk in which `slack:…` names people, groups and channels: those become mentions, the rest is escaped. What
/// users write never comes here.
pub(super) fn mentions(text: &str, most: usize) -> String {
    let line = clip(&line(text), most);
    let mut out = String::with_capacity(line.len());
    for (index, word) in line.split(' ').enumerate() {
        if index > 0 {
            out.push(' ');
        }
        let name = word.trim_end_matches([',', ';', '.', ')']);
        let rest = word.get(name.len()..).unwrap_or_default();
        match mention(name) {
            Some(mention) => out.push_str(&mention),
            None => out.push_str(&escape(name)),
        }
        out.push_str(&escape(rest));
    }
    out
}

fn mention(name: &str) -> Option<String> {
    let id = name.strip_prefix("slack:")?;
    let id = id.rsplit('/').next().unwrap_or(id);
    if is_slack_id(id, "UW") {
        Some(format!("<@{id}>"))
    } else if is_slack_id(id, "S") {
        Some(format!("<!subteam^{id}>"))
    } else if is_slack_id(id, "CG") {
        Some(format!("<#{id}>"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_cannot_mention_break_lines_or_leave_its_monospace() {
        assert_eq!(words("<!channel> & <@U0>\n*x*", 100), "&lt;!channel&gt; &amp; &lt;@U0&gt; *x*");
        assert_eq!(code("a`<!here>`b", 100), "`aˋ&lt;!here&gt;ˋb`");
        assert_eq!(code("", 100), "_none_");
        assert_eq!(plain("a\u{202e}b\nc", 100), "a⟨U+202E⟩b c");
        assert_eq!(literal("a\n\u{200b}```<!channel>"), "a\n⟨U+200B⟩```<!channel>");
        assert_eq!(literal_line("1\n$2 = 3\t"), "1⟨U+000A⟩$2 = 3⟨U+0009⟩");
    }

    #[test]
    fn clipping_counts_utf_16_units_and_never_cuts_a_character() {
        for (text, most, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("🙂🙂", 3, "🙂…"),
            ("🙂🙂", 4, "🙂🙂"),
            ("ab", 1, "…"),
            ("ab", 0, "…"),
        ] {
            assert_eq!(clip(text, most), expected, "{text} {most}");
        }
        assert_eq!(start("a🙂b", 2), "a");
    }

    #[test]
    fn the_desks_words_mention_and_other_words_do_not() {
        let cases = [
            ("group dba, slack:S0DBA", "group dba, <!subteam^S0DBA>"),
            ("slack:U01, ann", "<@U01>, ann"),
            ("slack:T01/U02.", "<@U02>."),
            ("slack:u01 <!channel> slack:U0>1", "slack:u01 &lt;!channel&gt; slack:U0&gt;1"),
        ];
        for (text, expected) in cases {
            assert_eq!(mentions(text, 300), expected);
        }
    }

    #[test]
    fn times_are_short() {
        for (seconds, expected) in
            [(-1, "0 s"), (59, "59 s"), (71, "1 min 11 s"), (900, "15 min"), (3_600, "1 h"), (5_400, "1 h 30 min")]
        {
            assert_eq!(span(seconds), expected);
        }
        assert_eq!(milliseconds(212), "212 ms");
        assert_eq!(milliseconds(90_000), "1 min 30 s");
        let at = Timestamp::from_second(1_795_180_900).unwrap();
        assert_eq!(moment(at), format!("<!date^1795180900^{{time_secs}}|{}>", utc(at)));
    }
}
