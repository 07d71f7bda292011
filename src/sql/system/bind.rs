//! From a query's syntax tree to a plan: WITH, set operations, SELECT, FROM.
//!
//! Boundary: queries and relations; expressions are bound in [`super::bind_expr`].

use std::cell::{Cell, RefCell};

use sqlparser::ast::{
    self, Distinct, GroupByExpr, Ident, LimitClause, ObjectName, OrderByExpr, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier,
};

use super::SystemContext;
use super::bind_from::{cross, is_outer, ordered_cross};
use super::scope::{Level, Scope, ScopeColumn, ScopeTable, Typed};
use super::tree::{
    self, Aggregate, AggregateKind, Cte, Expr, Plan, SetOp, Slot, SortKey, conjuncts, walk, walk_window,
};
use crate::catalog::system::types;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

/// Binds one statement.
pub(super) struct Binder<'a> {
    pub context: &'a SystemContext<'a>,
    params: RefCell<Vec<Option<PgType>>>,
    next_id: Cell<usize>,
    pub(super) ctes: RefCell<Vec<CteName>>,
}

#[derive(Clone)]
pub(super) struct CteName {
    pub name: String,
    pub id: usize,
    pub columns: Vec<ScopeColumn>,
}

/// A plan with the names and types of its columns.
pub(super) struct BoundPlan {
    pub plan: Plan,
    pub columns: Vec<ScopeColumn>,
}

/// An identifier as PostgreSQL folds it.
pub(super) fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Schema and name of an object's name; the database's name may stand before them.
pub(super) fn split_name(name: &ObjectName) -> (Option<String>, String) {
    let mut parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(fold).collect();
    let last = parts.pop().unwrap_or_default();
    (parts.pop(), last)
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::unsupported(format!("{what} is not supported in queries of the system catalogs"))
}

impl<'a> Binder<'a> {
    pub(super) fn new(context: &'a SystemContext<'a>, params: Vec<Option<PgType>>) -> Self {
        Binder { context, params: RefCell::new(params), next_id: Cell::new(0), ctes: RefCell::default() }
    }

    /// The types of the parameters: as given or found out, or text.
    pub(super) fn parameter_types(&self) -> Vec<PgType> {
        self.params.borrow().iter().map(|t| t.unwrap_or(PgType::TEXT)).collect()
    }

    pub(super) fn parameter_type(&self, n: usize) -> Option<PgType> {
        self.params.borrow().get(n).copied().flatten()
    }

    pub(super) fn set_parameter_type(&self, n: usize, ty: PgType) {
        let mut params = self.params.borrow_mut();
        if params.len() <= n {
            params.resize(n + 1, None);
        }
        params[n] = Some(ty);
    }

    /// Notes that a parameter exists.
    pub(super) fn touch_parameter(&self, n: usize) {
        let mut params = self.params.borrow_mut();
        if params.len() <= n {
            params.resize(n + 1, None);
        }
    }

