//! Binding INSERT, UPDATE, DELETE and MERGE: which rows are written, in the table's columns and types.
//!
//! Boundary: plans that give the rows to write; constraints are checked where the rows are stored.

mod change;
mod conflict;
mod locks;
mod merge;

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection};
use sqlparser::ast::{
    self, SelectItem, SelectItemQualifiedWildcardKind as WildcardKind, SetExpr, TableObject,
};

pub use conflict::{BoundConflict, ConflictUpdate};
pub use locks::bind_locks;
pub use merge::{BoundMerge, MergeDo, MergeStep};

use super::{BindContext, Binder, OutputColumn, errors, prepare, sequences, substitute_params};
use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::cast::CastContext;
use crate::types::PgType;

use super::resolve::Operand;
use crate::sql::statement::{Dml, Overriding, Statement};

/// What a statement does to its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmlKind {
    /// Rows of the source are added.
    Insert,
    /// The first half of each source row is replaced by the second.
    Update,
    /// Rows of the source are removed.
    Delete,
    /// What becomes of each row of the source is decided by [`BoundMerge`].
    Merge,
}

/// How rows of the source are told apart that stand for the same row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Each stands for a row of its own.
    Distinct,
    /// By these columns of the source, of which the first row counts.
    Columns(Vec<usize>),
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
    /// The rows: INSERT and DELETE in table columns; UPDATE old columns, then new columns. What stands behind them
    /// belongs to `identity` and `extras`.
    pub source: LogicalPlan,
    /// Which rows of the source are of the same row of the table.
    pub identity: Identity,
    /// Columns of the source that only RETURNING reads.
    pub extras: Range<usize>,
    /// ON CONFLICT.
    pub conflict: Option<BoundConflict>,
    /// The steps of MERGE.
    pub merge: Option<BoundMerge>,
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
    /// The statement with the parameters' values in place.
    pub fn with_params(&self, values: &[ScalarValue]) -> Result<BoundDml> {
        let source = substitute_params(self.source.clone(), values, self.param_types.len())?;
        Ok(BoundDml { source, ..self.with_values(values)? })
    }

    /// What is done with the rows of the source, with the parameters' values in place; without the source.
    pub fn with_values(&self, values: &[ScalarValue]) -> Result<BoundDml> {
        let mut bound = BoundDml {
            table: self.table,
            kind: self.kind,
            source: LogicalPlan::default(),
            identity: self.identity.clone(),
            extras: self.extras.clone(),
            conflict: self.conflict.clone(),
            merge: self.merge.clone(),
            returning: self.returning.clone(),
            param_types: self.param_types.clone(),
            depends_on: self.depends_on.clone(),
            dependent_on_now: self.dependent_on_now,
        };
        if values.is_empty() {
            return Ok(bound);
        }
        if let Some(returning) = &mut bound.returning {
            replace_all(&mut returning.exprs, values)?;
        }
        if let Some(update) = bound.conflict.as_mut().and_then(|c| c.update.as_mut()) {
            replace_all(&mut update.new_row, values)?;
            replace_all(&mut update.condition, values)?;
        }
        for step in bound.merge.iter_mut().flat_map(|m| &mut m.steps) {
            replace_all(&mut step.condition, values)?;
            if let MergeDo::Update(exprs) | MergeDo::Insert(exprs) = &mut step.action {
                replace_all(exprs, values)?;
            }
        }
        Ok(bound)
    }
}

