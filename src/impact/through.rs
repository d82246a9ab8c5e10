//! What is changed through a view: the table behind it, through any number of views. Where it cannot be told, why. Reads the catalogue only.

use std::collections::BTreeMap;

use super::cascade::Change;
use super::catalogue::{self, Path, QUICK, Relation};
use super::connection::{Asking, qualified, quoted};
use super::count::Counter;
use super::harmless::Names;
use super::lookup::{self, cell};
use super::report::Action;
use super::statement;

/// Views upon views that are followed.
const VIEWS: usize = 16;

/// The table behind a view.
pub(super) struct Behind {
    pub(super) table: Relation,
    /// Rows of its partitions and children as well.
    pub(super) children: bool,
    /// The views on the way, the one that is named included.
    pub(super) views: Vec<Relation>,
    /// Columns of the named view, and of the table what they are; `None`: they are computed.
    columns: BTreeMap<String, Option<String>>,
}

/// Follows `view` to the table whose rows `action` changes; `events` as in `catalogue::triggers`, `rule` as in `catalogue::rules`.
///
/// # Errors
/// Why there is none, or why it is not known.
pub(super) async fn behind(
    asking: &Asking,
    view: &Relation,
    action: Action,
    (events, rule): (i16, &str),
) -> Result<Behind, String> {
    updatable(asking, view, action).await?;
    let mut at = view.clone();
    let (mut views, mut columns, mut children) = (Vec::new(), None::<BTreeMap<String, Option<String>>>, true);
    while at.kind == 'v' {
        if views.len() >= VIEWS {
            return Err(format!("there are more than {VIEWS} views upon views"));
        }
        let name = at.resolved().qualified();
        let triggers = catalogue::triggers(asking, &at, events, 1000).await?;
        if triggers.iter().any(|trigger| trigger.when.starts_with("INSTEAD OF")) {
            return Err(format!("a trigger of {name} stands in its place"));
        }
        if !catalogue::rules(asking, &at, rule).await?.is_empty() {
            return Err(format!("{name} has rules"));
        }
        let rows = asking.ask(QUICK, "SELECT pg_get_viewdef($1::oid)", &[&at.oid]).await?;
        let definition: String = rows.first().map_or(Err("it is gone".to_owned()), |row| cell(row, 0))?;
        let source = statement::view_source(&definition).map_err(|why| format!("{name}: {why}"))?;
        let below: BTreeMap<String, Option<String>> = source.columns.into_iter().collect();
        let through = |column: Option<String>| column.and_then(|column| below.get(&column).cloned().flatten());
        columns = Some(match columns {
            None => below.clone(),
            Some(named) => named.into_iter().map(|(name, column)| (name, through(column))).collect(),
        });
        children &= source.children;
        // Printed with our search_path, so what has no schema is the server's own.
        let path = Path { schemas: vec!["pg_catalog".to_owned()], ..Path::default() };
        let next = catalogue::relation(asking, &path, &source.written).await?;
        views.push(std::mem::replace(&mut at, next));
    }
    Ok(Behind { table: at, children, views, columns: columns.unwrap_or_default() })
}

/// Postgres would change rows through it (bits as in `pg_relation_is_updatable`: 1 << `CmdType`).
async fn updatable(asking: &Asking, view: &Relation, action: Action) -> Result<(), String> {
    let bit: i32 = match action {
        Action::Update => 4,
        Action::Insert => 8,
        Action::Delete => 16,
        Action::Merge | Action::Truncate | Action::Drop | Action::Alter | Action::Read | Action::Other => return Ok(()),
    };
    let sql = "SELECT pg_relation_is_updatable($1::oid::regclass, true) & $2 <> 0";
    let rows = asking.ask(QUICK, sql, &[&view.oid, &bit]).await?;
    if rows.first().map_or(Err("it is gone".to_owned()), |row| cell(row, 0))? {
        Ok(())
    } else {
        Err("Postgres does not change rows through it".to_owned())
    }
}

impl Behind {
    /// What a change of the view is for the table.
    ///
    /// # Errors
    /// Its columns cannot be had.
    pub(super) async fn change(&self, asking: &Asking, change: Change) -> Result<Change, String> {
        let Change::Update(written) = change else { return Ok(change) };
        let columns = written.iter().map(|column| self.columns.get(column).cloned().flatten());
        if let Some(columns) = columns.collect::<Option<Vec<String>>>() {
            return Ok(Change::Update(columns));
        }
        // Fail closed: it may be any of them.
        let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped";
        Ok(Change::Update(catalogue::texts(asking, sql, &[&self.table.oid]).await?))
    }

    /// The query over the table's rows, from the `query` over those of the view: by a key of the table that the view shows.
    ///
    /// # Errors
    /// There is none, or its comparison may be anybody's code.
    pub(super) async fn rows(&self, counter: &Counter<'_>, query: &str) -> Result<String, String> {
        let view = self.views.first().ok_or("there is no view")?;
        let (own, shown): (Vec<String>, Vec<String>) = self.key(counter.asking).await?.into_iter().unzip();
        for (columns, table) in [(&own, self.table.oid), (&shown, view.oid)] {
            let names = Names { columns: columns.iter().cloned().collect(), ..Names::default() };
            let foreign = lookup::column_types(counter.asking, &names, &[table]).await?;
            lookup::casts(counter.asking, &foreign, &[table]).await?;
        }
        let list = |alias: &str, columns: &[String]| {
            let columns: Vec<String> = columns.iter().map(|column| format!("{alias}.{}", quoted(column))).collect();
            columns.join(", ")
        };
        Ok(format!(
            "SELECT qg_base.* FROM {} AS qg_base WHERE ({}) IN (SELECT {} FROM ({query}) AS qg_view)",
            qualified(&self.table.schema, &self.table.name),
            list("qg_base", &own),
            list("qg_view", &shown),
        ))
    }

    /// Columns that tell the table's rows apart, with the view's names for them.
    async fn key(&self, asking: &Asking) -> Result<Vec<(String, String)>, String> {
        let sql = "SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.place <= i.indnkeyatts ORDER BY k.place) \
                   FROM pg_index i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate \
                   AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a \
                     WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) AND NOT a.attnotnull) \
                   AND (SELECT relkind = 'p' OR NOT relhassubclass FROM pg_class WHERE oid = $1) ORDER BY NOT i.indisprimary, 1 LIMIT 16";
        let shown = |column: &String| {
            let same = |(_, of): &(&String, &Option<String>)| of.as_ref() == Some(column);
            self.columns.iter().find(same).map(|(shown, _)| (column.clone(), shown.clone()))
        };
        for row in asking.ask(QUICK, sql, &[&self.table.oid]).await? {
            let columns: Vec<String> = cell(&row, 0)?;
            let key: Option<Vec<(String, String)>> = columns.iter().map(shown).collect();
            if let Some(key) = key.filter(|key| !key.is_empty()) {
                return Ok(key);
            }
        }
        Err(format!("the view shows no key of {}", self.table.resolved().qualified()))
    }
}
