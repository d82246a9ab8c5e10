//! What a client may ask for in its startup packet. Everything not known to be harmless ends the connection with an error
//! that names it: dropping it silently would leave the client with a session other than the one it asked for.
//!
//! `options` is read as Postgres reads it: `pg_split_opts` (postinit.c), then `process_postgres_switches` (postgres.c).

use super::settings::SessionSettings;
use crate::judge::{self, EffectKind};
use crate::wire::reply::{ClientFacing, Report};
use crate::wire::startup::StartupPacket;

/// Checks all parameters; repeated ones too, although Postgres uses only the last of some.
///
/// # Errors
/// [`Refusal`], naming the parameter.
pub(super) fn check(startup: &StartupPacket, settings: &SessionSettings) -> Result<(), Refusal> {
    for (name, value) in startup.parameters() {
        match name {
            b"user" | b"database" => {}
            b"replication" => check_replication(value, settings)?,
            b"options" => check_options(value, settings)?,
            // Extensions of the protocol are the server's to accept or not (NegotiateProtocolVersion).
            _ if name.starts_with(b"_pq_.") => {}
            _ => check_setting(name, value, settings)?,
        }
    }
    Ok(())
}

/// Whether a session begins as its user's sessions in this database do, with text in UTF-8: its packet asks for nothing that bears
/// on what a text means.
pub(super) fn is_plain(startup: &StartupPacket) -> bool {
    let encoding = |value: &[u8]| value.eq_ignore_ascii_case(b"utf8") || value.eq_ignore_ascii_case(b"utf-8");
    startup.parameters().all(|(name, value)| match name {
        b"user" | b"database" | b"application_name" | b"extra_float_digits" => true,
        b"client_encoding" => encoding(value),
        // Fail closed: roles, paths and styles come in many ways (`options` is one).
        _ => false,
    }) && startup.parameter("client_encoding").is_some_and(encoding)
}

/// Why a startup packet is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A replication connection.
    Replication,
    /// A setting that is not known to be harmless.
    Setting {
        /// Its name, as Postgres folds it.
        name: String,
    },
    /// A setting that would change how later statements are read.
    Reading {
        /// Its name, as Postgres folds it.
        name: String,
    },
    /// `options` holds something other than `-c name=value` and `--name=value`.
    Switch {
        /// What.
        switch: String,
    },
}

impl ClientFacing for Refusal {
    fn report(&self) -> Report {
        match self {
            Self::Replication => Report::fatal("0A000", "replication connections are not allowed through this gate")
                .with_detail("Replication commands cannot be judged statement by statement.")
                .with_hint("Connect to the server directly, or ask the gate's operator to allow replication."),
            Self::Setting { name } => {
                Report::fatal("42501", format!("setting \"{}\" is not allowed in the startup packet", shown(name)))
                    .with_detail("querygate lets only harmless settings pass at connection start.")
                    .with_hint(
                        "Remove it from the connection's options and run SET after connecting: that can be approved.",
                    )
            }
            Self::Reading { name } => Report::fatal(
                "42501",
                format!("this value of setting \"{}\" is not allowed in the startup packet", shown(name)),
            )
            .with_detail("It changes how the text of later statements is read, so they could not be judged.")
            .with_hint("Remove it from the connection's options."),
            Self::Switch { switch } => {
                Report::fatal("42501", format!("\"{}\" is not allowed in the startup packet's options", shown(switch)))
                    .with_hint("Only -c name=value and --name=value are.")
            }
        }
    }
}

/// Anything but a clear "no" makes Postgres a WAL sender, or is an error there. Fail closed: it is a "yes" here.
fn check_replication(value: &[u8], settings: &SessionSettings) -> Result<(), Refusal> {
    if settings.allow_replication || is_false(value) { Ok(()) } else { Err(Refusal::Replication) }
}

