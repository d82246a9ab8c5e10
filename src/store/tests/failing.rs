//! What happens when the disk does not do as it should.

use super::*;

/// Lets the database grow by so many pages and no further, as on a full disk.
async fn pages(store: &Store, more: i64) {
    let limited = store.ask(move |connection| {
        let now: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update(None, "max_page_count", now + more).unwrap();
        Ok(())
    });
    limited.await.unwrap();
}

fn long(name: &str) -> Event {
    let mut request = request(name);
    request.statement.text = Arc::from("x".repeat(100_000));
    Event::Held { request: Box::new(request) }
}

#[tokio::test]
async fn a_full_disk_is_an_error_leaves_nothing_and_passes_by_itself() {
    let place = Place::new();
    let (store, _) = place.open();
    store.record(held("a")).await.unwrap();
    pages(&store, 2).await;
    let before = clock();
    let refused = store.record(long("b")).await.unwrap_err();
    assert_eq!(refused, StoreError::Failing("database or disk is full".into()));
    let Health::Failing { since, why } = store.health() else { panic!("{:?}", store.health()) };
    assert!(since >= before && why.contains("full"));
    assert_eq!(store.find(&id("b")).await.unwrap(), None);
    assert_eq!(place.audit().lines().count(), 1);
    // Still failing since then.
    store.record(long("c")).await.unwrap_err();
    assert!(matches!(store.health(), Health::Failing { since: still, .. } if still == since));
    // Nobody records anything now; the store finds out that there is room again.
    pages(&store, 1_000_000).await;
    while store.health() != Health::Good {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.record(long("b")).await.unwrap().seq, 2);
    store.close().await;
    assert_eq!(place.open().1.head.seq, 2);
}

fn clock() -> Timestamp {
    crate::clock::wall()
}

#[tokio::test]
async fn one_event_that_cannot_be_recorded_does_not_fail_the_others() {
    let (store, _) = Store::open(&StoreSettings::default()).unwrap();
    store.record(held("a")).await.unwrap();
    // All of them wait for the thread, so they are written in one go.
    let (stop, hold) = std::sync::mpsc::channel::<()>();
    let busy = tokio::spawn({
        let store = store.clone();
        async move { store.ask(move |_| Ok(hold.recv().is_ok())).await }
    });
    let calls: Vec<_> = ["b", "a", "c"]
        .into_iter()
        .map(|name| {
            tokio::spawn({
                let store = store.clone();
                async move { store.record(held(name)).await.map(|recorded| recorded.seq) }
            })
        })
        .collect();
    // One thread runs the test: now every task has asked.
    tokio::task::yield_now().await;
    stop.send(()).unwrap();
    assert_eq!(busy.await.unwrap(), Ok(true));
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.unwrap());
    }
    assert_eq!(results, [Ok(2), Err(StoreError::Duplicate(id("a"))), Ok(3)]);
}

#[tokio::test]
async fn a_full_queue_and_a_disk_that_hangs_are_errors_and_not_waits() {
    let settings = StoreSettings { queue: 2, patience: Duration::from_millis(20), ..StoreSettings::default() };
    let (store, _) = Store::open(&settings).unwrap();
    let (stop, hold) = std::sync::mpsc::channel::<()>();
    let asked = store.ask(move |_| Ok(hold.recv().is_ok())).await;
    assert_eq!(asked, Err(StoreError::Slow));
    let why = loop {
        if let Health::Failing { why, .. } = store.health() {
            break why;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(why, "the disk does not answer");
    assert_eq!(store.record(held("a")).await, Err(StoreError::Slow));
    assert_eq!(store.record(held("b")).await, Err(StoreError::Slow));
    assert_eq!(store.record(held("c")).await, Err(StoreError::QueueFull));
    stop.send(()).unwrap();
    while store.health() != Health::Good {
        tokio::task::yield_now().await;
    }
    // As documented: what was too slow may be on record all the same.
    while store.recent(10).await.map_or(0, |requests| requests.len()) < 2 {}
}

#[tokio::test]
async fn a_temporary_loss_of_the_audit_files_directory_loses_nothing() {
    let place = Place::new();
    let directory = place.path("audit");
    std::fs::create_dir(&directory).unwrap();
    let settings = StoreSettings { audit_file: Some(directory.join("audit.jsonl")), ..place.settings() };
    let (store, _) = Store::open(&settings).unwrap();
    store.record(held("a")).await.unwrap();
    std::fs::rename(&directory, place.path("gone")).unwrap();
    assert!(matches!(store.record(held("b")).await, Err(StoreError::Failing(_))));
    assert_eq!(store.find(&id("b")).await.unwrap(), None);
    std::fs::rename(place.path("gone"), &directory).unwrap();
    assert_eq!(store.record(held("b")).await.unwrap().seq, 2);
    assert_eq!(std::fs::read_to_string(directory.join("audit.jsonl")).unwrap().lines().count(), 2);
}
