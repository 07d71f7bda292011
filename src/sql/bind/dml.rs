//! Binding INSERT, UPDATE and DELETE: which rows are written, in the table's columns and types.
//!
//! Boundary: plans that give the rows to write; constraints are checked where the rows are stored.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection};
use sqlparser::ast::{self, AssignmentTarget, FromTable, SelectItem, SetExpr, TableFactor, TableObject};

use super::{BindContext, Binder, OutputColumn, errors, prepare, substitute_params};
use crate::catalog::{CatalogTable, Object, ObjectBody, ObjectId};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::cast::CastContext;
use crate::types::PgType;

use super::resolve::Operand;

/// What a statement does to its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmlKind {
    /// Rows of the source are added.
    Insert,
    /// The first half of each source row is replaced by the second.
    Update,
    /// Rows of the source are removed.
    Delete,
}

/// RETURNING: expressions over a row of the table (insert and update: the new row).
#[derive(Debug, Clone)]
pub struct Returning {
    /// One per output column.
    pub exprs: Vec<Expr>,
    /// The columns as the client sees them.
    pub columns: Vec<OutputColumn>,
    /// Schema the expressions are over.
    pub schema: DFSchema,
}

/// A bound INSERT, UPDATE or DELETE.
#[derive(Debug, Clone)]
pub struct BoundDml {
    /// The table.
    pub table: ObjectId,
    /// What is done.
    pub kind: DmlKind,
    /// The rows: INSERT and DELETE in table columns; UPDATE old columns, then new columns.
    pub source: LogicalPlan,
    /// RETURNING.
    pub returning: Option<Returning>,
    /// Types of the parameters.
    pub param_types: Vec<PgType>,
    /// Objects it reads besides the table.
    pub depends_on: Vec<ObjectId>,
    /// Whether it uses `now()` or a like function.
    pub dependent_on_now: bool,
}

impl BoundDml {
    /// The source with the parameters' values in place, and RETURNING likewise.
    pub fn with_params(&self, values: &[ScalarValue]) -> Result<(LogicalPlan, Option<Vec<Expr>>)> {
        let plan = substitute_params(self.source.clone(), values, self.param_types.len())?;
        Ok((plan, self.returning_with_params(values)?))
    }

    /// RETURNING with the parameters' values in place.
    pub fn returning_with_params(&self, values: &[ScalarValue]) -> Result<Option<Vec<Expr>>> {
        let Some(returning) = &self.returning else { return Ok(None) };
        returning.exprs.iter().map(|e| replace_params(e.clone(), values)).collect::<Result<_>>().map(Some)
    }
}

/// An expression with the parameters' values in place.
pub fn replace_params(expr: Expr, values: &[ScalarValue]) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let replaced = expr.transform_up(|e| {
        if let Expr::Placeholder(p) = &e
            && let Some(v) = p.id[1..].parse::<usize>().ok().and_then(|n| values.get(n.checked_sub(1)?))
        {
            return Ok(Transformed::yes(Expr::Literal(v.clone(), None)));
        }
        Ok(Transformed::no(e))
    })?;
    Ok(replaced.data)
}

/// Binds INSERT, UPDATE or DELETE.
pub fn bind_dml(statement: &ast::Statement, context: &BindContext) -> Result<BoundDml> {
    super::with_stack(|| match statement {
        ast::Statement::Insert(i) => bind_insert(i, context),
        ast::Statement::Update(u) => bind_update(u, context),
        ast::Statement::Delete(d) => bind_delete(d, context),
        _ => Err(Error::internal("not a statement that writes rows")),
    })
}

/// The table's columns that COPY FROM fills, as positions; `columns` empty: all but generated ones.
pub fn bind_copy_columns(
    table: &ast::ObjectName,
    columns: &[ast::Ident],
    context: &BindContext,
) -> Result<(Arc<Object>, Vec<usize>)> {
    let object = writable(table, context)?;
    let names: Vec<String> = columns.iter().map(prepare::fold).collect();
    let mut positions = target_columns(&object, &names)?;
    let generated = |i: &usize| object.columns[*i].generated.is_some();
    if names.is_empty() {
        positions.retain(|i| !generated(i));
    } else if let Some(i) = positions.iter().find(|i| generated(i)) {
        return Err(Error::new(
            ErrorKind::InvalidColumnReference,
            format!("column \"{}\" is a generated column", object.columns[*i].name),
        )
        .with_detail("Generated columns cannot be used in COPY."));
    }
    Ok((object, positions))
}

