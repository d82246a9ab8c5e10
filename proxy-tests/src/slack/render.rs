//! Blocks as plain text, for assertions and terminals, and the mentions in them. It must not refuse anything: that is
//! `blocks`' work.

use std::fmt::Write;

use serde_json::Value;

use super::message::Content;

/// Blocks as plain text, one part per line.
pub fn blocks(blocks: &[Value]) -> String {
    let lines: Vec<String> = blocks.iter().map(block).collect();
    lines.join("\n")
}

/// A view as plain text.
pub fn view(view: &Value) -> String {
    let list = view.get("blocks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    if let Some(title) = view.pointer("/title/text").and_then(Value::as_str) {
        let _ = writeln!(text, "== {title} ==");
    }
    text.push_str(&blocks(list));
    for key in ["submit", "close"] {
        if let Some(label) = view.get(key).and_then(|object| object.get("text")).and_then(Value::as_str) {
            let _ = write!(text, "\n[{label}]");
        }
    }
    text
}

fn str_of<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list_of<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn block(block: &Value) -> String {
    match str_of(block, "type") {
        "header" => format!("# {}", block.get("text").map(text).unwrap_or_default()),
        "divider" => "----".to_owned(),
        "section" => {
            let mut lines: Vec<String> = block.get("text").map(text).into_iter().collect();
            lines.extend(list_of(block, "fields").iter().map(|field| text(field).replace('\n', " ")));
            lines.extend(block.get("accessory").map(element));
            lines.join("\n")
        }
        "context" => format!("~ {}", list_of(block, "elements").iter().map(element).collect::<Vec<_>>().join(" ")),
        "actions" => list_of(block, "elements").iter().map(element).collect::<Vec<_>>().join(" "),
        "rich_text" => list_of(block, "elements").iter().map(rich).collect::<Vec<_>>().join("\n"),
        "input" => format!(
            "{}: {}",
            block.get("label").map(text).unwrap_or_default(),
            block.get("element").map(element).unwrap_or_default()
        ),
        "image" => format!("(image: {})", str_of(block, "alt_text")),
        other => format!("({other})"),
    }
}

/// A text object as read: markup kept, entities resolved.
fn text(object: &Value) -> String {
    let text = str_of(object, "text");
    if str_of(object, "type") == "mrkdwn" { unescape(text) } else { text.to_owned() }
}

fn element(element: &Value) -> String {
    match str_of(element, "type") {
        "button" => format!("[{}]", element.get("text").map(text).unwrap_or_default()),
        "image" => format!("(image: {})", str_of(element, "alt_text")),
        "mrkdwn" | "plain_text" => text(element),
        "plain_text_input" => "____".to_owned(),
        _ => {
            let options =
                list_of(element, "options").iter().map(|option| option.get("text").map(text).unwrap_or_default());
            format!("<{}>", options.collect::<Vec<_>>().join(" | "))
        }
    }
}

fn rich(part: &Value) -> String {
    let inside = || list_of(part, "elements").iter().map(inline).collect::<String>();
    match str_of(part, "type") {
        "rich_text_preformatted" => format!("```\n{}\n```", inside()),
        "rich_text_quote" => format!("> {}", inside().replace('\n', "\n> ")),
        "rich_text_list" => {
            list_of(part, "elements").iter().map(|item| format!("* {}", rich(item))).collect::<Vec<_>>().join("\n")
        }
        _ => inside(),
    }
}

fn inline(element: &Value) -> String {
    match str_of(element, "type") {
        "text" => str_of(element, "text").to_owned(),
        "link" => match str_of(element, "text") {
            "" => str_of(element, "url").to_owned(),
            text => format!("{text} <{}>", str_of(element, "url")),
        },
        "emoji" => format!(":{}:", str_of(element, "name")),
        "user" => format!("<@{}>", str_of(element, "user_id")),
        "usergroup" => format!("<!subteam^{}>", str_of(element, "usergroup_id")),
        "channel" => format!("<#{}>", str_of(element, "channel_id")),
        "broadcast" => format!("<!{}>", str_of(element, "range")),
        "date" => str_of(element, "fallback").to_owned(),
        other => format!("({other})"),
    }
}

/// Slack's three entities.
pub fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Everybody and everything this content notifies or mentions, in order, without repetitions.
pub fn mentions(content: &Content) -> Vec<String> {
    let mut found = Vec::new();
    if content.blocks.is_empty() {
        in_markup(&content.text, &mut found);
    } else {
        // The fallback text is what the notification shows and what Slack scans.
        in_markup(&content.text, &mut found);
        content.blocks.iter().for_each(|block| in_value(block, &mut found));
    }
    found
}

fn in_value(value: &Value, found: &mut Vec<String>) {
    match str_of(value, "type") {
        "mrkdwn" => return in_markup(str_of(value, "text"), found),
        "plain_text" | "text" => return,
        "user" | "usergroup" | "broadcast" => return add(inline(value), found),
        _ => {}
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| in_value(item, found)),
        Value::Object(object) => object.values().for_each(|item| in_value(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn in_markup(text: &str, found: &mut Vec<String>) {
    for piece in text.split('<').skip(1) {
        let Some((inside, _)) = piece.split_once('>') else { continue };
        let name = inside.split('|').next().unwrap_or_default();
        let calls = name.starts_with('@')
            || name.starts_with("!subteam^")
            || ["!here", "!channel", "!everyone"].contains(&name);
        if calls {
            add(format!("<{name}>"), found);
        }
    }
}

fn add(mention: String, found: &mut Vec<String>) {
    if !found.contains(&mention) {
        found.push(mention);
    }
}
