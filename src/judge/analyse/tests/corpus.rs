use super::*;

fn check(name: &str) {
    let wrong: Vec<_> = corpus(name)
        .into_iter()
        .filter(|line| verdict(&line.sql) != line.verdict)
        .map(|line| {
            let effects: Vec<_> = read(&line.sql).pieces.into_iter().flat_map(|piece| piece.effects).collect();
            format!("{} should {}: {:?}\n    {effects:?}", line.id, line.verdict, line.sql)
        })
        .collect();
    assert!(wrong.is_empty(), "{} lines judged wrongly:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_statement_is_judged_as_labelled() {
    check("statements.jsonl");
}

#[test]
fn every_known_attack_is_held() {
    check("attacks.jsonl");
}

#[test]
fn ordinary_traffic_passes() {
    check("harmless.jsonl");
}

#[test]
fn the_tools_of_postgres_are_not_held() {
    check("tools.jsonl");
}
