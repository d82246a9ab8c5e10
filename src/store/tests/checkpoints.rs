//! Claims about checkpoints and redaction.

use ring::signature::Ed25519KeyPair;

use super::checkpoint::{Checkpoint, PublicKey, beside, read};
use super::*;
use crate::hold::Parameter;

/// A new private key, as PEM.
fn write_key(path: &Path) {
    let key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let key = rcgen::KeyPair::try_from(key.as_ref()).unwrap();
    std::fs::write(path, key.serialize_pem()).unwrap();
    std::fs::write(path.with_extension("pub"), key.public_key_pem()).unwrap();
}

fn signing(place: &Place, every: u64) -> StoreSettings {
    if !place.path("audit.key").exists() {
        write_key(&place.path("audit.key"));
    }
    let checkpoint_key = Some(place.path("audit.key"));
    StoreSettings { checkpoint_key, checkpoint_every: every, ..place.settings() }
}

fn checkpoints(place: &Place) -> Vec<Checkpoint> {
    let key = PublicKey::load(&place.path("audit.pub")).unwrap();
    let all = read(&beside(&place.path("audit.jsonl"))).unwrap();
    all.into_iter().filter_map(|(_, checkpoint)| checkpoint.ok()).filter(|one| key.verifies(one)).collect()
}

#[tokio::test]
async fn heads_are_signed_every_so_many_events_and_at_the_end() {
    let place = Place::new();
    let (store, _) = Store::open(&signing(&place, 3)).unwrap();
    let mut heads = Vec::new();
    for n in 0..7 {
        store.record(held(&n.to_string())).await.unwrap();
        heads.push(store.heads().borrow().clone());
        // The signature comes after the answer; the next answer comes after the signature.
        store.recent(1).await.unwrap();
    }
    store.close().await;
    let signed: Vec<Head> = checkpoints(&place).iter().map(Checkpoint::head).collect();
    assert_eq!(signed, [heads[2].clone(), heads[5].clone(), heads[6].clone()]);
    // Nothing happened: nothing to sign.
    Store::open(&signing(&place, 3)).unwrap().0.close().await;
    assert_eq!(checkpoints(&place).len(), 3);
}

#[tokio::test]
async fn a_head_is_signed_after_a_while_without_further_events() {
    let place = Place::new();
    let settings = StoreSettings { checkpoint_interval: Duration::from_millis(1), ..signing(&place, 1_000) };
    let (store, _) = Store::open(&settings).unwrap();
    store.record(held("a")).await.unwrap();
    while checkpoints(&place).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(checkpoints(&place)[0].head(), *store.heads().borrow());
}

#[tokio::test]
async fn a_checkpoint_with_any_other_word_in_it_does_not_verify() {
    let place = Place::new();
    let (store, _) = Store::open(&signing(&place, 1)).unwrap();
    store.record(held("a")).await.unwrap();
    store.close().await;
    let good = checkpoints(&place).remove(0);
    let private = PublicKey::load(&place.path("audit.key")).unwrap();
    assert_eq!(private, PublicKey::load(&place.path("audit.pub")).unwrap());
    assert!(private.verifies(&good));
    let with = |change: fn(&mut Checkpoint)| {
        let mut other = good.clone();
        change(&mut other);
        other
    };
    for other in [
        with(|one| one.seq += 1),
        with(|one| one.hash = one.hash.replace(['a', 'b', 'c'], "0")),
        with(|one| one.at = at(0)),
        with(|one| one.signature = one.signature.chars().rev().collect()),
        with(|one| one.signature.clear()),
    ] {
        assert!(!private.verifies(&other), "{other:?}");
    }
    write_key(&place.path("other.key"));
    assert!(!PublicKey::load(&place.path("other.key")).unwrap().verifies(&good));
}

