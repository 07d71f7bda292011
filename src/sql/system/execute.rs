//! Runs plans: rows in, rows out, all in memory.
//!
//! What does not depend on the row at hand is worked out once: rows of system relations, indexes over their columns,
//! results of uncorrelated subqueries, compiled patterns. The number of rows made is limited, and the session is
//! asked now and then whether to stop.
//!
//! Boundary: plans; expressions are evaluated in [`super::evaluate`].

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use regex::Regex;

use super::SystemContext;
use super::set_functions;
use super::tree::{
    Aggregate, AggregateKind, Cte, Expr, Join, JoinKind, Op, Plan, SetCall, SetOp, SortKey, Window,
    WindowKind, columns_read,
};
use crate::catalog::system::{SystemRelation, SystemState, Value, rows};
use crate::error::{Error, ErrorKind, Result};

/// A row.
pub(super) type Row = Rc<[Value]>;
type Rows = Rc<Vec<Row>>;
type Index = Rc<HashMap<Value, Vec<usize>>>;

/// The most rows that a statement may make on its way.
const MAX_ROWS: usize = 20_000_000;
const CHECK_EVERY: usize = 8192;

/// The rows that an expression can read: its own and those of the queries around.
#[derive(Clone, Copy)]
pub(super) struct Env<'e> {
    pub row: &'e [Value],
    pub parent: Option<&'e Env<'e>>,
}

impl Env<'_> {
    pub fn get(&self, level: usize, index: usize) -> Value {
        let mut env = self;
        for _ in 0..level {
            match env.parent {
                Some(parent) => env = parent,
                None => return Value::Null,
            }
        }
        env.row.get(index).cloned().unwrap_or_default()
    }
}

/// A statement being run.
pub(super) struct Run<'a> {
    pub context: &'a SystemContext<'a>,
    pub params: Vec<Value>,
    scans: RefCell<HashMap<u32, Rows>>,
    indexes: RefCell<HashMap<(u32, usize), Index>>,
    ctes: RefCell<HashMap<usize, Rows>>,
    /// Results of constant subqueries.
    pub results: RefCell<HashMap<usize, Rows>>,
    /// Their first columns as sets, for IN.
    pub sets: RefCell<HashMap<usize, Rc<HashSet<Vec<Value>>>>>,
    patterns: RefCell<HashMap<(String, bool), Rc<Regex>>>,
    counted: Cell<usize>,
    limit: usize,
}

impl<'a> Run<'a> {
    pub fn new(context: &'a SystemContext<'a>, params: Vec<Value>) -> Self {
        Run {
            context,
            params,
            scans: RefCell::default(),
            indexes: RefCell::default(),
            ctes: RefCell::default(),
            results: RefCell::default(),
            sets: RefCell::default(),
            patterns: RefCell::default(),
            counted: Cell::new(0),
            limit: context.settings.memory_limit(),
        }
    }

    /// Accounts for rows made.
    pub fn count(&self, rows: usize) -> Result<()> {
        let before = self.counted.get();
        let after = before.saturating_add(rows);
        self.counted.set(after);
        if after > MAX_ROWS {
            return Err(Error::new(
                ErrorKind::ConfigurationLimit,
                "query of the system catalogs makes too many rows",
            ));
        }
        if before / CHECK_EVERY != after / CHECK_EVERY {
            self.context.settings.check_interrupts()?;
        }
        Ok(())
    }

    /// Refuses rows that take too much memory together.
    fn room(&self, rows: usize, width: usize) -> Result<()> {
        let bytes = rows.saturating_mul(width * size_of::<Value>() + 4 * size_of::<usize>());
        if bytes <= self.limit {
            return Ok(());
        }
        let detail = "The rows of a query of the system catalogs exceed query_memory_limit.";
        Err(Error::new(ErrorKind::OutOfMemory, "out of memory").with_detail(detail))
    }

