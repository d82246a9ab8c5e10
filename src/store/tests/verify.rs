//! Claims about what verifying finds.

use proptest::prelude::*;
use proptest::sample::Index;

use super::chain::Line;
use super::lines::{Glance, Lines, RawLine};
use super::*;
use crate::store::verify::{Anchor, Finding, Verified, verify};

const LINES: usize = 12;

/// Lines (with line feeds) of a record in which `word` is said.
fn record(word: &str, count: usize) -> Vec<String> {
    from(Head::default(), word, count)
}

fn from(mut head: Head, word: &str, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for n in 0..count {
        let name = format!("{word}{n}");
        let event = match n % 3 {
            0 => held(&name),
            1 => answered(&name, word, None),
            _ => Event::Stopped,
        };
        let line = Line::after(&head, at(i64::try_from(n).unwrap()), "p1", &event).unwrap();
        head = line.head();
        lines.push(line.text + "\n");
    }
    lines
}

fn head_of(line: &str) -> Head {
    chain::Links::read(line.trim_end().as_bytes()).unwrap().head()
}

fn check(file: &[u8], anchors: &[Head]) -> Verified {
    let mut numbered = Vec::new();
    for (number, bytes) in (1..).zip(file.split_inclusive(|byte| *byte == b'\n')) {
        let whole = bytes.strip_suffix(b"\n");
        numbered.push(Ok(RawLine { number, bytes: whole.unwrap_or(bytes).to_vec(), complete: whole.is_some() }));
    }
    let anchors: Vec<_> = anchors.iter().map(|head| Anchor { head: head.clone(), from: "somebody".into() }).collect();
    verify(numbered.into_iter(), &anchors).unwrap()
}

/// One thing done to a record.
#[derive(Debug, Clone)]
enum Deed {
    Edit(Index, u8),
    InsertByte(Index, u8),
    RemoveByte(Index),
    RemoveLines(Index, usize),
    Swap(Index, Index),
    Repeat(Index, Index),
    InsertForeign(Index, Index),
    Rehash(Index),
    Rewrite(Index),
    Cut(Index),
}

fn deeds() -> impl Strategy<Value = Deed> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(place, byte)| Deed::Edit(place, byte)),
        (index(), any::<u8>()).prop_map(|(place, byte)| Deed::InsertByte(place, byte)),
        index().prop_map(Deed::RemoveByte),
        (index(), 1..4_usize).prop_map(|(place, count)| Deed::RemoveLines(place, count)),
        (index(), index()).prop_map(|(one, two)| Deed::Swap(one, two)),
        (index(), index()).prop_map(|(one, two)| Deed::Repeat(one, two)),
        (index(), index()).prop_map(|(one, two)| Deed::InsertForeign(one, two)),
        index().prop_map(Deed::Rehash),
        index().prop_map(Deed::Rewrite),
        index().prop_map(Deed::Cut),
    ]
}

