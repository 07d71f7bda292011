//! From a query's FROM to a plan: joins, relations, functions that give rows, and the order of joins.
//!
//! Boundary: table expressions; what is selected from them is bound in [`super::bind`].

use sqlparser::ast::{
    self, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
};

use super::bind::{Binder, fold, split_name, unsupported};
use super::scope::{Level, Scope, ScopeColumn, ScopeTable, Typed};
use super::tree::{self, Expr, Join, JoinKind, Plan, add_condition, conjuncts, push_filter, shift};
use crate::catalog::system::find;
use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;

/// A table expression: its plan and the tables that its row is made of.
pub(super) struct From {
    pub plan: Plan,
    pub tables: Vec<ScopeTable>,
}

impl From {
    pub fn width(&self) -> usize {
        self.tables.iter().map(|t| t.columns.len()).sum()
    }
}

impl Binder<'_> {
    pub(super) fn table_with_joins(
        &self,
        item: &TableWithJoins,
        left: &Scope<'_>,
        parent: Option<&Scope<'_>>,
    ) -> Result<(From, bool)> {
        let (mut from, lateral) = self.factor(&item.relation, left, parent)?;
        // What is joined to a lateral item is run for each row of the left side like the item itself.
        let parent = if lateral { Some(left) } else { parent };
        for join in &item.joins {
            let mut so_far = Scope::inside(parent);
            so_far.append(from.tables.clone());
            let (right, right_lateral) = self.factor(&join.relation, &so_far, parent)?;
            from = self.join(from, right, right_lateral, &join.join_operator, parent)?;
        }
        Ok((from, lateral))
    }

    pub(super) fn join(
        &self,
        left: From,
        right: From,
        lateral: bool,
        operator: &JoinOperator,
        parent: Option<&Scope<'_>>,
    ) -> Result<From> {
        let (kind, constraint) = match operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => {
                (JoinKind::Inner, c)
            }
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
            JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (JoinKind::Right, c),
            JoinOperator::FullOuter(c) => (JoinKind::Full, c),
            _ => return Err(unsupported("this kind of join")),
        };
        if lateral && !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return Err(unsupported("LATERAL on the right of this join"));
        }
        let left_width = left.width();
        let mut scope = Scope::inside(parent);
        scope.append(left.tables);
        scope.append(right.tables);
        let conditions = match constraint {
            JoinConstraint::None => vec![],
            JoinConstraint::On(condition) => {
                conjuncts(self.boolean(condition, &Level::new(&scope, Some("JOIN conditions")))?)
            }
            JoinConstraint::Using(names) => {
                let names: Vec<String> = names.iter().map(|n| split_name(n).1).collect();
                self.using(&mut scope, left_width, &names, kind)?
            }
            JoinConstraint::Natural => {
                let of = |left: bool| {
                    scope
                        .tables
                        .iter()
                        .filter(move |t| (t.start < left_width) == left)
                        .flat_map(|t| t.columns.iter().filter(|c| !c.hidden).map(|c| c.name.clone()))
                };
                let right: Vec<String> = of(false).collect();
                let names: Vec<String> = of(true).filter(|n| right.contains(n)).collect();
                self.using(&mut scope, left_width, &names, kind)?
            }
        };
        let right_width = scope.width() - left_width;
        let mut join = Join {
            kind,
            left: left.plan,
            right: right.plan,
            left_width,
            right_width,
            lateral,
            keys: vec![],
            residual: vec![],
        };
        let mut inner = vec![];
        for mut condition in conditions {
            let right_only = tree::columns_read(&condition)
                .is_some_and(|c| !c.is_empty() && c.iter().all(|c| *c >= left_width));
            match kind {
                JoinKind::Inner => inner.push(condition),
                JoinKind::Left if right_only && !lateral => {
                    shift(&mut condition, &|c| c - left_width);
                    push_filter(&mut join.right, condition);
                }
                _ => add_condition(&mut join, condition),
            }
        }
        let mut plan = Plan::Join(Box::new(join));
        for condition in inner {
            push_filter(&mut plan, condition);
        }
        Ok(From { plan, tables: scope.tables })
    }

    pub(super) fn using(
        &self,
        scope: &mut Scope<'_>,
        left_width: usize,
        names: &[String],
        kind: JoinKind,
    ) -> Result<Vec<Expr>> {
        let mut conditions = vec![];
        for name in names {
            let mut sides = vec![];
            for left in [true, false] {
                let tables = scope.tables.iter().filter(|t| (t.start < left_width) == left);
                let found = tables
                    .flat_map(|t| t.columns.iter().enumerate().map(|(i, c)| (t.start + i, c)))
                    .find(|(_, c)| c.name == *name && !c.hidden);
                let Some((at, column)) = found else {
                    return Err(Error::new(
                        ErrorKind::UndefinedColumn,
                        format!("column \"{name}\" specified in USING clause does not exist in both tables"),
                    ));
                };
                sides.push((at, column.typed(0, at)));
            }
            let hide = if kind == JoinKind::Right { sides[0].0 } else { sides[1].0 };
            let (exprs, _) = self.unify("JOIN/USING", sides.into_iter().map(|(_, t)| t).collect())?;
            let mut exprs = exprs.into_iter();
            if let (Some(left), Some(right)) = (exprs.next(), exprs.next()) {
                conditions.push(Expr::Binary {
                    op: tree::Op::Eq,
                    left: Box::new(left),
                    right: Box::new(right),
                });
            }
            for table in &mut scope.tables {
                if let Some(column) = hide.checked_sub(table.start).and_then(|i| table.columns.get_mut(i)) {
                    column.hidden = true;
                }
            }
        }
        Ok(conditions)
    }

    /// An item of FROM, and whether it refers to the items before it.
    pub(super) fn factor(
        &self,
        factor: &TableFactor,
        left: &Scope<'_>,
        parent: Option<&Scope<'_>>,
    ) -> Result<(From, bool)> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                Ok((self.relation(name, alias.as_ref())?, false))
            }
            TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
                let call = (name, args.args.as_slice());
                self.table_functions(&[call], *with_ordinality, alias.as_ref(), left, parent)
            }
            TableFactor::Function { name, args, alias, with_ordinality, .. } => self.table_functions(
                &[(name, args.as_slice())],
                *with_ordinality,
                alias.as_ref(),
                left,
                parent,
            ),
            TableFactor::TableFunction { expr: ast::Expr::Function(f), alias } => {
                let args: &[ast::FunctionArg] = match &f.args {
                    ast::FunctionArguments::List(list) => &list.args,
                    _ => &[],
                };
                self.table_functions(&[(&f.name, args)], false, alias.as_ref(), left, parent)
            }
            TableFactor::UNNEST { alias, array_exprs, with_ordinality, with_offset: false, .. } => {
                let around = Scope::inside(if left.tables.is_empty() { parent } else { Some(left) });
                let level = Level::new(&around, Some("functions in FROM"));
                let arrays: Vec<Typed> =
                    array_exprs.iter().map(|e| self.expr(e, &level)).collect::<Result<_>>()?;
                let calls = arrays
                    .into_iter()
                    .map(|a| self.set_call("unnest", vec![a]))
                    .collect::<Result<Option<Vec<_>>>>()?
                    .ok_or_else(|| Error::internal("unnest is a set function"))?;
                Ok(scan_of(self.function_scan(calls, "unnest", *with_ordinality, alias.as_ref()), left))
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let lateral = *lateral && !left.tables.is_empty();
                let bound = self.query(subquery, if lateral { Some(left) } else { parent })?;
                let bound = self.settle(bound);
                let mut table = ScopeTable {
                    alias: String::new(),
                    schema: None,
                    columns: bound.columns,
                    start: 0,
                    oid: 0,
                };
                rename(&mut table, alias.as_ref());
                Ok((From { plan: bound.plan, tables: vec![table] }, lateral))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.table_with_joins(table_with_joins, &Scope::inside(parent), parent)
            }
            _ => Err(unsupported("this item of FROM")),
        }
    }

    pub(super) fn relation(&self, name: &ObjectName, alias: Option<&TableAlias>) -> Result<From> {
        let (schema, name) = split_name(name);
        if schema.is_none()
            && let Some(cte) = self.ctes.borrow().iter().rev().find(|c| c.name == name)
        {
            let mut columns = cte.columns.clone();
            columns.iter_mut().for_each(|c| c.hidden = false);
            let mut table = ScopeTable { alias: name, schema: None, columns, start: 0, oid: 0 };
            rename(&mut table, alias);
            return Ok(From { plan: Plan::Cte(cte.id), tables: vec![table] });
        }
        let found = find(schema.as_deref(), &name).or_else(|| {
            let in_path = || self.context.search_path.iter().any(|s| s == "information_schema");
            if schema.is_none() && in_path() { find(Some("information_schema"), &name) } else { None }
        });
        let Some(relation) = found else {
            let shown = schema.map_or(name.clone(), |s| format!("{s}.{name}"));
            return Err(Error::new(
                ErrorKind::UndefinedTable,
                format!("relation \"{shown}\" does not exist"),
            ));
        };
        let columns = (1i16..)
            .zip(&relation.columns)
            .map(|(number, c)| ScopeColumn {
                origin: (relation.oid, number),
                ..ScopeColumn::new(c.name, c.pg_type)
            })
            .collect();
        let mut table =
            ScopeTable { alias: name, schema: Some(relation.schema), columns, start: 0, oid: relation.oid };
        rename(&mut table, alias);
        Ok(From { plan: Plan::Scan(relation), tables: vec![table] })
    }

    pub(super) fn table_functions(
        &self,
        calls: &[(&ObjectName, &[ast::FunctionArg])],
        ordinality: bool,
        alias: Option<&TableAlias>,
        left: &Scope<'_>,
        parent: Option<&Scope<'_>>,
    ) -> Result<(From, bool)> {
        let around = Scope::inside(if left.tables.is_empty() { parent } else { Some(left) });
        let level = Level::new(&around, Some("functions in FROM"));
        let mut bound = vec![];
        let mut label = String::new();
        for (name, args) in calls {
            let (_, name) = split_name(name);
            let args = self.arguments(args, &level)?;
            let typed: Vec<Typed> = args.clone();
            match self.set_call(&name, args)? {
                Some(call) => bound.push(call),
                None => {
                    // A function of one value is a table of one row.
                    let value = self.call(&name, typed)?;
                    bound.push((
                        tree::SetCall {
                            function: super::set_functions::SetFunction::Once,
                            args: vec![value.expr],
                            width: 1,
                        },
                        vec![ScopeColumn::new(name.clone(), value.ty)],
                    ));
                }
            }
            label = name;
        }
        Ok(scan_of(self.function_scan(bound, &label, ordinality, alias), left))
    }

    pub(super) fn function_scan(
        &self,
        calls: Vec<(tree::SetCall, Vec<ScopeColumn>)>,
        name: &str,
        ordinality: bool,
        alias: Option<&TableAlias>,
    ) -> From {
        let (calls, columns): (Vec<_>, Vec<Vec<ScopeColumn>>) = calls.into_iter().unzip();
        let mut columns: Vec<ScopeColumn> = columns.into_iter().flatten().collect();
        // A function of one column lends it its alias.
        if let ([only], Some(alias)) = (columns.as_mut_slice(), alias) {
            only.name = fold(&alias.name);
        }
        if ordinality {
            columns.push(ScopeColumn::new("ordinality", PgType::INT8));
        }
        let mut table = ScopeTable { alias: name.to_string(), schema: None, columns, start: 0, oid: 0 };
        rename(&mut table, alias);
        From { plan: Plan::Functions { calls, ordinality }, tables: vec![table] }
    }
}

