//! The first opinion: sqlparser's.

use super::lexer::Token;
use super::second::Opinion;

pub(super) fn compare(_piece: &str, _start: usize, _text: &str, _tokens: &[Token], _opinion: &mut Opinion) {}
