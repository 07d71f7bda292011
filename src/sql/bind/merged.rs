//! The columns that RIGHT and FULL joins by USING or NATURAL merge: DataFusion's planner shows the left side's, which is
//! NULL where only the right side has a row.
//!
//! Such joins are written out: the condition as ON, `*` as its columns, and an unqualified merged column as the right
//! side's (RIGHT) or whichever is there (FULL).
//!
//! Boundary: syntax; the columns of the joined relations are asked of the planner.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, JoinConstraint, JoinOperator, Query, Select, SelectItem, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, With,
};

use super::prepare::{call, fold, query_of, select_template};
use super::using::known_as;
use crate::error::Result;

/// Asks for the names of a query's columns.
pub type Columns<'a> = dyn Fn(Query) -> Option<Vec<String>> + 'a;

/// Writes out the joins of a query that need it.
pub fn write_out(query: &mut Query, columns: &Columns) {
    let mut finder = Finder { found: false };
    // The visitors never break.
    let _ = sqlparser::ast::Visit::visit(&*query, &mut finder);
    if finder.found {
        let _ = query.visit(&mut Writer { columns, with: Vec::new() });
    }
}

struct Finder {
    found: bool,
}

impl sqlparser::ast::Visitor for Finder {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.found |= select.from.iter().any(needs_it);
        ControlFlow::Continue(())
    }
}

fn needs_it(from: &TableWithJoins) -> bool {
    from.joins.iter().any(|j| {
        matches!(
            j.join_operator,
            JoinOperator::Right(JoinConstraint::Using(_) | JoinConstraint::Natural)
                | JoinOperator::RightOuter(JoinConstraint::Using(_) | JoinConstraint::Natural)
                | JoinOperator::FullOuter(JoinConstraint::Using(_) | JoinConstraint::Natural)
        )
    })
}

struct Writer<'a> {
    columns: &'a Columns<'a>,
    /// WITH clauses around the current place.
    with: Vec<Option<With>>,
}

impl VisitorMut for Writer<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.with.push(query.with.clone());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.with.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if select.from.iter().any(needs_it) {
            let mut written = select.clone();
            // What cannot be written out is left to the planner.
            if self.select(&mut written).is_some() {
                *select = written;
            }
        }
        ControlFlow::Continue(())
    }
}

/// A column that `*` shows.
struct Shown {
    name: String,
    expr: Expr,
    merged: bool,
}

impl Writer<'_> {
    fn select(&self, select: &mut Select) -> Option<()> {
        let mut all: Vec<Shown> = Vec::new();
        for from in &mut select.from {
            let mut shown = self.relation(&from.relation)?;
            for join in &mut from.joins {
                let right = self.relation(&join.relation)?;
                shown = merge(shown, right, &mut join.join_operator)?;
            }
            all.extend(shown);
        }
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(_) => items.extend(all.iter().map(|s| {
                    if s.merged {
                        let alias = Ident::with_quote('"', &s.name);
                        SelectItem::ExprWithAlias { expr: s.expr.clone(), alias }
                    } else {
                        SelectItem::UnnamedExpr(s.expr.clone())
                    }
                })),
                SelectItem::UnnamedExpr(Expr::Identifier(i)) => {
                    let alias = Ident::with_quote('"', fold(&i));
                    items.push(SelectItem::ExprWithAlias { expr: Expr::Identifier(i), alias });
                }
                item => items.push(item),
            }
        }
        select.projection = items;
        let from = std::mem::take(&mut select.from);
        // The visitor never breaks.
        let _ = select.visit(&mut Replacer { all: &all, depth: 0 });
        select.from = from;
        Some(())
    }

    /// The columns of a relation in FROM.
    fn relation(&self, factor: &TableFactor) -> Option<Vec<Shown>> {
        if matches!(factor, TableFactor::Derived { lateral: true, .. }) {
            return None;
        }
        let alias = known_as(factor)?;
        let query = self.query(factor).ok()?;
        let names = (self.columns)(query)?;
        let shown = |name: String| {
            let parts = vec![alias.clone(), Ident::with_quote('"', &name)];
            Shown { expr: Expr::CompoundIdentifier(parts), name, merged: false }
        };
        Some(names.into_iter().map(shown).collect())
    }

    fn query(&self, factor: &TableFactor) -> Result<Query> {
        let mut select = select_template()?;
        select.projection = vec![SelectItem::Wildcard(Default::default())];
        select.from = vec![TableWithJoins { relation: factor.clone(), joins: vec![] }];
        let mut query = query_of(select);
        for with in self.with.iter().flatten() {
            match &mut query.with {
                None => query.with = Some(with.clone()),
                Some(outer) => {
                    // An inner name hides an outer one.
                    let hidden: Vec<String> = with.cte_tables.iter().map(|c| fold(&c.alias.name)).collect();
                    outer.cte_tables.retain(|c| !hidden.contains(&fold(&c.alias.name)));
                    outer.recursive |= with.recursive;
                    outer.cte_tables.extend(with.cte_tables.iter().cloned());
                }
            }
        }
        Ok(query)
    }
}