/// A scan of functions, and whether it must be run for each row of the items before it.
pub(super) fn scan_of(mut from: From, left: &Scope<'_>) -> (From, bool) {
    let mut refers = false;
    tree::walk_plan(&mut from.plan, 0, &mut |e, _| {
        refers |= matches!(e, Expr::Column { .. });
        false
    });
    (from, refers && !left.tables.is_empty())
}

pub(super) fn is_outer(expr: &Expr) -> bool {
    matches!(expr, Expr::Column { level, .. } if *level > 0)
}

/// Gives a table its alias and its columns theirs.
pub(super) fn rename(table: &mut ScopeTable, alias: Option<&TableAlias>) {
    let Some(alias) = alias else { return };
    table.alias = fold(&alias.name);
    table.schema = None;
    for (column, alias) in table.columns.iter_mut().zip(&alias.columns) {
        column.name = fold(&alias.name);
    }
}

pub(super) fn pair(left: Plan, left_width: usize, right: Plan, right_width: usize, lateral: bool) -> Plan {
    Plan::Join(Box::new(Join {
        kind: JoinKind::Inner,
        left,
        right,
        left_width,
        right_width,
        lateral,
        keys: vec![],
        residual: vec![],
    }))
}

/// The items of FROM side by side, in their order.
pub(super) fn cross(items: Vec<(From, bool)>, conditions: Vec<Expr>) -> Plan {
    let mut width = 0;
    let mut plan: Option<Plan> = None;
    for (from, lateral) in items {
        let right_width = from.width();
        plan = Some(match plan {
            None => from.plan,
            Some(left) => pair(left, width, from.plan, right_width, lateral),
        });
        width += right_width;
    }
    let mut plan = plan.unwrap_or(Plan::Unit);
    for condition in conditions {
        push_filter(&mut plan, condition);
    }
    plan
}

