//! Node kinds that do nothing by themselves: expressions, clauses, names. What is neither here nor a statement the reader
//! knows is `unknown`.

/// Whether a node kind is only a part of statements. All parts a raw parse tree can hold (gram.y); kinds that only later
/// stages of the server build (`Var`, `OpExpr`, `Query` …) are left out.
pub(super) fn is_part(kind: &str) -> bool {
    matches!(
        kind,
        // Values and names.
        "Integer" | "Float" | "Boolean" | "String" | "BitString" | "List" | "AConst" | "AStar" | "Alias" | "RangeVar"
            | "TypeName" | "ColumnRef" | "ParamRef" | "RoleSpec" | "ObjectWithArgs" | "FunctionParameter" | "AccessPriv"
        // Expressions.
            | "AExpr" | "AIndices" | "AIndirection" | "AArrayExpr" | "TypeCast" | "CollateClause" | "FuncCall"
            | "BoolExpr" | "SubLink" | "CaseExpr" | "CaseWhen" | "RowExpr" | "CoalesceExpr" | "MinMaxExpr"
            | "SqlValueFunction" | "XmlExpr" | "XmlSerialize" | "NullTest" | "BooleanTest" | "SetToDefault"
            | "CurrentOfExpr" | "NamedArgExpr" | "GroupingFunc" | "MultiAssignRef" | "MergeSupportFunc"
        // JSON.
            | "JsonFormat" | "JsonReturning" | "JsonValueExpr" | "JsonIsPredicate" | "JsonBehavior" | "JsonOutput"
            | "JsonArgument" | "JsonFuncExpr" | "JsonTable" | "JsonTableColumn" | "JsonTablePathSpec" | "JsonKeyValue"
            | "JsonParseExpr" | "JsonScalarExpr" | "JsonSerializeExpr" | "JsonObjectConstructor"
            | "JsonArrayConstructor" | "JsonArrayQueryConstructor" | "JsonAggConstructor" | "JsonObjectAgg"
            | "JsonArrayAgg"
        // Clauses of queries.
            | "ResTarget" | "SortBy" | "WindowDef" | "RangeSubselect" | "RangeFunction" | "RangeTableFunc"
            | "RangeTableFuncCol" | "RangeTableSample" | "JoinExpr" | "IntoClause" | "LockingClause" | "GroupingSet"
            | "WithClause" | "CommonTableExpr" | "CteSearchClause" | "CteCycleClause" | "InferClause" | "IndexElem"
            | "OnConflictClause" | "MergeWhenClause" | "ReturningOption" | "ReturningClause"
        // Clauses of definitions.
            | "ColumnDef" | "TableLikeClause" | "DefElem" | "Constraint" | "PartitionElem" | "PartitionSpec"
            | "PartitionBoundSpec" | "PartitionRangeDatum" | "PartitionCmd" | "AlterTableCmd" | "AtAlterConstraint"
            | "ReplicaIdentityStmt" | "StatsElem" | "TriggerTransition" | "CreateOpClassItem" | "PublicationTable"
            | "PublicationObjSpec" | "VacuumRelation" | "ReturnStmt"
    )
}
