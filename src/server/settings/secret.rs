//! Secrets in the configuration: the text itself, an environment variable, or a file.

use std::ops::Range;
use std::path::PathBuf;

use super::Sources;
use super::reader::Section;
use crate::approval::slack::settings::Secret;

/// The keys of one secret: the text, the variable's name, the file's path.
pub(super) type Keys = [&'static str; 3];

/// The secret, from whichever of its keys is there; of several, the first.
pub(super) fn secret(
    section: &mut Section<'_, '_>,
    of: &str,
    [key, env, file]: Keys,
    sources: &dyn Sources,
) -> Option<Secret> {
    let document = section.document();
    let mut found: Vec<(String, Range<usize>)> = Vec::new();
    if let Some((text, span)) = section.take_secret(key) {
        if sources.is_public() {
            let message = format!("everybody on this machine can read `{of}.{key}`: chmod o-r this file");
            document.warning(Some(span.clone()), message);
        }
        found.push((text, span));
    }
    if let Some((variable, span)) = section.take_spanned::<String>(env) {
        match sources.variable(&variable) {
            Some(text) => found.push((text, span)),
            None => document.error(Some(span), format!("`{of}.{env}`: the environment has no `{variable}`")),
        }
    }
    if let Some((written, span)) = section.take_spanned::<PathBuf>(file) {
        let path = sources.path(&written);
        match sources.file(&path) {
            Ok((text, public)) => {
                if public {
                    let message = format!("everybody on this machine can read {}: chmod o-r it", path.display());
                    document.warning(Some(span.clone()), message);
                }
                found.push((text.trim_end_matches(['\r', '\n']).to_owned(), span));
            }
            Err(error) => document.error(Some(span), format!("`{of}.{file}`: {}: {error}", path.display())),
        }
    }
    let (text, span) = found.into_iter().next()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        document.error(Some(span), format!("`{of}.{key}`: visible ASCII characters without spaces"));
        return None;
    }
    Some(Secret::new(text))
}
