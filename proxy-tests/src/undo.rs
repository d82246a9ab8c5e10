//! A gate and a database that are set up for undo, for tests of it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::api::Approver;
use crate::gate::{Gate, binary};
use crate::postgres::{Database, Target, shared};
use crate::raw::{Frame, Raw, eventually};

/// Rules of the gate: DELETE, UPDATE and what undoes are held.
pub fn rules(undo: &str) -> String {
    format!(
        r#"
[[rule]]
name = "rows"
action = "hold"
effects = ["update", "delete", "merge", "truncate"]
undo = {{ {undo} }}

[[rule]]
name = "admin"
action = "hold"
effects = ["admin"]

[[rule]]
name = "rest"
action = "allow"
"#
    )
}

/// Of the gate.
pub const SECRET: &str = "a-secret-for-tests-that-is-long-enough";

/// All of it.
pub struct Stage {
    /// Approves whatever is held; ends before the gate does.
    pub approver: Option<Approver>,
    /// The database itself.
    pub database: Database,
    /// The gate before it.
    pub gate: Gate,
    /// Owns what is kept.
    pub keeper: String,
    /// The client.
    pub app: String,
    /// May undo.
    pub undoer: String,
}

/// The gate with this rule, the schema, and these tables of the client's, all of them covered.
pub fn stage(undo: &str, tables: &str, covered: &[&str]) -> Stage {
    stage_with(undo, "", tables, covered)
}

/// The same, with lines for `[undo]` and what follows it; `{undoer}` in them and in the tables is that role.
pub fn stage_with(undo: &str, settings: &str, tables: &str, covered: &[&str]) -> Stage {
    stage_behind(undo, settings, tables, covered, Target::clone)
}

/// The same, with something between the gate and the server, at what `between` says.
pub fn stage_behind(
    undo: &str,
    settings: &str,
    tables: &str,
    covered: &[&str],
    between: impl FnOnce(&Target) -> Target,
) -> Stage {
    let database = shared();
    let [keeper, app, undoer] = ["keeper", "app", "undoer"].map(|name| database.unique(name));
    let name = database.target().database.clone();
    let settings = settings.replace("{undoer}", &undoer);
    database.run(&format!(
        "CREATE ROLE {keeper} LOGIN; GRANT CREATE ON DATABASE \"{name}\" TO {keeper}; CREATE ROLE {app} LOGIN; CREATE ROLE {undoer} LOGIN"
    ));
    let gate = Gate::builder()
        .toml(&format!(
            "[undo]\ndatabases = [\"{name}\"]\nuser = \"{keeper}\"\nsecret = \"{SECRET}\"\n{settings}\n{}",
            rules(undo)
        ))
        .start(&between(database.target()));
    let approver = Some(Approver::of(gate.api()));
    let stage = Stage { approver, database, gate, keeper, app, undoer };
    let installed = stage.undo(&["install", "--run", &name, "--may-undo", &stage.undoer]);
    assert!(installed.status.success(), "{}", said(&installed));
    stage.database.run(&tables.replace("{undoer}", &stage.undoer));
    stage.database.run(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}, {}",
        stage.app, stage.undoer
    ));
    stage.cover(covered);
    stage
}

impl Stage {
    /// The gate is killed and started again on the same files.
    #[must_use]
    pub fn restarted(self) -> Stage {
        let Stage { approver, database, gate, keeper, app, undoer } = self;
        drop(approver);
        let gate = gate.kill_and_restart();
        let approver = Some(Approver::of(gate.api()));
        Stage { approver, database, gate, keeper, app, undoer }
    }

    /// Lines of the audit file of this kind about this request.
    pub fn audited(&self, kind: &str, id: &str) -> Vec<Value> {
        let file = self.gate.config.with_file_name("querygate-audit.jsonl");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"]["event"] == kind && line.to_string().contains(id)).collect()
    }

    /// `querygate undo` with the gate's configuration.
    pub fn undo(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("undo").args(arguments);
        command.env("QUERYGATE_CONFIG", &self.gate.config).output().unwrap()
    }

    /// `querygate undo REQUEST` as the role that may.
    pub fn restore(&self, request: &str, more: &[&str]) -> Output {
        self.restore_as(&self.undoer, request, more)
    }

    /// The same as another role.
    pub fn restore_as(&self, role: &str, request: &str, more: &[&str]) -> Output {
        let Target { host, port, database, .. } = self.gate.target();
        let url = format!("postgresql://{role}@{host}:{port}/{database}");
        Command::new(binary()).args(["undo", request, "--gate", &url]).args(more).output().unwrap()
    }

