//! Blocks and views as Slack documents them: what is refused, and where.
//!
//! Start from [`message`] and [`view()`]. Everything here is pure: JSON in, a list of faults out, each with the JSON pointer
//! Slack itself would name. Where Slack's documentation and Slack's behaviour differ, the stricter of both is taken: a
//! message accepted here is accepted there, not the other way round. It must not know who sent the blocks or why.
//!
//! Source: <https://docs.slack.dev/reference/block-kit>.

mod check;
mod elements;
mod layout;
mod rich;
mod view;

use serde_json::Value;

use self::check::{At, Report};

/// Most blocks in a message.
pub const MESSAGE_BLOCKS: usize = 50;
/// Most blocks in a view.
pub const VIEW_BLOCKS: usize = 100;
/// Most characters of all blocks of a message together, counted over their compact JSON. Slack counts texts "with a buffer
/// for block containers": 13,297 characters in one block, fewer in several. The JSON is never shorter than what it counts.
pub const MESSAGE_CHARACTERS: usize = 13_200;
/// Most bytes of a view's compact JSON.
pub const VIEW_BYTES: usize = 250_000;

/// Why blocks or a view were refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Slack's word: `invalid_blocks`, `invalid_blocks_format`, `msg_blocks_too_long`, `invalid_arguments`, `view_too_large`.
    pub error: &'static str,
    /// What is wrong and where, one line per fault.
    pub messages: Vec<String>,
}

impl Refused {
    fn bare(error: &'static str) -> Refused {
        Refused { error, messages: Vec::new() }
    }
}

/// Checks the blocks of a message.
pub fn message(blocks: &Value) -> Result<(), Refused> {
    let Some(list) = blocks.as_array() else { return Err(Refused::bare("invalid_blocks_format")) };
    if list.iter().any(|block| !block.is_object()) {
        return Err(Refused::bare("invalid_blocks_format"));
    }
    let mut report = Report::default();
    layout::blocks(&mut report, &At::root(blocks, "/blocks"), layout::Surface::Message);
    report.done("invalid_blocks")?;
    let characters = blocks.to_string().chars().count();
    if characters > MESSAGE_CHARACTERS {
        return Err(Refused::bare("msg_blocks_too_long"));
    }
    Ok(())
}

/// Checks a view of one type, `modal` or `home`.
pub fn view(value: &Value, kind: &str) -> Result<(), Refused> {
    if value.to_string().len() > VIEW_BYTES {
        return Err(Refused::bare("view_too_large"));
    }
    let mut report = Report::default();
    view::view(&mut report, &At::root(value, "/view"), kind);
    report.done("invalid_arguments")
}