/// The items of FROM side by side, joined in an order in which equalities connect them; the columns stay in place.
pub(super) fn ordered_cross(items: Vec<(From, bool)>, conditions: Vec<Expr>) -> Plan {
    let starts: Vec<usize> = items
        .iter()
        .scan(0, |at, (from, _)| {
            let start = *at;
            *at += from.width();
            Some(start)
        })
        .collect();
    let item_of = |column: usize| starts.iter().rposition(|s| *s <= column).unwrap_or(0);
    let mut edges = vec![];
    for condition in &conditions {
        if matches!(condition, Expr::Binary { op: tree::Op::Eq, .. })
            && let Some(columns) = tree::columns_read(condition)
        {
            let mut touched: Vec<usize> = columns.into_iter().map(item_of).collect();
            touched.sort_unstable();
            touched.dedup();
            edges.push(touched);
        }
    }
    let mut order: Vec<usize> = vec![];
    while order.len() < items.len() {
        let free = |i: &usize| !order.contains(i);
        let connected = |i: &usize| {
            edges
                .iter()
                .any(|e| e.len() > 1 && e.contains(i) && e.iter().all(|x| x == i || order.contains(x)))
        };
        let next = (0..items.len())
            .filter(free)
            .find(|i| order.is_empty() || connected(i))
            .or_else(|| (0..items.len()).find(free));
        match next {
            Some(i) => order.push(i),
            None => break,
        }
    }
    if order.iter().enumerate().all(|(i, o)| i == *o) {
        return cross(items, conditions);
    }
    // Where each column goes.
    let widths: Vec<usize> = items.iter().map(|(f, _)| f.width()).collect();
    let mut place = vec![0; widths.iter().sum()];
    let mut at = 0;
    for item in &order {
        for i in 0..widths[*item] {
            place[starts[*item] + i] = at;
            at += 1;
        }
    }
    let mut taken: Vec<Option<(From, bool)>> = items.into_iter().map(Some).collect();
    let reordered = order.iter().filter_map(|i| taken[*i].take()).collect();
    let moved = conditions
        .into_iter()
        .map(|mut c| {
            shift(&mut c, &|i| place[i]);
            c
        })
        .collect();
    let plan = cross(reordered, moved);
    Plan::Project { input: Box::new(plan), exprs: place.into_iter().map(Expr::column).collect() }
}