/// The changed file, and the number of the first line that is no longer what it was.
fn done(deed: &Deed, lines: &[String]) -> Vec<u8> {
    let whole = lines.concat().into_bytes();
    let mut changed = lines.to_vec();
    match deed {
        Deed::Edit(place, byte) => {
            let mut bytes = whole;
            bytes[place.index(lines.concat().len())] = *byte;
            return bytes;
        }
        Deed::InsertByte(place, byte) => {
            let mut bytes = whole;
            bytes.insert(place.index(bytes.len() + 1), *byte);
            return bytes;
        }
        Deed::RemoveByte(place) => {
            let mut bytes = whole;
            bytes.remove(place.index(lines.concat().len()));
            return bytes;
        }
        Deed::RemoveLines(place, count) => {
            let first = place.index(LINES);
            changed.drain(first..(first + count).min(LINES));
        }
        Deed::Swap(one, two) => changed.swap(one.index(LINES), two.index(LINES)),
        Deed::Repeat(one, two) => changed.insert(two.index(LINES + 1), lines[one.index(LINES)].clone()),
        Deed::InsertForeign(one, two) => {
            changed.insert(two.index(LINES + 1), record("eve", LINES)[one.index(LINES)].clone());
        }
        Deed::Rehash(place) => {
            let at = place.index(LINES);
            let before = if at == 0 { Head::default() } else { head_of(&lines[at - 1]) };
            changed[at] = from(before, "eve", 1).concat();
        }
        Deed::Rewrite(place) => {
            let at = place.index(LINES);
            let before = if at == 0 { Head::default() } else { head_of(&lines[at - 1]) };
            changed.truncate(at);
            changed.extend(from(before, "eve", LINES - at));
        }
        Deed::Cut(place) => return whole[..place.index(whole.len())].to_vec(),
    }
    changed.concat().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_a_record_is_found(deed in deeds()) {
        let lines = record("ann", LINES);
        let whole = lines.concat().into_bytes();
        let head = head_of(&lines[LINES - 1]);
        let changed = done(&deed, &lines);
        prop_assume!(changed != whole);
        let found = check(&changed, &[head]);
        prop_assert!(!found.findings.is_empty(), "{deed:?}");
        // It is found where it was done: up to the first wrong byte all lines are those of the record.
        let same = changed.iter().zip(&whole).take_while(|(one, two)| one == two).count();
        let first = changed[..same].split(|byte| *byte == b'\n').count() as u64;
        let told = found.findings[0].line;
        match deed {
            // Valid lines that only a hash kept elsewhere tells from the true ones; a neighbour speaks first.
            Deed::Rewrite(_) | Deed::Rehash(_) => prop_assert!(told.is_none_or(|line| line >= first), "{found:?}"),
            // The first line of another record follows nothing, too.
            Deed::InsertForeign(..) => prop_assert!(told.is_some_and(|line| line == first || line == 2), "{found:?}"),
            // Nothing stands where it was cut.
            Deed::Edit(..)
            | Deed::InsertByte(..)
            | Deed::RemoveByte(_)
            | Deed::RemoveLines(..)
            | Deed::Swap(..)
            | Deed::Repeat(..)
            | Deed::Cut(_) => prop_assert!(told.is_none_or(|line| line == first), "{first}: {found:?}"),
        }
        // Without the hash kept elsewhere, everything is found that leaves a line which the true record goes on from.
        let blind = check(&changed, &[]);
        let cut = whole.starts_with(&changed) && changed.last().is_none_or(|byte| *byte == b'\n');
        let anew = matches!(&deed, Deed::Rewrite(_))
            || matches!(&deed, Deed::Rehash(place) if place.index(LINES) == LINES - 1);
        prop_assert_eq!(blind.findings.is_empty(), cut || anew, "{:?}", deed);
    }
}

#[test]
fn a_record_as_it_was_written_is_whole_and_its_anchors_are_met() {
    let lines = record("ann", LINES);
    let heads: Vec<Head> = [0, 5, LINES - 1].iter().map(|at| head_of(&lines[*at])).collect();
    let found = check(lines.concat().as_bytes(), &heads);
    assert_eq!((found.findings.as_slice(), found.anchored), (&[][..], 3));
    assert_eq!(found.head, heads[2]);
    assert_eq!(check(b"", &[]), Verified::default());
}

