//! Binding UPDATE and DELETE.
//!
//! A statement that reads its own table only is a scan and a condition. With FROM, USING or WITH it becomes a query that
//! joins, which gives a row of the table once for each match; the first one counts.

use std::sync::Arc;

use datafusion::common::{Column, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection};
use sqlparser::ast::{
    self, AssignmentTarget, FromTable, Ident, ObjectName, ObjectNamePart, SelectItem, SetExpr, TableAlias,
    TableFactor, TableWithJoins, UpdateTableFromKind,
};

use super::{
    BoundDml, DmlKind, Extra, Identity, append_only, column_position, generated_always, is_default, mismatch,
    strip, writable,
};
use crate::catalog::{CatalogTable, Object};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind::resolve::Operand;
use crate::sql::bind::{BindContext, Binder, checks, errors, function, optimize, prepare, provider};
use crate::sql::functions::cast::CastContext;
use crate::sql::statement::Dml;

/// The table of UPDATE and DELETE and the name its columns go by.
pub(super) fn target(factor: &TableFactor, context: &BindContext) -> Result<(Arc<Object>, String)> {
    let TableFactor::Table { name, alias, args: None, .. } = factor else {
        return Err(Error::unsupported("only a table can be changed"));
    };
    let object = writable(name, context)?;
    let known_as = alias.as_ref().map_or(object.name.clone(), |a| prepare::fold(&a.name));
    Ok((object, known_as))
}

/// The rows of the table that a condition selects.
fn selected(
    binder: &mut Binder,
    object: &Arc<Object>,
    name: &str,
    condition: Option<&ast::Expr>,
) -> Result<LogicalPlan> {
    let source = Arc::new(CatalogTable::new(object.clone()));
    let scan = LogicalPlanBuilder::scan(TableReference::bare(name), source, None)?.build()?;
    let Some(condition) = condition else { return Ok(scan) };
    checks::refuse(condition, "WHERE", true)?;
    let mut condition = condition.clone();
    let functions = function::inline(&mut condition, binder.context)?;
    binder.note(functions);
    prepare::prepare_expr(&mut condition)?;
    let provider = provider::Provider::new(binder.context);
    let context = binder.context;
    let map = |e| errors::planning(e, context);
    let planned = provider
        .planner()
        .sql_to_expr(condition, scan.schema(), &mut datafusion::sql::planner::PlannerContext::new())
        .map_err(map)?;
    binder.note(provider.views());
    let schema = scan.schema().clone();
    let planned = binder.resolver.expr(planned, &schema).map_err(map)?;
    let condition = binder.resolver.boolean(planned, &schema, "WHERE").map_err(map)?;
    optimize::coerce(LogicalPlanBuilder::from(scan).filter(condition)?.build()?).map_err(map)
}

/// What is assigned to columns: (name, value), rows taken apart.
pub(super) fn assignments(list: &[ast::Assignment]) -> Result<Vec<(String, ast::Expr)>> {
    let name = |target: &ObjectName| -> Result<String> {
        match target.0.as_slice() {
            [ObjectNamePart::Identifier(i)] => Ok(prepare::fold(i)),
            // `t.a = 1`: PostgreSQL takes `t` for a column.
            parts => Ok(parts.first().and_then(|p| p.as_ident()).map(prepare::fold).unwrap_or_default()),
        }
    };
    let mut all = Vec::with_capacity(list.len());
    for assignment in list {
        match &assignment.target {
            AssignmentTarget::ColumnName(target) => all.push((name(target)?, assignment.value.clone())),
            AssignmentTarget::Tuple(targets) => {
                let values = row_values(&assignment.value, targets.len())?;
                for (target, value) in targets.iter().zip(values) {
                    all.push((name(target)?, value));
                }
            }
        }
    }
    Ok(all)
}

