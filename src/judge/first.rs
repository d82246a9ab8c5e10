//! The first opinion: sqlparser's, one statement at a time, end of input required. It can add danger to what Postgres's
//! grammar found, never take any away; where the two differ, `unknown` stands beside their effects. Where it cannot parse
//! (a fortieth of harmless traffic), the grammar decides alone. Knows no policy.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{AccessExpr, Expr, FunctionArguments, Statement, TableFactor, Visit, Visitor};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token as TheirToken, TokenWithSpan, Tokenizer};

use super::analyse::is_danger;
use super::lexer::Token;
use super::second::Opinion;
use super::{Effect, EffectKind, ObjectName, functions};

mod kinds;
mod masks;
mod statements;

/// Nesting sqlparser may follow. Some inputs double its work per level; 25 loses no statement of Postgres's own tests.
const RECURSION_LIMIT: usize = 25;

/// Adds sqlparser's view of `piece` (which starts at `start` of the whole text, with our `tokens`) to the grammar's.
pub(super) fn compare(piece: &str, start: usize, tokens: &[Token], opinion: &mut Opinion) {
    let dialect = PostgreSqlDialect {};
    let Ok(theirs) = Tokenizer::new(&dialect, piece).tokenize_with_location() else { return };
    // The masks are needed only if it parses, but parsing eats the tokens.
    let agree = masks::agree(piece, start, tokens, &theirs);
    let Some(statement) = parse(theirs) else { return };
    let mut reader = Reader { effects: Vec::new(), quiet: 0, muted: Vec::new(), sets: false };
    let _: ControlFlow<()> = statement.visit(&mut reader);
    merge(reader.effects, reader.sets, opinion);
    if !agree {
        opinion.effects.push(effect(
            EffectKind::Disagreement,
            Vec::new(),
            "its literals and comments can be read in two ways",
        ));
    }
}

fn parse(tokens: Vec<TokenWithSpan>) -> Option<Statement> {
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(RECURSION_LIMIT).with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().ok()?;
    (parser.peek_token_ref().token == TheirToken::EOF).then_some(statement)
}

/// The kinds that a policy is likely to hold, with every UPDATE counted: how well each parser reads a condition is no
/// disagreement about the statement.
fn dangers(effects: &[Effect]) -> BTreeSet<EffectKind> {
    effects
        .iter()
        .filter(|effect| is_danger(effect) || effect.kind == EffectKind::Update)
        .map(|effect| effect.kind)
        .collect()
}

fn merge(found: Vec<Effect>, sets: bool, opinion: &mut Opinion) {
    let theirs = dangers(&found);
    let ours = dangers(&opinion.effects);
    // What a set_config() sets is the grammar's to say.
    let unseen = !sets && ours.iter().any(|kind| *kind != EffectKind::Update) && theirs.is_empty();
    for effect in found {
        let known = opinion.effects.iter().any(|known| known.kind == effect.kind);
        if !known && is_danger(&effect) {
            opinion.effects.push(effect);
        }
    }
    if unseen || !theirs.is_subset(&ours) {
        // Fail closed: one of them is wrong, and nobody knows which.
        let why = "two parsers read it differently";
        opinion.effects.push(effect(EffectKind::Disagreement, Vec::new(), why));
    }
}

fn effect(kind: EffectKind, objects: Vec<ObjectName>, why: &str) -> Effect {
    Effect { kind, objects, has_where: None, columns: Vec::new(), why: why.to_owned() }
}

/// Collects effects from every statement and expression at every depth.
struct Reader {
    effects: Vec<Effect>,
    /// How many EXPLAINs that run nothing we are inside of.
    quiet: usize,
    /// `quiet` around each EXECUTE we are inside of: its arguments run.
    muted: Vec<usize>,
    /// It calls `set_config`.
    sets: bool,
}

impl Reader {
    fn call(&mut self, name: &sqlparser::ast::ObjectName, arguments: usize) {
        let name = statements::object(name);
        let schema = name.schema.as_deref();
        if self.quiet > 0 && !functions::runs_when_planned(schema, &name.name) {
            return;
        }
        self.sets |= self.quiet == 0 && name.name == "set_config";
        if let Some(kind) = functions::call_danger(schema, &name.name, arguments) {
            self.effects.push(effect(kind, vec![name], "it calls a function that does more than read"));
        }
    }

    fn attribute(&mut self, name: &sqlparser::ast::Ident) {
        let name = statements::fold(name);
        if let Some(kind) = functions::attribute_danger(&name).filter(|_| self.quiet == 0) {
            let object = ObjectName { schema: None, name };
            self.effects.push(effect(
                kind,
                vec![object],
                "an attribute can be a call of a function that does more than read",
            ));
        }
    }
}

impl Visitor for Reader {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        if self.quiet == 0 {
            self.effects.extend(statements::effects(statement));
        }
        if statements::is_quiet(statement) {
            self.quiet = self.quiet.saturating_add(1);
        }
        if matches!(statement, Statement::Execute { .. }) {
            self.muted.push(std::mem::take(&mut self.quiet));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        if matches!(statement, Statement::Execute { .. }) {
            self.quiet = self.muted.pop().unwrap_or_default();
        }
        if statements::is_quiet(statement) {
            self.quiet = self.quiet.saturating_sub(1);
        }
        ControlFlow::Continue(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others name no function outside an expression")]
    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(args), .. } => self.call(name, args.args.len()),
            TableFactor::Function { name, args, .. } => self.call(name, args.len()),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            let arguments = match &function.args {
                FunctionArguments::List(list) => list.args.len(),
                FunctionArguments::None | FunctionArguments::Subquery(_) => 0,
            };
            self.call(&function.name, arguments);
        }
        if let Expr::CompoundIdentifier(parts) = expr
            && let [_, .., last] = parts.as_slice()
        {
            self.attribute(last);
        }
        if let Expr::CompoundFieldAccess { access_chain, .. } = expr {
            for access in access_chain {
                if let AccessExpr::Dot(Expr::Identifier(name)) = access {
                    self.attribute(name);
                }
            }
        }
        ControlFlow::Continue(())
    }
}
