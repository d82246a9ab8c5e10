//! Messages as the workspace keeps them: every version of their content, and what one can click on in it.

use serde_json::{Map, Value, json};

use super::people::set;
use super::render;

/// What a message says, at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// The fallback, shown in notifications.
    pub text: String,
    /// The blocks as stored: with the ids and defaults that Slack adds.
    pub blocks: Vec<Value>,
}

impl Content {
    /// As a reader sees it, as plain text.
    pub fn rendered(&self) -> String {
        if self.blocks.is_empty() { render::unescape(&self.text) } else { render::blocks(&self.blocks) }
    }

    /// What this content notifies: `<!channel>`, `<@U…>`, `<!subteam^S…>` … wherever Slack would act on it.
    pub fn mentions(&self) -> Vec<String> {
        render::mentions(self)
    }

    /// What can be clicked or chosen.
    pub fn actions(&self) -> Vec<Action> {
        actions(&self.blocks)
    }

    /// The labels of the buttons, in order.
    pub fn buttons(&self) -> Vec<String> {
        let buttons = self.actions().into_iter().filter(|action| action.kind == "button");
        buttons.map(|action| action.label).collect()
    }
}

/// A message in a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// `C…` or `D…`
    pub channel: String,
    /// Its name within the channel.
    pub ts: String,
    /// The message it replies to.
    pub thread_ts: Option<String>,
    /// What it says now.
    pub content: Content,
    /// What it said before, oldest first.
    pub earlier: Vec<Content>,
    /// Taken away by `chat.delete`.
    pub deleted: bool,
    /// Files shared with it.
    pub files: Vec<String>,
    /// As given to `chat.postMessage`.
    pub metadata: Option<Value>,
}

impl Message {
    /// What it says now, as plain text.
    pub fn rendered(&self) -> String {
        self.content.rendered()
    }

    /// The labels of its buttons.
    pub fn buttons(&self) -> Vec<String> {
        self.content.buttons()
    }

    /// How often it was updated.
    pub fn updates(&self) -> usize {
        self.earlier.len()
    }

    /// An element of any version, the newest that has it first.
    pub(crate) fn action_ever(&self, action_id: &str) -> Option<(Action, &Content)> {
        std::iter::once(&self.content).chain(self.earlier.iter().rev()).find_map(|content| {
            let action = content.actions().into_iter().find(|action| action.action_id == action_id)?;
            Some((action, content))
        })
    }
}

/// Something one can click, choose or fill in.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// The block it stands in.
    pub block_id: String,
    /// Its own id.
    pub action_id: String,
    /// `button`, `static_select`, `plain_text_input` …
    pub kind: String,
    /// What is written on it, if anything.
    pub label: String,
    /// The value of a button.
    pub value: Option<String>,
    /// The whole element.
    pub element: Value,
}

impl Action {
    fn of(block: &Value, element: &Value) -> Option<Action> {
        let text = |key: &str| element.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Action {
            block_id: block.get("block_id")?.as_str()?.to_owned(),
            action_id: text("action_id")?,
            kind: text("type")?,
            label: element.pointer("/text/text").and_then(Value::as_str).unwrap_or_default().to_owned(),
            value: text("value"),
            element: element.clone(),
        })
    }

    /// As an interaction tells of it. `chosen` is an option's value, of anything that has options.
    pub(crate) fn json(&self, action_ts: &str, chosen: Option<&str>) -> Option<Value> {
        let mut action = json!({
            "type": self.kind, "action_id": self.action_id, "block_id": self.block_id, "action_ts": action_ts,
        });
        for key in ["text", "value", "style", "confirm", "placeholder"] {
            if let Some(value) = self.element.get(key) {
                set(&mut action, key, value.clone());
            }
        }
        if let Some(options) = self.element.get("options").and_then(Value::as_array) {
            let option = options.iter().find(|option| option.get("value").and_then(Value::as_str) == chosen)?;
            if self.kind == "checkboxes" {
                set(&mut action, "selected_options", json!([option]));
            } else {
                set(&mut action, "selected_option", option.clone());
            }
        }
        Some(action)
    }
}

/// Everything in these blocks that has an action id.
pub(crate) fn actions(blocks: &[Value]) -> Vec<Action> {
    let mut found = Vec::new();
    for block in blocks {
        let many = block.get("elements").and_then(Value::as_array).into_iter().flatten();
        let one = ["accessory", "element"].iter().filter_map(|key| block.get(key));
        found.extend(many.chain(one).filter_map(|element| Action::of(block, element)));
    }
    found
}

/// Adds what Slack adds: ids of blocks and elements that have none, `emoji` and `verbatim` where they were left out.
pub(crate) fn with_defaults(blocks: &[Value], mut fresh: impl FnMut() -> String) -> Vec<Value> {
    let mut blocks = blocks.to_vec();
    for block in &mut blocks {
        if block.get("block_id").is_none() {
            set(block, "block_id", json!(fresh()));
        }
        text_defaults(block);
        if block.get("type").and_then(Value::as_str) != Some("rich_text") {
            element_ids(block, &mut fresh);
        }
    }
    blocks
}

fn element_ids(block: &mut Value, fresh: &mut impl FnMut() -> String) {
    let interactive = |element: &Value| {
        !matches!(element.get("type").and_then(Value::as_str), None | Some("image" | "mrkdwn" | "plain_text"))
    };
    let Some(object) = block.as_object_mut() else { return };
    for key in ["elements", "accessory", "element"] {
        let elements: Vec<&mut Value> = match object.get_mut(key) {
            Some(Value::Array(list)) => list.iter_mut().collect(),
            Some(one) => vec![one],
            None => break,
        };
        for element in elements {
            if interactive(element) && element.get("action_id").is_none() {
                set(element, "action_id", json!(fresh()));
            }
        }
    }
}

fn text_defaults(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(text_defaults),
        Value::Object(object) => {
            let default = match object.get("type").and_then(Value::as_str) {
                Some("plain_text") => Some(("emoji", true)),
                Some("mrkdwn") => Some(("verbatim", false)),
                _ => None,
            };
            if let Some((key, value)) = default
                && object.contains_key("text")
            {
                object.entry(key).or_insert(json!(value));
            }
            object.values_mut().for_each(text_defaults);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A message only one person saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Ephemeral {
    /// Where.
    pub channel: String,
    /// Who.
    pub user: String,
    /// Its name; it cannot be updated by it.
    pub ts: String,
    /// In which thread.
    pub thread_ts: Option<String>,
    /// What it said.
    pub content: Content,
}

/// A modal or a home tab.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// `V…`
    pub id: String,
    /// Who sees it.
    pub user: String,
    /// As the app sent it, with the ids and defaults that Slack adds.
    pub view: Value,
    /// Changes with every update.
    pub hash: String,
    /// Still on the screen.
    pub open: bool,
    /// What the app answered to a submission: faults by input block.
    pub errors: Map<String, Value>,
    /// The view below it.
    pub previous: Option<String>,
}

impl View {
    /// As a reader sees it, as plain text.
    pub fn rendered(&self) -> String {
        render::view(&self.view)
    }

    /// `modal` or `home`.
    pub fn kind(&self) -> &str {
        self.view.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// What the app put in for itself.
    pub fn private_metadata(&self) -> &str {
        self.view.get("private_metadata").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn blocks(&self) -> &[Value] {
        self.view.get("blocks").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}
