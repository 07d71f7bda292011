//! Point lookups: bound queries that amount to finding rows by a key.
//!
//! Boundary: looks at a plan's shape only; whether there is an index is for the caller to see.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use crate::catalog::{Catalog, CatalogTable, ObjectId};
use crate::sql::bind::BoundQuery;

/// A lookup that answers a query.
#[derive(Debug, Clone, PartialEq)]
pub struct PointLookup {
    /// The relation.
    pub object: ObjectId,
    /// The columns compared with the keys, ascending.
    pub columns: Vec<usize>,
    /// The keys, each with one value per column.
    pub keys: Vec<Vec<KeyValue>>,
    /// The columns of the result.
    pub projection: Vec<usize>,
}

/// A value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyValue {
    /// Parameter, from 0.
    Param(usize),
    /// A constant.
    Literal(ScalarValue),
}

/// The lookup that a bound query amounts to, if it does.
pub fn recognise(query: &BoundQuery, _catalog: &Catalog) -> Option<PointLookup> {
    let mut plan = &query.plan;
    // Projections of plain columns, outermost first; each maps its outputs to its input's.
    let mut wanted: Option<Vec<usize>> = None;
    let mut conditions: Vec<(usize, Vec<KeyValue>)> = Vec::new();
    loop {
        match plan {
            LogicalPlan::Projection(p) => {
                let columns = p
                    .expr
                    .iter()
                    .map(|e| p.input.schema().maybe_index_of_column(plain_column(e)?))
                    .collect::<Option<Vec<_>>>()?;
                wanted = Some(match wanted {
                    None => columns,
                    Some(w) => w.into_iter().map(|i| columns[i]).collect(),
                });
                if !conditions.is_empty() {
                    // A filter above a projection: its columns are the projection's.
                    for (column, _) in &mut conditions {
                        *column = p.input.schema().maybe_index_of_column(plain_column(&p.expr[*column])?)?;
                    }
                }
                plan = &p.input;
            }
            LogicalPlan::SubqueryAlias(a) => plan = &a.input,
            LogicalPlan::Filter(f) => {
                collect(&f.predicate, &|e| f.input.schema().maybe_index_of_column(plain_column(e)?), &mut conditions)?;
                plan = &f.input;
            }
            LogicalPlan::TableScan(scan) => {
                let source: &dyn std::any::Any = scan.source.as_ref();
                let table = source.downcast_ref::<CatalogTable>()?;
                if !scan.filters.is_empty() || scan.fetch.is_some() || conditions.is_empty() {
                    return None;
                }
                let in_table = |i: usize| scan.projection.as_ref().map_or(i, |p| p[i]);
                let all: Vec<usize> = (0..scan.projected_schema.fields().len()).collect();
                let projection = wanted.unwrap_or(all).into_iter().map(in_table).collect();
                for (column, _) in &mut conditions {
                    *column = in_table(*column);
                }
                return lookup(table.object.id, conditions, projection);
            }
            _ => return None,
        }
    }
}

fn lookup(
    object: ObjectId,
    mut conditions: Vec<(usize, Vec<KeyValue>)>,
    projection: Vec<usize>,
) -> Option<PointLookup> {
    conditions.sort_by_key(|(c, _)| *c);
    let columns: Vec<usize> = conditions.iter().map(|(c, _)| *c).collect();
    if columns.windows(2).any(|w| w[0] == w[1]) {
        return None;
    }
    let lists: Vec<&Vec<KeyValue>> = conditions.iter().map(|(_, v)| v).collect();
    // Every combination of the lists: `a IN (1, 2) AND b = 3` is two keys.
    let count = lists.iter().try_fold(1usize, |n, l| n.checked_mul(l.len()).filter(|n| *n <= 4096))?;
    let mut keys = Vec::with_capacity(count);
    for mut i in 0..count {
        let mut key = Vec::with_capacity(lists.len());
        for list in &lists {
            key.push(list[i % list.len()].clone());
            i /= list.len();
        }
        keys.push(key);
    }
    Some(PointLookup { object, columns, keys, projection })
}

fn plain_column(e: &Expr) -> Option<&datafusion::common::Column> {
    match e {
        Expr::Column(c) => Some(c),
        Expr::Alias(a) => plain_column(&a.expr),
        _ => None,
    }
}

/// Takes a condition apart; `None` when it is anything but equalities of columns with values.
fn collect(
    predicate: &Expr,
    column_of: &dyn Fn(&Expr) -> Option<usize>,
    out: &mut Vec<(usize, Vec<KeyValue>)>,
) -> Option<()> {
    match predicate {
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            collect(&b.left, column_of, out)?;
            collect(&b.right, column_of, out)
        }
        Expr::BinaryExpr(b) if b.op == Operator::Eq => {
            let (column, value) = match (column_of(&b.left), column_of(&b.right)) {
                (Some(c), None) => (c, key_value(&b.right)?),
                (None, Some(c)) => (c, key_value(&b.left)?),
                _ => return None,
            };
            out.push((column, vec![value]));
            Some(())
        }
        Expr::InList(list) if !list.negated && !list.list.is_empty() => {
            let column = column_of(&list.expr)?;
            let mut values = Vec::with_capacity(list.list.len());
            for e in &list.list {
                let value = key_value(e)?;
                // (Two parameters may turn out equal: a lookup gives each row once all the same.)
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            out.push((column, values));
            Some(())
        }
        _ => None,
    }
}

fn key_value(e: &Expr) -> Option<KeyValue> {
    match e {
        Expr::Literal(v, _) => Some(KeyValue::Literal(v.clone())),
        Expr::Placeholder(p) => {
            let n: usize = p.id.strip_prefix('$')?.parse().ok()?;
            Some(KeyValue::Param(n.checked_sub(1)?))
        }
        Expr::Alias(a) => key_value(&a.expr),
        _ => None,
    }
}