/// Rows given in some of a table's columns as full rows: the plan's columns are `positions` of the table, already of
/// the right types; the others get their defaults and generated values.
pub fn complete_rows(
    object: &Object,
    positions: &[usize],
    rows: LogicalPlan,
    context: &BindContext,
) -> Result<LogicalPlan> {
    Binder::new(context).complete(object, positions, rows)
}

/// The object that a possibly qualified name stands for.
fn find(name: &ast::ObjectName, context: &BindContext) -> Result<Arc<Object>> {
    let parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(prepare::fold).collect();
    let (schema, table) = match parts.as_slice() {
        [t] => (None, t.as_str()),
        [s, t] => (Some(s.as_str()), t.as_str()),
        [d, s, t] if *d == context.database => (Some(s.as_str()), t.as_str()),
        _ => {
            return Err(Error::unsupported(format!(
                "cross-database references are not implemented: \"{name}\""
            )));
        }
    };
    let found = match schema {
        Some(s) => context.catalog.find(s, table),
        None => context.search_path.iter().find_map(|s| context.catalog.find(s, table)),
    };
    found.cloned().ok_or_else(|| {
        Error::new(ErrorKind::UndefinedTable, format!("relation \"{}\" does not exist", parts.join(".")))
    })
}

fn writable(name: &ast::ObjectName, context: &BindContext) -> Result<Arc<Object>> {
    let object = find(name, context)?;
    match &object.body {
        ObjectBody::Table { .. } => Ok(object),
        _ => Err(Error::new(
            ErrorKind::WrongObjectType,
            format!("cannot change {} \"{}\"", object.kind_name(), object.name),
        )),
    }
}

fn append_only(object: &Object, verb: &str) -> Result<()> {
    match &object.body {
        ObjectBody::Table { append_only: true, .. } => Err(Error::new(
            ErrorKind::ObjectNotInState,
            format!("cannot {verb} rows of append-only table \"{}\"", object.name),
        )),
        _ => Ok(()),
    }
}

fn column_position(object: &Object, name: &str) -> Result<usize> {
    object.columns.iter().position(|c| c.name == name).ok_or_else(|| {
        Error::new(
            ErrorKind::UndefinedColumn,
            format!("column \"{name}\" of relation \"{}\" does not exist", object.name),
        )
    })
}

fn target_columns(object: &Object, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..object.columns.len()).collect());
    }
    let mut positions = Vec::with_capacity(names.len());
    for name in names {
        let i = column_position(object, name)?;
        if positions.contains(&i) {
            return Err(Error::new(
                ErrorKind::DuplicateColumn,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        positions.push(i);
    }
    Ok(positions)
}

fn generated_always(name: &str, message: String) -> Error {
    Error::new(ErrorKind::GeneratedAlways, message)
        .with_detail(format!("Column \"{name}\" is a generated column."))
}

fn cannot_insert(name: &str) -> Error {
    generated_always(name, format!("cannot insert a non-DEFAULT value into column \"{name}\""))
}

fn is_default(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

fn bind_insert(insert: &ast::Insert, context: &BindContext) -> Result<BoundDml> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::unsupported("INSERT into anything but a table is not supported"));
    };
    if insert.on.is_some() {
        return Err(Error::unsupported("INSERT ... ON CONFLICT is not supported"));
    }
    let object = writable(name, context)?;
    let names = insert
        .columns
        .iter()
        .map(|c| c.0.last().and_then(|p| p.as_ident()).map(prepare::fold).unwrap_or_default())
        .collect::<Vec<_>>();
    let positions = target_columns(&object, &names)?;
    let mut binder = Binder::new(context);
    let (rows, positions) = match &insert.source {
        None => (LogicalPlanBuilder::empty(true).build()?, Vec::new()),
        Some(query) => match query.body.as_ref() {
            SetExpr::Values(values)
                if query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() =>
            {
                let width = values.rows.first().map_or(0, |r| r.content.len());
                let positions = fitting(positions, width, !names.is_empty())?;
                let rows: Vec<&[ast::Expr]> = values.rows.iter().map(|r| r.content.as_slice()).collect();
                let rows = binder.insert_values(&object, &positions, &rows)?;
                let written = |i: &usize| object.columns[*i].generated.is_none();
                (rows, positions.into_iter().filter(written).collect())
            }
            _ => {
                let plan = binder.query(query)?;
                let positions = fitting(positions, plan.schema().fields().len(), !names.is_empty())?;
                if let Some(i) = positions.iter().find(|i| object.columns[**i].generated.is_some()) {
                    return Err(cannot_insert(&object.columns[*i].name));
                }
                (binder.assign(&object, &positions, plan)?, positions)
            }
        },
    };
    let source = binder.complete(&object, &positions, rows)?;
    let alias = insert.table_alias.as_ref().map(|a| prepare::fold(&a.alias));
    binder.finish_dml(&object, DmlKind::Insert, source, insert.returning.as_deref(), alias)
}

