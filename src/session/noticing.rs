//! What is told of a statement that passes, as its session puts it. Bounded in bytes: the statement is on its way, and its
//! notice must not weigh on the gate.

use sha2::{Digest as _, Sha256};

use super::machine::Draft;
use super::shared::Shared;
use crate::hold::{Notice, Origin, StatementText};
use crate::judge::RemarkKind;

/// Longest text told, in bytes; of a longer one its beginning, and the hash of all of it.
const TEXT_BYTES: usize = 16 << 10;
/// Most values, effects, and objects and columns of an effect told.
const LISTED: usize = 50;
/// Longest value told, in characters.
const VALUE_CHARS: usize = 1_000;

/// Tells of a statement, once for each rule that wants it.
pub(super) fn tell(shared: &Shared, origin: &Origin, policy_version: &str, draft: Draft) {
    let remarks = draft.judgement.remarks.clone();
    let mut notice = notice(origin, policy_version, draft);
    for remark in remarks {
        notice.rule = remark.rule.to_string();
        notice.why = remark.why;
        notice.message = remark.message.map(|message| message.to_string());
        shared.notices.tell((remark.kind, Box::new(notice.clone())));
    }
}

/// What sessions tell.
pub type Told = (RemarkKind, Box<Notice>);

fn notice(origin: &Origin, policy_version: &str, draft: Draft) -> Notice {
    let mut cut = draft.text.len() > TEXT_BYTES;
    let beginning = draft.text.get(..TEXT_BYTES).unwrap_or(&draft.text);
    let text = String::from_utf8_lossy(beginning);
    let statement = StatementText {
        lossy: matches!(text, std::borrow::Cow::Owned(_)),
        sha256: hex::encode(Sha256::digest(&draft.text)),
        text: text.as_ref().into(),
    };
    let mut shorten = |length: usize| cut |= length > LISTED;
    let mut effects = Vec::new();
    let all = draft.analysis.pieces.iter().flat_map(|piece| &piece.effects);
    shorten(all.clone().count());
    for effect in all.take(LISTED) {
        shorten(effect.objects.len().max(effect.columns.len()));
        let mut effect = effect.clone();
        effect.objects.truncate(LISTED);
        effect.columns.truncate(LISTED);
        effects.push(effect);
    }
    let mut parameters = draft.parameters;
    shorten(parameters.len());
    parameters.truncate(LISTED);
    for value in parameters.iter_mut().filter_map(|parameter| parameter.value.as_mut()) {
        if let Some((end, _)) = value.char_indices().nth(VALUE_CHARS) {
            value.truncate(end);
            cut = true;
        }
    }
    Notice {
        origin: origin.clone(),
        statement,
        cut,
        parameters,
        effects,
        rule: String::new(),
        why: String::new(),
        message: None,
        redact: draft.judgement.redact,
        policy_version: policy_version.to_owned(),
        in_transaction: draft.in_transaction,
        reason: draft.reason,
    }
}