fn replace_all<'a>(exprs: impl IntoIterator<Item = &'a mut Expr>, values: &[ScalarValue]) -> Result<()> {
    for expr in exprs {
        *expr = replace_params(expr.clone(), values)?;
    }
    Ok(())
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

/// Binds INSERT, UPDATE, DELETE or MERGE.
pub fn bind_dml(statement: &Statement, context: &BindContext) -> Result<BoundDml> {
    super::with_stack(|| match statement {
        Statement::Insert(i) => bind_insert(i, context),
        Statement::Update(u) => change::bind_update(u, context),
        Statement::Delete(d) => change::bind_delete(d, context),
        Statement::Merge(m) => merge::bind_merge(m, context),
        _ => Err(Error::internal("not a statement that writes rows")),
    })
}

/// What the generated columns of a table compute from its other columns: (position, expression over a row).
pub fn generated_values(object: &Object, context: &BindContext) -> Result<Vec<(usize, Expr)>> {
    let schema = DFSchema::try_from(object.arrow_schema().as_ref().clone())?;
    let mut binder = Binder::new(context);
    let generated = object.columns.iter().enumerate().filter(|(_, c)| !c.dropped);
    generated
        .filter_map(|(i, c)| Some((i, c, c.generated.as_ref()?)))
        .map(|(i, c, text)| {
            let e = super::scalar::parse_expr(text)?;
            Ok((i, binder.scalar(&e, &schema, Some(c.pg_type()))?))
        })
        .collect()
}

/// The value that a column has when none is given.
pub fn default_value(object: &Object, column: usize, context: &BindContext) -> Result<Expr> {
    Binder::new(context).default_of(object, column)
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
        Some("pg_temp") => {
            let temporary = context.search_path.iter().find(|s| s.starts_with("pg_temp_"));
            temporary.and_then(|s| context.catalog.find(s, table))
        }
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
    object.columns.iter().position(|c| c.name == name && !c.dropped).ok_or_else(|| {
        Error::new(
            ErrorKind::UndefinedColumn,
            format!("column \"{name}\" of relation \"{}\" does not exist", object.name),
        )
    })
}

fn target_columns(object: &Object, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok(object.live_columns().map(|(i, _)| i).collect());
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

/// 428C9 when a value is given for an identity column that is ALWAYS generated.
fn refuse_identity(object: &Object, i: usize) -> Result<()> {
    let name = &object.columns[i].name;
    if !object.columns[i].is_always_identity() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::GeneratedAlways,
        format!("cannot insert a non-DEFAULT value into column \"{name}\""),
    )
    .with_detail(format!("Column \"{name}\" is an identity column defined as GENERATED ALWAYS."))
    .with_hint("Use OVERRIDING SYSTEM VALUE to override."))
}

/// Whether OVERRIDING USER VALUE sets aside what is given for a column.
fn is_overridden(object: &Object, i: usize, overriding: Option<Overriding>) -> bool {
    overriding == Some(Overriding::User)
        && object.columns[i].sequence.is_some_and(|s| s.usage != crate::catalog::object::SequenceUse::Default)
}

fn is_default(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

fn bind_insert(insert: &Dml<ast::Insert>, context: &BindContext) -> Result<BoundDml> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::unsupported("INSERT into anything but a table is not supported"));
    };
    let object = writable(name, context)?;
    let names = insert
        .columns
        .iter()
        .map(|c| c.0.last().and_then(|p| p.as_ident()).map(prepare::fold).unwrap_or_default())
        .collect::<Vec<_>>();
    let positions = target_columns(&object, &names)?;
    let mut binder = Binder::new(context);
    let overriding = insert.overriding;
    let (rows, positions) = match &insert.source {
        None => (LogicalPlanBuilder::empty(true).build()?, Vec::new()),
        Some(query) => match query.body.as_ref() {
            SetExpr::Values(values)
                if query.with.is_none()
                    && insert.with.is_none()
                    && query.order_by.is_none()
                    && query.limit_clause.is_none() =>
            {
                let width = values.rows.first().map_or(0, |r| r.content.len());
                let positions = fitting(positions, width, !names.is_empty())?;
                let rows: Vec<&[ast::Expr]> = values.rows.iter().map(|r| r.content.as_slice()).collect();
                let rows = binder.insert_values(&object, &positions, &rows, overriding)?;
                let written = |i: &usize| object.columns[*i].generated.is_none();
                (rows, positions.into_iter().filter(written).collect())
            }
            _ => {
                let plan = match &insert.with {
                    None => binder.query(query)?,
                    Some(with) => binder.query(&with_ctes(with, query)?)?,
                };
                let positions = fitting(positions, plan.schema().fields().len(), !names.is_empty())?;
                for i in &positions {
                    if object.columns[*i].generated.is_some() {
                        return Err(cannot_insert(&object.columns[*i].name));
                    }
                    if overriding.is_none() {
                        refuse_identity(&object, *i)?;
                    }
                }
                let assigned = binder.assign(&object, &positions, plan)?;
                binder.set_aside(&object, positions, assigned, overriding)?
            }
        },
    };
    let source = binder.complete(&object, &positions, rows)?;
    let alias = insert.table_alias.as_ref().map(|a| prepare::fold(&a.alias));
    let known_as = alias.clone().unwrap_or_else(|| object.name.clone());
    let conflict = match &insert.on {
        Some(ast::OnInsert::OnConflict(on)) => Some(binder.conflict(&object, &known_as, on)?),
        Some(_) => return Err(Error::unsupported("ON DUPLICATE KEY is not supported")),
        None => None,
    };
    let mut bound =
        binder.finish_dml(&object, DmlKind::Insert, source, insert.returning.as_deref(), known_as, &[])?;
    bound.conflict = conflict;
    Ok(bound)
}

