//! One spelling for clauses that SQL can write in two ways: `FETCH FIRST n ROWS ONLY` becomes `LIMIT n`.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Fetch, LimitClause, Offset, Query, Statement, Value, VisitMut, VisitorMut};

/// Normalises a query and all queries inside it.
pub(super) fn query(query: &mut Query) {
    let _ = query.visit(&mut Normalizer);
}

/// Normalises the queries of a statement.
pub(super) fn statement(statement: &mut Statement) {
    let _ = statement.visit(&mut Normalizer);
}

struct Normalizer;

impl VisitorMut for Normalizer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        // Other forms of FETCH stay, and are refused by the audit.
        let Some(Fetch { with_ties: false, percent: false, quantity }) = &query.fetch else {
            return ControlFlow::Continue(());
        };
        let count = quantity.clone().unwrap_or_else(|| Expr::value(Value::Number("1".into(), false)));
        let offset: Option<Offset> = match query.limit_clause.take() {
            None => None,
            Some(LimitClause::LimitOffset { limit: None, offset, limit_by }) if limit_by.is_empty() => offset,
            other => {
                query.limit_clause = other;
                return ControlFlow::Continue(());
            }
        };
        query.fetch = None;
        query.limit_clause =
            Some(LimitClause::LimitOffset { limit: Some(count), offset, limit_by: Vec::new() });
        ControlFlow::Continue(())
    }
}