    /// The compiled form of a pattern.
    pub fn regex(&self, pattern: &str, insensitive: bool) -> Result<Rc<Regex>> {
        let key = (pattern.to_string(), insensitive);
        if let Some(known) = self.patterns.borrow().get(&key) {
            return Ok(known.clone());
        }
        let compiled = regex::RegexBuilder::new(pattern)
            .case_insensitive(insensitive)
            .dot_matches_new_line(true)
            .size_limit(1 << 20)
            .build()
            .map_err(|e| {
                Error::new(ErrorKind::InvalidRegex, format!("invalid regular expression: {pattern}"))
                    .with_detail(e.to_string())
            })?;
        let compiled = Rc::new(compiled);
        self.patterns.borrow_mut().insert(key, compiled.clone());
        Ok(compiled)
    }

    /// The rows of a system relation.
    pub fn scan(&self, relation: &'static SystemRelation) -> Rows {
        if let Some(rows) = self.scans.borrow().get(&relation.oid) {
            return rows.clone();
        }
        let context = self.context;
        let count = |id| context.settings.row_count(id);
        let state = SystemState {
            catalog: context.catalog,
            user: &context.user,
            database: &context.database,
            settings: context.settings.rows(),
            sessions: &context.sessions,
            server_relations: &context.server_relations,
            row_count: &count,
            started: context.started.0,
        };
        let rows: Rows = Rc::new(rows(relation, &state).into_iter().map(Row::from).collect());
        self.scans.borrow_mut().insert(relation.oid, rows.clone());
        rows
    }

    fn index(&self, relation: &'static SystemRelation, column: usize) -> Index {
        if let Some(index) = self.indexes.borrow().get(&(relation.oid, column)) {
            return index.clone();
        }
        let mut index: HashMap<Value, Vec<usize>> = HashMap::new();
        for (i, row) in self.scan(relation).iter().enumerate() {
            if let Some(value) = row.get(column).filter(|v| !v.is_null()) {
                index.entry(value.clone()).or_default().push(i);
            }
        }
        let index = Rc::new(index);
        self.indexes.borrow_mut().insert((relation.oid, column), index.clone());
        index
    }

    /// The rows of a plan, run for the rows of `env`.
    pub fn plan(&self, plan: &Plan, env: Option<&Env<'_>>) -> Result<Rows> {
        let rows = self.node(plan, env)?;
        self.count(rows.len() + 1)?;
        Ok(rows)
    }