/// The target columns for rows of this width: fewer values than columns are allowed only without a column list.
fn fitting(mut positions: Vec<usize>, width: usize, listed: bool) -> Result<Vec<usize>> {
    if width > positions.len() {
        return Err(Error::new(ErrorKind::Syntax, "INSERT has more expressions than target columns"));
    }
    if width < positions.len() && listed {
        return Err(Error::new(ErrorKind::Syntax, "INSERT has more target columns than expressions"));
    }
    positions.truncate(width);
    Ok(positions)
}

impl Binder<'_> {
    /// VALUES, each value typed by the column it goes to.
    fn insert_values(
        &mut self,
        object: &Object,
        positions: &[usize],
        rows: &[&[ast::Expr]],
    ) -> Result<LogicalPlan> {
        let empty = DFSchema::empty();
        let mut bound = Vec::with_capacity(rows.len());
        for row in rows {
            if row.len() != positions.len() {
                return Err(Error::new(ErrorKind::Syntax, "VALUES lists must all be the same length"));
            }
            let mut exprs = Vec::with_capacity(row.len());
            for (e, i) in row.iter().zip(positions) {
                let column = &object.columns[*i];
                let pg_type = column.pg_type();
                let value = match (is_default(e), column.generated.is_some()) {
                    // Computed later, over the complete row.
                    (true, true) => continue,
                    (false, true) => return Err(cannot_insert(&column.name)),
                    (true, false) => self.default_of(object, *i)?,
                    (false, false) => {
                        let value = self.scalar(e, &empty, Some(pg_type));
                        value.map_err(|e| mismatch(e, object, *i))?
                    }
                };
                let stored = super::resolve::field_of(&value, &empty)?.data_type() == &pg_type.arrow();
                exprs.push(if stored { value } else { super::resolve::to_arrow(value, &pg_type.arrow()) });
            }
            bound.push(exprs);
        }
        let fields: Vec<_> = positions
            .iter()
            .filter(|i| object.columns[**i].generated.is_none())
            .enumerate()
            .map(|(n, i)| object.columns[*i].pg_type().field(format!("column{}", n + 1), true))
            .collect();
        if fields.is_empty() {
            return Ok(LogicalPlanBuilder::empty(true).build()?);
        }
        Ok(super::resolve_plan::values_plan(bound, fields)?)
    }

    /// The rows of a query cast to the columns they go to.
    fn assign(&mut self, object: &Object, positions: &[usize], plan: LogicalPlan) -> Result<LogicalPlan> {
        let mut exprs = Vec::with_capacity(positions.len());
        for (n, i) in positions.iter().enumerate() {
            let (qualifier, field) = plan.schema().qualified_field(n);
            let constant = match &plan {
                LogicalPlan::Projection(p) => Some(strip(&p.expr[n])),
                _ => None,
            };
            // A literal or parameter of unknown type takes the column's.
            let operand = match constant {
                Some(e) if (Operand { expr: e.clone(), field: field.clone() }).unknown() => {
                    Operand { expr: e.clone(), field: field.clone() }
                }
                _ => Operand { expr: Expr::Column(Column::from((qualifier, field))), field: field.clone() },
            };
            let e = self.resolver.coerce(operand, object.columns[*i].pg_type(), CastContext::Assignment);
            exprs.push(e.map_err(|e| mismatch(e, object, *i))?.alias(format!(
                "{}{}{n}",
                object.columns[*i].name,
                prepare::SUFFIX
            )));
        }
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
    }

    /// The DEFAULT of a column, or NULL.
    fn default_of(&mut self, object: &Object, i: usize) -> Result<Expr> {
        let column = &object.columns[i];
        match &column.default {
            Some(text) => {
                let e = super::scalar::parse_expr(text)?;
                self.scalar(&e, &DFSchema::empty(), Some(column.pg_type()))
            }
            None => Ok(Expr::Literal(ScalarValue::try_from(&column.pg_type().arrow())?, None)),
        }
    }

    /// Full rows: given columns, defaults for the others, then generated columns over those.
    fn complete(&mut self, object: &Object, positions: &[usize], rows: LogicalPlan) -> Result<LogicalPlan> {
        let given = rows.schema().columns();
        let mut exprs = Vec::with_capacity(object.columns.len());
        for (i, column) in object.columns.iter().enumerate() {
            let e = match positions.iter().position(|p| *p == i) {
                Some(n) => Expr::Column(given[n].clone()),
                None if column.generated.is_some() => {
                    Expr::Literal(ScalarValue::try_from(&column.pg_type().arrow())?, None)
                }
                None => self.default_of(object, i)?,
            };
            exprs.push(e.alias(&column.name));
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(rows))?);
        self.generate(object, plan)
    }

    /// The rows with their generated columns computed.
    fn generate(&mut self, object: &Object, plan: LogicalPlan) -> Result<LogicalPlan> {
        if object.columns.iter().all(|c| c.generated.is_none()) {
            return Ok(plan);
        }
        let schema = plan.schema().clone();
        let mut exprs = Vec::with_capacity(object.columns.len());
        for column in &object.columns {
            let e = match &column.generated {
                Some(text) => {
                    let e = super::scalar::parse_expr(text)?;
                    self.scalar(&e, &schema, Some(column.pg_type()))?
                }
                None => Expr::Column(Column::new_unqualified(&column.name)),
            };
            exprs.push(e.alias(&column.name));
        }
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
    }

    fn finish_dml(
        mut self,
        object: &Arc<Object>,
        kind: DmlKind,
        source: LogicalPlan,
        returning: Option<&[SelectItem]>,
        alias: Option<String>,
    ) -> Result<BoundDml> {
        let source = super::optimize::coerce(source).map_err(|e| errors::planning(e, self.context))?;
        let returning = match returning {
            None => None,
            Some(items) => Some(self.returning(object, items, alias.as_deref().unwrap_or(&object.name))?),
        };
        let scanned = super::scanned(&source)?;
        self.note(scanned);
        Ok(BoundDml {
            table: object.id,
            kind,
            source,
            returning,
            param_types: self.resolver.param_types()?,
            depends_on: self.depends_on,
            dependent_on_now: self.resolver.uses_now,
        })
    }

    fn returning(&mut self, object: &Object, items: &[SelectItem], name: &str) -> Result<Returning> {
        let schema = DFSchema::try_from_qualified_schema(TableReference::bare(name), &object.arrow_schema())?;
        let mut returning = Returning { exprs: Vec::new(), columns: Vec::new(), schema: schema.clone() };
        for item in items {
            let (expr, output) = match item {
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                    for (i, c) in object.columns.iter().enumerate() {
                        returning
                            .exprs
                            .push(Expr::Column(Column::new(Some(TableReference::bare(name)), &c.name)));
                        returning.columns.push(OutputColumn {
                            name: c.name.clone(),
                            pg_type: c.pg_type(),
                            table_oid: object.id.0,
                            attnum: i as i16 + 1,
                        });
                    }
                    continue;
                }
                SelectItem::UnnamedExpr(e) => (e, prepare::output_name(e)),
                SelectItem::ExprWithAlias { expr, alias } => (expr, prepare::fold(alias)),
                SelectItem::ExprWithAliases { .. } => {
                    return Err(Error::unsupported("several aliases are not supported"));
                }
            };
            let bound = self.scalar(expr, &schema, None)?;
            let field = self.resolver.operand(bound.clone(), &schema)?.field;
            let plain = match &bound {
                Expr::Column(c) => object.columns.iter().position(|o| o.name == c.name),
                _ => None,
            };
            returning.columns.push(OutputColumn {
                name: output,
                pg_type: PgType::of_field(&field),
                table_oid: plain.map_or(0, |_| object.id.0),
                attnum: plain.map_or(0, |i| i as i16 + 1),
            });
            returning.exprs.push(bound);
        }
        Ok(returning)
    }
}

