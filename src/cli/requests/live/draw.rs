//! How the live view looks. Knows no keys.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Wrap};

use super::model::{Link, Mode, Model};
use crate::approval::http::view::{RequestView, State};
use crate::cli::requests::text;

/// Most lines the list takes; the details get the rest.
const LIST_LINES: u16 = 8;

/// Wrapped lines of details beyond which the rest is only counted as hidden.
const MAX_LINES: usize = 200_000;

const DIM: Style = Style::new().fg(Color::DarkGray);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const WARN: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);

/// Draws everything; notes in the model what fitted.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, now: Timestamp) {
    let now = model.gate_time(now);
    let rows = u16::try_from(model.requests.len()).unwrap_or(u16::MAX);
    let headline = u16::try_from(model.headline.len()).unwrap_or(0);
    let [head, title, list, details, foot] = Layout::vertical([
        Constraint::Length(headline),
        Constraint::Length(1),
        Constraint::Length(rows.clamp(1, LIST_LINES)),
        Constraint::Min(3),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    let lines: Vec<_> = model.headline.iter().map(|line| Line::styled(line.clone(), BOLD)).collect();
    frame.render_widget(Paragraph::new(lines), head);
    frame.render_widget(title_line(model), title);
    draw_list(frame, model, list, now);
    draw_details(frame, model, details, now);
    let foot_lines = Paragraph::new(footer(model)).wrap(Wrap { trim: false });
    frame.render_widget(foot_lines, foot);
}

fn title_line(model: &Model) -> Line<'static> {
    let waiting = match model.pending() {
        0 => "nothing waits".to_owned(),
        1 => "1 request waits".to_owned(),
        n => format!("{n} requests wait"),
    };
    let link = match &model.link {
        Link::Connecting => Span::styled("connecting…", WARN),
        Link::Live => Span::styled("live", Style::new().fg(Color::Green)),
        Link::Lost(why) => Span::styled(format!("connection lost, trying again: {why}"), WARN),
    };
    let me = if model.me.is_empty() { String::new() } else { format!("you are {} · ", model.me) };
    Line::from(vec![Span::styled(format!("querygate · {waiting} · "), BOLD), Span::raw(me), link])
}

fn draw_list(frame: &mut Frame<'_>, model: &Model, area: Rect, now: Timestamp) {
    let height = usize::from(area.height);
    let at = model.requests.iter().position(|request| Some(&request.id) == model.selected.as_ref()).unwrap_or(0);
    let first = at.saturating_add(1).saturating_sub(height);
    let lines: Vec<_> = model
        .requests
        .iter()
        .skip(first)
        .take(height)
        .map(|request| list_line(request, Some(&request.id) == model.selected.as_ref(), now))
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn list_line(request: &RequestView, selected: bool, now: Timestamp) -> Line<'static> {
    let marker = if selected { "▶ " } else { "  " };
    let line = format!(
        "{marker}{}  {}  {}  {}",
        request.id,
        text::standing(request, now),
        text::effects(request),
        text::summary(request)
    );
    let style = match (request.state, selected) {
        (State::Pending, true) => BOLD,
        (State::Pending, false) => Style::new(),
        _ => DIM,
    };
    Line::styled(line, style)
}

fn draw_details(frame: &mut Frame<'_>, model: &mut Model, area: Rect, now: Timestamp) {
    let block = Block::bordered();
    let inner = block.inner(area);
    let Some(request) = model.current() else {
        let hint = Paragraph::new("Held statements appear here as they come.").style(DIM);
        frame.render_widget(hint.block(block), area);
        return;
    };
    let lines = wrapped(details(request, now), usize::from(inner.width));
    let fit = usize::from(inner.height);
    let first = model.scroll.min(lines.len().saturating_sub(fit));
    let last = first.saturating_add(fit).min(lines.len());
    let title = Line::styled(format!(" {} ", request.id), BOLD);
    let place = if lines.len() > fit {
        let from = first.saturating_add(1);
        Line::styled(format!(" lines {from}–{last} of {}: PgDn PgUp ", lines.len()), WARN)
    } else {
        Line::default()
    };
    model.scroll = first;
    model.drawn = (lines.len(), fit);
    model.seen = model.seen.max(last);
    let shown: Vec<_> = lines.into_iter().skip(first).take(fit).collect();
    let block = block.title_top(title).title_bottom(place.right_aligned());
    frame.render_widget(Paragraph::new(shown).block(block), area);
}

