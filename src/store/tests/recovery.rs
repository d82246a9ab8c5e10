//! What is found, mended and refused when a record is opened.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

/// A record with three events, closed.
async fn three() -> (Place, Vec<String>) {
    let place = Place::new();
    let (store, recovered) = place.open();
    assert_eq!((recovered.head.seq, recovered.appended), (0, 0));
    store.record_all(vec![held("a"), announced("a", "C1/1")]).await.unwrap();
    store.record(decided("a")).await.unwrap();
    store.close().await;
    let lines = place.audit().lines().map(|line| format!("{line}\n")).collect();
    (place, lines)
}

#[tokio::test]
async fn what_was_open_is_found_again_with_its_decision_and_announcements() {
    let (place, _) = three().await;
    let (store, recovered) = place.open();
    assert_eq!((recovered.head.seq, recovered.open.len(), recovered.appended), (3, 1, 0));
    let open = &recovered.open[0];
    assert_eq!(open.announcements, [("dba".to_owned(), "C1/1".to_owned())]);
    assert!(open.decision.is_some());
    let withdrawn = Outcome::Withdrawn { cause: Cause::Restart };
    store.record(ended("a", withdrawn)).await.unwrap();
    store.close().await;
    assert!(place.open().1.open.is_empty());
}

#[tokio::test]
async fn lines_the_file_lacks_wholly_or_partly_are_given_to_it() {
    let (place, lines) = three().await;
    let whole = lines.concat();
    // Every place where a crash could have cut it.
    for length in (0..whole.len()).filter(|length| whole.is_char_boundary(*length)).step_by(7) {
        std::fs::write(place.path("audit.jsonl"), &whole[..length]).unwrap();
        let (store, recovered) = place.open();
        store.close().await;
        assert_eq!(place.audit(), whole, "cut at {length}");
        let complete = whole[..length].matches('\n').count() as u64;
        assert_eq!(recovered.appended, 3 - complete);
    }
}

#[tokio::test]
async fn a_file_that_disagrees_with_the_store_is_refused_at_its_first_wrong_line() {
    let (place, lines) = three().await;
    let whole = lines.concat();
    let swapped = [&lines[1], &lines[0], &lines[2]].map(String::as_str).concat();
    let cases = [
        (whole.replacen("orders", "ordres", 1), 1),
        (lines[1..].concat(), 1),
        (swapped, 1),
        ([lines[0].as_str(), &lines[2]].concat(), 2),
        (format!("{whole}{}", lines[2]), 4),
        (format!("{whole} "), 4),
        (whole.replace("\"ann\"", "\"eve\""), 3),
        (format!("{}\n{}", lines[0], lines[1..].concat()), 2),
    ];
    for (content, expected) in cases {
        std::fs::write(place.path("audit.jsonl"), &content).unwrap();
        match Store::open(&place.settings()) {
            Err(StoreError::Disagree { line, .. }) => assert_eq!(line, expected, "{content}"),
            other => panic!("{other:?} for {content}"),
        }
        // Nothing was "mended" in it.
        assert_eq!(place.audit(), content);
    }
}

#[tokio::test]
async fn an_audit_file_without_its_store_is_refused() {
    let (place, _) = three().await;
    std::fs::remove_file(place.path("store.db")).unwrap();
    let refused = Store::open(&place.settings()).err().unwrap().to_string();
    assert!(refused.contains("line 1: the store is empty, this file is not"), "{refused}");
}

#[tokio::test]
async fn a_second_store_on_the_same_file_is_refused_by_any_name_of_it() {
    let place = Place::new();
    let (store, _) = place.open();
    std::os::unix::fs::symlink(place.path("store.db"), place.path("other-name.db")).unwrap();
    for name in ["store.db", "other-name.db"] {
        let settings = StoreSettings { path: Some(place.path(name)), ..StoreSettings::default() };
        let refused = Store::open(&settings).err().unwrap();
        let StoreError::InUse { by, .. } = &refused else { panic!("{refused}") };
        assert_eq!(*by, format!("process {}", std::process::id()));
    }
    // The audit file alone is not shared either.
    let settings = StoreSettings { path: None, ..place.settings() };
    assert!(matches!(Store::open(&settings), Err(StoreError::InUse { .. })));
    store.close().await;
    place.open();
}

