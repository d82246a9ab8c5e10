//! The names by which a statement can reach somebody's code: functions, operators, types, and columns that may be functions. Knows
//! no database: what a name stands for is in the [`super::Book`] of one.

use super::ObjectName;
use super::functions::{danger, is_builtin};

/// `FirstNormalObjectId` (transam.h): what is below came with the server.
const FIRST_OID: u32 = 16_384;
/// Names kept of one statement; one that has more is taken to call anything.
pub(super) const MAX_CALLS: usize = 5_000;

/// What a statement calls, by name; each name once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Calls {
    /// Functions called by name, the server's own as well: somebody may have made another of the same name.
    pub functions: Vec<ObjectName>,
    /// `name` of `x.name`: the function of that name is called where `x` has no such column.
    pub attributes: Vec<String>,
    /// Operators, as far as they are written.
    pub operators: Vec<String>,
    /// Types that are not the server's own: a cast may call a function, a domain checks.
    pub types: Vec<String>,
    /// The server's own types, as far as they are written: a cast to one may call a function.
    pub own_types: Vec<String>,
    /// Types that parameters are declared to be of, by oid, but for the server's own.
    pub parameters: Vec<u32>,
    /// It makes a table like what it reads: what writing there calls, writing the new table calls.
    pub copies: bool,
    /// Values may be made of the types of what it reads without naming them: a body in PL/pgSQL, with its variables.
    pub converts: bool,
    /// It gathers statistics, which evaluates expressions of indexes and statistics objects.
    pub analyzes: bool,
    /// It may change what functions, views and the like do, or nobody knows what it does: what is known of them may be so no more once it
    /// has run.
    pub redefines: bool,
    /// There are more names than are kept.
    pub more: bool,
}

impl Calls {
    /// Of a statement that cannot be read.
    pub fn unreadable() -> Self {
        Self { redefines: true, more: true, ..Self::default() }
    }

    /// Functions that a text alone says nothing about: neither the server's own, harmless ones nor known to be dangerous by their names.
    pub fn strange(&self) -> impl Iterator<Item = &ObjectName> {
        self.functions.iter().filter(|name| {
            let schema = name.schema.as_deref();
            !is_builtin(schema, &name.name) && danger(schema, &name.name).is_none()
        })
    }

    /// Nothing but parameters declared to be of these types. `None`: they are all the server's own.
    pub(super) fn of_parameters(types: impl Iterator<Item = u32>) -> Option<Self> {
        let mut parameters: Vec<u32> = types.filter(|oid| *oid >= FIRST_OID).collect();
        parameters.sort_unstable();
        parameters.dedup();
        (!parameters.is_empty()).then(|| Self { parameters, ..Self::default() })
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let functions = self.functions.iter().map(|name| {
            let schema = name.schema.as_ref().map_or(0, String::len);
            size_of_val(name).saturating_add(name.name.len()).saturating_add(schema)
        });
        let texts = self.attributes.iter().chain(&self.operators).chain(&self.types).chain(&self.own_types);
        functions.chain(texts.map(|text| size_of_val(text).saturating_add(text.len()))).fold(0, usize::saturating_add)
    }
}
