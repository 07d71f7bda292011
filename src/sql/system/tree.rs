//! Bound queries over the system relations: expressions and plans with all names and types settled.
//!
//! A column is named by level and index: level 0 is the row that the plan node at hand works on, level 1 the row for
//! which the plan as a whole is run (of the query around it, or of the left side of a lateral join), and so on.
//!
//! Boundary: the trees and walks over them; binding makes them, [`super::execute`] runs them.

use crate::catalog::system::{SystemRelation, Value};
use crate::types::PgType;

use super::functions::Function;

/// Operators that take two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Like { insensitive: bool, negated: bool },
    Regex { insensitive: bool, negated: bool },
    Concat,
    ArrayConcat,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    BitAnd,
    BitOr,
    Contains,
    Contained,
    Overlap,
}

/// Values that are worked out by a plan node above and stand in a column of it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Aggregate,
    Window,
    Set,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Const(Value),
    Column { level: usize, index: usize },
    Param(usize),
    Cast { expr: Box<Expr>, from: PgType, to: PgType, explicit: bool },
    Call { function: &'static Function, args: Vec<Expr> },
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Binary { op: Op, left: Box<Expr>, right: Box<Expr> },
    Negate(Box<Expr>),
    IsNull { expr: Box<Expr>, negated: bool },
    IsBool { expr: Box<Expr>, value: Option<bool>, negated: bool },
    Distinct { left: Box<Expr>, right: Box<Expr>, negated: bool },
    Case { whens: Vec<(Expr, Expr)>, otherwise: Box<Expr> },
    Coalesce(Vec<Expr>),
    Extreme { args: Vec<Expr>, greatest: bool },
    InList { expr: Box<Expr>, list: Vec<Expr>, negated: bool },
    Quantified { op: Op, left: Box<Expr>, array: Box<Expr>, all: bool },
    Sub(Box<SubQuery>),
    Array(Vec<Expr>),
    Row(Vec<Expr>),
    Field(Box<Expr>, usize),
    Subscript(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    Slot(Slot, usize),
}

impl Expr {
    pub fn column(index: usize) -> Expr {
        Expr::Column { level: 0, index }
    }
}

/// What a query inside an expression is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SubKind {
    Scalar,
    Exists,
    Array,
    In { left: Vec<Expr>, negated: bool },
    Quantified { op: Op, left: Expr, all: bool },
}

#[derive(Debug, Clone)]
pub(super) struct SubQuery {
    /// Tells it apart from all others of the statement.
    pub id: usize,
    pub kind: SubKind,
    pub plan: Plan,
    /// The answer is the same for every row.
    pub constant: bool,
}

impl PartialEq for SubQuery {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Debug, Clone)]
pub(super) struct SortKey {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AggregateKind {
    CountRows,
    Count,
    Min,
    Max,
    Sum,
    Avg,
    ArrayAgg,
    StringAgg,
    BoolAnd,
    BoolOr,
    /// The value of some row: for columns that depend on the grouping columns.
    First,
}

#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    pub kind: AggregateKind,
    pub args: Vec<Expr>,
    pub distinct: bool,
    pub order: Vec<SortKey>,
    pub filter: Option<Expr>,
}

#[derive(Debug, Clone)]
pub(super) enum WindowKind {
    RowNumber,
    Rank { dense: bool },
    Aggregate(Aggregate),
}

#[derive(Debug, Clone)]
pub(super) struct Window {
    pub kind: WindowKind,
    pub partition: Vec<Expr>,
    pub order: Vec<SortKey>,
}

