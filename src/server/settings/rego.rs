//! The keys of `[policy]` that are about a policy in Rego, and its files.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::Sources;
use super::reader::Section;
use super::sections::{Zero, size, time};
use crate::judge::{Rego, RegoParts};

/// What judges statements.
#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Engine {
    /// The rules.
    #[default]
    Toml,
    /// A policy in Rego, and the rules for what it leaves undecided.
    Rego,
}

/// How long an evaluation may take.
const LIMIT: Duration = Duration::from_millis(20);
/// The longest it may be allowed to: now and then a session's thread waits for it, and its other sessions with it.
const LONGEST: Duration = Duration::from_secs(1);
/// What a process that evaluates may allocate.
const MEMORY: usize = 64 << 20;
/// Most files of a policy.
const MAX_FILES: usize = 100;

/// The policy in Rego, if the configuration has one. `Err`: it is wrong, and told.
pub(super) fn read(section: &mut Section<'_, '_>, sources: &dyn Sources) -> Result<Option<Arc<Rego>>, ()> {
    let document = section.document();
    let engine: Engine = section.take("engine").unwrap_or_default();
    let rego = section.take_spanned::<Vec<String>>("rego");
    let data = section.take_spanned::<Vec<String>>("rego_data");
    let mut parts = RegoParts { limit: LIMIT, ..RegoParts::default() };
    time(section, "rego_limit", Zero::No, &mut parts.limit);
    section.set("rego_zone", &mut parts.zone);
    let mut memory = MEMORY;
    size(section, "rego_memory", &mut memory);
    parts.memory = u64::try_from(memory).unwrap_or(u64::MAX);
    let span = section.span();
    let wrong = |message: String| {
        document.error(span.clone(), message);
        Err(())
    };
    if parts.limit > LONGEST {
        return wrong("`rego_limit`: at most a second, for others may wait meanwhile".to_owned());
    }
    if engine == Engine::Toml {
        return if rego.is_some() || data.is_some() {
            wrong("`rego` and `rego_data` need `engine = \"rego\"`".to_owned())
        } else {
            Ok(None)
        };
    }
    for (key, patterns, files) in [("rego", rego, &mut parts.modules), ("rego_data", data, &mut parts.data)] {
        let Some((patterns, _)) = patterns else { continue };
        for pattern in patterns {
            let found = sources.matching(&pattern).map_err(|error| error.to_string());
            let found = match found {
                Ok(found) if !found.is_empty() => found,
                Ok(_) => return wrong(format!("`policy.{key}`: `{pattern}`: there is no such file")),
                Err(why) => return wrong(format!("`policy.{key}`: `{pattern}`: {why}")),
            };
            for path in found {
                match sources.file(&path) {
                    Ok((text, _)) => files.push((path.display().to_string(), text)),
                    Err(error) => return wrong(format!("`policy.{key}`: cannot read {}: {error}", path.display())),
                }
            }
        }
        if files.len() > MAX_FILES {
            return wrong(format!("`policy.{key}`: more than {MAX_FILES} files"));
        }
    }
    if parts.modules.is_empty() {
        return wrong("`engine = \"rego\"` needs `rego = [\"policy.rego\"]`".to_owned());
    }
    match sources.evaluator(&parts).and_then(|evaluator| Rego::with(&parts, evaluator)) {
        Ok(rego) => Ok(Some(Arc::new(rego))),
        Err(why) => wrong(format!("the policy in Rego: {why}")),
    }
}
