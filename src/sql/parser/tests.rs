//! Tests of the grammar.

use super::*;

fn one(text: &str) -> Statement {
    let mut all = parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).statement
}

#[test]
fn a_select_is_a_query() {
    assert!(matches!(one("SELECT 1"), Statement::Query(_)));
}