/// The values of a row: `(a, b)`, `ROW(a, b)`, `(SELECT a, b …)`.
fn row_values(value: &ast::Expr, width: usize) -> Result<Vec<ast::Expr>> {
    let wrong = || Error::new(ErrorKind::Syntax, "number of columns does not match number of values");
    match value {
        ast::Expr::Tuple(values) if values.len() == width => Ok(values.clone()),
        ast::Expr::Tuple(_) => Err(wrong()),
        ast::Expr::Nested(inner) if width == 1 => Ok(vec![(**inner).clone()]),
        ast::Expr::Function(f)
            if f.name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| prepare::fold(i) == "row") =>
        {
            let ast::FunctionArguments::List(list) = &f.args else { return Err(wrong()) };
            let values: Vec<ast::Expr> = list
                .args
                .iter()
                .filter_map(|a| match a {
                    ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e.clone()),
                    _ => None,
                })
                .collect();
            if values.len() == width { Ok(values) } else { Err(wrong()) }
        }
        ast::Expr::Subquery(query) => {
            let SetExpr::Select(select) = query.body.as_ref() else {
                return Err(Error::unsupported(
                    "this query as the source of several columns is not supported",
                )
                .with_hint("Use a plain SELECT."));
            };
            if select.projection.len() != width {
                return Err(wrong());
            }
            let one = |item: &SelectItem| {
                let mut query = query.clone();
                if let SetExpr::Select(select) = query.body.as_mut() {
                    select.projection = vec![item.clone()];
                }
                ast::Expr::Subquery(query)
            };
            Ok(select.projection.iter().map(one).collect())
        }
        _ if width == 1 => Ok(vec![value.clone()]),
        _ => Err(Error::unsupported(
            "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
        )),
    }
}

/// The assigned values by column position; `None` where nothing is assigned.
pub(super) fn by_column(object: &Object, list: &[ast::Assignment]) -> Result<Vec<Option<ast::Expr>>> {
    let mut values: Vec<Option<ast::Expr>> = vec![None; object.columns.len()];
    for (column, value) in assignments(list)? {
        let i = column_position(object, &column)?;
        let refused = |detail: String| {
            Error::new(
                ErrorKind::GeneratedAlways,
                format!("column \"{column}\" can only be updated to DEFAULT"),
            )
            .with_detail(detail)
        };
        if !is_default(&value) {
            if object.columns[i].generated.is_some() {
                let message = format!("column \"{column}\" can only be updated to DEFAULT");
                return Err(generated_always(&column, message));
            }
            if object.columns[i].is_always_identity() {
                return Err(refused(format!(
                    "Column \"{column}\" is an identity column defined as GENERATED ALWAYS."
                )));
            }
        }
        if values[i].replace(value).is_some() {
            return Err(Error::new(
                ErrorKind::Syntax,
                format!("multiple assignments to same column \"{column}\""),
            ));
        }
    }
    Ok(values)
}

pub(super) fn bind_update(update: &Dml<ast::Update>, context: &BindContext) -> Result<BoundDml> {
    let (object, name) = target(&update.table.relation, context)?;
    append_only(&object, "update")?;
    let mut binder = Binder::new(context);
    let values = by_column(&object, &update.assignments)?;
    let from: &[TableWithJoins] = match &update.from {
        Some(UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from)) => from,
        None => &[],
    };
    if !from.is_empty() || update.with.is_some() {
        let join = Joined { object: &object, name: &name, with: update.with.as_ref(), from };
        return binder.joined_update(&join, &values, update);
    }
    // Assignments are bound before WHERE, as they stand in the text.
    let source = Arc::new(CatalogTable::new(object.clone()));
    let scan = LogicalPlanBuilder::scan(TableReference::bare(name.as_str()), source, None)?.build()?;
    let schema = scan.schema().clone();
    let mut new_row = Vec::with_capacity(object.columns.len());
    for (i, column) in object.columns.iter().enumerate() {
        let e = match &values[i] {
            Some(e) if is_default(e) => binder.default_of(&object, i)?,
            Some(e) => {
                binder.scalar(e, &schema, Some(column.pg_type())).map_err(|e| mismatch(e, &object, i))?
            }
            None => Expr::Column(Column::new(Some(TableReference::bare(name.as_str())), &column.name)),
        };
        new_row.push(e.alias(&column.name));
    }
    let rows = selected(&mut binder, &object, &name, update.selection.as_ref())?;
    let old: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
    let old_names = old_names(&object);
    let exprs: Vec<Expr> = old.into_iter().zip(&old_names).map(|(e, n)| e.alias(n)).chain(new_row).collect();
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(rows))?);
    let source = binder.generate_update(&object, plan, &old_names)?;
    binder.finish_dml(&object, DmlKind::Update, source, update.returning.as_deref(), name, &[])
}