fn check_options(options: &[u8], settings: &SessionSettings) -> Result<(), Refusal> {
    // `isspace` of the server depends on its locale: these two bytes are spaces in some. Fail closed: fine must be fine in
    // both readings.
    let ascii_only = |byte: u8| is_space(byte);
    let with_latin1 = |byte: u8| is_space(byte) || byte == 0x85 || byte == 0xA0;
    check_switches(&split_options(options, ascii_only), settings)?;
    if options.iter().any(|&byte| byte >= 0x80) {
        check_switches(&split_options(options, with_latin1), settings)?;
    }
    Ok(())
}

fn check_switches(arguments: &[Vec<u8>], settings: &SessionSettings) -> Result<(), Refusal> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let refuse = || Refusal::Switch { switch: String::from_utf8_lossy(argument).into_owned() };
        let assignment = match argument.as_slice() {
            // getopt: the value of `-c` is the rest of the argument, or else the next one, whatever that begins with.
            b"-c" => arguments.next().ok_or_else(refuse)?.as_slice(),
            // `--` alone ends the switches.
            b"--" => return Err(refuse()),
            [b'-', b'-' | b'c', assignment @ ..] => assignment,
            _ => return Err(refuse()),
        };
        let at = assignment.iter().position(|&byte| byte == b'=').ok_or_else(refuse)?;
        let (name, value) = assignment.split_at_checked(at).ok_or_else(refuse)?;
        // ParseLongOption (guc.c).
        let name: Vec<u8> = name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect();
        check_setting(&name, value.get(1..).unwrap_or_default(), settings)?;
    }
    Ok(())
}

/// `pg_split_opts`: arguments end at white space; a backslash takes the next byte as it is.
fn split_options(options: &[u8], is_space: impl Fn(u8) -> bool) -> Vec<Vec<u8>> {
    let mut arguments = Vec::new();
    let mut rest = options.iter().copied().peekable();
    loop {
        while rest.next_if(|&byte| is_space(byte)).is_some() {}
        if rest.peek().is_none() {
            return arguments;
        }
        let mut argument = Vec::new();
        let mut escaped = false;
        while let Some(byte) = rest.next_if(|&byte| escaped || !is_space(byte)) {
            if byte == b'\\' && !escaped {
                escaped = true;
            } else {
                escaped = false;
                argument.push(byte);
            }
        }
        arguments.push(argument);
    }
}

/// C's `isspace` in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0B | 0x0C | b'\r')
}

fn check_setting(name: &[u8], value: &[u8], settings: &SessionSettings) -> Result<(), Refusal> {
    // Postgres compares names of settings without regard to ASCII case (`guc_name_compare`).
    let name = String::from_utf8_lossy(&name.to_ascii_lowercase()).into_owned();
    let effect = if name == "client_encoding" && is_ascii_transparent(value) {
        // More than the judge lets SET do: text in these encodings is cut right, and held where it is not UTF-8.
        EffectKind::Session
    } else {
        judge::setting_effect(&name, &String::from_utf8_lossy(value))
    };
    if effect == EffectKind::ReadingSetting {
        Err(Refusal::Reading { name })
    } else if effect == EffectKind::Session || settings.extra_startup_settings.contains(&name) {
        Ok(())
    } else {
        // Fail closed: unknown, or known to matter.
        Err(Refusal::Setting { name })
    }
}

/// Names that are no family, as `clean_encoding_name` leaves them.
const TRANSPARENT: [&[u8]; 19] = [
    b"utf8",
    b"unicode",
    b"sqlascii",
    b"eucjp",
    b"euccn",
    b"euckr",
    b"euctw",
    b"eucjis2004",
    b"koi8",
    b"koi8r",
    b"koi8u",
    b"abc",
    b"alt",
    b"win",
    b"tcvn",
    b"tcvn5712",
    b"vscii",
    b"muleinternal",
    b"windows866",
];