#[tokio::test]
async fn a_record_cut_short_before_a_checkpoint_is_refused_on_opening() {
    let place = Place::new();
    let (store, _) = Store::open(&signing(&place, 1)).unwrap();
    store.record(held("a")).await.unwrap();
    store.close().await;
    for name in ["store.db", "audit.jsonl"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    let refused = Store::open(&signing(&place, 1)).err().unwrap().to_string();
    assert!(
        refused.contains("it vouches for event 1 with another hash than the store, which ends with event 0"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_checkpoint_cut_short_by_a_crash_does_not_spoil_the_next() {
    let place = Place::new();
    let (store, _) = Store::open(&signing(&place, 1)).unwrap();
    store.record(held("a")).await.unwrap();
    store.close().await;
    append(&beside(&place.path("audit.jsonl")), "{\"seq\":2,\"ha");
    let (store, _) = Store::open(&signing(&place, 1)).unwrap();
    store.record(held("b")).await.unwrap();
    store.close().await;
    assert_eq!(checkpoints(&place).iter().map(|one| one.seq).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_key_that_is_none_is_refused_with_how_to_make_one() {
    let place = Place::new();
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(place.path("audit.key"), key.serialize_pem()).unwrap();
    for content in [key.serialize_pem(), "no key".into()] {
        std::fs::write(place.path("audit.key"), content).unwrap();
        let refused = Store::open(&signing(&place, 1)).err().unwrap().to_string();
        assert!(refused.contains("openssl genpkey -algorithm ed25519"), "{refused}");
    }
}

#[tokio::test]
async fn what_is_redacted_is_nowhere_in_the_files_and_the_hash_is() {
    for (redact, text) in [(Redact::Literals, "DELETE FROM orders WHERE customer = ?\n"), (Redact::All, "?")] {
        let place = Place::new();
        let (store, _) = Store::open(&StoreSettings { redact, ..place.settings() }).unwrap();
        let mut request = request("a");
        let parameter = |value: Option<&str>, raw| Parameter {
            position: 1,
            type_name: Some("text".into()),
            value: value.map(str::to_owned),
            raw,
        };
        request.parameters =
            vec![parameter(Some("secret-value"), false), parameter(Some("c0ffee"), true), parameter(None, false)];
        store.record(Event::Held { request: Box::new(request) }).await.unwrap();
        let message = "invalid input syntax for type integer: \"secret-value\"".to_owned();
        let failed = Execution::Failed { sqlstate: "22P02".into(), message, duration_ms: 1 };
        store.record(Event::Executed { id: id("a"), execution: failed }).await.unwrap();
        let found = store.find(&id("a")).await.unwrap().unwrap();
        assert_eq!(&*found.request.statement.text, text);
        assert_eq!(found.request.statement.sha256, "ab".repeat(32));
        let values: Vec<_> = found.request.parameters.iter().map(|one| (one.value.as_deref(), one.raw)).collect();
        assert_eq!(values, [(Some("?"), false), (Some("?"), false), (None, false)]);
        store.close().await;
        for name in ["audit.jsonl", "store.db"] {
            let bytes = std::fs::read(place.path(name)).unwrap();
            for secret in ["Zo", "secret-value", "c0ffee"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} in {name}");
            }
        }
    }
}

#[tokio::test]
async fn a_parsers_error_that_may_quote_a_literal_is_redacted_with_the_literals() {
    let (store, _) = Store::open(&StoreSettings { redact: Redact::Literals, ..StoreSettings::default() }).unwrap();
    let mut request = request("a");
    request.statement.text = Arc::from("dorp 'secret'");
    request.effects[0].kind = EffectKind::Unparsed;
    request.effects[0].why = "syntax error at or near \"'secret'\"".into();
    request.why = "unparsed: syntax error at or near \"'secret'\"".into();
    let risk =
        |text: &str| serde_json::from_value(serde_json::json!({"kind": "sql-in-comment", "text": text})).unwrap();
    request.risks = vec![risk("this stands in a comment: `secret`"), risk("and this: `secret`")];
    store.record(Event::Held { request: Box::new(request) }).await.unwrap();
    let events = store.events_after(0, 1).await.unwrap();
    let text = serde_json::to_string(&events[0].event).unwrap();
    assert!(!text.contains("secret"));
    assert_eq!(text.matches("a comment holds SQL that does not run").count(), 1, "{text}");
}

#[tokio::test]
async fn a_rule_that_hides_more_than_the_setting_hides_it_on_record_and_what_the_database_says_of_it() {
    let place = Place::new();
    let (store, _) = Store::open(&place.settings()).unwrap();
    let execution =
        || Execution::Failed { sqlstate: "22P02".into(), message: "syntax: \"4111-secret\"".into(), duration_ms: 1 };
    for (name, redact) in [("hidden", Redact::Literals), ("open", Redact::None)] {
        let mut request = request(name);
        request.statement.text = Arc::from("DELETE FROM orders WHERE card = '4111-secret'");
        request.redact = redact;
        // Next to each other in one call, as well as one after the other.
        let held = Event::Held { request: Box::new(request) };
        let executed = || Event::Executed { id: id(name), execution: execution() };
        store.record_all(vec![held, executed()]).await.unwrap();
        store.record(executed()).await.unwrap();
        let history = store.history(&id(name)).await.unwrap();
        let told = serde_json::to_string(&history).unwrap();
        assert_eq!(history.len(), 3);
        assert_eq!(told.matches("4111-secret").count(), if redact.is_none() { 3 } else { 0 }, "{told}");
        assert_eq!(store.find(&id(name)).await.unwrap().unwrap().request.redact, redact);
    }
    store.close().await;
}