    fn node(&self, plan: &Plan, env: Option<&Env<'_>>) -> Result<Rows> {
        match plan {
            Plan::Unit => Ok(Rc::new(vec![Row::from(vec![])])),
            Plan::Values(rows) => {
                let own = Env { row: &[], parent: env };
                let rows = rows.iter().map(|r| self.values(r, &own).map(Row::from)).collect::<Result<_>>()?;
                Ok(Rc::new(rows))
            }
            Plan::Scan(relation) => Ok(self.scan(relation)),
            Plan::Cte(id) => self
                .ctes
                .borrow()
                .get(id)
                .cloned()
                .ok_or_else(|| Error::internal("a common table expression was read before it was run")),
            Plan::Functions { calls, ordinality } => {
                let own = Env { row: &[], parent: env };
                let mut rows = self.call_rows(calls, &own, true)?;
                if *ordinality {
                    for (i, row) in rows.iter_mut().enumerate() {
                        row.push((i + 1).into());
                    }
                }
                Ok(Rc::new(rows.into_iter().map(Row::from).collect()))
            }
            Plan::Filter { input, conjuncts } => self.filter(input, conjuncts, env),
            Plan::Project { input, exprs } => {
                let rows = self.plan(input, env)?;
                let project = |row: &Row| self.values(exprs, &Env { row, parent: env }).map(Row::from);
                Ok(Rc::new(rows.iter().map(project).collect::<Result<_>>()?))
            }
            Plan::ProjectSet { input, calls } => {
                let mut out = vec![];
                for row in self.plan(input, env)?.iter() {
                    for more in self.call_rows(calls, &Env { row, parent: env }, false)? {
                        self.count(1)?;
                        out.push(row.iter().cloned().chain(more).collect());
                    }
                    self.room(out.len(), row.len() + calls.len())?;
                }
                Ok(Rc::new(out))
            }
            Plan::Join(join) => self.join(join, env),
            Plan::Aggregate { input, keys, aggregates } => self.aggregate(input, keys, aggregates, env),
            Plan::Window { input, windows } => self.windows(input, windows, env),
            Plan::Distinct { input, on } => {
                let mut seen = HashSet::new();
                let mut out = vec![];
                for row in self.plan(input, env)?.iter() {
                    let key = if on.is_empty() {
                        row.to_vec()
                    } else {
                        self.values(on, &Env { row, parent: env })?
                    };
                    if seen.insert(key) {
                        out.push(row.clone());
                    }
                }
                Ok(Rc::new(out))
            }
            Plan::Sort { input, keys } => {
                let rows = self.plan(input, env)?;
                Ok(Rc::new(self.sorted(&rows, keys, env)?))
            }
            Plan::Limit { input, limit, offset } => {
                let own = Env { row: &[], parent: env };
                let number = |e: &Option<Expr>, kind, name: &str| -> Result<Option<usize>> {
                    let Some(e) = e else { return Ok(None) };
                    match self.value(e, &own)?.as_int() {
                        None => Ok(None),
                        Some(n) => usize::try_from(n)
                            .map(Some)
                            .map_err(|_| Error::new(kind, format!("{name} must not be negative"))),
                    }
                };
                let limit = number(limit, ErrorKind::InvalidLimit, "LIMIT")?.unwrap_or(usize::MAX);
                let offset = number(offset, ErrorKind::InvalidOffset, "OFFSET")?.unwrap_or(0);
                Ok(Rc::new(self.plan(input, env)?.iter().skip(offset).take(limit).cloned().collect()))
            }
            Plan::SetOp { op, all, left, right } => {
                let (left, right) = (self.plan(left, env)?, self.plan(right, env)?);
                Ok(Rc::new(combine(*op, *all, &left, &right)))
            }
            Plan::With { ctes, body } => {
                for cte in ctes {
                    self.cte(cte, env)?;
                }
                self.plan(body, env)
            }
        }
    }

    fn cte(&self, cte: &Cte, env: Option<&Env<'_>>) -> Result<()> {
        let mut rows = self.plan(&cte.start, env)?;
        if let Some((step, all)) = &cte.step {
            let mut seen: HashSet<Row> = HashSet::new();
            let mut result: Vec<Row> = vec![];
            loop {
                let fresh: Vec<Row> =
                    rows.iter().filter(|r| *all || seen.insert((*r).clone())).cloned().collect();
                if fresh.is_empty() {
                    break;
                }
                self.count(fresh.len())?;
                result.extend(fresh.iter().cloned());
                self.room(result.len(), fresh.first().map_or(0, |r| r.len()))?;
                self.ctes.borrow_mut().insert(cte.id, Rc::new(fresh));
                rows = self.plan(step, env)?;
            }
            rows = Rc::new(result);
        }
        self.ctes.borrow_mut().insert(cte.id, rows);
        Ok(())
    }

    /// The values of expressions.
    pub fn values(&self, exprs: &[Expr], env: &Env<'_>) -> Result<Vec<Value>> {
        exprs.iter().map(|e| self.value(e, env)).collect()
    }