/// A function that gives rows.
#[derive(Debug, Clone)]
pub(super) struct SetCall {
    pub function: super::set_functions::SetFunction,
    pub args: Vec<Expr>,
    pub width: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetOp {
    Union,
    Except,
    Intersect,
}

#[derive(Debug, Clone)]
pub(super) enum Plan {
    /// One row without columns.
    Unit,
    Values(Vec<Vec<Expr>>),
    Scan(&'static SystemRelation),
    Cte(usize),
    /// Each function's rows beside the others', with the number of the row if `ordinality`.
    Functions {
        calls: Vec<SetCall>,
        ordinality: bool,
    },
    Filter {
        input: Box<Plan>,
        conjuncts: Vec<Expr>,
    },
    Project {
        input: Box<Plan>,
        exprs: Vec<Expr>,
    },
    /// The input's columns and one for each call.
    ProjectSet {
        input: Box<Plan>,
        calls: Vec<SetCall>,
    },
    Join(Box<Join>),
    Aggregate {
        input: Box<Plan>,
        keys: Vec<Expr>,
        aggregates: Vec<Aggregate>,
    },
    Window {
        input: Box<Plan>,
        windows: Vec<Window>,
    },
    /// Rows that differ in these expressions, the first of each; all columns if none are given.
    Distinct {
        input: Box<Plan>,
        on: Vec<Expr>,
    },
    Sort {
        input: Box<Plan>,
        keys: Vec<SortKey>,
    },
    Limit {
        input: Box<Plan>,
        limit: Option<Expr>,
        offset: Option<Expr>,
    },
    SetOp {
        op: SetOp,
        all: bool,
        left: Box<Plan>,
        right: Box<Plan>,
    },
    With {
        ctes: Vec<Cte>,
        body: Box<Plan>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Join {
    pub kind: JoinKind,
    pub left: Plan,
    pub right: Plan,
    pub left_width: usize,
    pub right_width: usize,
    /// The right side is run for each row of the left one.
    pub lateral: bool,
    /// Expressions over the left row and over the right row that must be equal.
    pub keys: Vec<(Expr, Expr)>,
    /// What else must be true of the row of both.
    pub residual: Vec<Expr>,
}

#[derive(Debug, Clone)]
pub(super) struct Cte {
    pub id: usize,
    pub start: Plan,
    /// The recursive part, and whether it is UNION ALL.
    pub step: Option<(Plan, bool)>,
}

/// Called for every expression with the level that the row of interest has there; true: the parts of the
/// expression need no visit.
pub(super) type Visitor<'v> = &'v mut dyn FnMut(&mut Expr, usize) -> bool;

/// Visits an expression and everything in it, queries included.
pub(super) fn walk(expr: &mut Expr, level: usize, visit: Visitor<'_>) {
    if visit(expr, level) {
        return;
    }
    match expr {
        Expr::Const(_) | Expr::Column { .. } | Expr::Param(_) | Expr::Slot(..) => {}
        Expr::Cast { expr, .. }
        | Expr::Not(expr)
        | Expr::Negate(expr)
        | Expr::IsNull { expr, .. }
        | Expr::IsBool { expr, .. }
        | Expr::Field(expr, _) => walk(expr, level, visit),
        Expr::Call { args: all, .. }
        | Expr::And(all)
        | Expr::Or(all)
        | Expr::Coalesce(all)
        | Expr::Extreme { args: all, .. }
        | Expr::Array(all)
        | Expr::Row(all) => walk_all(all, level, visit),
        Expr::Binary { left, right, .. }
        | Expr::Distinct { left, right, .. }
        | Expr::Quantified { left, array: right, .. }
        | Expr::Subscript(left, right) => {
            walk(left, level, visit);
            walk(right, level, visit);
        }
        Expr::Case { whens, otherwise } => {
            for (when, then) in whens {
                walk(when, level, visit);
                walk(then, level, visit);
            }
            walk(otherwise, level, visit);
        }
        Expr::InList { expr, list, .. } => {
            walk(expr, level, visit);
            walk_all(list, level, visit);
        }
        Expr::Slice(array, from, to) => {
            walk(array, level, visit);
            for bound in [from, to].into_iter().flatten() {
                walk(bound, level, visit);
            }
        }
        Expr::Sub(sub) => {
            match &mut sub.kind {
                SubKind::In { left, .. } => walk_all(left, level, visit),
                SubKind::Quantified { left, .. } => walk(left, level, visit),
                _ => {}
            }
            walk_plan(&mut sub.plan, level + 1, visit);
        }
    }
}

fn walk_all(exprs: &mut [Expr], level: usize, visit: Visitor<'_>) {
    for expr in exprs {
        walk(expr, level, visit);
    }
}

fn walk_aggregate(aggregate: &mut Aggregate, level: usize, visit: Visitor<'_>) {
    walk_all(&mut aggregate.args, level, visit);
    walk_keys(&mut aggregate.order, level, visit);
    if let Some(filter) = &mut aggregate.filter {
        walk(filter, level, visit);
    }
}

fn walk_keys(keys: &mut [SortKey], level: usize, visit: Visitor<'_>) {
    for key in keys {
        walk(&mut key.expr, level, visit);
    }
}

/// Visits all that a window is computed from.
pub(super) fn walk_window(window: &mut Window, level: usize, visit: Visitor<'_>) {
    if let WindowKind::Aggregate(a) = &mut window.kind {
        walk_aggregate(a, level, visit);
    }
    walk_all(&mut window.partition, level, visit);
    walk_keys(&mut window.order, level, visit);
}

fn walk_calls(calls: &mut [SetCall], level: usize, visit: Visitor<'_>) {
    for call in calls {
        walk_all(&mut call.args, level, visit);
    }
}

/// Visits all expressions of a plan; `level` is that of the row of interest as the plan's nodes see it.
pub(super) fn walk_plan(plan: &mut Plan, level: usize, visit: Visitor<'_>) {
    match plan {
        Plan::Unit | Plan::Scan(_) | Plan::Cte(_) => {}
        Plan::Values(rows) => rows.iter_mut().for_each(|r| walk_all(r, level, visit)),
        Plan::Functions { calls, .. } => walk_calls(calls, level, visit),
        Plan::Filter { input, conjuncts: exprs }
        | Plan::Project { input, exprs }
        | Plan::Distinct { input, on: exprs } => {
            walk_all(exprs, level, visit);
            walk_plan(input, level, visit);
        }
        Plan::ProjectSet { input, calls } => {
            walk_calls(calls, level, visit);
            walk_plan(input, level, visit);
        }
        Plan::Join(join) => {
            for (left, right) in &mut join.keys {
                walk(left, level, visit);
                walk(right, level, visit);
            }
            walk_all(&mut join.residual, level, visit);
            walk_plan(&mut join.left, level, visit);
            walk_plan(&mut join.right, level + usize::from(join.lateral), visit);
        }
        Plan::Aggregate { input, keys, aggregates } => {
            walk_all(keys, level, visit);
            aggregates.iter_mut().for_each(|a| walk_aggregate(a, level, visit));
            walk_plan(input, level, visit);
        }
        Plan::Window { input, windows } => {
            windows.iter_mut().for_each(|w| walk_window(w, level, visit));
            walk_plan(input, level, visit);
        }
        Plan::Sort { input, keys } => {
            walk_keys(keys, level, visit);
            walk_plan(input, level, visit);
        }
        Plan::Limit { input, limit, offset } => {
            for expr in [limit, offset].into_iter().flatten() {
                walk(expr, level, visit);
            }
            walk_plan(input, level, visit);
        }
        Plan::SetOp { left, right, .. } => {
            walk_plan(left, level, visit);
            walk_plan(right, level, visit);
        }
        Plan::With { ctes, body } => {
            for cte in ctes {
                walk_plan(&mut cte.start, level, visit);
                if let Some((step, _)) = &mut cte.step {
                    walk_plan(step, level, visit);
                }
            }
            walk_plan(body, level, visit);
        }
    }
}

/// Whether a plan's rows are the same whatever row it is run for.
pub(super) fn is_constant(plan: &mut Plan) -> bool {
    fn reads_ctes(plan: &Plan) -> bool {
        match plan {
            Plan::Cte(_) | Plan::With { .. } => true,
            Plan::Unit | Plan::Values(_) | Plan::Scan(_) | Plan::Functions { .. } => false,
            Plan::Filter { input, .. }
            | Plan::Project { input, .. }
            | Plan::ProjectSet { input, .. }
            | Plan::Aggregate { input, .. }
            | Plan::Window { input, .. }
            | Plan::Distinct { input, .. }
            | Plan::Sort { input, .. }
            | Plan::Limit { input, .. } => reads_ctes(input),
            Plan::Join(j) => reads_ctes(&j.left) || reads_ctes(&j.right),
            Plan::SetOp { left, right, .. } => reads_ctes(left) || reads_ctes(right),
        }
    }
    let mut constant = !reads_ctes(plan);
    walk_plan(plan, 1, &mut |expr, level| {
        match expr {
            Expr::Column { level: l, .. } if *l >= level => constant = false,
            Expr::Sub(sub) if !sub.constant && reads_ctes(&sub.plan) => constant = false,
            _ => {}
        }
        false
    });
    constant
}

/// The columns of the row at level 0 that an expression reads, or `None` when it has queries in it.
pub(super) fn columns_read(expr: &Expr) -> Option<Vec<usize>> {
    let mut columns = vec![];
    let mut simple = true;
    walk(&mut expr.clone(), 0, &mut |e, _| {
        match e {
            Expr::Column { level: 0, index } => columns.push(*index),
            Expr::Sub(_) => {
                simple = false;
                return true;
            }
            _ => {}
        }
        false
    });
    simple.then_some(columns)
}

/// Moves the columns of level 0.
pub(super) fn shift(expr: &mut Expr, to: &dyn Fn(usize) -> usize) {
    walk(expr, 0, &mut |e, level| {
        if let Expr::Column { level: l, index } = e
            && *l == level
        {
            *index = to(*index);
        }
        false
    });
}

/// Adds a condition to a plan as deep as it can go.
pub(super) fn push_filter(plan: &mut Plan, condition: Expr) {
    let Some(columns) = columns_read(&condition) else { return wrap(plan, condition) };
    match plan {
        Plan::Filter { input, conjuncts } => {
            if matches!(**input, Plan::Join(_)) {
                push_filter(input, condition);
            } else {
                conjuncts.push(condition);
            }
        }
        Plan::Join(join) => match push_into_join(join, condition, &columns) {
            None => {}
            Some(condition) => wrap(plan, condition),
        },
        _ => wrap(plan, condition),
    }
}

fn wrap(plan: &mut Plan, condition: Expr) {
    if let Plan::Filter { conjuncts, .. } = plan {
        return conjuncts.push(condition);
    }
    let input = Box::new(std::mem::replace(plan, Plan::Unit));
    *plan = Plan::Filter { input, conjuncts: vec![condition] };
}

/// Gives the condition back if the join cannot take it.
fn push_into_join(join: &mut Join, mut condition: Expr, columns: &[usize]) -> Option<Expr> {
    let width = join.left_width;
    let left_only = columns.iter().all(|c| *c < width);
    if left_only && !columns.is_empty() && matches!(join.kind, JoinKind::Inner | JoinKind::Left) {
        push_filter(&mut join.left, condition);
        return None;
    }
    if join.kind != JoinKind::Inner {
        return Some(condition);
    }
    if !join.lateral && !columns.is_empty() && columns.iter().all(|c| *c >= width) {
        shift(&mut condition, &|c| c - width);
        push_filter(&mut join.right, condition);
        return None;
    }
    add_condition(join, condition);
    None
}

/// Makes a condition a key of the join if it is an equality of its two sides, or else checks it for each pair.
pub(super) fn add_condition(join: &mut Join, condition: Expr) {
    let width = join.left_width;
    if !join.lateral
        && let Expr::Binary { op: Op::Eq, left, right } = &condition
        && let (Some(l), Some(r)) = (columns_read(left), columns_read(right))
        && !l.is_empty()
        && !r.is_empty()
    {
        let sides = |a: &[usize], b: &[usize]| a.iter().all(|c| *c < width) && b.iter().all(|c| *c >= width);
        let pair = if sides(&l, &r) {
            Some(((**left).clone(), (**right).clone()))
        } else if sides(&r, &l) {
            Some(((**right).clone(), (**left).clone()))
        } else {
            None
        };
        if let Some((left, mut right)) = pair {
            shift(&mut right, &|c| c - width);
            return join.keys.push((left, right));
        }
    }
    join.residual.push(condition);
}

/// The parts of a condition that must all be true.
pub(super) fn conjuncts(condition: Expr) -> Vec<Expr> {
    match condition {
        Expr::And(all) => all.into_iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}
