//! Binding MERGE: the source joined with the table, and a list of steps of which the first that fits is taken.

use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::Expr;
use sqlparser::ast::{self, Join, JoinConstraint, JoinOperator, SelectItem, TableFactor, TableWithJoins};

use super::change::{self, by_column, column, item, numbered, target};
use super::conflict::refuse_subqueries;
use super::{
    BoundDml, DmlKind, Extra, append_only, cannot_insert, fitting, is_default, is_overridden, mismatch,
    refuse_identity, target_columns, with_extras,
};
use crate::catalog::Object;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind::{BindContext, Binder, prepare};
use crate::sql::statement::{Merge, MergeAction, Overriding};
use crate::types::PgType;

/// A bound MERGE. Its source gives the table's columns, the number of the table's row (NULL: none matches), and the
/// columns of what it is merged with.
#[derive(Debug, Clone)]
pub struct BoundMerge {
    /// The source's columns without the number.
    pub schema: DFSchema,
    /// The steps, in order.
    pub steps: Vec<MergeStep>,
}

/// `WHEN … THEN …`.
#[derive(Debug, Clone)]
pub struct MergeStep {
    /// For rows that match.
    pub matched: bool,
    /// AND condition.
    pub condition: Option<Expr>,
    /// What is done.
    pub action: MergeDo,
}

/// What a step does with its row.
#[derive(Debug, Clone)]
pub enum MergeDo {
    /// Nothing.
    Nothing,
    /// The row of the table goes.
    Delete,
    /// It becomes this.
    Update(Vec<Expr>),
    /// This is added.
    Insert(Vec<Expr>),
}

pub(super) fn bind_merge(merge: &Merge, context: &BindContext) -> Result<BoundDml> {
    let (object, name) = target(&merge.target, context)?;
    append_only(&object, "merge into")?;
    let source_name = match &merge.source {
        TableFactor::Table { name, alias, .. } => {
            let last = name.0.last().and_then(|p| p.as_ident());
            alias.as_ref().map(|a| &a.name).or(last).map(prepare::fold)
        }
        TableFactor::Derived { alias, .. } => alias.as_ref().map(|a| prepare::fold(&a.name)),
        _ => None,
    };
    let source_name = source_name.ok_or_else(|| {
        Error::unsupported("this source of MERGE is not supported").with_hint("Use a table or a subquery.")
    })?;
    if source_name == name {
        return Err(Error::new(
            ErrorKind::DuplicateAlias,
            format!("name \"{name}\" specified more than once"),
        )
        .with_detail("The name is used both as MERGE target table and data source."));
    }
    let mut binder = Binder::new(context);
    let joined = TableWithJoins {
        relation: merge.source.clone(),
        joins: vec![Join {
            relation: numbered(&object, &name)?,
            global: false,
            join_operator: JoinOperator::LeftOuter(JoinConstraint::On(merge.on.clone())),
        }],
    };
    let mut items: Vec<SelectItem> = (0..)
        .zip(&object.columns)
        .map(|(i, c)| item(column(&name, &c.name), format!("{}t{i}", prepare::SUFFIX)))
        .collect();
    items.push(item(column(&name, change::ROW_NUMBER), change::ROW_NUMBER.to_string()));
    items.push(SelectItem::QualifiedWildcard(
        ast::SelectItemQualifiedWildcardKind::ObjectName(ast::ObjectName(vec![
            ast::ObjectNamePart::Identifier(ast::Ident::with_quote('"', source_name.as_str())),
        ])),
        Default::default(),
    ));
    let width = object.columns.len();
    let plan = binder.query(&change::select(merge.with.as_ref(), items, vec![joined], None)?)?;
    let fields = plan.schema().fields().iter().skip(width + 1);
    let fields = fields
        .map(|f| std::sync::Arc::new(f.as_ref().clone().with_name(prepare::visible_name(f.name()))))
        .collect();
    let mut nullable = (*object).clone();
    nullable.columns.iter_mut().for_each(|c| c.nullable = true);
    let own =
        DFSchema::try_from_qualified_schema(TableReference::bare(name.as_str()), &nullable.arrow_schema())?;
    let schema = with_extras(&own, &[Extra { name: source_name, fields }])?;
    let steps = merge
        .clauses
        .iter()
        .map(|c| {
            let condition = match &c.condition {
                Some(e) => Some(binder.over(e, &schema, Some(PgType::BOOL))?),
                None => None,
            };
            let action = binder.merge_action(&object, &name, &c.action, &schema)?;
            Ok(MergeStep { matched: c.matched, condition, action })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut bound = binder.finish_dml(&object, DmlKind::Merge, plan, None, name, &[])?;
    bound.merge = Some(BoundMerge { schema, steps });
    Ok(bound)
}

impl Binder<'_> {
    fn over(&mut self, expr: &ast::Expr, schema: &DFSchema, to: Option<PgType>) -> Result<Expr> {
        let bound = self.scalar(expr, schema, to)?;
        refuse_subqueries(&bound, "MERGE")?;
        Ok(bound)
    }

    fn merge_action(
        &mut self,
        object: &Object,
        name: &str,
        action: &MergeAction,
        schema: &DFSchema,
    ) -> Result<MergeDo> {
        Ok(match action {
            MergeAction::Nothing => MergeDo::Nothing,
            MergeAction::Delete => MergeDo::Delete,
            MergeAction::Update(list) => {
                let mut row = Vec::with_capacity(object.columns.len());
                for (i, value) in by_column(object, list)?.iter().enumerate() {
                    let c = &object.columns[i];
                    row.push(match value {
                        Some(v) if is_default(v) => self.default_of(object, i)?,
                        Some(v) => {
                            self.over(v, schema, Some(c.pg_type())).map_err(|e| mismatch(e, object, i))?
                        }
                        None => Expr::Column(Column::new(Some(TableReference::bare(name)), &c.name)),
                    });
                }
                MergeDo::Update(row)
            }
            MergeAction::Insert { columns, overriding, values } => {
                let listed = !columns.is_empty();
                let positions = match values {
                    Some(values) => fitting(target_columns(object, columns)?, values.len(), listed)?,
                    None => Vec::new(),
                };
                MergeDo::Insert(self.merge_insert(
                    object,
                    &positions,
                    values.as_deref(),
                    *overriding,
                    schema,
                )?)
            }
        })
    }

    fn merge_insert(
        &mut self,
        object: &Object,
        positions: &[usize],
        values: Option<&[ast::Expr]>,
        overriding: Option<Overriding>,
        schema: &DFSchema,
    ) -> Result<Vec<Expr>> {
        let mut row = Vec::with_capacity(object.columns.len());
        for (i, c) in object.columns.iter().enumerate() {
            let given = positions.iter().position(|p| *p == i).and_then(|n| values?.get(n));
            let given = given.filter(|v| !is_default(v) && !is_overridden(object, i, overriding));
            row.push(match given {
                Some(_) if c.generated.is_some() => return Err(cannot_insert(&c.name)),
                Some(v) => {
                    if overriding.is_none() {
                        refuse_identity(object, i)?;
                    }
                    self.over(v, schema, Some(c.pg_type())).map_err(|e| mismatch(e, object, i))?
                }
                None => self.default_of(object, i)?,
            });
        }
        Ok(row)
    }
}