fn old_names(object: &Object) -> Vec<String> {
    object.columns.iter().map(|c| format!("{}{}old", c.name, prepare::SUFFIX)).collect()
}

/// The parts of a statement that joins its table with others.
struct Joined<'a> {
    object: &'a Arc<Object>,
    name: &'a str,
    with: Option<&'a ast::With>,
    from: &'a [TableWithJoins],
}

/// The column that numbers the rows of a table.
pub(super) const ROW_NUMBER: &str = "\u{1}row";

/// All columns of a table, those that have been dropped included, under a name.
pub(super) fn physical(object: &Object, name: &str) -> TableFactor {
    let part = |text: &str| ObjectNamePart::Identifier(Ident::with_quote('"', text));
    TableFactor::Table {
        name: ObjectName(vec![part(provider::PHYSICAL), part(&object.id.0.to_string())]),
        alias: Some(alias(name)),
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

pub(super) fn alias(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: vec![], at: None }
}

/// All columns of a table and a number for each row.
pub(super) fn numbered(object: &Object, name: &str) -> Result<TableFactor> {
    let text = format!("SELECT *, row_number() OVER () AS \"{ROW_NUMBER}\" FROM \"x\"");
    let mut query = provider::parse_query(&text)?;
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        from.relation = physical(object, name);
    }
    Ok(TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(alias(name)),
        sample: None,
    })
}

pub(super) fn column(relation: &str, name: &str) -> ast::Expr {
    ast::Expr::CompoundIdentifier(vec![Ident::with_quote('"', relation), Ident::with_quote('"', name)])
}

pub(super) fn item(expr: ast::Expr, name: String) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) }
}

/// `SELECT items FROM … WHERE condition`.
pub(super) fn select(
    with: Option<&ast::With>,
    items: Vec<SelectItem>,
    from: Vec<TableWithJoins>,
    condition: Option<ast::Expr>,
) -> Result<ast::Query> {
    let mut query = provider::parse_query("SELECT 1")?;
    query.with = with.cloned();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::internal("SELECT that is none"));
    };
    select.projection = items;
    select.from = from;
    select.selection = condition;
    Ok(query)
}