fn strip(e: &Expr) -> &Expr {
    match e {
        Expr::Alias(a) => strip(&a.expr),
        e => e,
    }
}

/// PostgreSQL's words for a value that does not fit its column's type.
fn mismatch(e: Error, object: &Object, column: usize) -> Error {
    if e.kind() != ErrorKind::DatatypeMismatch {
        return e;
    }
    let column = &object.columns[column];
    let found = e
        .message()
        .split_once("type ")
        .and_then(|(_, rest)| rest.split_once(" cannot be cast"))
        .map(|(t, _)| t.to_string());
    match found {
        Some(found) => Error::new(
            ErrorKind::DatatypeMismatch,
            format!(
                "column \"{}\" is of type {} but expression is of type {found}",
                column.name,
                column.pg_type().sql_name()
            ),
        )
        .with_hint("You will need to rewrite or cast the expression."),
        None => e,
    }
}

/// The table of UPDATE and DELETE and the name its columns go by.
fn target(factor: &TableFactor, context: &BindContext) -> Result<(Arc<Object>, String)> {
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
    super::checks::refuse(condition, "WHERE", true)?;
    let mut condition = condition.clone();
    prepare::prepare_expr(&mut condition)?;
    let provider = super::provider::Provider::new(binder.context);
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
    super::optimize::coerce(LogicalPlanBuilder::from(scan).filter(condition)?.build()?).map_err(map)
}