#[test]
#[allow(clippy::many_single_char_names, reason = "lines of a record have no better names")]
fn findings_say_what_was_done_where_and_one_deed_is_not_told_for_every_line_behind_it() {
    let lines = record("ann", 6);
    let check = |parts: &[&str], anchors: &[Head]| {
        let found = check(parts.concat().as_bytes(), anchors).findings;
        let told = |finding: &Finding| {
            let words: String = finding.what.split(": its hash says").next().unwrap().to_owned();
            format!("{}: {words}", finding.line.map_or_else(|| "end".to_owned(), |line| line.to_string()))
        };
        found.iter().map(told).collect::<Vec<_>>()
    };
    let [a, b, c, d, e, f] = &lines[..] else { unreachable!() };
    let edited = c.replace("\"stopped\"", "\"started\"");
    let moved = c.replace("\"seq\":3", "\"seq\":5");
    let end = head_of(f);
    assert_eq!(check(&[a, b, &edited, d, e, f], &[]), ["3: it was edited"]);
    assert_eq!(check(&[a, b, &moved, d, e, f], &[]), ["3: it was edited"]);
    assert_eq!(check(&[a, b, "garbage\n", d, e, f], &[]).len(), 1);
    assert_eq!(check(&[a, b, "garbage\n", c, d, e, f], &[]).len(), 1);
    assert_eq!(check(&[a, b, "\n", c, d, e, f], &[]).len(), 1);
    assert_eq!(check(&[a, b, e, f], &[]), ["3: events 3 to 4 are missing before it: removed or moved"]);
    assert_eq!(check(&[b, c], &[]), ["1: event 1 is missing before it: removed or moved"]);
    assert_eq!(
        check(&[a, c, b, d, e, f], &[]),
        [
            "2: event 2 is missing before it: removed or moved",
            "3: event 2 stands behind event 3: it was repeated, inserted or moved",
        ]
    );
    assert_eq!(
        check(&[a, b, b, c, d, e, f], &[]),
        ["3: event 2 stands behind event 2: it was repeated, inserted or moved"]
    );
    assert_eq!(
        check(&[a, b, c, d], std::slice::from_ref(&end)),
        ["end: it ends with event 4, and somebody vouches for event 6: 2 events were cut off the end"]
    );
    assert_eq!(check(&[a, b, c, d, e, f.trim_end()], &[]), ["6: it is cut off: its line feed is missing"]);
    let anew = from(head_of(b), "eve", 4).concat();
    assert_eq!(
        check(&[a, b, &anew], &[end]),
        ["6: event 6 is not the one that somebody vouches for: the record was written anew"]
    );
    let replaced = from(head_of(b), "eve", 1).concat();
    assert_eq!(
        check(&[a, b, &replaced, d, e, f], &[]),
        ["4: it was not written after the line that stands before it: event 3 was replaced"]
    );
}

#[test]
fn a_head_is_read_as_it_is_written() {
    let head = head_of(&record("ann", 1)[0]);
    assert_eq!(head.to_string().parse(), Ok(head.clone()));
    assert_eq!(head.to_string().to_uppercase().parse(), Ok(head));
    for wrong in ["", "1", "1:", "x:00", "1:00", &format!("1:{}", "g".repeat(64)), &format!("-1:{}", "a".repeat(64))] {
        assert!(wrong.parse::<Head>().is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn lines_of_store_and_file_are_the_same_while_a_gate_uses_them() {
    let place = Place::new();
    let (store, _) = place.open();
    let events: Vec<_> = (0..150).map(|n| held(&n.to_string())).collect();
    store.record_all(events).await.unwrap();
    let all = |lines: Lines| lines.collect::<Result<Vec<_>, _>>().unwrap();
    let of_store = all(Lines::of_store(&place.path("store.db")).unwrap());
    assert_eq!(of_store, all(Lines::of_file(&place.path("audit.jsonl")).unwrap()));
    assert_eq!(of_store.len(), 150);
    let glance = Glance::at(&place.path("store.db")).unwrap();
    assert_eq!(glance.head().unwrap(), *store.heads().borrow());
    assert_eq!(glance.difference().unwrap(), None);
}

#[tokio::test]
async fn tables_that_are_not_what_the_events_add_up_to_are_told_by_their_row() {
    for (deed, expected) in [
        ("UPDATE requests SET decision = replace(decision, 'ann', 'eve')", "table requests, row qg-a"),
        ("UPDATE answers SET person = 'eve' WHERE seq = 2", "table answers, row 2"),
        ("DELETE FROM answers WHERE seq = 2", "table answers, row 2"),
        ("INSERT INTO announcements VALUES ('qg-a', 'c', 'r')", "table announcements, row qg-a"),
        ("DROP TRIGGER events_are_never_changed; UPDATE events SET at = at + 1 WHERE seq = 3", "table events, row 3"),
    ] {
        let place = Place::new();
        let (store, _) = place.open();
        store.record_all(vec![held("a"), answered("a", "ann", None), decided("a")]).await.unwrap();
        store.close().await;
        rusqlite::Connection::open(place.path("store.db")).unwrap().execute_batch(deed).unwrap();
        let found = Glance::at(&place.path("store.db")).unwrap().difference().unwrap();
        assert_eq!(found.as_deref(), Some(expected), "{deed}");
    }
}
