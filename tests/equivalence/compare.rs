//! Running a case on several databases side by side and saying where they part.

use std::collections::BTreeMap;

use super::case::{Case, Step, Ty, View, transaction};
use super::engine::{Engine, Freshet, InProcess, Postgres, Refusal, Rows, Wire};

/// What a run has shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// A view against something else, at one epoch.
    pub comparisons: usize,
    pub views: usize,
    /// Views that were refused with 0A000 and may be.
    pub refused: usize,
    /// Comparisons in which a numeric had another number of zeros at its end.
    pub rescaled: usize,
    /// Comparisons in which there were rows.
    pub filled: usize,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.comparisons += other.comparisons;
        self.views += other.views;
        self.refused += other.refused;
        self.filled += other.filled;
        self.rescaled += other.rescaled;
    }
}

/// How a case failed. Two failures of one kind are taken for the same bug when a case is made smaller.
#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: String,
    pub view: Option<usize>,
    /// The step after which it showed.
    pub step: usize,
    pub text: String,
}

fn difference(left: &Rows, right: &Rows) -> String {
    let mut counts: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    left.iter().for_each(|row| counts.entry(row).or_default().0 += 1);
    right.iter().for_each(|row| counts.entry(row).or_default().1 += 1);
    counts.retain(|_, (l, r)| l != r);
    let mut out = String::new();
    for (row, (l, r)) in counts.iter().take(20) {
        out += &format!("  {l} times in the first, {r} times in the second: {row}\n");
    }
    out + &format!("  {} rows in the first, {} in the second\n", left.len(), right.len())
}

/// Runs cases; gives databases a new schema for each.
pub trait Bench {
    fn run(&mut self, case: &Case) -> Result<Tally, Failure>;
    /// After a failure the databases may be in any state.
    fn renew(&mut self);
}

struct Run<'a> {
    case: &'a Case,
    tally: Tally,
    /// Views that exist.
    live: Vec<usize>,
    step: usize,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case) -> Run<'a> {
        Run { case, tally: Tally::default(), live: Vec::new(), step: 0 }
    }

    fn failure(&self, kind: &str, view: Option<usize>, text: String) -> Failure {
        Failure { kind: kind.into(), view, step: self.step, text }
    }

    fn statement(&self, engine: &mut dyn Engine, who: &str, sql: &str) -> Result<Rows, Failure> {
        engine.run(sql).map_err(|e| self.refused(who, sql, &e, None))
    }

    fn refused(&self, who: &str, sql: &str, e: &Refusal, view: Option<usize>) -> Failure {
        self.failure(&format!("{who} {}", e.code), view, format!("{who}: {e}\n  {sql}\n"))
    }

    fn query(&self, engine: &mut dyn Engine, who: &str, sql: &str, view: usize) -> Result<Rows, Failure> {
        engine.run(sql).map_err(|e| self.refused(who, sql, &e, Some(view)))
    }

    fn same(&mut self, kind: &str, view: usize, left: &Rows, right: &Rows) -> Result<(), Failure> {
        self.tally.comparisons += 1;
        self.tally.filled += usize::from(!left.is_empty() || !right.is_empty());
        if left == right {
            return Ok(());
        }
        Err(self.failure(kind, Some(view), difference(left, right)))
    }
}

fn create(view: &View, materialized: &str) -> String {
    format!("CREATE {materialized} VIEW {} AS {}", view.name, view.query.sql())
}

/// Rows with numerics cut to their value: in PostgreSQL each value has a scale of its own, in Freshet each column.
/// An average has as many digits as PostgreSQL guesses from its sum and count, which its value does not tell.
fn without_scale(view: &View, rows: Rows) -> Rows {
    let columns = view.query.columns();
    let cut = |(i, value): (usize, &str)| match columns.get(i).map(|c| c.ty) {
        Some(Ty::Num) if value.contains('.') => value.trim_end_matches('0').trim_end_matches('.').to_string(),
        Some(Ty::Average) => value.parse::<f64>().map_or(value.to_string(), |v| format!("{v:.10}")),
        _ => value.to_string(),
    };
    let mut out: Rows =
        rows.iter().map(|r| r.split('|').enumerate().map(cut).collect::<Vec<_>>().join("|")).collect();
    out.sort_unstable();
    out
}

/// Whether a view may be missing: it, or one it is made over, goes beyond what is supported today.
fn may_be_refused(view: &View, e: &Refusal) -> bool {
    let allowed = view.beyond && (e.code == "0A000" || e.code == "42P01");
    if allowed && e.code == "0A000" && std::env::var_os("FRESHET_EQUIVALENCE_KEEP_GOING").is_some() {
        println!("refused: {}", e.message);
    }
    allowed
}