/// The names that relations in FROM go by.
fn relation_names(from: &[TableWithJoins], names: &mut Vec<String>) {
    fn factor(f: &TableFactor, names: &mut Vec<String>) {
        match f {
            TableFactor::Table { name, alias, .. } => {
                let last = name.0.last().and_then(|p| p.as_ident());
                names.extend(alias.as_ref().map(|a| &a.name).or(last).map(prepare::fold));
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                factor(&table_with_joins.relation, names);
                table_with_joins.joins.iter().for_each(|j| factor(&j.relation, names));
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::NestedJoin { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => {
                names.extend(alias.as_ref().map(|a| prepare::fold(&a.name)));
            }
            _ => {}
        }
    }
    for table in from {
        factor(&table.relation, names);
        table.joins.iter().for_each(|j| factor(&j.relation, names));
    }
}

impl Joined<'_> {
    /// The joined relations; the number of the table's rows is there when it has no key.
    fn from(&self) -> Result<Vec<TableWithJoins>> {
        let relation = if self.object.unique_key().is_empty() && !self.from.is_empty() {
            numbered(self.object, self.name)?
        } else {
            physical(self.object, self.name)
        };
        let target = TableWithJoins { relation, joins: vec![] };
        Ok(std::iter::once(target).chain(self.from.iter().cloned()).collect())
    }

    /// What tells the table's rows apart: nothing where each comes once.
    fn identity(&self, number: usize) -> Identity {
        match self.object.unique_key() {
            _ if self.from.is_empty() => Identity::Distinct,
            [] => Identity::Columns(vec![number]),
            key => Identity::Columns(key.to_vec()),
        }
    }

    fn check_names(&self) -> Result<()> {
        let mut names = Vec::new();
        relation_names(self.from, &mut names);
        if names.iter().any(|n| n == self.name) {
            let message = format!("table name \"{}\" specified more than once", self.name);
            return Err(Error::new(ErrorKind::DuplicateAlias, message));
        }
        Ok(())
    }
}

impl Binder<'_> {
    /// The relations beside the table, with their columns.
    fn extras(&mut self, join: &Joined<'_>) -> Result<Vec<Extra>> {
        let mut names = Vec::new();
        relation_names(join.from, &mut names);
        let mut extras = Vec::with_capacity(names.len());
        for name in names {
            let all = SelectItem::QualifiedWildcard(
                ast::SelectItemQualifiedWildcardKind::ObjectName(ObjectName(vec![
                    ObjectNamePart::Identifier(Ident::with_quote('"', name.as_str())),
                ])),
                Default::default(),
            );
            let plan = self.query(&select(join.with, vec![all], join.from.to_vec(), None)?)?;
            let fields = plan.schema().fields().iter();
            let fields = fields
                .map(|f| Arc::new(f.as_ref().clone().with_name(prepare::visible_name(f.name()))))
                .collect();
            extras.push(Extra { name, fields });
        }
        Ok(extras)
    }

    fn joined_update(
        mut self,
        join: &Joined<'_>,
        values: &[Option<ast::Expr>],
        update: &Dml<ast::Update>,
    ) -> Result<BoundDml> {
        join.check_names()?;
        let (object, name) = (join.object, join.name);
        let extras = if update.returning.is_some() { self.extras(join)? } else { Vec::new() };
        let mut items: Vec<SelectItem> = object
            .columns
            .iter()
            .zip(old_names(object))
            .map(|(c, old)| item(column(name, &c.name), old))
            .collect();
        for (i, value) in values.iter().enumerate() {
            if let Some(value) = value.as_ref().filter(|v| !is_default(v)) {
                items.push(item(value.clone(), format!("{}new{i}", prepare::SUFFIX)));
            }
        }
        let has_number = matches!(join.identity(0), Identity::Columns(_)) && object.unique_key().is_empty();
        if has_number {
            items.push(item(column(name, ROW_NUMBER), ROW_NUMBER.to_string()));
        }
        push_extras(&mut items, &extras);
        let plan = self.query(&select(join.with, items, join.from()?, update.selection.clone())?)?;
        self.shape_update(join, values, plan, update, has_number, &extras)
    }

    /// Old row, new row, number, extras: from the plan of the joining query.
    fn shape_update(
        mut self,
        join: &Joined<'_>,
        values: &[Option<ast::Expr>],
        plan: LogicalPlan,
        update: &Dml<ast::Update>,
        has_number: bool,
        extras: &[Extra],
    ) -> Result<BoundDml> {
        let (object, width) = (join.object, join.object.columns.len());
        let columns = plan.schema().columns();
        let old_names = old_names(object);
        let mut exprs: Vec<Expr> =
            columns[..width].iter().zip(&old_names).map(|(c, n)| Expr::Column(c.clone()).alias(n)).collect();
        let mut at = width;
        for (i, value) in values.iter().enumerate() {
            let c = &object.columns[i];
            let e = match value {
                Some(v) if is_default(v) => self.default_of(object, i)?,
                Some(_) => {
                    let (qualifier, field) = plan.schema().qualified_field(at);
                    let constant = match &plan {
                        LogicalPlan::Projection(p) => Some(strip(&p.expr[at]).clone()),
                        _ => None,
                    };
                    at += 1;
                    let operand = match constant {
                        Some(e) if (Operand { expr: e.clone(), field: field.clone() }).unknown() => {
                            Operand { expr: e, field: field.clone() }
                        }
                        _ => Operand {
                            expr: Expr::Column(Column::from((qualifier, field))),
                            field: field.clone(),
                        },
                    };
                    let coerced = self.resolver.coerce(operand, c.pg_type(), CastContext::Assignment);
                    coerced.map_err(|e| mismatch(e, object, i))?
                }
                None => Expr::Column(columns[i].clone()),
            };
            exprs.push(e.alias(&c.name));
        }
        exprs.extend(columns[at..].iter().cloned().map(Expr::Column));
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?);
        let source = self.generate_update(object, plan, &old_names)?;
        let total = source.schema().fields().len();
        let returning = update.returning.as_deref();
        let mut bound =
            self.finish_dml(object, DmlKind::Update, source, returning, join.name.to_string(), extras)?;
        bound.identity = join.identity(2 * width);
        bound.extras = 2 * width + usize::from(has_number)..total;
        Ok(bound)
    }

    /// Generated columns of the new half of an update's rows.
    fn generate_update(&mut self, object: &Object, plan: LogicalPlan, old: &[String]) -> Result<LogicalPlan> {
        if object.columns.iter().all(|c| c.generated.is_none() || c.dropped) {
            return Ok(plan);
        }
        let schema = plan.schema().clone();
        let mut exprs: Vec<Expr> = old.iter().map(|n| Expr::Column(Column::new_unqualified(n))).collect();
        for column in &object.columns {
            let e = match column.generated.as_ref().filter(|_| !column.dropped) {
                Some(text) => {
                    let e = crate::sql::bind::scalar::parse_expr(text)?;
                    self.scalar(&e, &schema, Some(column.pg_type()))?
                }
                None => Expr::Column(Column::new_unqualified(&column.name)),
            };
            exprs.push(e.alias(&column.name));
        }
        let rest = schema.columns().into_iter().skip(2 * object.columns.len());
        exprs.extend(rest.map(Expr::Column));
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
    }
}

