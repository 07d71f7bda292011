//! Binding ON CONFLICT: which keys decide, and what becomes of the row that is there.

use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::Expr;
use sqlparser::ast::{ConflictTarget, OnConflict, OnConflictAction};

use super::change::by_column;
use super::{Extra, is_default, mismatch, with_extras};
use crate::catalog::Object;
use crate::catalog::object::UniqueKey;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind::{Binder, prepare};
use crate::types::PgType;

/// The name of the row that was to be inserted.
const EXCLUDED: &str = "excluded";

/// A bound ON CONFLICT.
#[derive(Debug, Clone)]
pub struct BoundConflict {
    /// A row conflicts when it has the same values in the columns of one of these as another one.
    pub keys: Vec<UniqueKey>,
    /// DO UPDATE; none for DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// DO UPDATE: over the row that is there, and the one that was to be inserted.
#[derive(Debug, Clone)]
pub struct ConflictUpdate {
    /// The columns of both.
    pub schema: DFSchema,
    /// The new row; generated columns are computed from it.
    pub new_row: Vec<Expr>,
    /// WHERE.
    pub condition: Option<Expr>,
}

impl Binder<'_> {
    pub(super) fn conflict(&mut self, object: &Object, name: &str, on: &OnConflict) -> Result<BoundConflict> {
        let all = self.context.catalog.unique_keys(object);
        let keys = match &on.conflict_target {
            None => all,
            Some(ConflictTarget::OnConstraint(constraint)) => {
                let wanted =
                    constraint.0.last().and_then(|p| p.as_ident()).map(prepare::fold).unwrap_or_default();
                let found = all.into_iter().find(|k| k.constraint && k.name == wanted);
                vec![found.ok_or_else(|| {
                    Error::new(
                        ErrorKind::UndefinedObject,
                        format!("constraint \"{wanted}\" for table \"{}\" does not exist", object.name),
                    )
                })?]
            }
            Some(ConflictTarget::Columns(columns)) => {
                let mut wanted = Vec::with_capacity(columns.len());
                for c in columns {
                    let name = prepare::fold(c);
                    let found = object.live_columns().find(|(_, o)| o.name == name);
                    wanted.push(found.map(|(i, _)| i).ok_or_else(|| {
                        Error::new(ErrorKind::UndefinedColumn, format!("column \"{name}\" does not exist"))
                    })?);
                }
                wanted.sort_unstable();
                wanted.dedup();
                let same = |k: &UniqueKey| {
                    let mut columns = k.columns.clone();
                    columns.sort_unstable();
                    columns == wanted
                };
                vec![all.into_iter().find(same).ok_or_else(|| {
                    Error::new(
                        ErrorKind::InvalidColumnReference,
                        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                    )
                })?]
            }
        };
        let update = match &on.action {
            OnConflictAction::DoNothing => return Ok(BoundConflict { keys, update: None }),
            OnConflictAction::DoUpdate(update) => update,
        };
        if on.conflict_target.is_none() {
            return Err(Error::new(
                ErrorKind::Syntax,
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            )
            .with_hint("For example, ON CONFLICT (column_name)."));
        }
        let own = DFSchema::try_from_qualified_schema(TableReference::bare(name), &object.arrow_schema())?;
        let fields = object.arrow_schema().fields().iter().cloned().collect();
        let schema = with_extras(&own, &[Extra { name: EXCLUDED.to_string(), fields }])?;
        let mut new_row = Vec::with_capacity(object.columns.len());
        for (i, value) in by_column(object, &update.assignments)?.iter().enumerate() {
            let c = &object.columns[i];
            new_row.push(match value {
                Some(v) if is_default(v) => self.default_of(object, i)?,
                Some(v) => {
                    let bound = self.preferring(v, name, &schema, Some(c.pg_type()));
                    bound.map_err(|e| mismatch(e, object, i))?
                }
                None => Expr::Column(Column::new(Some(TableReference::bare(name)), &c.name)),
            });
        }
        let condition = match &update.selection {
            Some(condition) => Some(self.preferring(condition, name, &schema, Some(PgType::BOOL))?),
            None => None,
        };
        Ok(BoundConflict { keys, update: Some(ConflictUpdate { schema, new_row, condition }) })
    }

    /// An expression evaluated over batches: without subqueries.
    fn preferring(
        &mut self,
        expr: &sqlparser::ast::Expr,
        _name: &str,
        schema: &DFSchema,
        to: Option<PgType>,
    ) -> Result<Expr> {
        let bound = self.scalar(expr, schema, to)?;
        refuse_subqueries(&bound, "ON CONFLICT DO UPDATE")?;
        Ok(bound)
    }
}

/// Refuses what cannot be evaluated over a batch of rows.
pub(super) fn refuse_subqueries(expr: &Expr, place: &str) -> Result<()> {
    use datafusion::common::tree_node::TreeNode;
    let found =
        expr.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))))?;
    if found {
        return Err(Error::unsupported(format!("a subquery in {place} is not supported"))
            .with_hint("Join what it reads into the rows of the statement."));
    }
    Ok(())
}