/// A row whose evaluation fails is data in a view and an error in a SELECT: both are right, and not comparable.
fn is_data_error(code: &str) -> bool {
    code.starts_with("22")
}

/// DataFusion's planner fails on some windows over constant columns or single rows, which the view itself maintains:
/// there is an error, not another answer, and nothing to compare.
fn cannot_be_planned(e: &Refusal) -> bool {
    e.message.contains("All partition by columns should have an ordering")
        || (e.message.contains("WindowAggExec") && e.message.contains("does not satisfy"))
}

// ---- Freshet against itself -------------------------------------------------------------------

/// One worker with recomputation, four workers, and everything in one epoch.
pub struct Itself {
    sessions: (InProcess, InProcess),
    _servers: (Freshet, Freshet),
    schemas: usize,
}

impl Itself {
    pub fn start() -> Itself {
        let (one, four) = (Freshet::start(1), Freshet::start(4));
        let sessions = (one.session(), four.session());
        Itself { sessions, _servers: (one, four), schemas: 0 }
    }

    fn compare(run: &mut Run, a: &mut InProcess, b: &mut InProcess) -> Result<(), Failure> {
        for v in run.live.clone() {
            let view = &run.case.views[v];
            let select = format!("SELECT * FROM {}", view.name);
            let kept = run.query(a, "one worker", &select, v)?;
            let again = match a.run(&view.query.sql()) {
                Err(e) if is_data_error(&e.code) || cannot_be_planned(&e) => continue,
                other => other.map_err(|e| run.refused("ad hoc", &view.query.sql(), &e, Some(v)))?,
            };
            run.same("the view differs from its query", v, &kept, &again)?;
            let four = run.query(b, "four workers", &select, v)?;
            run.same("one worker differs from four", v, &kept, &four)?;
        }
        Ok(())
    }

    fn check(run: &mut Run, engine: &mut InProcess, who: &str) -> Result<(), Failure> {
        for v in run.live.clone() {
            let sql = format!("CHECK MATERIALIZED VIEW {}", run.case.views[v].name);
            match engine.run(&sql) {
                Err(e) if is_data_error(&e.code) || cannot_be_planned(&e) => continue,
                Err(e) => return Err(run.refused(who, &sql, &e, Some(v))),
                Ok(rows) => {
                    run.same("CHECK MATERIALIZED VIEW finds differences", v, &rows, &Rows::new())?;
                }
            }
        }
        Ok(())
    }

    /// All transactions in one epoch, over empty views.
    fn at_once(run: &mut Run, b: &mut InProcess, created: &[usize]) -> Result<(), Failure> {
        for table in &run.case.tables {
            run.statement(b, "at once", &table.sql())?;
        }
        for &v in created {
            run.statement(b, "at once", &create(&run.case.views[v], "MATERIALIZED"))?;
        }
        run.statement(b, "at once", "BEGIN")?;
        for step in &run.case.steps {
            if let Step::Transaction(changes, true) = step {
                for change in changes {
                    run.statement(b, "at once", &change.sql())?;
                }
            }
        }
        run.statement(b, "at once", "COMMIT").map(drop)
    }
}

impl Bench for Itself {
    fn renew(&mut self) {
        *self = Itself { schemas: self.schemas, ..Itself::start() };
    }

    fn run(&mut self, case: &Case) -> Result<Tally, Failure> {
        let (a, b) = (&mut self.sessions.0, &mut self.sessions.1);
        let mut run = Run::new(case);
        self.schemas += 1;
        let (schema, other) = (format!("e{}", self.schemas), format!("once{}", self.schemas));
        for engine in [&mut *a, &mut *b] {
            drop(engine.run("ROLLBACK"));
            run.statement(engine, "schema", &format!("CREATE SCHEMA {schema}"))?;
            run.statement(engine, "schema", &format!("SET search_path = {schema}"))?;
            for table in &case.tables {
                run.statement(engine, "table", &table.sql())?;
            }
        }
        for (i, step) in case.steps.iter().enumerate() {
            run.step = i;
            match step {
                Step::Create(v) => {
                    let view = &case.views[*v];
                    let sql = create(view, "MATERIALIZED");
                    match a.run(&sql) {
                        Ok(_) => {
                            run.query(b, "four workers create", &sql, *v)?;
                            run.live.push(*v);
                            run.tally.views += 1;
                        }
                        Err(e) if may_be_refused(view, &e) => run.tally.refused += 1,
                        Err(e) => return Err(run.refused("create", &sql, &e, Some(*v))),
                    }
                }
                Step::Transaction(changes, commits) => {
                    for sql in transaction(changes, *commits) {
                        run.statement(a, "change", &sql)?;
                        run.statement(b, "change on four workers", &sql)?;
                    }
                    Self::compare(&mut run, a, b)?;
                }
            }
        }
        Self::compare(&mut run, a, b)?;
        Self::check(&mut run, a, "check")?;
        Self::check(&mut run, b, "check on four workers")?;
        let live = run.live.clone();
        let mut finals = Vec::new();
        for &v in &live {
            finals.push(run.query(a, "one worker", &format!("SELECT * FROM {}", case.views[v].name), v)?);
        }
        run.statement(b, "schema", &format!("CREATE SCHEMA {other}"))?;
        run.statement(b, "schema", &format!("SET search_path = {other}"))?;
        Self::at_once(&mut run, b, &live)?;
        for (&v, before) in live.iter().zip(&finals) {
            let once = run.query(b, "at once", &format!("SELECT * FROM {}", case.views[v].name), v)?;
            run.same("ten epochs differ from one", v, before, &once)?;
        }
        run.statement(a, "drop", &format!("DROP SCHEMA {schema} CASCADE"))?;
        run.statement(b, "drop", &format!("DROP SCHEMA {schema} CASCADE"))?;
        run.statement(b, "drop", &format!("DROP SCHEMA {other} CASCADE"))?;
        Ok(run.tally)
    }
}