fn bind_update(update: &ast::Update, context: &BindContext) -> Result<BoundDml> {
    if update.from.is_some() || !update.table.joins.is_empty() {
        return Err(Error::unsupported("UPDATE ... FROM is not supported"));
    }
    let (object, name) = target(&update.table.relation, context)?;
    append_only(&object, "update")?;
    let mut binder = Binder::new(context);
    let mut values: Vec<Option<&ast::Expr>> = vec![None; object.columns.len()];
    for a in &update.assignments {
        let AssignmentTarget::ColumnName(target) = &a.target else {
            return Err(Error::unsupported("assignment to a row of columns is not supported"));
        };
        let column = target.0.last().and_then(|p| p.as_ident()).map(prepare::fold).unwrap_or_default();
        let i = column_position(&object, &column)?;
        if object.columns[i].generated.is_some() && !is_default(&a.value) {
            let message = format!("column \"{column}\" can only be updated to DEFAULT");
            return Err(generated_always(&column, message));
        }
        if values[i].replace(&a.value).is_some() {
            return Err(Error::new(
                ErrorKind::Syntax,
                format!("multiple assignments to same column \"{column}\""),
            ));
        }
    }
    // Assignments are bound before WHERE, as they stand in the text.
    let source = Arc::new(CatalogTable::new(object.clone()));
    let scan = LogicalPlanBuilder::scan(TableReference::bare(name.as_str()), source, None)?.build()?;
    let schema = scan.schema().clone();
    let mut new_row = Vec::with_capacity(object.columns.len());
    for (i, column) in object.columns.iter().enumerate() {
        let e = match values[i] {
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
    let old_names: Vec<String> =
        object.columns.iter().map(|c| format!("{}{}old", c.name, prepare::SUFFIX)).collect();
    let exprs: Vec<Expr> = old.into_iter().zip(&old_names).map(|(e, n)| e.alias(n)).chain(new_row).collect();
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(rows))?);
    let source = binder.generate_update(&object, plan, &old_names)?;
    binder.finish_dml(&object, DmlKind::Update, source, update.returning.as_deref(), Some(name))
}

impl Binder<'_> {
    /// Generated columns of the new half of an update's rows.
    fn generate_update(&mut self, object: &Object, plan: LogicalPlan, old: &[String]) -> Result<LogicalPlan> {
        if object.columns.iter().all(|c| c.generated.is_none()) {
            return Ok(plan);
        }
        let schema = plan.schema().clone();
        let mut exprs: Vec<Expr> = old.iter().map(|n| Expr::Column(Column::new_unqualified(n))).collect();
        for column in &object.columns {
            let e = match &column.generated {
                Some(text) => {
                    let e = super::scalar::parse_expr(text)?;
                    self.scalar(&e, &schema, Some(column.pg_type()))?
                }
                None => Expr::Column(Column::new_unqualified(&column.name)),
            };
            exprs.push(e.alias(&column.name));
        }
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
    }
}

fn bind_delete(delete: &ast::Delete, context: &BindContext) -> Result<BoundDml> {
    if delete.using.is_some() {
        return Err(Error::unsupported("DELETE ... USING is not supported"));
    }
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
    let source = selected(&mut binder, &object, &name, delete.selection.as_ref())?;
    binder.finish_dml(&object, DmlKind::Delete, source, delete.returning.as_deref(), Some(name))
}
