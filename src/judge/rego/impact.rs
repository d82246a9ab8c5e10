//! What a message would touch, as a policy in Rego is told: also before anybody has looked, when nothing is known. What is not known
//! is told as large, or as so: whichever way a policy compares it, it does not pass for small. Start at [`told`].

use serde_json::{Value, json};

use crate::judge::rule::Match;
use crate::judge::{Critical, ImpactCondition, Measured, ObjectPattern, Reached};

/// Rows and bytes that are not known: the largest number that every reader of JSON takes exactly.
const LARGE: u64 = (1 << 53) - 1;
/// Objects told; of more it is not known what else is touched.
const MAX_REACHED: usize = 200;

/// `input.impact`.
pub(super) fn told(measured: Measured<'_>) -> Value {
    let Measured { measure, critical } = measured;
    // Fail closed: what is only possible is so.
    let touches =
        |how| ImpactCondition { critical: Some(how), ..ImpactCondition::default() }.matches(measured) > Match::No;
    let complete = measure.complete && measure.reached.len() <= MAX_REACHED;
    let unknown: Vec<&str> = [
        ("rows", measure.rows.is_some()),
        ("bytes", measure.bytes.is_some()),
        ("rewrites", measure.rewrites.is_some()),
        ("triggers", measure.triggers.is_some()),
        ("reached", complete),
    ]
    .into_iter()
    .filter_map(|(key, known)| (!known).then_some(key))
    .collect();
    let reached = measure.reached.iter().take(MAX_REACHED).map(|reached| object(reached, critical));
    json!({
        "rows": measure.rows.unwrap_or(LARGE).min(LARGE),
        "bytes": measure.bytes.unwrap_or(LARGE).min(LARGE),
        "rewrites": measure.rewrites.unwrap_or(true),
        "triggers": measure.triggers.unwrap_or(true),
        "critical": touches(Critical::Touched),
        "critical_by_cascade": touches(Critical::Cascaded),
        "reached": reached.collect::<Vec<_>>(),
        "unknown": unknown,
    })
}

fn object(reached: &Reached, critical: &[ObjectPattern]) -> Value {
    let Reached { object, by_cascade } = reached;
    let is_critical = critical.iter().any(|pattern| pattern.matches(object) > Match::No);
    json!({"schema": object.schema, "name": object.name, "by_cascade": by_cascade, "critical": is_critical})
}
