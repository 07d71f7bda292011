//! Point lookups: queries that read the rows of a few keys of one relation, answered without a plan.
//!
//! Boundary: recognises the shape of a bound plan; whoever serves it knows the store.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use super::bind::BoundQuery;
use crate::catalog::Catalog;
use crate::catalog::{CatalogTable, Object, ObjectBody, ObjectId};

/// Keys of one lookup at most.
const MAX_KEYS: usize = 1000;

/// A part of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyValue {
    /// The value of parameter `n`, from 0.
    Param(usize),
    /// A constant of the column's type.
    Literal(ScalarValue),
}

/// A query that is a lookup of keys.
#[derive(Debug, Clone, PartialEq)]
pub struct PointLookup {
    /// The relation.
    pub object: ObjectId,
    /// Columns of the key: an index's, or a prefix of the primary or unique key.
    pub columns: Vec<usize>,
    /// The keys, each in the order of `columns`.
    pub keys: Vec<Vec<KeyValue>>,
    /// The columns are only the first ones of a key or index: their own index is built when it is first asked for.
    pub prefix: bool,
    /// Columns of the relation, in output order.
    pub projection: Vec<usize>,
}

/// The lookup that a bound query is, if it is one.
pub fn point_lookup(query: &BoundQuery, catalog: &Catalog) -> Option<PointLookup> {
    let (exprs, filter) = match &query.plan {
        LogicalPlan::Projection(p) => (Some(&p.expr), p.input.as_ref()),
        plan => (None, plan),
    };
    let LogicalPlan::Filter(filter) = filter else { return None };
    let LogicalPlan::TableScan(scan) = filter.input.as_ref() else { return None };
    if scan.projection.is_some() || scan.fetch.is_some() || !scan.filters.is_empty() {
        return None;
    }
    let source: &dyn std::any::Any = scan.source.as_ref();
    let object = source.downcast_ref::<CatalogTable>()?.object.clone();
    let position = |c: &Column| object.columns.iter().position(|o| o.name == c.name);
    let projection = match exprs {
        None => (0..object.columns.len()).collect(),
        Some(exprs) => exprs.iter().map(|e| position(plain_column(e)?)).collect::<Option<Vec<_>>>()?,
    };
    let mut conditions = Vec::new();
    equalities(&filter.predicate, &position, &mut conditions)?;
    let (columns, prefix) = key_columns(&object, catalog, &conditions)?;
    let mut keys = vec![Vec::with_capacity(columns.len())];
    for column in &columns {
        let (_, values) = conditions.iter().find(|(c, _)| c == column)?;
        if keys.len().checked_mul(values.len())? > MAX_KEYS {
            return None;
        }
        keys = keys
            .iter()
            .flat_map(|k| values.iter().map(move |v| [k.as_slice(), std::slice::from_ref(v)].concat()))
            .collect();
    }
    Some(PointLookup { object: object.id, columns, keys, prefix, projection })
}

fn plain_column(e: &Expr) -> Option<&Column> {
    match e {
        Expr::Alias(a) => plain_column(&a.expr),
        Expr::Column(c) => Some(c),
        _ => None,
    }
}

type Conditions = Vec<(usize, Vec<KeyValue>)>;

/// The conjunction as (column, values it may have); `None` when there is anything else in it.
fn equalities(e: &Expr, position: &impl Fn(&Column) -> Option<usize>, out: &mut Conditions) -> Option<()> {
    let mut add = |column: &Expr, values: Vec<KeyValue>| {
        let Expr::Column(c) = column else { return None };
        let i = position(c)?;
        if out.iter().any(|(o, _)| *o == i) {
            return None;
        }
        out.push((i, values));
        Some(())
    };
    match e {
        Expr::BinaryExpr(b) if b.op == Operator::And => {
            equalities(&b.left, position, out)?;
            equalities(&b.right, position, out)
        }
        Expr::BinaryExpr(b) if b.op == Operator::Eq => match (key_value(&b.left), key_value(&b.right)) {
            (None, Some(v)) => add(&b.left, vec![v]),
            (Some(v), None) => add(&b.right, vec![v]),
            _ => None,
        },
        Expr::InList(l) if !l.negated => {
            let mut values = Vec::with_capacity(l.list.len());
            for item in &l.list {
                let v = key_value(item)?;
                if !values.contains(&v) {
                    values.push(v);
                }
            }
            // Two parameters may turn out equal: the lookup gives each row once.
            add(&l.expr, values)
        }
        _ => None,
    }
}

fn key_value(e: &Expr) -> Option<KeyValue> {
    match e {
        Expr::Literal(v, _) if !v.is_null() => Some(KeyValue::Literal(v.clone())),
        Expr::Placeholder(p) => {
            Some(KeyValue::Param(p.id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)?))
        }
        _ => None,
    }
}

/// The columns to look up, which are exactly those with conditions: a key's or an index's, or (and then true) the first
/// ones of either.
fn key_columns(object: &Object, catalog: &Catalog, conditions: &Conditions) -> Option<(Vec<usize>, bool)> {
    let covers = |columns: &[usize]| {
        columns.len() == conditions.len() && columns.iter().all(|c| conditions.iter().any(|(o, _)| o == c))
    };
    let indexes = catalog.indexes_on(object.id);
    let of_indexes = indexes.iter().filter_map(|index| match &index.body {
        ObjectBody::Index { columns, .. } => Some(columns.as_slice()),
        _ => None,
    });
    let known: Vec<&[usize]> = std::iter::once(object.unique_key()).chain(of_indexes).collect();
    if let Some(whole) = known.iter().find(|columns| covers(columns)) {
        return Some((whole.to_vec(), false));
    }
    let mut first = known.iter().filter_map(|columns| columns.get(..conditions.len()));
    first.find(|first| !first.is_empty() && covers(first)).map(|first| (first.to_vec(), true))
}