/// The columns of a join, whose USING or NATURAL becomes ON.
fn merge(left: Vec<Shown>, right: Vec<Shown>, operator: &mut JoinOperator) -> Option<Vec<Shown>> {
    #[derive(Clone, Copy)]
    enum Side {
        Left,
        Right,
        Either,
    }
    let (constraint, side) = match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) => (c, Side::Left),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (c, Side::Left),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (c, Side::Right),
        JoinOperator::FullOuter(c) => (c, Side::Either),
        JoinOperator::CrossJoin(c) => (c, Side::Left),
        _ => return None,
    };
    let names: Vec<String> = match constraint {
        JoinConstraint::Using(columns) => columns
            .iter()
            .map(|c| c.0.last().and_then(|p| p.as_ident()).map(fold))
            .collect::<Option<Vec<_>>>()?,
        JoinConstraint::Natural => {
            left.iter().map(|s| s.name.clone()).filter(|n| right.iter().any(|r| r.name == *n)).collect()
        }
        _ => Vec::new(),
    };
    let mut on: Option<Expr> = None;
    let mut shown = Vec::with_capacity(left.len() + right.len());
    for name in &names {
        let find = |list: &[Shown]| -> Option<Expr> {
            let mut found = list.iter().filter(|s| s.name == *name);
            let one = found.next()?;
            found.next().is_none().then(|| one.expr.clone())
        };
        let (l, r) = (find(&left)?, find(&right)?);
        let same =
            Expr::BinaryOp { left: Box::new(l.clone()), op: BinaryOperator::Eq, right: Box::new(r.clone()) };
        on = Some(match on {
            None => same,
            Some(on) => Expr::BinaryOp { left: Box::new(on), op: BinaryOperator::And, right: Box::new(same) },
        });
        let expr = match side {
            Side::Left => l,
            Side::Right => r,
            Side::Either => call("coalesce", vec![l, r]),
        };
        shown.push(Shown { name: name.clone(), expr, merged: true });
    }
    if let Some(on) = on {
        *constraint = JoinConstraint::On(on);
    } else if matches!(constraint, JoinConstraint::Natural) {
        return None;
    }
    shown.extend(left.into_iter().chain(right).filter(|s| !names.contains(&s.name)));
    Some(shown)
}

struct Replacer<'a> {
    all: &'a [Shown],
    /// Subqueries around the current place, whose names are their own.
    depth: usize,
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
        if self.depth == 0
            && let Expr::Identifier(i) = expr
            && let Some(s) = self.all.iter().find(|s| s.merged && s.name == fold(i))
        {
            *expr = s.expr.clone();
        }
        ControlFlow::Continue(())
    }
}