// ---- Freshet against PostgreSQL ---------------------------------------------------------------

/// The same script in Freshet and PostgreSQL, both over the wire.
pub struct AgainstPostgres {
    freshet: Freshet,
    postgres: Postgres,
    clients: (Wire, Wire),
    schemas: usize,
}

impl AgainstPostgres {
    pub fn start() -> AgainstPostgres {
        let (freshet, postgres) = (Freshet::start(2), Postgres::start());
        let clients = (freshet.client(), postgres.client());
        AgainstPostgres { freshet, postgres, clients, schemas: 0 }
    }
}

impl Bench for AgainstPostgres {
    fn renew(&mut self) {
        self.freshet = Freshet::start(2);
        self.clients = (self.freshet.client(), self.postgres.client());
    }

    fn run(&mut self, case: &Case) -> Result<Tally, Failure> {
        let (a, b) = (&mut self.clients.0, &mut self.clients.1);
        let mut run = Run::new(case);
        self.schemas += 1;
        let schema = format!("e{}", self.schemas);
        for (who, engine) in [("Freshet", &mut *a), ("PostgreSQL", &mut *b)] {
            drop(engine.run("ROLLBACK"));
            run.statement(engine, who, &format!("CREATE SCHEMA {schema}"))?;
            run.statement(engine, who, &format!("SET search_path = {schema}"))?;
            for table in &case.tables {
                run.statement(engine, who, &table.sql())?;
            }
        }
        run.statement(b, "PostgreSQL", "SET statement_timeout = '1s'")?;
        for (i, step) in case.steps.iter().enumerate() {
            run.step = i;
            match step {
                Step::Create(v) => {
                    let view = &case.views[*v];
                    let sql = create(view, "MATERIALIZED");
                    match a.run(&sql) {
                        Ok(_) => {
                            run.query(b, "PostgreSQL", &create(view, ""), *v)?;
                            run.live.push(*v);
                            run.tally.views += 1;
                        }
                        Err(e) if may_be_refused(view, &e) => run.tally.refused += 1,
                        Err(e) => return Err(run.refused("create", &sql, &e, Some(*v))),
                    }
                }
                Step::Transaction(changes, commits) => {
                    for sql in transaction(changes, *commits) {
                        run.statement(a, "Freshet", &sql)?;
                        run.statement(b, "PostgreSQL", &sql)?;
                    }
                    for v in run.live.clone() {
                        let select = format!("SELECT * FROM {}", case.views[v].name);
                        let theirs = match b.run(&select) {
                            Err(e) if is_data_error(&e.code) => continue,
                            // A query that PostgreSQL takes too long for is left out from here on.
                            Err(e) if e.code == "57014" => {
                                run.live.retain(|l| *l != v);
                                continue;
                            }
                            other => other.map_err(|e| run.refused("PostgreSQL", &select, &e, Some(v)))?,
                        };
                        let ours = run.query(a, "Freshet", &select, v)?;
                        let (ours, theirs) = if ours == theirs {
                            (ours, theirs)
                        } else {
                            run.tally.rescaled += 1;
                            let view = &case.views[v];
                            (without_scale(view, ours), without_scale(view, theirs))
                        };
                        run.same("Freshet differs from PostgreSQL", v, &ours, &theirs)?;
                    }
                }
            }
        }
        for (who, engine) in [("Freshet", a), ("PostgreSQL", b)] {
            run.statement(engine, who, &format!("DROP SCHEMA {schema} CASCADE"))?;
        }
        Ok(run.tally)
    }
}