    /// Puts the trigger on tables of the schema public.
    pub fn cover(&self, tables: &[&str]) {
        if tables.is_empty() {
            return;
        }
        let tables: Vec<String> = tables.iter().map(|table| format!("public.{table}")).collect();
        let printed = self.undo(&["cover"].into_iter().chain(tables.iter().map(String::as_str)).collect::<Vec<_>>());
        assert!(printed.status.success(), "{}", said(&printed));
        self.database.run(std::str::from_utf8(&printed.stdout).unwrap());
    }

    /// What a statement changes comes back exactly, by the value of `sum`.
    pub fn comes_back(&self, statement: &str, sum: &str) {
        let before = self.value(sum);
        let done = self.login().query(statement);
        assert!(has_ended_well(&done), "{statement}: {done:?}");
        let told = self.restore(&request(&done), &[]);
        assert!(told.status.success(), "{statement}: {}", said(&told));
        assert_eq!(self.value(sum), before, "{statement}: {}", said(&told));
    }

    /// The client through the gate.
    pub fn login(&self) -> Raw {
        Raw::login(&self.gate.target().with_user(&self.app))
    }

    /// One value, asked past the gate.
    pub fn value(&self, sql: &str) -> String {
        self.database.raw().value(sql)
    }

    /// What is on record of the request in these frames.
    pub fn record(&self, frames: &[Frame]) -> Value {
        self.record_of(&request(frames))
    }

    /// What is on record of a request, once its result is.
    pub fn record_of(&self, id: &str) -> Value {
        eventually("a result", || {
            let request = self.gate.api().get(&format!("/v1/requests/{id}"));
            (!request["progress"]["execution"].is_null()).then_some(request)
        })
    }
}

/// All that a command printed.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The request in the notices.
pub fn request(frames: &[Frame]) -> String {
    let id = |frame: &Frame| {
        let text = String::from_utf8_lossy(&frame.body).into_owned();
        let at = text.find("qg-").filter(|_| frame.tag == b'N')?;
        Some(text.get(at..at.checked_add(13)?)?.to_owned())
    };
    frames.iter().find_map(id).unwrap_or_else(|| panic!("nothing was held: {frames:?}"))
}

/// What the client is told of the rows that are kept.
pub fn kept(frames: &[Frame]) -> String {
    let notices = frames.iter().filter(|frame| frame.tag == b'N').map(Frame::text);
    let told: Vec<String> = notices.filter(|text| text.contains("undo") && !text.contains("waiting for")).collect();
    assert_eq!(told.len(), 1, "{frames:?}");
    told[0].clone()
}

/// SQLSTATE, message and detail of the error in these frames.
pub fn error(frames: &[Frame]) -> String {
    let frame = frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("no error in {frames:?}"));
    format!("{} {} {}", frame.sqlstate(), frame.text(), frame.field(b'D').unwrap_or_default())
}

/// Nothing failed, and something was done.
pub fn has_ended_well(frames: &[Frame]) -> bool {
    !frames.iter().any(|frame| frame.tag == b'E') && frames.iter().any(|frame| frame.tag == b'C')
}

/// Customers with orders, items and visits.
pub const SHOP: &str = "
    CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, shout text GENERATED ALWAYS AS (upper(name)) STORED);
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE, note text);
    CREATE TABLE items (id int PRIMARY KEY, \"order\" int REFERENCES orders ON DELETE CASCADE);
    CREATE TABLE visits (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE SET NULL);
    INSERT INTO customers (name) VALUES ('ann'), ('bob');
    INSERT INTO orders SELECT x, 1 + x % 2, 'n' || x FROM generate_series(1, 4) x;
    INSERT INTO items SELECT x, 1 + x % 4 FROM generate_series(1, 8) x;
    INSERT INTO visits VALUES (1, 1), (2, 2)";
/// Their tables.
pub const SHOP_TABLES: &[&str] = &["customers", "orders", "items", "visits"];
/// Tells whether anything in them differs.
pub const SHOP_SUM: &str = "SELECT md5(concat((SELECT string_agg(c::text, '|' ORDER BY id) FROM customers c), (SELECT string_agg(o::text, '|' ORDER BY id) FROM orders o), \
     (SELECT string_agg(i::text, '|' ORDER BY id) FROM items i), (SELECT string_agg(v::text, '|' ORDER BY id) FROM visits v)))";