/// A query with the CTEs of the statement around it before its own.
fn with_ctes(with: &ast::With, query: &ast::Query) -> Result<ast::Query> {
    let mut query = query.clone();
    query.with = Some(match query.with.take() {
        None => with.clone(),
        Some(mut own) => {
            own.recursive |= with.recursive;
            own.cte_tables = with.cte_tables.iter().chain(&own.cte_tables).cloned().collect();
            own
        }
    });
    Ok(query)
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
        overriding: Option<Overriding>,
    ) -> Result<LogicalPlan> {
        let empty = DFSchema::empty();
        let default = ast::Expr::Identifier(ast::Ident::new("default"));
        let mut bound = Vec::with_capacity(rows.len());
        for row in rows {
            if row.len() != positions.len() {
                return Err(Error::new(ErrorKind::Syntax, "VALUES lists must all be the same length"));
            }
            let mut exprs = Vec::with_capacity(row.len());
            for (e, i) in row.iter().zip(positions) {
                let column = &object.columns[*i];
                let pg_type = column.pg_type();
                let e = if is_overridden(object, *i, overriding) { &default } else { e };
                if overriding.is_none() && !is_default(e) {
                    refuse_identity(object, *i)?;
                }
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

    /// The columns that OVERRIDING USER VALUE leaves of those given.
    fn set_aside(
        &mut self,
        object: &Object,
        positions: Vec<usize>,
        rows: LogicalPlan,
        overriding: Option<Overriding>,
    ) -> Result<(LogicalPlan, Vec<usize>)> {
        if !positions.iter().any(|i| is_overridden(object, *i, overriding)) {
            return Ok((rows, positions));
        }
        let columns = rows.schema().columns();
        let kept: Vec<(Expr, usize)> = columns
            .into_iter()
            .map(Expr::Column)
            .zip(positions)
            .filter(|(_, i)| !is_overridden(object, *i, overriding))
            .collect();
        let (exprs, positions): (Vec<Expr>, Vec<usize>) = kept.into_iter().unzip();
        Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(rows))?), positions))
    }

    /// The DEFAULT of a column, or NULL.
    pub(super) fn default_of(&mut self, object: &Object, i: usize) -> Result<Expr> {
        let column = &object.columns[i];
        if let Some(sequence) = column.sequence.filter(|_| !column.dropped) {
            let next = sequences::next_of(sequence.id, self.context)?;
            let operand = self.resolver.operand(next, &DFSchema::empty())?;
            return self.resolver.coerce(operand, column.pg_type(), CastContext::Assignment);
        }
        match column.default.as_ref().filter(|_| !column.dropped) {
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
        if object.columns.iter().all(|c| c.generated.is_none() || c.dropped) {
            return Ok(plan);
        }
        let schema = plan.schema().clone();
        let mut exprs = Vec::with_capacity(object.columns.len());
        for column in &object.columns {
            let e = match column.generated.as_ref().filter(|_| !column.dropped) {
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
        name: String,
        extras: &[Extra],
    ) -> Result<BoundDml> {
        let source = super::optimize::coerce(source).map_err(|e| errors::planning(e, self.context))?;
        let returning = match returning {
            None => None,
            Some(items) => Some(self.returning(object, items, &name, extras)?),
        };
        let scanned = super::scanned(&source)?;
        self.note(scanned);
        Ok(BoundDml {
            table: object.id,
            kind,
            source,
            identity: Identity::Distinct,
            extras: 0..0,
            conflict: None,
            merge: None,
            returning,
            param_types: self.resolver.param_types()?,
            depends_on: self.depends_on,
            dependent_on_now: self.resolver.uses_now,
        })
    }

    fn returning(
        &mut self,
        object: &Object,
        items: &[SelectItem],
        name: &str,
        extras: &[Extra],
    ) -> Result<Returning> {
        let own = DFSchema::try_from_qualified_schema(TableReference::bare(name), &object.arrow_schema())?;
        let schema = with_extras(&own, extras)?;
        let mut returning = Returning { exprs: Vec::new(), columns: Vec::new(), schema: schema.clone() };
        for item in items {
            let (expr, output) = match item {
                SelectItem::Wildcard(_) => {
                    returning.all_of_table(object, name);
                    extras.iter().for_each(|e| returning.all_of(e));
                    continue;
                }
                SelectItem::QualifiedWildcard(WildcardKind::ObjectName(of), _) => {
                    let of = of.0.last().and_then(|p| p.as_ident()).map(prepare::fold).unwrap_or_default();
                    match extras.iter().find(|e| e.name == of) {
                        _ if of == name => returning.all_of_table(object, name),
                        Some(extra) => returning.all_of(extra),
                        None => {
                            let message = format!("missing FROM-clause entry for table \"{of}\"");
                            return Err(Error::new(ErrorKind::UndefinedTable, message));
                        }
                    }
                    continue;
                }
                SelectItem::QualifiedWildcard(..) => {
                    return Err(Error::unsupported("expansion of a composite value is not supported"));
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
                Expr::Column(c) if c.relation.as_ref().is_none_or(|r| r.table() == name) => {
                    object.columns.iter().position(|o| o.name == c.name)
                }
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

/// A relation beside the table, whose columns RETURNING may name.
#[derive(Debug, Clone)]
struct Extra {
    name: String,
    fields: Vec<arrow::datatypes::FieldRef>,
}

/// A row of the table with the columns of what stands beside it.
fn with_extras(own: &DFSchema, extras: &[Extra]) -> Result<DFSchema> {
    let mut fields: Vec<(Option<TableReference>, arrow::datatypes::FieldRef)> =
        own.iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
    for extra in extras {
        let qualifier = TableReference::bare(extra.name.as_str());
        fields.extend(extra.fields.iter().map(|f| (Some(qualifier.clone()), f.clone())));
    }
    Ok(DFSchema::new_with_metadata(fields, Default::default())?)
}

impl Returning {
    fn all_of_table(&mut self, object: &Object, name: &str) {
        for (i, c) in object.live_columns() {
            self.exprs.push(Expr::Column(Column::new(Some(TableReference::bare(name)), &c.name)));
            self.columns.push(OutputColumn {
                name: c.name.clone(),
                pg_type: c.pg_type(),
                table_oid: object.id.0,
                attnum: i as i16 + 1,
            });
        }
    }

    fn all_of(&mut self, extra: &Extra) {
        for field in &extra.fields {
            let relation = TableReference::bare(extra.name.as_str());
            self.exprs.push(Expr::Column(Column::new(Some(relation), field.name())));
            self.columns.push(OutputColumn::computed(field.name(), PgType::of_field(field)));
        }
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
