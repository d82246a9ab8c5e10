//! What a long text, a long line or many spaces push out of view.

use super::{Risk, RiskKind};

/// Columns of space within a line, with more text behind it.
const GAP: usize = 60;
/// Columns of space before the first character of a line.
const INDENT: usize = 160;
/// Empty lines in a row, with more text behind them.
const EMPTY_LINES: usize = 12;
/// Characters of a line.
const LONG_LINE: usize = 2_000;
/// Columns a tab takes at most.
const TAB: usize = 8;
/// Lines and characters an approver sees without scrolling.
const SCREEN_LINES: usize = 20;
const SCREEN_CHARS: usize = 1_500;

/// Looks at lines and spaces. A remark of each kind at most.
pub(super) fn look(text: &str, risks: &mut Vec<Risk>) {
    let (mut empty, mut told_empty, mut told_gap, mut told_long) = (0_usize, false, false, false);
    let mut tell = |text: String| risks.push(Risk::new(RiskKind::OutOfView, &text));
    for (index, line) in text.lines().enumerate() {
        let number = index.saturating_add(1);
        let line = line.trim_end();
        if line.is_empty() {
            empty = empty.saturating_add(1);
            continue;
        }
        if empty >= EMPTY_LINES && !told_empty {
            told_empty = true;
            tell(format!("line {number} stands behind {empty} empty lines"));
        }
        empty = 0;
        if line.len() >= GAP && !told_gap {
            let (gap, indent) = spaces(line);
            let widest = gap.max(if indent >= INDENT { indent } else { 0 });
            if widest >= GAP {
                told_gap = true;
                tell(format!("in line {number} more stands behind {widest} columns of space"));
            }
        }
        if line.len() > LONG_LINE && !told_long {
            let length = line.chars().count();
            if length > LONG_LINE {
                told_long = true;
                tell(format!("line {number} is {length} characters long"));
            }
        }
    }
}

/// The widest run of spaces between two characters of a line, and the one before the first.
fn spaces(line: &str) -> (usize, usize) {
    let (mut widest, mut indent, mut run, mut begun) = (0, 0, 0_usize, false);
    for c in line.chars() {
        if c.is_whitespace() {
            run = run.saturating_add(if c == '\t' { TAB } else { 1 });
            continue;
        }
        if begun {
            widest = run.max(widest);
        } else {
            indent = run;
        }
        begun = true;
        run = 0;
    }
    (widest, indent)
}

/// Dangerous statements behind the first that begin where nobody looks at once.
pub(super) fn statements(text: &str, statements: &[(usize, bool)], risks: &mut Vec<Risk>) {
    let mut below = statements.iter().enumerate().skip(1).filter(|(_, (_, dangerous))| *dangerous).filter_map(
        |(index, (start, _))| {
            let before = text.get(..*start)?;
            let lines = before.matches('\n').count();
            let is_below =
                lines >= SCREEN_LINES || before.len() > SCREEN_CHARS && before.chars().count() > SCREEN_CHARS;
            is_below.then_some((index.saturating_add(1), lines.saturating_add(1)))
        },
    );
    let Some((number, line)) = below.next() else { return };
    let more = below.count();
    let more = if more == 0 { String::new() } else { format!(", and {more} further below") };
    risks.push(Risk::new(
        RiskKind::OutOfView,
        &format!("statement {number}, in line {line}, is dangerous as well{more}"),
    ));
}