fn push_extras(items: &mut Vec<SelectItem>, extras: &[Extra]) {
    for (n, extra) in extras.iter().enumerate() {
        for (i, field) in extra.fields.iter().enumerate() {
            items.push(item(column(&extra.name, field.name()), format!("{}extra{n}_{i}", prepare::SUFFIX)));
        }
    }
}

pub(super) fn bind_delete(delete: &Dml<ast::Delete>, context: &BindContext) -> Result<BoundDml> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [from] = from.as_slice() else {
        return Err(Error::unsupported("DELETE from several tables is not supported"));
    };
    if !from.joins.is_empty() {
        return Err(Error::unsupported("DELETE from a join is not supported"));
    }
    let (object, name) = target(&from.relation, context)?;
    append_only(&object, "delete")?;
    let mut binder = Binder::new(context);
    let using = delete.using.as_deref().unwrap_or_default();
    if using.is_empty() && delete.with.is_none() {
        let source = selected(&mut binder, &object, &name, delete.selection.as_ref())?;
        return binder.finish_dml(&object, DmlKind::Delete, source, delete.returning.as_deref(), name, &[]);
    }
    let join = Joined { object: &object, name: &name, with: delete.with.as_ref(), from: using };
    join.check_names()?;
    let extras = if delete.returning.is_some() { binder.extras(&join)? } else { Vec::new() };
    let names = old_names(&object);
    let mut items: Vec<SelectItem> =
        object.columns.iter().zip(names).map(|(c, old)| item(column(&name, &c.name), old)).collect();
    let width = items.len();
    let identity = join.identity(width);
    let has_number = identity != Identity::Distinct && object.unique_key().is_empty();
    if has_number {
        items.push(item(column(&name, ROW_NUMBER), ROW_NUMBER.to_string()));
    }
    push_extras(&mut items, &extras);
    let source = binder.query(&select(join.with, items, join.from()?, delete.selection.clone())?)?;
    let total = source.schema().fields().len();
    let returning = delete.returning.as_deref();
    let mut bound = binder.finish_dml(&object, DmlKind::Delete, source, returning, name.clone(), &extras)?;
    bound.identity = identity;
    bound.extras = width + usize::from(has_number)..total;
    Ok(bound)
}
