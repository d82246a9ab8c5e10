//! What the client is told where the gate refuses by itself.

use crate::judge::Judgement;
use crate::wire::reply::Report;

pub(super) fn too_long(limit: usize) -> Report {
    Report::error("54000", format!("querygate: statement longer than {limit} bytes")).with_hint(
        "Send it in parts, use COPY for data, or raise limits.max_statement_bytes in the gate's configuration.",
    )
}

pub(super) fn rejected_by_rule(judgement: &Judgement) -> Report {
    let message = match &judgement.message {
        Some(message) => format!("querygate: rejected by policy: {message}"),
        None => "querygate: rejected by policy".to_owned(),
    };
    Report::error("42501", message).with_detail(format!("Rule \"{}\": {}.", judgement.rule, judgement.why)).with_hint(
        match &judgement.advice {
            Some(advice) => format!("{advice}\nNothing was run."),
            None => "Nothing was run. Ask the owners of the gate's policy if you need this.".to_owned(),
        },
    )
}

pub(super) fn in_transaction_report(judgement: &Judgement) -> Report {
    Report::error("42501", "querygate: this statement needs approval, and approvals are not asked inside a transaction")
        .with_detail(format!("Rule \"{}\": {}.{}", judgement.rule, judgement.why, said(judgement)))
        .with_advice(
            judgement.advice.as_deref(),
            "Run it outside a transaction block (hold.in_transaction = \"reject\" in the gate's configuration).",
        )
}

pub(super) fn cannot_guard(judgement: &Judgement, why: &str) -> Report {
    Report::error("42501", "querygate: this statement needs approval with a guard, and the guard cannot be applied to it")
        .with_detail(format!("Rule \"{}\": {}. The guard: {why}.{}", judgement.rule, judgement.why, said(judgement)))
        .with_advice(judgement.advice.as_deref(), "Nothing was run, and nobody was asked. Ask the owners of the gate's policy about the rule's guard or undo (otherwise = \"run\").")
}

/// What the rules say of it, on a line of its own.
fn said(judgement: &Judgement) -> String {
    judgement.message.as_deref().map(|message| format!("\n{message}")).unwrap_or_default()
}

pub(super) fn no_warrant() -> Report {
    Report::error("58000", "querygate: the rows of this statement were to be kept for an undo, and the gate cannot have them kept; nothing was run")
        .with_hint("The database has to be among `databases` in [undo], which takes effect when the gate is started.")
}

pub(super) fn guard_unknown() -> Report {
    Report::error("58000", "querygate: the session did not say what time limits it has; nothing was run")
}

pub(super) fn not_executed() -> Report {
    Report::error("0A000", "querygate: a statement under a guard has to be executed right after it is bound")
        .with_detail(
            "Only Describe, Flush and Close of a statement may come between, and a portal is not kept for later.",
        )
        .with_hint("Send Bind and Execute of the statement together, and Sync behind them.")
}

pub(super) fn too_many_names() -> Report {
    Report::error("54000", "querygate: too many prepared statements in one session")
        .with_hint("Close those that are not needed any more (DEALLOCATE).")
}

pub(super) fn changed() -> Report {
    Report::error("42501", "querygate: a prepared statement this portal executes was redefined after it was bound")
        .with_hint("Bind again.")
}

pub(super) fn pinned() -> Report {
    Report::error("42501", "querygate: a prepared statement that an open portal executes cannot be redefined")
        .with_detail("The portal was judged by what the statement was when the portal was bound.")
        .with_hint("Execute the portal or end the transaction first.")
}

pub(super) fn lapsed() -> Report {
    Report::error(
        "42501",
        "querygate: this portal was approved to run at once, before anything else, and it was not executed so",
    )
    .with_detail("What it does may depend on the session and on rows that came since, which may not be what approvers were shown any more.")
    .with_hint("Execute a portal right after its Bind.")
}

/// Fail closed: nobody could be asked before it has run.
pub(super) fn runs_when_parsed() -> Report {
    Report::error("42501", "querygate: parsing this statement would already run what has to be approved")
        .with_detail(
            "It has a text that is made a value of a type which calls a function, before the statement is bound.",
        )
        .with_hint("Send it as a simple query, or give the text as a parameter.")
}

pub(super) fn uncertain_name() -> Report {
    Report::error("42501", "querygate: this name may stand for several prepared statements")
        .with_detail(
            "A text that failed may have prepared it anew before it failed, so nobody can tell what would run.",
        )
        .with_hint("Close the prepared statement (DEALLOCATE) and prepare it again.")
}