/// Encodings in which every byte below 0x80 is the ASCII character: those a server may use itself (`PG_ENCODING_BE_LAST` in
/// `pg_wchar.h`). Of the others a character's second byte may be a quote or a backslash.
fn is_ascii_transparent(encoding: &[u8]) -> bool {
    // `clean_encoding_name` (encnames.c) ignores everything but letters and digits.
    let name: Vec<u8> =
        encoding.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    let is_numbered = |prefix: &[u8]| {
        name.strip_prefix(prefix)
            .is_some_and(|number| (1..=2).contains(&number.len()) && number.iter().all(u8::is_ascii_digit))
    };
    TRANSPARENT.contains(&name.as_slice())
        || name == b"win866"
        || [b"latin".as_slice(), b"iso8859", b"win125", b"windows125"].iter().any(|prefix| is_numbered(prefix))
}

/// `parse_bool` (bool.c): unique prefixes, any case.
pub(super) fn is_false(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    !value.is_empty()
        && (value == b"0"
            || (value.len() > 1 && b"off".starts_with(&value))
            || b"false".starts_with(&value)
            || b"no".starts_with(&value))
}

/// For error messages: names come from strangers.
fn shown(text: &str) -> String {
    const SHOWN: usize = 63;
    text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

    use proptest::prelude::*;

    use super::*;
    use crate::wire::startup::{InitialPacket, MAX_STARTUP_BODY, cut};

    fn verdict_with(pairs: &[(&str, &str)], settings: &SessionSettings) -> Result<(), Refusal> {
        let mut body = (3_u32 << 16).to_be_bytes().to_vec();
        for (name, value) in pairs {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        let mut packet = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
        packet.extend_from_slice(&body);
        let Ok(Some((InitialPacket::Startup(startup), _))) = cut(&packet, MAX_STARTUP_BODY) else { panic!() };
        check(&startup, settings)
    }

    fn verdict(pairs: &[(&str, &str)]) -> Result<(), Refusal> {
        verdict_with(pairs, &SessionSettings::default())
    }

    fn options(options: &str) -> Result<(), Refusal> {
        verdict(&[("user", "ann"), ("options", options)])
    }

    #[test]
    fn what_common_drivers_send_passes() {
        let drivers: [&[(&str, &str)]; 5] = [
            &[("user", "a"), ("database", "b"), ("application_name", "psql"), ("client_encoding", "UTF8")],
            &[
                ("user", "a"),
                ("client_encoding", "UTF8"),
                ("DateStyle", "ISO"),
                ("TimeZone", "Europe/Zurich"),
                ("extra_float_digits", "2"),
            ],
            &[("user", "a"), ("options", "-c search_path=shop -c statement_timeout=5min")],
            &[("user", "a"), ("replication", "false"), ("_pq_.x", "y")],
            &[
                ("user", "a"),
                ("jit", "off"),
                ("enable_seqscan", "off"),
                ("client_encoding", "'utf-8'"),
                ("standard_conforming_strings", "on"),
            ],
        ];
        for pairs in drivers {
            assert_eq!(verdict(pairs), Ok(()), "{pairs:?}");
        }
    }

    #[test]
    fn settings_not_known_to_be_harmless_are_named_and_refused() {
        for name in [
            "session_replication_role",
            "ROLE",
            "Allow_System_Table_Mods",
            "session_authorization",
            "plperl.on_init",
            "User",
            "search_path\u{e9}",
        ] {
            let refused = verdict(&[("user", "ann"), (name, "x")]);
            assert_eq!(refused, Err(Refusal::Setting { name: name.to_ascii_lowercase() }));
        }
        let report = verdict(&[("role", "postgres")]).unwrap_err().report();
        assert!(report.message.contains("\"role\""), "{report:?}");
        assert_eq!(options("-c =x"), Err(Refusal::Setting { name: String::new() }));
    }

    #[test]
    fn a_path_to_schemas_that_act_is_refused_however_it_is_spelt() {
        let refusal = Err(Refusal::Setting { name: "search_path".to_owned() });
        for path in ["cron", "CRON", "public, Cron", "\"cron\""] {
            assert_eq!(verdict(&[("user", "ann"), ("search_path", path)]), refusal, "{path}");
        }
        assert_eq!(options("-c search_path=Cron"), refusal);
        assert_eq!(options("--search-path=public,CRON"), refusal);
        assert_eq!(options("-c search_path=\"CRON\",public"), Ok(()));
    }

    #[test]
    fn an_operator_can_add_settings() {
        let settings =
            SessionSettings { extra_startup_settings: vec!["plperl.on_init".to_owned()], ..SessionSettings::default() };
        assert_eq!(verdict_with(&[("PLPerl.on_init", "7")], &settings), Ok(()));
    }

    #[test]
    fn settings_that_change_reading_are_refused_by_value() {
        for (name, value, fine) in [
            ("standard_conforming_strings", "on", true),
            ("standard_conforming_strings", "TRUE", true),
            ("standard_conforming_strings", "yes", true),
            ("standard_conforming_strings", "off", false),
            ("standard_conforming_strings", "o", false),
            ("standard_conforming_strings", "", false),
            ("backslash_quote", "safe_encoding", true),
            ("backslash_quote", "on", false),
            ("client_encoding", "utf8", true),
            ("client_encoding", "UNICODE", true),
            ("client_encoding", "LATIN1", true),
            ("client_encoding", "latin10", true),
            ("client_encoding", "iso-8859-15", true),
            ("client_encoding", "WIN1252", true),
            ("client_encoding", "windows-1252", true),
            ("client_encoding", "EUC_JIS_2004", true),
            ("client_encoding", "koi8r", true),
            ("client_encoding", "SQL_ASCII", true),
            ("client_encoding", "SJIS", false),
            ("client_encoding", "mskanji", false),
            ("client_encoding", "Shift_JIS", false),
            ("client_encoding", "windows932", false),
            ("client_encoding", "win936", false),
            ("client_encoding", "BIG5", false),
            ("client_encoding", "GBK", false),
            ("client_encoding", "UHC", false),
            ("client_encoding", "GB18030", false),
            ("client_encoding", "JOHAB", false),
            ("client_encoding", "SHIFT_JIS_2004", false),
            ("client_encoding", "", false),
        ] {
            let wanted = if fine { Ok(()) } else { Err(Refusal::Reading { name: name.to_owned() }) };
            assert_eq!(verdict(&[(name, value)]), wanted, "{name}={value}");
            if !value.is_empty() {
                assert_eq!(options(&format!("-c {name}={value}")), wanted, "-c {name}={value}");
                assert_eq!(options(&format!("--{}={value}", name.replace('_', "-"))), wanted, "--{name}={value}");
            }
        }
    }

    #[test]
    fn replication_passes_only_as_a_clear_no_or_where_allowed() {
        for value in ["false", "0", "off", "no", "n", "F", "of"] {
            assert_eq!(verdict(&[("replication", value)]), Ok(()), "{value}");
        }
        let allowed = SessionSettings { allow_replication: true, ..SessionSettings::default() };
        for value in ["true", "1", "on", "database", "yes", "o", "", "nonsense"] {
            assert_eq!(verdict(&[("replication", value)]), Err(Refusal::Replication), "{value}");
            assert_eq!(verdict_with(&[("replication", value)], &allowed), Ok(()), "{value}");
        }
        // A later "no" does not undo `database` in Postgres.
        assert_eq!(verdict(&[("replication", "database"), ("replication", "false")]), Err(Refusal::Replication));
    }

    #[test]
    fn options_are_split_as_postgres_splits_them() {
        let split = |text: &str| -> Vec<String> {
            split_options(text.as_bytes(), is_space).into_iter().map(|a| String::from_utf8(a).unwrap()).collect()
        };
        assert_eq!(split("  -c a=b\t--x=y  "), ["-c", "a=b", "--x=y"]);
        assert_eq!(split(r"-c search_path=a\ b\\c"), ["-c", r"search_path=a b\c"]);
        assert_eq!(split("a\u{b}b\u{c}c"), ["a", "b", "c"]);
        assert_eq!(split(r"a\"), ["a"]);
        assert_eq!(split(r"\ "), [" "]);
        assert_eq!(split(""), [""; 0]);
    }

    #[test]
    fn only_assignments_are_accepted_among_the_switches() {
        for fine in [
            "",
            " ",
            "-c work_mem=1MB",
            "-cwork_mem=1MB",
            "--work-mem=1MB",
            r"-c search_path=a,\ b",
            "-c application_name=-O",
            "-c application_name=\u{e9}t\u{e9}",
        ] {
            assert_eq!(options(fine), Ok(()), "{fine}");
        }
        for (bad, shown) in [
            ("-O", "-O"),
            ("-P", "-P"),
            ("-fs", "-fs"),
            ("-tpl", "-tpl"),
            ("-F", "-F"),
            ("-e", "-e"),
            ("-S 100", "-S"),
            ("--", "--"),
            ("-", "-"),
            ("shop", "shop"),
            ("-c", "-c"),
            ("-c work_mem", "-c"),
            ("--work_mem", "--work_mem"),
            ("-c work_mem=1MB shop", "shop"),
            ("-Ocwork_mem=1MB", "-Ocwork_mem=1MB"),
            ("-W 5", "-W"),
            ("-vfoo", "-vfoo"),
        ] {
            assert_eq!(options(bad), Err(Refusal::Switch { switch: shown.to_owned() }), "{bad}");
        }
        for hidden in [
            "-c work_mem=1MB -c role=postgres",
            "-crole=postgres",
            "--role=postgres",
            r"-c ro\le=postgres",
            r"\-c role=postgres",
            "-c Role=postgres",
            "-c -role=x --role=postgres",
        ] {
            assert!(matches!(options(hidden), Err(Refusal::Setting { .. })), "{hidden}");
        }
    }

    #[test]
    fn bytes_that_are_spaces_only_in_some_locales_hide_nothing() {
        let packet = b"-c application_name=x\xA0-c\xA0role=postgres";
        let result = check_options(packet, &SessionSettings::default());
        assert_eq!(result, Err(Refusal::Setting { name: "role".to_owned() }));
    }

    proptest! {
        #[test]
        fn what_passes_sets_only_harmless_settings_in_postgres(
            text in r"([-c=\\ O]|role|work_mem|fsync| -c | --| -c work_mem=|-O ){0,12}",
        ) {
            if options(&text).is_ok() {
                let set = switches_of_postgres(&split_options(text.as_bytes(), is_space));
                prop_assert!(set.is_some(), "{text:?} is an error in Postgres");
                for name in set.unwrap() {
                    prop_assert!(judge::setting_effect(&name, "1") == EffectKind::Session, "{text:?} sets {name:?}");
                }
            }
        }
    }

    /// `process_postgres_switches` with POSIX `getopt`: the settings set; `None` for an error or a database name.
    fn switches_of_postgres(arguments: &[Vec<u8>]) -> Option<Vec<String>> {
        let with_value = b"BCcDdfhklNprSstvW-";
        let mut set = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument.first() != Some(&b'-') || argument.len() < 2 || argument == b"--" {
                return None;
            }
            for (at, letter) in argument[1..].iter().enumerate() {
                if !with_value.contains(letter) {
                    set.push(format!("switch {}", char::from(*letter)));
                    continue;
                }
                let rest = &argument[at + 2..];
                let value = if rest.is_empty() { arguments.next()?.as_slice() } else { rest };
                if matches!(letter, b'c' | b'-') {
                    let text = String::from_utf8(value.to_vec()).unwrap();
                    set.push(text.split_once('=')?.0.replace('-', "_").to_ascii_lowercase());
                } else {
                    set.push(format!("switch {}", char::from(*letter)));
                }
                break;
            }
        }
        Some(set)
    }
}
