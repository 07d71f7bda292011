//! Columns of USING and NATURAL joins in WHERE, which DataFusion's planner takes for ambiguous.
//!
//! Boundary: syntax; asked only when the planner has found a name ambiguous.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, Query, Select, TableFactor, VisitMut, VisitorMut,
};

use super::prepare::{call, fold, ident};

/// Says which relation's column `name` is meant in the conditions over a join by that column; false if there are none.
pub fn qualify(query: &mut Query, name: &str) -> bool {
    let mut qualifier = Qualifier { name, changed: false };
    // The visitor never breaks.
    let _ = query.visit(&mut qualifier);
    qualifier.changed
}

struct Qualifier<'a> {
    name: &'a str,
    changed: bool,
}

impl VisitorMut for Qualifier<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let Some(column) = merged_column(select, self.name)
            && let Some(condition) = &mut select.selection
        {
            let mut replacer = Replacer { name: self.name, column, depth: 0, changed: false };
            // The visitor never breaks.
            let _ = condition.visit(&mut replacer);
            self.changed |= replacer.changed;
        }
        ControlFlow::Continue(())
    }
}

/// What the merged column of a join is: the outer side's, or of a full join whichever there is.
fn merged_column(select: &Select, name: &str) -> Option<Expr> {
    let [from] = select.from.as_slice() else { return None };
    let left = known_as(&from.relation)?;
    for join in &from.joins {
        let (constraint, outer) = match &join.join_operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) => (c, Some(true)),
            JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (c, Some(true)),
            JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (c, Some(false)),
            JoinOperator::FullOuter(c) => (c, None),
            _ => continue,
        };
        let merges = match constraint {
            JoinConstraint::Natural => true,
            JoinConstraint::Using(columns) => {
                columns.iter().any(|c| c.0.last().and_then(|p| p.as_ident()).is_some_and(|i| fold(i) == name))
            }
            _ => false,
        };
        if !merges {
            continue;
        }
        let of = |relation: &Ident| Expr::CompoundIdentifier(vec![relation.clone(), ident(name)]);
        let right = known_as(&join.relation)?;
        return Some(match outer {
            Some(true) => of(&left),
            Some(false) => of(&right),
            None => call("coalesce", vec![of(&left), of(&right)]),
        });
    }
    None
}

/// The name that a relation's columns go by.
pub(super) fn known_as(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.clone())
        }
        TableFactor::Table { name, .. } => name.0.last().and_then(|p| p.as_ident()).cloned(),
        _ => None,
    }
}

struct Replacer<'a> {
    name: &'a str,
    column: Expr,
    /// Subqueries around the current place, whose names are their own.
    depth: usize,
    changed: bool,
}

impl VisitorMut for Replacer<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0 && matches!(expr, Expr::Identifier(i) if fold(i) == self.name) {
            *expr = self.column.clone();
            self.changed = true;
        }
        ControlFlow::Continue(())
    }
}
