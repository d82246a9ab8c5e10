//! A database with a prober beside it.

use std::io;
use std::sync::Arc;

use proxy_tests::postgres::{Database, Target, shared};
use querygate::impact::{
    Ask, Cascade, Dial, Dialling, Impact, ImpactSettings, Known, Prober, Rows, StatementImpact, Stream,
};
use tokio::net::TcpStream;

/// A database, and the prober's role in it.
pub(crate) struct Stage {
    pub(crate) database: Database,
    pub(crate) role: String,
}

impl Stage {
    /// A database after `sql`, with a role that may read everything.
    pub(crate) fn new(sql: &str) -> Stage {
        let database = shared();
        let role = database.unique("impact");
        database.run(&format!("CREATE ROLE {role} LOGIN; GRANT pg_read_all_data, pg_read_all_stats TO {role}"));
        database.run(sql);
        Stage { database, role }
    }

    pub(crate) fn prober(&self) -> Prober {
        self.prober_with(|_| ())
    }

    pub(crate) fn prober_with(&self, change: impl FnOnce(&mut ImpactSettings)) -> Prober {
        let mut settings = ImpactSettings { user: self.role.clone(), ..ImpactSettings::default() };
        // A slow machine does not make these tests fail; the tests of time set their own.
        settings.budget = std::time::Duration::from_secs(60);
        settings.count_budget = std::time::Duration::from_secs(60);
        settings.connect_timeout = std::time::Duration::from_secs(60);
        change(&mut settings);
        Prober::new(settings, dial(self.database.target()))
    }

    /// A question from a session of `postgres` with the usual `search_path`.
    pub(crate) fn ask(&self, text: &str) -> Ask {
        Ask {
            database: self.database.target().database.clone(),
            text: text.to_owned(),
            search_path: Some("\"$user\", public".to_owned()),
            role: Some("postgres".to_owned()),
            ..Ask::default()
        }
    }

    pub(crate) fn probe(&self, text: &str) -> Impact {
        block_on(self.prober().probe(&self.ask(text)))
    }

    /// The only statement's findings.
    pub(crate) fn one(&self, text: &str) -> StatementImpact {
        one(self.probe(text))
    }

    /// The only object's rows.
    pub(crate) fn rows(&self, text: &str) -> Rows {
        rows(&self.one(text))
    }
}

/// Connections in the clear.
pub(crate) fn dial(target: &Target) -> Dial {
    let address = (target.host.clone(), target.port);
    Arc::new(move || -> Dialling {
        let address = address.clone();
        Box::pin(async move {
            let stream: io::Result<Box<dyn Stream>> =
                TcpStream::connect(address).await.map(|stream| -> Box<dyn Stream> { Box::new(stream) });
            stream
        })
    })
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn one(impact: Impact) -> StatementImpact {
    assert_eq!(impact.trouble, None);
    let [statement] = <[StatementImpact; 1]>::try_from(impact.statements).unwrap();
    statement
}

pub(crate) fn rows(statement: &StatementImpact) -> Rows {
    assert_eq!(statement.objects.len(), 1, "{statement:?}");
    statement.objects[0].rows.clone().unwrap_or_else(|| panic!("{statement:?}"))
}

pub(crate) fn exact(rows: &Rows) -> u64 {
    match &rows.exact {
        Known::Known(count) => *count,
        Known::Unknown(why) => panic!("not counted: {why}"),
    }
}

/// Why rows are not known; neither by plan nor by count.
pub(crate) fn refusal(rows: &Rows) -> String {
    assert_eq!(rows.estimate.unknown(), rows.exact.unknown(), "{rows:?}");
    rows.exact.unknown().unwrap_or_else(|| panic!("{rows:?}")).to_owned()
}

pub(crate) fn cascade<'a>(statement: &'a StatementImpact, to: &str) -> &'a Cascade {
    statement.cascades.iter().find(|cascade| cascade.to == to).unwrap_or_else(|| panic!("{statement:?}"))
}
