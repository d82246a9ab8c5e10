//! Claims about the Slack channel.

mod limits;
mod rendering;