#[tokio::test]
async fn files_are_readable_by_their_owner_only() {
    let (place, _) = three().await;
    let mode = |name: &str| std::fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["store.db", "audit.jsonl", "store.db.lock"].map(mode), [0o600; 3]);
    std::fs::set_permissions(place.path("store.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_store, _) = place.open();
    assert_eq!(["store.db", "store.db-wal"].map(mode), [0o600; 2]);
}

#[tokio::test]
async fn what_is_no_store_of_ours_is_refused_with_its_name() {
    let place = Place::new();
    let other = rusqlite::Connection::open(place.path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE t (a)").unwrap();
    drop(other);
    std::fs::write(place.path("text.db"), "no database at all, but long enough to look like a header of one").unwrap();
    drop(place.open());
    let (later, _) = three().await;
    let connection = rusqlite::Connection::open(later.path("store.db")).unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    drop(connection);
    for (path, expected) in [
        (place.path("other.db"), "is a database of another program"),
        (place.path("text.db"), "is no SQLite database"),
        (later.path("store.db"), "was made by a later version of querygate"),
        (place.path("no/such/directory.db"), "No such file"),
    ] {
        let settings = StoreSettings { path: Some(path.clone()), ..StoreSettings::default() };
        let refused = Store::open(&settings).err().unwrap().to_string();
        assert!(refused.contains(expected) && refused.contains(path.to_str().unwrap()), "{refused}");
    }
}

#[tokio::test]
async fn a_store_changed_behind_its_back_is_refused() {
    for (damage, expected) in [
        (
            "DROP TRIGGER events_are_never_changed; UPDATE events SET line = replace(line, 'ann', 'eve') WHERE seq = 3",
            "event 3: it was edited",
        ),
        (
            "DROP TRIGGER events_are_never_removed; PRAGMA foreign_keys = OFF; DELETE FROM events WHERE seq = 2",
            "event 3",
        ),
        ("PRAGMA foreign_keys = OFF; DELETE FROM requests", "rows refer to rows that are gone"),
    ] {
        let (place, _) = three().await;
        let connection = rusqlite::Connection::open(place.path("store.db")).unwrap();
        connection.execute_batch(damage).unwrap();
        drop(connection);
        let refused = Store::open(&place.settings()).err().unwrap().to_string();
        assert!(refused.contains("is damaged") && refused.contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn a_damaged_page_is_found_on_opening() {
    let place = Place::new();
    let (store, _) = place.open();
    for n in 0..50 {
        store.record(held(&n.to_string())).await.unwrap();
    }
    store.close().await;
    let mut bytes = std::fs::read(place.path("store.db")).unwrap();
    assert!(bytes.len() > 20 * 4096);
    bytes[15 * 4096..16 * 4096].fill(0xa5);
    std::fs::write(place.path("store.db"), bytes).unwrap();
    let refused = Store::open(&place.settings()).err().unwrap();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn events_cannot_be_changed_or_removed_through_the_database() {
    let (place, _) = three().await;
    let connection = rusqlite::Connection::open(place.path("store.db")).unwrap();
    for attempt in ["UPDATE events SET line = ''", "DELETE FROM events", "DELETE FROM events WHERE seq = 3"] {
        assert!(connection.execute(attempt, []).unwrap_err().to_string().contains("never"));
    }
}

#[tokio::test]
async fn an_audit_file_moved_away_is_written_again_from_the_store() {
    let place = Place::new();
    let (store, _) = place.open();
    store.record(held("a")).await.unwrap();
    std::fs::rename(place.path("audit.jsonl"), place.path("audit.1")).unwrap();
    store.record(held("b")).await.unwrap();
    assert_eq!(place.audit().lines().count(), 2);
    assert!(place.audit().starts_with(&std::fs::read_to_string(place.path("audit.1")).unwrap()));
}

#[tokio::test]
async fn an_audit_file_changed_by_another_program_fails_the_store_until_it_is_mended() {
    let place = Place::new();
    let (store, _) = place.open();
    store.record(held("a")).await.unwrap();
    let good = place.audit();
    append(&place.path("audit.jsonl"), "{\"forged\":true}\n");
    let refused = store.record(held("b")).await.unwrap_err().to_string();
    assert!(refused.contains("another program changed it"), "{refused}");
    assert!(matches!(store.health(), Health::Failing { .. }));
    std::fs::write(place.path("audit.jsonl"), good).unwrap();
    assert_eq!(store.record(held("b")).await.unwrap().seq, 2);
    assert_eq!(store.health(), Health::Good);
    store.close().await;
    assert_eq!(place.open().1.head.seq, 2);
}