/// Everything about a request, the most telling first.
fn details(request: &RequestView, now: Timestamp) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(text::standing(request, now), standing_style(request))];
    let (first, rest): (Vec<_>, Vec<_>) =
        text::facts(request).into_iter().partition(|(label, _)| matches!(*label, "who" | "does" | "reason"));
    let fact = |(label, value): (&'static str, String)| {
        let loud = label == "does" || (label == "transaction" && request.in_transaction);
        let style = if loud { WARN } else { Style::new() };
        Line::from(vec![Span::styled(format!("{label:<13}"), DIM), Span::styled(value, style)])
    };
    lines.extend(first.into_iter().map(fact));
    lines.push(Line::default());
    let statement = text::statement(request);
    lines.extend(statement.into_iter().map(|line| Line::styled(line, BOLD)));
    lines.push(Line::default());
    for parameter in &request.parameters {
        lines.push(Line::raw(text::parameter_line(parameter)));
    }
    for remark in text::remarks(request) {
        let style = if remark.starts_with('!') { WARN } else { DIM };
        lines.push(Line::styled(remark, style));
    }
    lines.extend(rest.into_iter().map(fact));
    lines
}

fn standing_style(request: &RequestView) -> Style {
    match request.state {
        State::Pending => WARN,
        State::Approved | State::Released => Style::new().fg(Color::Green),
        State::Rejected | State::Expired | State::Withdrawn => Style::new().fg(Color::Red),
    }
}

fn footer(model: &Model) -> Vec<Line<'static>> {
    let verb = |approve: bool| if approve { "approve" } else { "reject" };
    let prompt = match &model.mode {
        Mode::Browse => Line::styled("a approve · r reject · ↑↓ select · PgUp/PgDn scroll · q quit", DIM),
        Mode::Reason { id, approve, typed } => Line::from(vec![
            Span::styled(format!("{} {id}. ", verb(*approve)), BOLD),
            Span::raw(format!("Reason (may be empty; Enter goes on, Esc goes back): {typed}▏")),
        ]),
        Mode::Confirm { id, approve, reason: _ } => {
            let (lines, _) = model.drawn;
            let unseen = lines.saturating_sub(model.seen);
            let unseen = if unseen > 0 && model.selected.as_ref() == Some(id) {
                let s = if lines == 1 { "" } else { "s" };
                format!("You have NOT seen {unseen} of its {lines} line{s}. ")
            } else {
                String::new()
            };
            Line::from(vec![
                Span::styled(unseen, WARN),
                Span::styled(format!("Really {} {id}? ", verb(*approve)), BOLD),
                Span::raw("y: yes · any other key: no"),
            ])
        }
    };
    vec![prompt, Line::styled(model.note.clone(), WARN)]
}

/// Lines cut to a width, keeping their styles.
fn wrapped(lines: Vec<Line<'static>>, width: usize) -> Vec<Line<'static>> {
    let width = width.max(1);
    let mut out = Vec::new();
    for line in lines {
        wrap_line(line, width, &mut out);
        if out.len() > MAX_LINES {
            out.truncate(MAX_LINES);
            out.push(Line::styled("! more than this view can show: use `querygate requests show`", WARN));
            break;
        }
    }
    out
}

fn wrap_line(line: Line<'static>, width: usize, out: &mut Vec<Line<'static>>) {
    if line.width() <= width {
        out.push(line);
        return;
    }
    let line_style = line.style;
    let mut row: Vec<Span<'static>> = Vec::new();
    let mut used = 0_usize;
    for span in line.spans {
        let mut part = String::new();
        for c in span.content.chars() {
            let wide = char_width(c);
            if used.saturating_add(wide) > width {
                row.push(Span::styled(std::mem::take(&mut part), span.style));
                out.push(Line::from(std::mem::take(&mut row)).style(line_style));
                used = 0;
            }
            part.push(c);
            used = used.saturating_add(wide);
        }
        row.push(Span::styled(part, span.style));
    }
    out.push(Line::from(row).style(line_style));
}

fn char_width(c: char) -> usize {
    if c.is_ascii() {
        return 1;
    }
    let mut buffer = [0; 4];
    Span::raw(&*c.encode_utf8(&mut buffer)).width()
}
