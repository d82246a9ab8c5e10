//! Claims about the configuration file.

#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::judge::{Facts, Interpreter, Verdict};

/// A world made of a map; everything in it is private unless its name says otherwise.
#[derive(Default)]
struct Fake {
    variables: BTreeMap<&'static str, String>,
    files: BTreeMap<&'static str, String>,
    public: bool,
}

impl Sources for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn file(&self, path: &Path) -> io::Result<(String, bool)> {
        let name = path.to_str().unwrap();
        let text = self.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok((text.clone(), name.contains("public")))
    }

    fn matching(&self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let pattern = self.path(Path::new(pattern)).to_str().unwrap().to_owned();
        let glob = Glob::try_from(pattern).unwrap();
        Ok(self.files.keys().filter(|name| glob.matches(name)).map(PathBuf::from).collect())
    }

    fn path(&self, written: &Path) -> PathBuf {
        Path::new("/etc/querygate").join(written)
    }

    fn is_public(&self) -> bool {
        self.public
    }

    fn evaluator(&self, policy: &RegoParts) -> Result<Box<dyn Evaluate>, String> {
        Ok(Box::new(Interpreter::new(policy)?))
    }
}

fn parse(text: &str) -> Settings {
    Settings::parse(text, &Fake::default()).unwrap_or_else(|problems| panic!("{problems:#?}")).settings
}

/// `line: message` of every error.
fn errors(text: &str) -> Vec<String> {
    errors_in(text, &Fake::default())
}

fn errors_in(text: &str, world: &Fake) -> Vec<String> {
    let problems = Settings::parse(text, world).err().unwrap_or_default();
    problems
        .into_iter()
        .filter(|problem| problem.fatal)
        .map(|problem| format!("{}: {}", problem.place.map_or(0, |(line, _)| line), problem.message))
        .collect()
}