    pub(super) fn id(&self) -> usize {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// Binds a query within the names of the query around it.
    pub(super) fn query(&self, query: &Query, parent: Option<&Scope<'_>>) -> Result<BoundPlan> {
        let before = self.ctes.borrow().len();
        let bound = self.query_with(query, parent);
        self.ctes.borrow_mut().truncate(before);
        bound
    }

    pub(super) fn query_with(&self, query: &Query, parent: Option<&Scope<'_>>) -> Result<BoundPlan> {
        let mut ctes = vec![];
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                ctes.push(self.cte(cte, with.recursive, parent)?);
            }
        }
        if query.fetch.is_some() {
            return Err(unsupported("this form of FETCH"));
        }
        let order: &[OrderByExpr] = match &query.order_by {
            None => &[],
            Some(o) => match &o.kind {
                OrderByKind::Expressions(all) => all,
                OrderByKind::All(_) => return Err(unsupported("ORDER BY ALL")),
            },
        };
        let mut bound = self.body(&query.body, order, parent)?;
        if let Some(limit) = &query.limit_clause {
            bound.plan = self.limit(bound.plan, limit, parent)?;
        }
        if !ctes.is_empty() {
            bound.plan = Plan::With { ctes, body: Box::new(bound.plan) };
        }
        Ok(bound)
    }

    pub(super) fn limit(&self, plan: Plan, clause: &LimitClause, parent: Option<&Scope<'_>>) -> Result<Plan> {
        let empty = Scope::inside(parent);
        let level = Level::new(&empty, Some("LIMIT"));
        let number = |e: &ast::Expr| {
            let typed = self.expr(e, &level)?;
            self.coerce(typed, PgType::INT8)
        };
        let (limit, offset) = match clause {
            LimitClause::LimitOffset { limit, offset, limit_by } if limit_by.is_empty() => {
                (limit.as_ref(), offset.as_ref().map(|o| &o.value))
            }
            _ => return Err(unsupported("this form of LIMIT")),
        };
        Ok(Plan::Limit {
            input: Box::new(plan),
            limit: limit.map(number).transpose()?,
            offset: offset.map(number).transpose()?,
        })
    }

    pub(super) fn cte(&self, cte: &ast::Cte, recursive: bool, parent: Option<&Scope<'_>>) -> Result<Cte> {
        let id = self.id();
        let name = fold(&cte.alias.name);
        let rename = |mut columns: Vec<ScopeColumn>| {
            for (column, alias) in columns.iter_mut().zip(&cte.alias.columns) {
                column.name = fold(&alias.name);
            }
            columns
        };
        if recursive
            && let SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right } =
                &*cte.query.body
            && cte.query.with.is_none()
        {
            let start = self.body(left, &[], parent)?;
            let start = self.settle(start);
            let columns = rename(start.columns.clone());
            self.ctes.borrow_mut().push(CteName { name, id, columns });
            let step = self.body(right, &[], parent)?;
            let step = self.cast_columns(step, &start.columns)?;
            let all = matches!(set_quantifier, SetQuantifier::All);
            return Ok(Cte { id, start: start.plan, step: Some((step, all)) });
        }
        let bound = self.query(&cte.query, parent)?;
        let bound = self.settle(bound);
        self.ctes.borrow_mut().push(CteName { name, id, columns: rename(bound.columns) });
        Ok(Cte { id, start: bound.plan, step: None })
    }

    /// Columns of unknown type become text.
    pub(super) fn settle(&self, mut bound: BoundPlan) -> BoundPlan {
        for column in &mut bound.columns {
            if column.ty.oid == oid::UNKNOWN {
                column.ty = PgType::TEXT;
            }
        }
        bound
    }

    /// The plan with its columns converted to the types of others.
    pub(super) fn cast_columns(&self, bound: BoundPlan, to: &[ScopeColumn]) -> Result<Plan> {
        if bound.columns.len() != to.len() {
            return Err(Error::new(
                ErrorKind::Syntax,
                "each set operation query must have the same number of columns",
            ));
        }
        if bound.columns.iter().zip(to).all(|(a, b)| a.ty.oid == b.ty.oid) {
            return Ok(bound.plan);
        }
        let exprs = bound
            .columns
            .iter()
            .zip(to)
            .enumerate()
            .map(|(i, (from, to))| self.coerce(from.typed(0, i), PgType::of(to.ty.oid)))
            .collect::<Result<_>>()?;
        Ok(Plan::Project { input: Box::new(bound.plan), exprs })
    }

    pub(super) fn body(
        &self,
        body: &SetExpr,
        order: &[OrderByExpr],
        parent: Option<&Scope<'_>>,
    ) -> Result<BoundPlan> {
        match body {
            SetExpr::Select(select) => self.select(select, order, parent),
            SetExpr::Query(query) => {
                let bound = self.query(query, parent)?;
                self.sort_by_columns(bound, order, parent)
            }
            SetExpr::Values(values) => {
                let bound = self.values(values, parent)?;
                self.sort_by_columns(bound, order, parent)
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let op = match op {
                    SetOperator::Union => SetOp::Union,
                    SetOperator::Intersect => SetOp::Intersect,
                    SetOperator::Except | SetOperator::Minus => SetOp::Except,
                };
                let all = matches!(set_quantifier, SetQuantifier::All);
                let bound = self.set_operation(op, all, left, right, parent)?;
                self.sort_by_columns(bound, order, parent)
            }
            _ => Err(unsupported("this form of query")),
        }
    }

    pub(super) fn set_operation(
        &self,
        op: SetOp,
        all: bool,
        left: &SetExpr,
        right: &SetExpr,
        parent: Option<&Scope<'_>>,
    ) -> Result<BoundPlan> {
        let left = self.body(left, &[], parent)?;
        let right = self.body(right, &[], parent)?;
        let name = match op {
            SetOp::Union => "UNION",
            SetOp::Except => "EXCEPT",
            SetOp::Intersect => "INTERSECT",
        };
        let mut columns = left.columns.clone();
        for (i, (column, other)) in columns.iter_mut().zip(&right.columns).enumerate() {
            column.ty = self.common_type(name, [&column.typed(0, i), &other.typed(0, i)])?;
            column.origin = (0, 0);
        }
        let left = Box::new(self.cast_columns(left, &columns)?);
        let right = Box::new(self.cast_columns(right, &columns)?);
        Ok(BoundPlan { plan: Plan::SetOp { op, all, left, right }, columns })
    }

    pub(super) fn values(&self, values: &ast::Values, parent: Option<&Scope<'_>>) -> Result<BoundPlan> {
        let empty = Scope::inside(parent);
        let level = Level::new(&empty, Some("VALUES"));
        let mut rows: Vec<Vec<Typed>> = vec![];
        for row in &values.rows {
            rows.push(row.iter().map(|e| self.expr(e, &level)).collect::<Result<_>>()?);
        }
        let width = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|r| r.len() != width) {
            return Err(Error::new(ErrorKind::Syntax, "VALUES lists must all be the same length"));
        }
        let mut columns = vec![];
        for i in 0..width {
            let ty = self.common_type("VALUES", rows.iter().map(|r| &r[i]))?;
            columns.push(ScopeColumn::new(format!("column{}", i + 1), ty));
        }
        let rows = rows
            .into_iter()
            .map(|r| {
                r.into_iter().zip(&columns).map(|(t, c)| self.coerce(t, c.ty)).collect::<Result<Vec<_>>>()
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(BoundPlan { plan: Plan::Values(rows), columns })
    }

    /// ORDER BY over the columns of a result.
    pub(super) fn sort_by_columns(
        &self,
        bound: BoundPlan,
        order: &[OrderByExpr],
        parent: Option<&Scope<'_>>,
    ) -> Result<BoundPlan> {
        if order.is_empty() {
            return Ok(bound);
        }
        let mut scope = Scope::inside(parent);
        scope.tables.push(ScopeTable {
            alias: String::new(),
            schema: None,
            columns: bound.columns.clone(),
            start: 0,
            oid: 0,
        });
        let level = Level::new(&scope, Some("ORDER BY"));
        let mut keys = vec![];
        for item in order {
            let expr = match self.output_position(&item.expr, &bound.columns)? {
                Some(i) => Expr::column(i),
                None => self.expr(&item.expr, &level)?.expr,
            };
            keys.push(sort_key(item, expr));
        }
        Ok(BoundPlan { plan: Plan::Sort { input: Box::new(bound.plan), keys }, columns: bound.columns })
    }

    /// The output column that an item of ORDER BY or GROUP BY means by its number or name.
    pub(super) fn output_position(&self, expr: &ast::Expr, columns: &[ScopeColumn]) -> Result<Option<usize>> {
        match expr {
            ast::Expr::Value(v) => match &v.value {
                ast::Value::Number(text, _) => match text.parse::<usize>() {
                    Ok(n) if (1..=columns.len()).contains(&n) => Ok(Some(n - 1)),
                    _ => Err(Error::new(
                        ErrorKind::InvalidColumnReference,
                        format!("position {text} is not in select list"),
                    )),
                },
                _ => Ok(None),
            },
            ast::Expr::Identifier(name) => {
                let name = fold(name);
                Ok(columns.iter().position(|c| c.name == name))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn select(
        &self,
        select: &Select,
        order: &[OrderByExpr],
        parent: Option<&Scope<'_>>,
    ) -> Result<BoundPlan> {
        let (mut plan, scope) = self.from_where(select, parent)?;
        let level = Level::new(&scope, None);
        let items = self.select_items(&select.projection, &level)?;
        let columns: Vec<ScopeColumn> = items.iter().map(|(c, _)| c.clone()).collect();
        let mut exprs: Vec<Expr> = items.into_iter().map(|(_, e)| e).collect();
        let mut keys = self.group_keys(select, &columns, &exprs, &scope)?;
        let mut having = match &select.having {
            Some(h) => conjuncts(self.boolean(h, &level)?),
            None => vec![],
        };
        let visible = exprs.len();
        let mut sort = vec![];
        for item in order {
            let position = match self.output_position(&item.expr, &columns)? {
                Some(i) => i,
                None => {
                    let expr = self.expr(&item.expr, &level)?.expr;
                    exprs.iter().position(|e| *e == expr).unwrap_or_else(|| {
                        exprs.push(expr);
                        exprs.len() - 1
                    })
                }
            };
            sort.push(sort_key(item, Expr::column(position)));
        }
        let distinct = self.distinct_on(select, &level, &columns, &mut exprs)?;
        let mut windows = level.windows.take();
        let mut sets = level.sets.take();
        let mut aggregates = level.aggregates.take();
        let mut width = scope.width();
        let grouped = !keys.is_empty() || !aggregates.is_empty() || select.having.is_some();
        if grouped {
            let mut all: Vec<&mut Expr> = exprs.iter_mut().chain(having.iter_mut()).collect();
            for set in &mut sets {
                all.extend(set.args.iter_mut());
            }
            for expr in all {
                above_groups(expr, &keys, &mut aggregates);
            }
            for window in &mut windows {
                group_window(window, &keys, &mut aggregates);
            }
            width = keys.len() + aggregates.len();
            plan = Plan::Aggregate { input: Box::new(plan), keys: std::mem::take(&mut keys), aggregates };
            if !having.is_empty() {
                plan = Plan::Filter { input: Box::new(plan), conjuncts: having };
            }
        }
        let (first_window, first_set) = (width, width + windows.len());
        let mut place = |expr: &mut Expr| {
            walk(expr, 0, &mut |e, _| {
                match e {
                    Expr::Slot(Slot::Window, i) => *e = Expr::column(first_window + *i),
                    Expr::Slot(Slot::Set, i) => *e = Expr::column(first_set + *i),
                    _ => {}
                }
                false
            });
        };
        exprs.iter_mut().for_each(&mut place);
        sets.iter_mut().for_each(|s| s.args.iter_mut().for_each(&mut place));
        if !windows.is_empty() {
            plan = Plan::Window { input: Box::new(plan), windows };
        }
        if !sets.is_empty() {
            plan = Plan::ProjectSet { input: Box::new(plan), calls: sets };
        }
        let all = exprs.len();
        plan = Plan::Project { input: Box::new(plan), exprs };
        plan = finish_select(plan, distinct, sort, visible, all);
        Ok(BoundPlan { plan, columns })
    }

    pub(super) fn from_where<'p>(
        &self,
        select: &Select,
        parent: Option<&'p Scope<'p>>,
    ) -> Result<(Plan, Scope<'p>)> {
        if select.into.is_some() || select.qualify.is_some() || !select.lateral_views.is_empty() {
            return Err(unsupported("this clause of SELECT"));
        }
        let mut items = vec![];
        let mut scope = Scope::inside(parent);
        let mut lateral_used = false;
        for item in &select.from {
            let (from, lateral) = self.table_with_joins(item, &scope, parent)?;
            lateral_used |= lateral;
            scope.append(from.tables.clone());
            items.push((from, lateral));
        }
        let condition = match &select.selection {
            Some(condition) => {
                let level = Level::new(&scope, Some("WHERE"));
                conjuncts(self.boolean(condition, &level)?)
            }
            None => vec![],
        };
        let plan = if lateral_used { cross(items, condition) } else { ordered_cross(items, condition) };
        Ok((plan, scope))
    }

    /// A condition.
    pub(super) fn boolean(&self, expr: &ast::Expr, level: &Level<'_>) -> Result<Expr> {
        let typed = self.expr(expr, level)?;
        if !matches!(typed.ty.oid, oid::BOOL | oid::UNKNOWN) {
            return Err(Error::new(
                ErrorKind::DatatypeMismatch,
                format!("argument of condition must be type boolean, not type {}", self.type_name(typed.ty)),
            ));
        }
        self.coerce(typed, PgType::BOOL)
    }

    pub(super) fn select_items(
        &self,
        items: &[SelectItem],
        level: &Level<'_>,
    ) -> Result<Vec<(ScopeColumn, Expr)>> {
        let mut out = vec![];
        let mut push = |name: String, typed: Typed| {
            let column =
                ScopeColumn { name, ty: typed.ty, fields: typed.fields, origin: typed.origin, hidden: false };
            out.push((column, typed.expr));
        };
        for item in items {
            match item {
                SelectItem::UnnamedExpr(ast::Expr::CompoundFieldAccess { root, access_chain })
                    if matches!(access_chain.last(), Some(ast::AccessExpr::Dot(ast::Expr::Wildcard(_)))) =>
                {
                    for (name, typed) in self.fields(self.expr(root, level)?)? {
                        push(name, typed);
                    }
                }
                SelectItem::UnnamedExpr(expr) => push(self.output_name(expr), self.expr(expr, level)?),
                SelectItem::ExprWithAlias { expr, alias } => push(fold(alias), self.expr(expr, level)?),
                SelectItem::Wildcard(_) => {
                    if level.scope.tables.is_empty() {
                        return Err(Error::new(
                            ErrorKind::Syntax,
                            "SELECT * with no tables specified is not valid",
                        ));
                    }
                    for table in &level.scope.tables {
                        for (i, column) in table.columns.iter().enumerate().filter(|(_, c)| !c.hidden) {
                            push(column.name.clone(), column.typed(0, table.start + i));
                        }
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let (schema, name) = split_name(name);
                    let Some((depth, table)) = level.scope.table(schema.as_deref(), &name) else {
                        return Err(Error::new(
                            ErrorKind::UndefinedTable,
                            format!("missing FROM-clause entry for table \"{name}\""),
                        ));
                    };
                    for (i, column) in table.columns.iter().enumerate() {
                        push(column.name.clone(), column.typed(depth, table.start + i));
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), _) => {
                    for (name, typed) in self.fields(self.expr(expr, level)?)? {
                        push(name, typed);
                    }
                }
                SelectItem::ExprWithAliases { .. } => return Err(unsupported("this form of alias")),
            }
        }
        Ok(out)
    }

    /// The parts of a row value.
    pub(super) fn fields(&self, typed: Typed) -> Result<Vec<(String, Typed)>> {
        let Some(fields) = typed.fields else {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                "row expansion is not supported for this type",
            ));
        };
        Ok(fields
            .iter()
            .enumerate()
            .map(|(i, (name, ty))| {
                let expr = Expr::Field(Box::new(typed.expr.clone()), i);
                (name.clone(), Typed::new(expr, *ty))
            })
            .collect())
    }

    pub(super) fn group_keys(
        &self,
        select: &Select,
        columns: &[ScopeColumn],
        exprs: &[Expr],
        scope: &Scope<'_>,
    ) -> Result<Vec<Expr>> {
        let GroupByExpr::Expressions(all, modifiers) = &select.group_by else {
            return Err(unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(unsupported("this form of GROUP BY"));
        }
        let level = Level::new(scope, Some("GROUP BY"));
        let mut keys = vec![];
        for item in all {
            // A name is a column of FROM first, and an output column only then.
            let input = match item {
                ast::Expr::Identifier(name) => scope.column(&fold(name))?.filter(|t| !is_outer(&t.expr)),
                _ => None,
            };
            let key = match (input, self.output_position(item, columns)?) {
                (Some(typed), _) => typed.expr,
                (None, Some(i)) => exprs[i].clone(),
                (None, None) => match item {
                    ast::Expr::Tuple(parts) => {
                        for part in parts {
                            keys.push(self.expr(part, &level)?.expr);
                        }
                        continue;
                    }
                    _ => self.expr(item, &level)?.expr,
                },
            };
            keys.push(key);
        }
        Ok(keys)
    }

    /// `None`: no DISTINCT; otherwise the columns that tell rows apart, none for all.
    pub(super) fn distinct_on(
        &self,
        select: &Select,
        level: &Level<'_>,
        columns: &[ScopeColumn],
        exprs: &mut Vec<Expr>,
    ) -> Result<Option<Vec<Expr>>> {
        match &select.distinct {
            None | Some(Distinct::All) => Ok(None),
            Some(Distinct::Distinct) => Ok(Some(vec![])),
            Some(Distinct::On(on)) => {
                let mut keys = vec![];
                for item in on {
                    let position = match self.output_position(item, columns)? {
                        Some(i) => i,
                        None => {
                            exprs.push(self.expr(item, level)?.expr);
                            exprs.len() - 1
                        }
                    };
                    keys.push(Expr::column(position));
                }
                Ok(Some(keys))
            }
        }
    }
}

pub(super) fn sort_key(item: &OrderByExpr, expr: Expr) -> SortKey {
    let descending = item.options.asc == Some(false);
    SortKey { expr, descending, nulls_first: item.options.nulls_first.unwrap_or(descending) }
}

fn finish_select(
    mut plan: Plan,
    distinct: Option<Vec<Expr>>,
    sort: Vec<SortKey>,
    visible: usize,
    all: usize,
) -> Plan {
    let narrow =
        |plan: Plan| Plan::Project { input: Box::new(plan), exprs: (0..visible).map(Expr::column).collect() };
    match distinct {
        // Rows are told apart by what is shown.
        Some(on) if on.is_empty() => {
            if all > visible {
                plan = narrow(plan);
            }
            plan = Plan::Distinct { input: Box::new(plan), on };
            if !sort.is_empty() {
                plan = Plan::Sort { input: Box::new(plan), keys: sort };
            }
            return plan;
        }
        Some(on) => {
            if !sort.is_empty() {
                plan = Plan::Sort { input: Box::new(plan), keys: sort };
            }
            plan = Plan::Distinct { input: Box::new(plan), on };
        }
        None => {
            if !sort.is_empty() {
                plan = Plan::Sort { input: Box::new(plan), keys: sort };
            }
        }
    }
    if all > visible { narrow(plan) } else { plan }
}

/// Rewrites an expression over the rows before grouping to one over the groups.
fn above_groups(expr: &mut Expr, keys: &[Expr], aggregates: &mut Vec<Aggregate>) {
    walk(expr, 0, &mut |e, level| {
        if level == 0 {
            if let Some(k) = keys.iter().position(|k| k == e) {
                *e = Expr::column(k);
                return true;
            }
            if let Expr::Slot(Slot::Aggregate, i) = e {
                *e = Expr::column(keys.len() + *i);
                return true;
            }
        }
        if let Expr::Column { level: l, index } = e
            && *l == level
        {
            let own = Expr::column(*index);
            *index = keys.iter().position(|k| *k == own).unwrap_or_else(|| {
                let first =
                    aggregates.iter().position(|a| a.kind == AggregateKind::First && a.args == [own.clone()]);
                keys.len()
                    + first.unwrap_or_else(|| {
                        aggregates.push(Aggregate {
                            kind: AggregateKind::First,
                            args: vec![own.clone()],
                            distinct: false,
                            order: vec![],
                            filter: None,
                        });
                        aggregates.len() - 1
                    })
            });
            return true;
        }
        false
    });
}

fn group_window(window: &mut tree::Window, keys: &[Expr], aggregates: &mut Vec<Aggregate>) {
    // The visitor sees parts first at level 0, as `above_groups` wants them.
    walk_window(window, 0, &mut |e, _| {
        above_groups(e, keys, aggregates);
        true
    });
}

/// The type of a row value.
pub(super) fn record() -> PgType {
    PgType::of(types::RECORD)
}