    fn holds(&self, conjuncts: &[Expr], env: &Env<'_>) -> Result<bool> {
        for condition in conjuncts {
            if self.value(condition, env)? != Value::Bool(true) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn filter(&self, input: &Plan, conjuncts: &[Expr], env: Option<&Env<'_>>) -> Result<Rows> {
        let mut out = vec![];
        if let Plan::Scan(relation) = input
            && let Some((column, wanted, rest)) = indexable(conjuncts)
        {
            let wanted = self.value(wanted, &Env { row: &[], parent: env })?;
            let all = self.scan(relation);
            let index = self.index(relation, column);
            for i in index.get(&wanted).map_or(&[][..], Vec::as_slice) {
                if let Some(row) = all.get(*i)
                    && self.holds(&conjuncts[..rest], &Env { row, parent: env })?
                    && self.holds(&conjuncts[rest + 1..], &Env { row, parent: env })?
                {
                    out.push(row.clone());
                }
            }
            return Ok(Rc::new(out));
        }
        for row in self.plan(input, env)?.iter() {
            if self.holds(conjuncts, &Env { row, parent: env })? {
                out.push(row.clone());
            }
        }
        Ok(Rc::new(out))
    }

    /// The rows of several calls side by side; a scan spreads rows of several columns out, a select list keeps them
    /// as one value.
    fn call_rows(&self, calls: &[SetCall], env: &Env<'_>, spread: bool) -> Result<Vec<Vec<Value>>> {
        let mut all = vec![];
        for call in calls {
            let args = self.values(&call.args, env)?;
            all.push((call.width, set_functions::rows(self, call.function, &args)?));
        }
        let height = all.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
        let mut out = Vec::with_capacity(height);
        for i in 0..height {
            let mut row = vec![];
            for (width, rows) in &all {
                match rows.get(i) {
                    Some(values) if spread || *width == 1 => row.extend(values.iter().cloned()),
                    Some(values) => row.push(Value::Record(values.clone().into())),
                    None if spread => row.extend(std::iter::repeat_n(Value::Null, *width)),
                    None => row.push(Value::Null),
                }
            }
            out.push(row);
        }
        Ok(out)
    }

    fn join(&self, join: &Join, env: Option<&Env<'_>>) -> Result<Rows> {
        let left = self.plan(&join.left, env)?;
        let mut out = vec![];
        let nothing: Row = vec![Value::Null; join.right_width].into();
        if join.lateral {
            for row in left.iter() {
                let right = self.plan(&join.right, Some(&Env { row, parent: env }))?;
                let mut matched = false;
                for other in right.iter() {
                    let both = concat(row, other);
                    if self.holds(&join.residual, &Env { row: &both, parent: env })? {
                        matched = true;
                        out.push(both);
                    }
                }
                if !matched && join.kind == JoinKind::Left {
                    out.push(concat(row, &nothing));
                }
                self.room(out.len(), join.left_width + join.right_width)?;
            }
            return Ok(Rc::new(out));
        }
        let right = if left.is_empty() && matches!(join.kind, JoinKind::Inner | JoinKind::Left) {
            Rows::default()
        } else {
            self.plan(&join.right, env)?
        };
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.keys.iter().cloned().unzip();
        let mut table: HashMap<Vec<Value>, Vec<usize>> = HashMap::new();
        if !left_keys.is_empty() {
            for (i, row) in right.iter().enumerate() {
                let key = self.values(&right_keys, &Env { row, parent: env })?;
                if !key.iter().any(Value::is_null) {
                    table.entry(key).or_default().push(i);
                }
            }
        }
        let everything: Vec<usize> = if left_keys.is_empty() { (0..right.len()).collect() } else { vec![] };
        let mut used = vec![false; right.len()];
        for row in left.iter() {
            let candidates = if left_keys.is_empty() {
                everything.as_slice()
            } else {
                let key = self.values(&left_keys, &Env { row, parent: env })?;
                table.get(&key).map_or(&[][..], Vec::as_slice)
            };
            let mut matched = false;
            self.count(candidates.len())?;
            for i in candidates {
                let both = concat(row, &right[*i]);
                if self.holds(&join.residual, &Env { row: &both, parent: env })? {
                    matched = true;
                    used[*i] = true;
                    out.push(both);
                }
            }
            if !matched && matches!(join.kind, JoinKind::Left | JoinKind::Full) {
                out.push(concat(row, &nothing));
            }
            self.room(out.len(), join.left_width + join.right_width)?;
        }
        if matches!(join.kind, JoinKind::Right | JoinKind::Full) {
            let nothing: Row = vec![Value::Null; join.left_width].into();
            let missed = right.iter().zip(&used).filter(|(_, used)| !**used);
            out.extend(missed.map(|(row, _)| concat(&nothing, row)));
        }
        Ok(Rc::new(out))
    }

    fn sorted(&self, rows: &[Row], keys: &[SortKey], env: Option<&Env<'_>>) -> Result<Vec<Row>> {
        let exprs: Vec<Expr> = keys.iter().map(|k| k.expr.clone()).collect();
        let mut with_keys = rows
            .iter()
            .map(|row| Ok((self.values(&exprs, &Env { row, parent: env })?, row.clone())))
            .collect::<Result<Vec<_>>>()?;
        with_keys.sort_by(|(a, _), (b, _)| compare(a, b, keys));
        Ok(with_keys.into_iter().map(|(_, row)| row).collect())
    }

    fn aggregate(
        &self,
        input: &Plan,
        keys: &[Expr],
        aggregates: &[Aggregate],
        env: Option<&Env<'_>>,
    ) -> Result<Rows> {
        let rows = self.plan(input, env)?;
        let mut order: Vec<Vec<Value>> = vec![];
        let mut groups: HashMap<Vec<Value>, Vec<Row>> = HashMap::new();
        for row in rows.iter() {
            let key = self.values(keys, &Env { row, parent: env })?;
            groups
                .entry(key)
                .or_insert_with_key(|key| {
                    order.push(key.clone());
                    vec![]
                })
                .push(row.clone());
        }
        if keys.is_empty() && order.is_empty() {
            order.push(vec![]);
        }
        let mut out = vec![];
        for key in order {
            let group = groups.remove(&key).unwrap_or_default();
            let mut row = key;
            for aggregate in aggregates {
                row.push(self.fold(aggregate, &group, env)?);
            }
            out.push(row.into());
        }
        Ok(Rc::new(out))
    }

    /// The value of an aggregate over rows.
    fn fold(&self, aggregate: &Aggregate, rows: &[Row], env: Option<&Env<'_>>) -> Result<Value> {
        let sorted;
        let mut rows = rows;
        if !aggregate.order.is_empty() {
            sorted = self.sorted(rows, &aggregate.order, env)?;
            rows = &sorted;
        }
        let mut inputs: Vec<Vec<Value>> = vec![];
        for row in rows {
            let own = Env { row, parent: env };
            if let Some(filter) = &aggregate.filter
                && self.value(filter, &own)? != Value::Bool(true)
            {
                continue;
            }
            inputs.push(self.values(&aggregate.args, &own)?);
        }
        if aggregate.distinct {
            let mut seen = HashSet::new();
            inputs.retain(|i| seen.insert(i.clone()));
            if aggregate.order.is_empty() {
                inputs.sort();
            }
        }
        Ok(super::evaluate::fold(aggregate.kind, inputs))
    }

    fn windows(&self, input: &Plan, windows: &[Window], env: Option<&Env<'_>>) -> Result<Rows> {
        let rows = self.plan(input, env)?;
        let mut columns: Vec<Vec<Value>> = vec![];
        for window in windows {
            let mut column = vec![Value::Null; rows.len()];
            let mut partitions: HashMap<Vec<Value>, Vec<usize>> = HashMap::new();
            for (i, row) in rows.iter().enumerate() {
                let key = self.values(&window.partition, &Env { row, parent: env })?;
                partitions.entry(key).or_default().push(i);
            }
            let exprs: Vec<Expr> = window.order.iter().map(|k| k.expr.clone()).collect();
            for members in partitions.into_values() {
                let mut keyed = members
                    .into_iter()
                    .map(|i| Ok((self.values(&exprs, &Env { row: &rows[i], parent: env })?, i)))
                    .collect::<Result<Vec<_>>>()?;
                keyed.sort_by(|(a, _), (b, _)| compare(a, b, &window.order));
                self.window_values(window, &keyed, &rows, env, &mut column)?;
            }
            columns.push(column);
        }
        let widen = |(i, row): (usize, &Row)| {
            row.iter().cloned().chain(columns.iter().map(|c| c[i].clone())).collect::<Row>()
        };
        Ok(Rc::new(rows.iter().enumerate().map(widen).collect()))
    }

    fn window_values(
        &self,
        window: &Window,
        keyed: &[(Vec<Value>, usize)],
        rows: &[Row],
        env: Option<&Env<'_>>,
        column: &mut [Value],
    ) -> Result<()> {
        let (mut rank, mut dense) = (0, 0);
        for (n, (key, i)) in keyed.iter().enumerate() {
            if n == 0 || keyed[n - 1].0 != *key {
                rank = n + 1;
                dense += 1;
            }
            column[*i] = match &window.kind {
                WindowKind::RowNumber => (n + 1).into(),
                WindowKind::Rank { dense: false } => rank.into(),
                WindowKind::Rank { dense: true } => dense.into(),
                WindowKind::Aggregate(aggregate) => {
                    // Without an order the whole partition counts, with one the rows up to the last equal one.
                    let end = if window.order.is_empty() {
                        keyed.len()
                    } else {
                        keyed.iter().rposition(|(k, _)| k == key).map_or(keyed.len(), |p| p + 1)
                    };
                    let members: Vec<Row> = keyed[..end].iter().map(|(_, i)| rows[*i].clone()).collect();
                    self.count(members.len())?;
                    self.fold(aggregate, &members, env)?
                }
            };
        }
        Ok(())
    }
}

/// A condition that an index of a relation answers: the column, the value, and which of the conditions it is.
fn indexable(conjuncts: &[Expr]) -> Option<(usize, &Expr, usize)> {
    conjuncts.iter().enumerate().find_map(|(i, condition)| {
        let Expr::Binary { op: Op::Eq, left, right } = condition else { return None };
        let fixed = |e: &Expr| columns_read(e).is_some_and(|c| c.is_empty());
        match (&**left, &**right) {
            (Expr::Column { level: 0, index }, other) if fixed(other) => Some((*index, other, i)),
            (other, Expr::Column { level: 0, index }) if fixed(other) => Some((*index, other, i)),
            _ => None,
        }
    })
}

fn concat(left: &Row, right: &Row) -> Row {
    left.iter().chain(right.iter()).cloned().collect()
}

fn compare(a: &[Value], b: &[Value], keys: &[SortKey]) -> std::cmp::Ordering {
    for ((a, b), key) in a.iter().zip(b).zip(keys) {
        let order = match (a.is_null(), b.is_null()) {
            (true, true) => std::cmp::Ordering::Equal,
            (true, false) if key.nulls_first => std::cmp::Ordering::Less,
            (true, false) => std::cmp::Ordering::Greater,
            (false, true) if key.nulls_first => std::cmp::Ordering::Greater,
            (false, true) => std::cmp::Ordering::Less,
            _ if key.descending => b.cmp(a),
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    std::cmp::Ordering::Equal
}

fn combine(op: SetOp, all: bool, left: &Rows, right: &Rows) -> Vec<Row> {
    let mut counts: HashMap<Row, usize> = HashMap::new();
    if op != SetOp::Union {
        for row in right.iter() {
            *counts.entry(row.clone()).or_default() += 1;
        }
    }
    let mut seen = HashSet::new();
    let both = left.iter().chain(if op == SetOp::Union { right.iter() } else { [].iter() });
    both.filter(|row| {
        let in_right = counts.get_mut(*row);
        let kept = match (op, in_right) {
            (SetOp::Union, _) => true,
            (SetOp::Except, None) => true,
            (SetOp::Except, Some(n)) if all && *n > 0 => {
                *n -= 1;
                false
            }
            (SetOp::Except, Some(_)) => all,
            (SetOp::Intersect, None) => false,
            (SetOp::Intersect, Some(n)) if all => {
                let kept = *n > 0;
                *n = n.saturating_sub(1);
                kept
            }
            (SetOp::Intersect, Some(_)) => true,
        };
        kept && (all || seen.insert((*row).clone()))
    })
    .cloned()
    .collect()
}

/// Whether an aggregate ignores rows in which its argument is NULL.
pub(super) fn skips_nulls(kind: AggregateKind) -> bool {
    !matches!(kind, AggregateKind::CountRows | AggregateKind::ArrayAgg | AggregateKind::First)
}
