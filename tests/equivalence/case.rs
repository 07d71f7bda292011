//! A test case as data: tables, views, transactions, and their text as a script that psql takes.
//!
//! Boundary: no randomness and no server; [`super::generate`] makes cases, [`super::shrink`] makes them smaller.

/// A value's type, as far as the generator needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ty {
    /// `int`
    Int,
    /// `bigint`
    Big,
    /// `numeric`
    Num,
    /// `float8`, with values whose sums are exact
    Float,
    /// `text`
    Text,
    /// `boolean`
    Bool,
    /// `date`
    Date,
    /// The result of avg: passed on, but never calculated with, since its last digits depend on how it was made.
    Average,
}

impl Ty {
    /// Its name in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Ty::Int => "int",
            Ty::Big => "bigint",
            Ty::Num | Ty::Average => "numeric(12,2)",
            Ty::Float => "float8",
            Ty::Text => "text",
            Ty::Bool => "boolean",
            Ty::Date => "date",
        }
    }
}

/// A column of a table, a view or a subquery.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub ty: Ty,
}

/// A base table.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub keyed: bool,
    pub not_null: Vec<usize>,
}

impl Table {
    pub fn sql(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let key = if i == 0 && self.keyed { " PRIMARY KEY" } else { "" };
                let not_null = if self.not_null.contains(&i) { " NOT NULL" } else { "" };
                format!("{} {}{key}{not_null}", c.name, c.ty.sql())
            })
            .collect();
        format!("CREATE TABLE {} ({})", self.name, columns.join(", "))
    }
}

/// What stands in FROM.
#[derive(Debug, Clone)]
pub enum Relation {
    /// A table, a view or a CTE.
    Named(String),
    /// A subquery.
    Query(Box<Query>),
}

/// One input of a join.
#[derive(Debug, Clone)]
pub struct Input {
    pub relation: Relation,
    pub alias: String,
    /// `JOIN`, `LEFT JOIN`, `CROSS JOIN`; of no meaning for the first input.
    pub join: &'static str,
    pub on: Vec<String>,
}

/// An output column.
#[derive(Debug, Clone)]
pub struct Item {
    pub expr: String,
    /// FILTER of an aggregate.
    pub filter: Option<String>,
    pub name: String,
    pub ty: Ty,
}

/// One SELECT.
#[derive(Debug, Clone, Default)]
pub struct Select {
    pub distinct: bool,
    pub items: Vec<Item>,
    pub from: Vec<Input>,
    pub filters: Vec<String>,
    pub group: Vec<String>,
    /// `ROLLUP` or `CUBE` around the group; nothing for a plain one.
    pub sets: &'static str,
    pub having: Vec<String>,
}

impl Select {
    pub fn sql(&self) -> String {
        let mut out = String::from(if self.distinct { "SELECT DISTINCT " } else { "SELECT " });
        let items: Vec<String> = self
            .items
            .iter()
            .map(|i| match &i.filter {
                Some(f) => format!("{} FILTER (WHERE {f}) AS {}", i.expr, i.name),
                None => format!("{} AS {}", i.expr, i.name),
            })
            .collect();
        out += &items.join(", ");
        out += " FROM ";
        for (i, input) in self.from.iter().enumerate() {
            if i > 0 {
                out += &format!(" {} ", input.join);
            }
            match &input.relation {
                Relation::Named(n) => out += &format!("{n} AS {}", input.alias),
                Relation::Query(q) => out += &format!("({}) AS {}", q.sql(), input.alias),
            }
            if i > 0 && !input.on.is_empty() {
                out += &format!(" ON {}", input.on.join(" AND "));
            }
        }
        if !self.filters.is_empty() {
            out += &format!(" WHERE {}", self.filters.join(" AND "));
        }
        if !self.group.is_empty() {
            out += &match self.sets {
                "" => format!(" GROUP BY {}", self.group.join(", ")),
                sets => format!(" GROUP BY {sets} ({})", self.group.join(", ")),
            };
        }
        if !self.having.is_empty() {
            out += &format!(" HAVING {}", self.having.join(" AND "));
        }
        out
    }
}

/// A query: CTEs, branches of UNION ALL, and possibly the first rows of them in a total order.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub ctes: Vec<(String, Query)>,
    pub branches: Vec<Select>,
    pub tail: String,
}

impl Query {
    pub fn sql(&self) -> String {
        let mut out = String::new();
        if !self.ctes.is_empty() {
            let ctes: Vec<String> = self.ctes.iter().map(|(n, q)| format!("{n} AS ({})", q.sql())).collect();
            out += &format!("WITH {} ", ctes.join(", "));
        }
        out += &self.branches.iter().map(Select::sql).collect::<Vec<_>>().join(" UNION ALL ");
        out + &self.tail
    }

    /// Its columns.
    pub fn columns(&self) -> Vec<Column> {
        let items = self.branches.first().map_or(&[][..], |s| &s.items);
        items.iter().map(|i| Column { name: i.name.clone(), ty: i.ty }).collect()
    }
}

/// A materialized view.
#[derive(Debug, Clone)]
pub struct View {
    pub name: String,
    pub query: Query,
    /// It uses what issue 2 does not ask for: it may be refused with 0A000.
    pub beyond: bool,
}

/// A statement that changes rows.
#[derive(Debug, Clone)]
pub enum Change {
    Insert { table: String, rows: Vec<String> },
    Other(String),
}

impl Change {
    pub fn sql(&self) -> String {
        match self {
            Change::Insert { table, rows } => format!("INSERT INTO {table} VALUES {}", rows.join(", ")),
            Change::Other(sql) => sql.clone(),
        }
    }
}

/// What happens, in order.
#[derive(Debug, Clone)]
pub enum Step {
    /// The view of this number is created.
    Create(usize),
    /// A transaction; `false`: it is rolled back.
    Transaction(Vec<Change>, bool),
}

/// A whole test case.
#[derive(Debug, Clone)]
pub struct Case {
    pub tables: Vec<Table>,
    pub views: Vec<View>,
    pub steps: Vec<Step>,
}

/// The statements of a transaction.
pub fn transaction(changes: &[Change], commits: bool) -> Vec<String> {
    let mut out: Vec<String> = changes.iter().map(Change::sql).collect();
    if changes.len() > 1 || !commits {
        out.insert(0, "BEGIN".into());
        out.push(if commits { "COMMIT".into() } else { "ROLLBACK".into() });
    }
    out
}

impl Case {
    /// The whole case for psql.
    pub fn script(&self) -> String {
        let mut out: Vec<String> = self.tables.iter().map(Table::sql).collect();
        for step in &self.steps {
            match step {
                Step::Create(v) => {
                    let view = &self.views[*v];
                    out.push(format!("CREATE MATERIALIZED VIEW {} AS {}", view.name, view.query.sql()));
                }
                Step::Transaction(changes, commits) => out.extend(transaction(changes, *commits)),
            }
        }
        for step in &self.steps {
            if let Step::Create(v) = step {
                out.push(format!("SELECT * FROM {}", self.views[*v].name));
                out.push(self.views[*v].query.sql());
                out.push(format!("CHECK MATERIALIZED VIEW {}", self.views[*v].name));
            }
        }
        out.iter().map(|s| format!("{s};\n")).collect()
    }
}
