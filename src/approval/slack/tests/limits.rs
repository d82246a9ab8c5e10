//! Slack's limits, as a check of what is about to be sent, written from its documentation and not from our code.

use serde_json::Value;

/// What is wrong with a message's or view's blocks.
pub(super) fn wrong(blocks: &Value, most_blocks: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(list) = blocks.as_array() else { return vec!["blocks are no list".to_owned()] };
    if list.is_empty() || list.len() > most_blocks {
        wrong.push(format!("{} blocks", list.len()));
    }
    for (index, block) in list.iter().enumerate() {
        for problem in of_block(block) {
            wrong.push(format!("block {index}: {problem}"));
        }
    }
    wrong
}

/// All blocks of a message together.
pub(super) fn total(blocks: &Value) -> usize {
    blocks.to_string().encode_utf16().count()
}

fn of_block(block: &Value) -> Vec<String> {
    match block["type"].as_str().unwrap_or_default() {
        "header" => text(&block["text"], "plain_text", 1, 150),
        "section" => {
            let mut wrong = Vec::new();
            if block.get("text").is_none() && block.get("fields").is_none() {
                wrong.push("a section of nothing".to_owned());
            }
            if block.get("text").is_some() {
                wrong.extend(text(&block["text"], "", 1, 3_000));
            }
            if let Some(fields) = block["fields"].as_array() {
                if fields.is_empty() || fields.len() > 10 {
                    wrong.push(format!("{} fields", fields.len()));
                }
                wrong.extend(fields.iter().flat_map(|field| text(field, "", 1, 2_000)));
            }
            if block.get("accessory").is_some() {
                wrong.extend(element(&block["accessory"]));
            }
            wrong
        }
        "context" => {
            let elements = block["elements"].as_array().unwrap();
            let mut wrong: Vec<_> = elements.iter().flat_map(|element| text(element, "", 1, 3_000)).collect();
            if elements.is_empty() || elements.len() > 10 {
                wrong.push(format!("{} context elements", elements.len()));
            }
            wrong
        }
        "actions" => {
            let elements = block["elements"].as_array().unwrap();
            let mut wrong: Vec<_> = elements.iter().flat_map(element).collect();
            wrong.extend(string(&block["block_id"], "block_id", 1, 255));
            if elements.is_empty() || elements.len() > 25 {
                wrong.push(format!("{} actions", elements.len()));
            }
            wrong
        }
        "rich_text" => block["elements"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|element| {
                assert_eq!(element["type"], "rich_text_preformatted", "user data is literal");
                element["elements"].as_array().unwrap()
            })
            .flat_map(|inline| {
                assert_eq!(inline["type"], "text", "user data is literal");
                string(&inline["text"], "literal", 1, 3_000)
            })
            .collect(),
        "input" => text(&block["label"], "plain_text", 1, 2_000),
        "divider" => Vec::new(),
        other => vec![format!("unexpected block {other}")],
    }
}

fn element(element: &Value) -> Vec<String> {
    assert_eq!(element["type"], "button");
    let mut wrong = text(&element["text"], "plain_text", 1, 75);
    wrong.extend(string(&element["action_id"], "action_id", 1, 255));
    wrong.extend(string(&element["value"], "value", 1, 2_000));
    if let Some(confirm) = element.get("confirm") {
        wrong.extend(text(&confirm["title"], "plain_text", 1, 100));
        wrong.extend(text(&confirm["text"], "", 1, 300));
        wrong.extend(text(&confirm["confirm"], "plain_text", 1, 30));
        wrong.extend(text(&confirm["deny"], "plain_text", 1, 30));
    }
    wrong
}

fn text(object: &Value, kind: &str, least: usize, most: usize) -> Vec<String> {
    let actual = object["type"].as_str().unwrap_or_default();
    let mut wrong = string(&object["text"], actual, least, most);
    if !(actual == "plain_text" || actual == "mrkdwn") || !(kind.is_empty() || kind == actual) {
        wrong.push(format!("a text of type {actual:?}"));
    }
    if actual == "mrkdwn" {
        wrong.extend(markup(object["text"].as_str().unwrap_or_default()));
    }
    wrong
}

/// Every `<…>` is one of the forms the gate writes; every `&` is an escape.
pub(super) fn markup(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, _) in text.match_indices('<') {
        let Some(inside) = text[at + 1..].split('>').next() else { continue };
        let allowed = inside.starts_with("!date^")
            || inside.starts_with("!subteam^S")
            || inside.starts_with("@U")
            || inside.starts_with("#C")
            || inside.starts_with("https://");
        if !allowed {
            wrong.push(format!("markup <{inside}>"));
        }
    }
    for (at, _) in text.match_indices('&') {
        if !["&amp;", "&lt;", "&gt;"].iter().any(|escape| text[at..].starts_with(escape)) {
            wrong.push("an ampersand that is no escape".to_owned());
        }
    }
    wrong
}

fn string(value: &Value, what: &str, least: usize, most: usize) -> Vec<String> {
    let Some(text) = value.as_str() else { return vec![format!("{what} is no string")] };
    let length = text.encode_utf16().count();
    if (least..=most).contains(&length) { Vec::new() } else { vec![format!("{what} of {length}")] }
}
