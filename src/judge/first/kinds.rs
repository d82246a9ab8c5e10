//! What kind of effect each of sqlparser's statements has. Exhaustive on purpose: a new statement in a new version of
//! sqlparser does not compile until someone has thought about it.

use sqlparser::ast::{LockTableMode, Statement, TextSearchObjectType, UserDefinedTypeRepresentation as Representation};

use super::EffectKind;

/// The kind of a statement that [`super::statements`] does not look into.
#[expect(clippy::too_many_lines, reason = "one line per statement of the language")]
pub(super) fn kind(statement: &Statement) -> EffectKind {
    match statement {
        Statement::Query(_)
        | Statement::Explain { .. }
        | Statement::ShowFunctions { .. }
        | Statement::ShowVariable { .. }
        | Statement::ShowStatus { .. }
        | Statement::ShowVariables { .. }
        | Statement::ShowCreate { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowCatalogs { .. }
        | Statement::ShowDatabases { .. }
        | Statement::ShowProcessList { .. }
        | Statement::ShowSchemas { .. }
        | Statement::ShowCharset(_)
        | Statement::ShowObjects(_)
        | Statement::ShowTables { .. }
        | Statement::ShowViews { .. }
        | Statement::ShowCollation { .. } => EffectKind::Read,

        Statement::Analyze(_)
        | Statement::Close { .. }
        | Statement::Declare { .. }
        | Statement::Fetch { .. }
        | Statement::Discard { .. }
        | Statement::Deallocate { .. }
        | Statement::Prepare { .. }
        | Statement::LISTEN { .. }
        | Statement::UNLISTEN { .. }
        | Statement::NOTIFY { .. } => EffectKind::Session,

        Statement::StartTransaction { statements, exception, .. } => {
            // BEGIN … END blocks are another product's.
            if statements.is_empty() && exception.is_none() { EffectKind::Transaction } else { EffectKind::Unknown }
        }
        Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. } => EffectKind::Transaction,

        Statement::Execute { .. } => EffectKind::Execute,

        Statement::CreateTable(table) if table.or_replace => EffectKind::Alter,
        Statement::CreateView(view) if view.or_replace || view.or_alter => EffectKind::Alter,
        Statement::CreateTextSearch(search) => match search.object_type {
            TextSearchObjectType::Configuration => EffectKind::Create,
            TextSearchObjectType::Dictionary | TextSearchObjectType::Template | TextSearchObjectType::Parser => {
                EffectKind::Code
            }
        },
        Statement::CreateTable(_)
        | Statement::CreateView(_)
        | Statement::CreateIndex(_)
        | Statement::CreateSequence { .. }
        | Statement::CreateSchema { .. }
        | Statement::CreateDomain(_)
        | Statement::CreateType {
            representation:
                None
                | Some(Representation::Composite { .. } | Representation::Enum { .. } | Representation::Range { .. }),
            ..
        }
        | Statement::CreateCollation(_) => EffectKind::Create,

        Statement::Drop { .. }
        | Statement::DropFunction(_)
        | Statement::DropDomain(_)
        | Statement::DropProcedure { .. }
        | Statement::DropPolicy(_)
        | Statement::DropExtension(_)
        | Statement::DropOperator(_)
        | Statement::DropOperatorFamily(_)
        | Statement::DropOperatorClass(_)
        | Statement::DropTrigger(_) => EffectKind::Drop,

        Statement::AlterTable(_)
        | Statement::AlterSchema(_)
        | Statement::AlterIndex { .. }
        | Statement::AlterView { .. }
        | Statement::AlterFunction(_)
        | Statement::AlterType(_)
        | Statement::AlterCollation(_)
        | Statement::AlterOperator(_)
        | Statement::AlterOperatorFamily(_)
        | Statement::AlterOperatorClass(_)
        | Statement::AlterTextSearch(_)
        | Statement::AlterRole { .. }
        | Statement::AlterUser(_)
        | Statement::AlterPolicy(_)
        | Statement::Comment { .. } => EffectKind::Alter,

        Statement::CreateRole(_)
        | Statement::CreateUser(_)
        | Statement::CreatePolicy(_)
        | Statement::Grant(_)
        | Statement::Revoke(_) => EffectKind::Privilege,

        Statement::CreateType { representation: Some(Representation::SqlDefinition { .. }), .. }
        | Statement::Call(_)
        | Statement::Load { .. }
        | Statement::CreateFunction(_)
        | Statement::CreateProcedure { .. }
        | Statement::CreateTrigger(_)
        | Statement::CreateExtension(_)
        | Statement::CreateServer(_)
        | Statement::CreateOperator(_)
        | Statement::CreateOperatorFamily(_)
        | Statement::CreateOperatorClass(_) => EffectKind::Code,

        Statement::Lock(lock) if lock.lock_mode == Some(LockTableMode::AccessShare) => EffectKind::Read,
        Statement::Vacuum(vacuum) if !vacuum.full => EffectKind::Session,
        Statement::Lock(_) | Statement::Vacuum(_) | Statement::CreateDatabase { .. } => EffectKind::Admin,

        // Looked into elsewhere; here for completeness.
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_)
        | Statement::Truncate(_)
        | Statement::Copy { .. }
        | Statement::Set(_)
        | Statement::Reset(_)
        // Fail closed: other products' statements, which Postgres's grammar took for something else.
        | Statement::Msck(_)
        | Statement::Install { .. }
        | Statement::Directory { .. }
        | Statement::Case(_)
        | Statement::If(_)
        | Statement::While(_)
        | Statement::Raise(_)
        | Statement::CopyIntoSnowflake { .. }
        | Statement::Open(_)
        | Statement::CreateVirtualTable { .. }
        | Statement::CreateSecret { .. }
        | Statement::CreateConnector(_)
        | Statement::AlterConnector { .. }
        | Statement::AlterSession { .. }
        | Statement::AttachDatabase { .. }
        | Statement::AttachDuckDBDatabase { .. }
        | Statement::DetachDuckDBDatabase { .. }
        | Statement::DropSecret { .. }
        | Statement::DropConnector { .. }
        | Statement::Flush { .. }
        | Statement::Use(_)
        | Statement::CreateMacro { .. }
        | Statement::CreateStage { .. }
        | Statement::CreateFileFormat { .. }
        | Statement::CreateWarehouse(_)
        | Statement::Assert { .. }
        | Statement::Deny(_)
        | Statement::Kill { .. }
        | Statement::ExplainTable { .. }
        | Statement::Cache { .. }
        | Statement::UNCache { .. }
        | Statement::Pragma { .. }
        | Statement::LockTables { .. }
        | Statement::UnlockTables
        | Statement::Unload { .. }
        | Statement::OptimizeTable { .. }
        | Statement::LoadData { .. }
        | Statement::RenameTable(_)
        | Statement::List(_)
        | Statement::Put { .. }
        | Statement::Remove(_)
        | Statement::RaisError { .. }
        | Statement::Throw(_)
        | Statement::Print(_)
        | Statement::WaitFor(_)
        | Statement::Return(_)
        | Statement::ExportData(_) => EffectKind::Unknown,
    }
}