fn debug(settings: &Settings) -> String {
    format!("{settings:#?}")
}

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// The example with its optional lines (`#key = …`, no space) switched on.
fn example_in_full() -> String {
    let optional = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
            .map(str::to_owned)
    };
    EXAMPLE.lines().map(|line| optional(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn the_example_says_what_an_empty_file_means() {
    let example = parse(EXAMPLE);
    assert_eq!(debug(&example), debug(&parse("")));
    let mut default = Settings::default();
    for path in [&mut default.store.path, &mut default.store.audit_file] {
        // Where a default path is depends on where the configuration is.
        *path = path.take().map(|path| Fake::default().path(&path));
    }
    assert_eq!(debug(&example), debug(&default));
    assert_eq!(example.policy.version(), Policy::shipped().version());
}

#[test]
fn the_example_mentions_every_key_and_its_optional_lines_are_right() {
    let text = example_in_full();
    let world = Fake {
        variables: BTreeMap::from([
            ("QUERYGATE_TOKEN_CI", "token-from-the-environment".to_owned()),
            ("QUERYGATE_SLACK_BOT_TOKEN", "xoxb-1".to_owned()),
            ("QUERYGATE_SLACK_APP_TOKEN", "xapp-1".to_owned()),
            ("QUERYGATE_SLACK_SIGNING_SECRET", "secret".to_owned()),
            ("QUERYGATE_IMPACT_PASSWORD", "secret".to_owned()),
            ("QUERYGATE_UNDO_PASSWORD", "secret".to_owned()),
            ("QUERYGATE_UNDO_SECRET", "secret-that-is-long-enough-for-a-key".to_owned()),
        ]),
        files: BTreeMap::from([
            ("/etc/querygate/cem.token", "token-from-a-file\n".to_owned()),
            ("/etc/querygate/OWNERS", String::new()),
            ("/etc/querygate/policy.rego", "package querygate\ndecision := {\"action\": \"hold\"}\n".to_owned()),
            ("/etc/querygate/tables.json", "{}".to_owned()),
            ("/etc/querygate/slack-bot.token", "xoxb-2\n".to_owned()),
            ("/etc/querygate/slack-app.token", "xapp-2\n".to_owned()),
            ("/etc/querygate/slack-signing.secret", "secret\n".to_owned()),
            ("/etc/querygate/impact.password", "secret\n".to_owned()),
            ("/etc/querygate/undo.password", "secret\n".to_owned()),
            ("/etc/querygate/undo.secret", "secret-that-is-long-enough-for-a-key\n".to_owned()),
        ]),
        public: false,
    };
    let (_, problems, known) = sections::read(&text, &world);
    let off_in_the_example = ["nobody may approve", "[impact] is off"];
    let expected = |message: &str| off_in_the_example.iter().any(|part| message.contains(part));
    let other: Vec<_> = problems.iter().filter(|problem| !expected(&problem.message)).collect();
    assert!(other.is_empty(), "{other:#?}\n{text}");
    let mentioned: BTreeSet<String> = keys(&toml::from_str(&text).unwrap(), "");
    let missing: Vec<_> = known.difference(&mentioned).collect();
    assert!(missing.is_empty(), "config.example.toml does not mention {missing:?}");
}

#[test]
fn a_policy_in_rego_that_is_wrong_is_an_error() {
    let world = |text: &str| Fake {
        files: BTreeMap::from([("/etc/querygate/p.rego", format!("package querygate\n{text}\n"))]),
        ..Fake::default()
    };
    let config = "[policy]\nengine = \"rego\"\nrego = [\"p.rego\"]\n";
    assert_eq!(errors_in(config, &world("decision := {\"action\": \"hold\"}")), [""; 0]);
    for (config, text, told) in [
        (config, "decision := {", "p.rego"),
        (config, "decision := nothing(1)", "the policy in Rego"),
        ("[policy]\nengine = \"rego\"\n", "", "needs `rego ="),
        ("[policy]\nengine = \"rego\"\nrego = [\"q.rego\"]\n", "", "no such file"),
        ("[policy]\nrego = [\"p.rego\"]\n", "", "need `engine"),
        ("[policy]\nrego_limit = \"2s\"\n", "", "at most a second"),
    ] {
        let errors = errors_in(config, &world(text));
        assert!(errors.len() == 1 && errors[0].contains(told), "{config}{text}: {errors:?}");
    }
}

fn keys(table: &toml::Table, path: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (key, value) in table {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        all.insert(full.clone());
        match value {
            toml::Value::Table(inner) => all.extend(keys(inner, &full)),
            toml::Value::Array(items) => {
                all.extend(
                    items.iter().filter_map(toml::Value::as_table).flat_map(|inner| keys(inner, &format!("{full}[]"))),
                );
            }
            _ => {}
        }
    }
    all
}

#[test]
fn every_unknown_key_is_told_with_its_line_and_nearest_match() {
    let found = errors(
        "[listen]\nadress = \"127.0.0.1:1\"\n[hold]\n\nper_usr = 3\n[polices]\n[listen.tls]\nmoed = \"disable\"\n",
    );
    assert_eq!(
        found,
        [
            "2: unknown key `adress` in [listen]; did you mean `address`?",
            "5: unknown key `per_usr` in [hold]; did you mean `per_user`?",
            "6: unknown key `polices`; did you mean `policy`?",
            "8: unknown key `moed` in [listen.tls]; did you mean `mode`?",
        ]
    );
    assert_eq!(errors("[log]\nxyzzy = 1\n"), ["2: unknown key `xyzzy` in [log]; it knows `filter`, `format`"]);
}

#[test]
fn wrong_values_are_told_all_at_once_with_their_lines() {
    let found = errors(
        "[listen]\naddress = \"localhost\"\n[upstream]\nport = 70000\nsslmode = \"allow\"\n[hold]\ndeadline = \"soon\"\nper_user = 0\n\
         [limits]\nread_ahead_bytes = \"1 MB\"\nmax_statement_bytes = -1\nworkers = 0\nstartup_deadline = \"0s\"\n[log]\nformat = \"xml\"\nfilter = \"a=b=c\"",
    );
    let lines: Vec<&str> = found.iter().map(|error| error.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["2", "4", "5", "7", "8", "10", "11", "12", "13", "15", "16"], "{found:#?}");
}

#[test]
fn syntax_errors_have_a_line_and_do_not_hide_the_others() {
    let found = errors("[listen]\naddress = 127.0.0.1\n[log]\nfromat = \"json\"\n");
    assert!(found.iter().any(|error| error.starts_with("2:")), "{found:?}");
    assert!(found.iter().any(|error| error.contains("did you mean `format`")), "{found:?}");
}

#[test]
fn sizes_and_times_are_read_as_people_write_them() {
    let settings = parse(
        "[limits]\nread_ahead_bytes = \"64KiB\"\nmax_statement_bytes = 4096\n[hold]\ndeadline = \"1h 30m\"\nreminder_interval = \"0s\"\n",
    );
    assert_eq!(settings.session.read_ahead_bytes, 65_536);
    assert_eq!(settings.session.max_statement_bytes, 4_096);
    assert_eq!(settings.session.hold_deadline.as_secs(), 5_400);
    assert!(settings.session.reminder_interval.is_zero());
}

#[test]
fn paths_are_relative_to_the_configuration() {
    let settings = parse("[listen.tls]\nmode = \"require\"\ncertificate = \"gate.crt\"\nkey = \"/keys/gate.key\"\n");
    assert_eq!(settings.listen.tls.certificate.unwrap(), Path::new("/etc/querygate/gate.crt"));
    assert_eq!(settings.listen.tls.key.unwrap(), Path::new("/keys/gate.key"));
}

#[test]
fn the_record_is_beside_the_configuration_and_may_be_kept_without_its_audit_file() {
    let store = parse("[audit]\nfile = \"none\"\nredact = \"literals\"\ncheckpoint_key = \"audit.key\"\n").store;
    assert_eq!(store.path.unwrap(), Path::new("/etc/querygate/querygate.db"));
    assert_eq!((store.audit_file, store.redact), (None, crate::store::Redact::Literals));
    assert_eq!(store.checkpoint_key.unwrap(), Path::new("/etc/querygate/audit.key"));
    let rule = "[[rule]]\nname = \"cards\"\naction = \"hold\"\nredact = ";
    let policy = parse(&format!("{rule}\"all\"\n")).policy;
    assert_eq!(policy.rules().map(|rule| rule.redact).collect::<Vec<_>>(), [crate::judge::Redact::All]);
    assert_eq!(errors(&format!("{rule}\"some\"\n")).len(), 1);
    let found = errors("[store]\nqueue = 0\npatience = \"0s\"\n[audit]\nredact = \"some\"\ncheckpoint_every = 0\n");
    let lines: Vec<&str> = found.iter().map(|error| error.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["2", "3", "5", "6"], "{found:#?}");
}

#[test]
fn tls_without_a_certificate_is_an_error() {
    assert_eq!(errors("[listen.tls]\nmode = \"prefer\"\nkey = \"k\"\n").len(), 1);
    assert_eq!(errors("[upstream]\ncertificate = \"c\"\n").len(), 1);
}

#[test]
fn tokens_come_from_text_file_environment_or_digest_and_name_their_person() {
    let world = Fake {
        variables: BTreeMap::from([("TOKEN", "token-from-the-environment".to_owned())]),
        files: BTreeMap::from([("/run/token", "token-from-the-file-here\n".to_owned())]),
        public: false,
    };
    let digest = crate::approval::TokenDigest::of("token-behind-the-digest").unwrap().to_hex();
    let text = format!(
        "[approval]\napprovers = [\"a\"]\n\
         [[people]]\nname = \"a\"\ntoken = \"token-in-the-text-here\"\n[[people]]\nname = \"b\"\ntoken_file = \"/run/token\"\n\
         [[people]]\nname = \"c\"\ntoken_env = \"TOKEN\"\n[[people]]\nname = \"d\"\ntoken_sha256 = \"{digest}\"\n"
    );
    let loaded = Settings::parse(&text, &world).unwrap();
    assert_eq!(loaded.warnings, []);
    let people = loaded.settings.approval.people;
    let who = |token: &str| people.by_token(token).map(|person| person.name.clone());
    for (token, name) in [
        ("token-in-the-text-here", "a"),
        ("token-from-the-file-here", "b"),
        ("token-from-the-environment", "c"),
        ("token-behind-the-digest", "d"),
    ] {
        assert_eq!(who(token).as_deref(), Some(name));
    }
}

#[test]
fn no_error_repeats_a_secret() {
    let world = Fake { variables: BTreeMap::from([("SHORT", "hunter2".to_owned())]), ..Fake::default() };
    let text = "[[people]]\nname = \"a\"\ntoken = \"hunter2\"\n[[people]]\nname = \"b\"\ntoken_env = \"SHORT\"\n\
                [[people]]\nname = \"c\"\ntoken_sha256 = \"hunter2\"\n[[people]]\nname = \"d\"\ntoken = [\"hunter2\"]\n";
    let found = errors_in(text, &world);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(!found.concat().contains("hunter2"), "{found:#?}");
}

#[test]
fn secrets_that_everybody_can_read_are_warned_of() {
    let world = Fake {
        files: BTreeMap::from([("/run/public", "token-from-the-file-here".to_owned())]),
        public: true,
        ..Fake::default()
    };
    let text = "[approval]\napprovers = [\"a\"]\n[[people]]\nname = \"a\"\ntoken = \"token-in-the-text-here\"\ntoken_file = \"/run/public\"\n";
    let warnings = Settings::parse(text, &world).unwrap().warnings;
    assert_eq!(warnings.iter().map(|warning| warning.place.unwrap().0).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn approvers_who_do_not_exist_are_errors_and_none_at_all_is_a_warning() {
    let text = "[approval]\napprovers = [\"anne\"]\napprover_groups = [\"dbas\"]\n[[people]]\nname = \"ann\"\ngroups = [\"dba\"]\n";
    let found = errors(text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("did you mean `ann`") && found[1].contains("did you mean `dba`"), "{found:#?}");
    let warnings = Settings::parse("", &Fake::default()).unwrap().warnings;
    assert!(warnings[0].message.contains("nobody may approve"), "{warnings:?}");
}

fn facts<'a>() -> Facts<'a> {
    Facts { user: "app", database: "shop", application_name: "", client_addr: None, ..Facts::default() }
}

#[test]
fn rules_of_the_file_replace_the_shipped_ones_or_stand_before_them() {
    let rule = "[[rule]]\nname = \"no-drops\"\naction = \"reject\"\neffects = [\"drop\"]\nmessage = \"ask in #dba\"\n";
    let names = |text: &str| parse(text).policy.rules().map(|rule| rule.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(rule), ["no-drops"]);
    let before = names(&format!("{rule}[policy]\nfallback = \"shipped\"\n"));
    assert_eq!(before.len(), Policy::shipped().rules().count() + 1);
    assert_eq!(before[0], "no-drops");
    assert_eq!(names("[policy]\nfallback = \"hold\"\n"), names(""));
}

#[test]
fn a_rule_read_with_line_numbers_is_the_rule_the_judge_reads() {
    let text = "[[freeze]]\nname = \"f\"\nfrom = 2026-12-20\nuntil = \"2027-01-04T00:00:00Z\"\nzone = \"Europe/Berlin\"\nreason = \"r\"\n\
                [[rule]]\npeople = [\"a*\"]\ngroups = [\"g\"]\ntimes = [{ days = [\"fri-mon\"], from = \"22:00\", until = \"06:00\", zone = \"Europe/Berlin\" }]\n\
                frozen = [\"f\"]\ncolumns = [\"c*\"]\ntags = { route = [\"/pay\"] }\nname = \"n\"\naction = \"hold\"\nmessage = \"m\"\nusers = [\"u*\"]\ndatabases = [\"d\"]\napplication_names = [\"psql\"]\n\
                addresses = [\"10.0.0.0/8\", \"unix\"]\neffects = [\"drop\", \"copy-server-file\"]\nobjects = [\"a.*\", \"b\"]\nhas_where = false\nin_transaction = true\n";
    assert_eq!(parse(text).policy.version(), Policy::from_toml(text).unwrap().version());
}

#[test]
fn wrong_rules_are_told_with_their_lines_and_give_no_policy() {
    let found = errors(
        "[[rule]]\nname = \"a\"\naction = \"alow\"\n[[rule]]\naction = \"hold\"\n[[rule]]\nname = \"b\"\naction = \"hold\"\neffects = [\"dorp\"]\n\
         users = []\nobjects = [\"a.b.c\"]\naddresses = [\"10.0.0.1/8\"]\nuser = [\"x\"]\n[[rule]]\nname = \"b\"\naction = \"allow\"\n[[rule]]\nname = \"default\"\naction = \"allow\"\n",
    );
    for (line, part) in [
        (3, "alow"),
        (1, "no usable `action`"),
        (4, "no usable `name`"),
        (9, "dorp"),
        (10, "empty list"),
        (11, "`name` or `schema.name`"),
        (12, "beyond its prefix"),
        (13, "did you mean `users`"),
        (14, "another rule named `b`"),
    ] {
        assert!(
            found.iter().any(|error| error.starts_with(&format!("{line}: ")) && error.contains(part)),
            "line {line}, {part}: {found:#?}"
        );
    }
    assert_eq!(errors("[[rule]]\nname = \"default\"\naction = \"allow\"\n").len(), 1);
}

#[test]
fn freezes_are_told_with_their_lines_and_rules_name_only_those_there_are() {
    let rule = "[[rule]]\nname = \"a\"\naction = \"hold\"\nfrozen = ";
    for (text, line, part) in [
        (format!("{rule}[\"f\"]\n"), 0, "no [[freeze]] named `f`"),
        (format!("{rule}true\n[[freeze]]\nname = \"f\"\nfrom = 2026-12-20\n"), 5, "needs a usable"),
        (format!("{rule}true\n[[freeze]]\nname = \"f\"\nfrom = 2026-12-20\nuntil = 2026-12-19\n"), 5, "ends before"),
        (format!("{rule}1\n"), 4, "frozen"),
        (format!("{rule}true\ntimes = [{{ from = \"9\" }}]\n"), 5, "HH:MM"),
    ] {
        let found = errors(&text);
        assert!(
            found.iter().any(|error| error.starts_with(&format!("{line}: ")) && error.contains(part)),
            "{found:#?}"
        );
    }
}

#[test]
fn rules_of_included_files_stand_behind_those_of_the_configuration_in_order() {
    let rule = |name: &str| format!("[[rule]]\nname = \"{name}\"\naction = \"hold\"\neffects = [\"drop\"]\n");
    let freeze = "[[freeze]]\nname = \"f\"\nfrom = 2026-12-20\nuntil = 2027-01-04\n";
    let world = Fake {
        files: BTreeMap::from([
            ("/etc/querygate/policies/b.toml", rule("b1") + &rule("b2")),
            ("/etc/querygate/policies/a.toml", rule("a")),
            ("/etc/querygate/last.toml", freeze.to_owned() + &rule("last") + "frozen = [\"f\"]\n"),
        ]),
        ..Fake::default()
    };
    let text =
        format!("[policy]\ninclude = [\"policies/*.toml\", \"last.toml\"]\nfallback = \"shipped\"\n{}", rule("own"));
    let settings = Settings::parse(&text, &world).unwrap().settings;
    let names: Vec<_> = settings.policy.rules().map(|rule| rule.name.clone()).collect();
    assert_eq!(names[..5], ["own", "a", "b1", "b2", "last"]);
    assert_eq!(names.len(), 5 + Policy::shipped().rules().count());
    assert_eq!(settings.policy.freezes().len(), 1);
    let alone = Settings::parse("[policy]\ninclude = [\"policies/a.toml\"]\n", &world).unwrap().settings;
    assert_eq!(alone.policy.rules().map(|rule| rule.name.clone()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn what_is_wrong_in_an_included_file_is_told_with_its_name_and_line() {
    let world = Fake {
        files: BTreeMap::from([
            ("/etc/querygate/a.toml", "[[rule]]\nname = \"own\"\naction = \"hold\"\n".to_owned()),
            (
                "/etc/querygate/b.toml",
                "\n[[rule]]\nname = \"b\"\naction = \"alow\"\n[[people]]\nname = \"x\"\n".to_owned(),
            ),
            ("/etc/querygate/c.toml", "[[rule]".to_owned()),
        ]),
        ..Fake::default()
    };
    let text = "[policy]\ninclude = [\"a.toml\", \"b.toml\", \"c.toml\", \"d/*.toml\"]\n[[rule]]\nname = \"own\"\naction = \"hold\"\neffects = [\"drop\"]\n";
    let problems = Settings::parse(text, &world).unwrap_err();
    let told: Vec<_> =
        problems.iter().filter(|problem| problem.fatal).map(|one| one.display(Path::new("m.toml"))).collect();
    for (start, part) in [
        ("/etc/querygate/a.toml:1:", "another rule named `own`"),
        ("/etc/querygate/b.toml:4:", "alow"),
        ("/etc/querygate/b.toml:5:", "unknown key `people`"),
        ("/etc/querygate/c.toml:1:", ""),
        ("m.toml:2:", "`d/*.toml`: there is no such file"),
    ] {
        assert!(told.iter().any(|line| line.starts_with(start) && line.contains(part)), "{start} {part}: {told:#?}");
    }
}

#[test]
fn a_rule_for_people_or_groups_nobody_is_is_warned_of() {
    let text = "[[people]]\nname = \"ann\"\ngroups = [\"dba\"]\n[[rule]]\nname = \"a\"\naction = \"hold\"\n\
                people = [\"an*\", \"bob\"]\ngroups = [\"dba\", \"dbas\"]\n";
    let warnings = Settings::parse(text, &Fake::default()).unwrap().warnings;
    let found: Vec<_> = warnings.iter().filter(|warning| warning.message.contains("nobody in")).collect();
    assert_eq!(found.len(), 2, "{warnings:?}");
    assert!(found[0].message.contains("`dbas`") && found[1].message.contains("`bob`"), "{found:?}");
}

#[test]
fn rules_behind_one_that_matches_everything_are_warned_of() {
    let text = "[[rule]]\nname = \"a\"\naction = \"allow\"\neffects = [\"read\"]\n[[rule]]\nname = \"b\"\naction = \"hold\"\nmessage = \"m\"\n\
                [[rule]]\nname = \"c\"\naction = \"reject\"\n";
    let warnings = Settings::parse(text, &Fake::default()).unwrap().warnings;
    let found: Vec<_> = warnings.iter().filter(|warning| warning.message.contains("never asked")).collect();
    assert_eq!(found.len(), 1, "{warnings:?}");
    assert_eq!(found[0].place.unwrap().0, 9);
}

#[test]
fn the_shipped_policy_holds_what_nobody_read() {
    let policy = parse("").policy;
    let judge = crate::judge::Judge::new(policy);
    let mut cache = crate::judge::JudgeCache::new(1 << 20);
    let class = judge.class(&facts());
    let judged = judge.judge(&mut cache, b"\xff", &class, false, &crate::judge::NothingPrepared);
    assert_eq!(judged.judgement.verdict, Verdict::Hold);
}

#[test]
fn slack_needs_its_tokens_and_a_channel_and_ids_that_are_ids() {
    assert!(parse("").slack.is_none());
    let told = errors("[slack]\nmode = \"socket\"").join("\n");
    assert!(told.contains("bot_token") && told.contains("app_token"), "{told}");
    let told = errors("[slack]\nbot_token = \"xoxb-1\"\nchannel = \"approvals\"\nmode = \"http\"").join("\n");
    assert!(told.contains("slack.channel") && told.contains("signing_secret"), "{told}");
    let told = errors("[[people]]\nname = \"ann\"\nslack_user = \"@ann\"").join("\n");
    assert!(told.contains("slack_user"), "{told}");
}

#[test]
fn slack_looks_up_every_group_that_a_profile_names() {
    let text = "
        [approval]
        approver_groups = [\"slack:S0DBA\"]
        [slack]
        bot_token = \"xoxb-1\"
        app_token = \"xapp-1\"
        channel = \"C0APPR\"
        approver_groups = [\"S0OPS\"]
    ";
    let slack = parse(text).slack.unwrap();
    assert_eq!(slack.approver_groups, ["S0OPS", "S0DBA"]);
    assert_eq!(slack.bot_token.reveal(), "xoxb-1");
}

#[test]
fn a_profile_that_names_a_channel_that_does_not_exist_is_an_error() {
    let hook = "[[webhook]]\nname = \"pager\"\nurl = \"https://x\"\nsecret = \"0123456789abcdef\"\n";
    let with = |name: &str| format!("{hook}[[approval.profile]]\nname = \"p\"\nchannels = [\"{name}\"]\n");
    assert_eq!(errors(&with("pager")), [""; 0]);
    let expected = "7: `channels` of the approval profile `p`: there is no channel `pagr`, neither [slack] nor a [[webhook]]; did you mean `pager`?";
    assert_eq!(errors(&with("pagr")), [expected]);
    let later = format!("{hook}[[approval.escalation]]\nafter = \"1m\"\nchannels = [\"slack\"]\n");
    assert_eq!(errors(&later).len(), 1);
}

/// With a channel of that name, a profile and a later step that name others.
fn with_conversations(name: &str, first: &str, later: &str) -> String {
    format!(
        "[slack]\nname = \"{name}\"\nbot_token = \"xoxb-1\"\napp_token = \"xapp-1\"\nchannel = \"C0APPR\"\n\
         [approval]\nchannels = [\"{first}\"]\n[[approval.escalation]]\nafter = \"1m\"\nchannels = [\"{later}\"]\n"
    )
}

#[test]
fn a_profile_and_an_escalation_name_further_conversations_of_slack() {
    let slack = parse(&with_conversations("slack", "slack:C0APPR", "slack:C0LEAD")).slack.unwrap();
    assert_eq!(slack.conversations, ["C0LEAD"]);
    let slack = parse(&with_conversations("ops", "ops:G0ONE", "ops:C0TWO")).slack.unwrap();
    assert_eq!(slack.conversations, ["G0ONE", "C0TWO"]);
}

#[test]
fn a_conversation_of_a_channel_that_is_not_configured_is_an_error_with_its_line() {
    for (name, first, later, line, part) in [
        ("slack", "slack:S0DBA", "slack", "7: ", "`slack:S0DBA` names no conversation"),
        ("slack", "slack:", "slack", "7: ", "there is no channel `slack:`"),
        ("slack", "slack", "slack:c0lead", "10: ", "`slack:c0lead` names no conversation"),
        ("ops", "ops", "slack:C0LEAD", "10: ", "[slack] has the name `ops`: `ops:C0LEAD`"),
    ] {
        let told = errors(&with_conversations(name, first, later));
        assert!(told.len() == 1 && told[0].starts_with(line) && told[0].contains(part), "{told:?}");
    }
    let told = errors("[approval]\nchannels = [\"slack:C0LEAD\"]\n");
    assert!(
        told.len() == 1 && told[0].starts_with("2: ") && told[0].contains("there is no [slack] section"),
        "{told:?}"
    );
    let many: Vec<String> = (0..11).map(|n| format!("slack:C0{n}0")).collect();
    let told = errors(&with_conversations("slack", &many.join("\", \""), "slack"));
    assert!(told[0].contains("names 12 conversations"), "{told:?}");
}

#[test]
fn an_integration_proves_itself_and_speaks_for_people_there_are() {
    let person = "[[people]]\nname = \"ann\"\ntoken = \"token-of-ann-0123456789\"\n";
    let with = |token: &str, secret: &str, people: &str| {
        let keys = format!("token = \"{token}\"\nsecret = \"{secret}\"\npeople = {people}\n");
        format!("{person}[[integration]]\nname = \"pager\"\n{keys}")
    };
    let (token, secret) = ("token-of-pager-0123456789", "secret-of-pager-0123456789");
    let good = parse(&with(token, secret, "[\"ann\"]"));
    assert_eq!(good.approval.integrations.len(), 1);
    assert!(!format!("{good:?}").contains(secret));
    for (text, expected) in [
        (with(token, secret, "[]"), "may speak for nobody"),
        (with(token, secret, "[\"bob\"]"), "there is no person `bob`"),
        (with(token, token, "[\"*\"]"), "are the same"),
        (with(token, "short", "[\"*\"]"), "at least 16 characters"),
        (with("short", secret, "[\"*\"]"), "at least 16 characters"),
        (with("token-of-ann-0123456789", secret, "[\"*\"]"), "is a person's token"),
        (with(token, secret, "[\"*\"]") + &with(token, secret, "[\"*\"]").replace(person, ""), "another"),
        (format!("{person}[[integration]]\nname = \"pager\"\npeople = [\"ann\"]\n"), "needs `name`"),
    ] {
        let errors = errors(&text).join("\n");
        assert!(errors.contains(expected), "{expected}: {errors}");
        assert!(!errors.contains(token) && !errors.contains(secret), "{errors}");
    }
}

const OWNED: &str = "[policy]\nowners = \"OWNERS\"\nfallback = \"shipped\"\n\
    [[people]]\nname = \"ann\"\ngroups = [\"dba\", \"both\"]\ndatabase_users = [\"ann\"]\n[[people]]\nname = \"both\"\n\
    [[webhook]]\nname = \"pager\"\nurl = \"https://x.example\"\nsecret = \"0123456789abcdef\"\n";

fn with_owners(text: &str) -> Fake {
    Fake { files: BTreeMap::from([("/etc/querygate/OWNERS", text.to_owned())]), ..Fake::default() }
}

#[test]
fn an_owners_file_is_part_of_the_policy() {
    let loaded = Settings::parse(OWNED, &with_owners("shop.* dba webhook=pager\ncrm.* slack:S0123AB|ann\n")).unwrap();
    let policy = &loaded.settings.policy;
    assert_eq!(policy.owners().map(|owners| owners.lines().len()), Some(2));
    assert_ne!(policy.version(), Policy::shipped().version());
    assert!(policy.rules().any(|rule| rule.name == "reads"), "the shipped rules judge where there is no other");
    let crm = &policy.owners().unwrap().lines()[1].owners[0];
    assert_eq!((crm.groups.clone(), crm.people.clone()), (vec!["slack:S0123AB".to_owned()], vec!["ann".to_owned()]));
}

#[test]
fn what_is_wrong_in_an_owners_file_is_told_with_its_name_and_line() {
    for (text, expected) in [
        ("\na.b.c dba", "2: `a.b.c`: a pattern is"),
        ("a dba\nb both", "2: `both` is both a person and a group"),
        ("a slack:X1", "1: `slack:X1`: after `slack:` comes the id"),
        ("a dba webhook=pagger", "1: `webhook=pagger`: there is no [[webhook]] of that name; did you mean `pager`?"),
        ("a dba slack=C0123AB", "1: `slack=C0123AB`: there is no [slack] section"),
    ] {
        let problems = Settings::parse(OWNED, &with_owners(text)).unwrap_err();
        let fatal: Vec<&Problem> = problems.iter().filter(|problem| problem.fatal).collect();
        assert_eq!(fatal.len(), 1, "{text}: {fatal:?}");
        let line = fatal[0].place.map_or(0, |(line, _)| line);
        assert!(format!("{line}: {}", fatal[0].message).starts_with(expected), "{text}: {fatal:?}");
        assert_eq!(fatal[0].file.as_deref(), Some(Path::new("/etc/querygate/OWNERS")), "{text}");
    }
    assert_eq!(errors(OWNED).len(), 1, "no such file");
}

#[test]
fn an_owner_whom_nobody_knows_and_a_line_that_is_never_asked_are_warned_of() {
    let loaded = Settings::parse(OWNED, &with_owners("shop.orders dbaa\nshop.* dba\n")).unwrap();
    let about = |part: &str| loaded.warnings.iter().filter(|warning| warning.message.contains(part)).count();
    assert_eq!((about("unknown owner `dbaa`"), about("did you mean `dba`"), about("is not asked")), (1, 1, 1));
}

#[test]
fn a_rule_with_undo_needs_the_section_and_the_section_a_secret() {
    let rule = "[[rule]]\nname = \"r\"\naction = \"hold\"\nundo = { max_rows = 5 }\n";
    let told = |text: &str| {
        let (_, problems, _) = sections::read(text, &Fake::default());
        problems
            .into_iter()
            .filter(|problem| problem.fatal)
            .map(|problem| problem.message)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let secret = "secret = \"a-secret-that-is-long-enough-for-it\"";
    assert!(told(rule).contains("rule `r` has `undo`, which needs the section [undo]"), "{}", told(rule));
    assert_eq!(told(&format!("[undo]\ndatabases = [\"shop\"]\n{secret}\n{rule}")), "");
    assert!(told(&format!("[undo]\n{secret}")).contains("`databases` in [undo] is empty"));
    assert!(told("[undo]\ndatabases = [\"shop\"]").contains("needs a `secret`"));
    assert!(told("[undo]\ndatabases = [\"shop\"]\nsecret = \"short\"").contains("at least 32 characters"));
    let allows = rule.replace("hold", "allow");
    assert!(told(&format!("[undo]\ndatabases = [\"shop\"]\n{secret}\n{allows}")).contains("needs `action = \"hold\"`"));
}
