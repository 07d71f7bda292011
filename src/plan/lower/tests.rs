//! Lowering from SQL text (through DataFusion's planner) to the text of plans.

use super::*;
use crate::error::ErrorKind;
use crate::plan::explain;
use crate::plan::testing::{catalog, logical, lowered};

/// The plan's lines without facts, without leading and trailing blanks.
fn lines(sql: &str) -> Vec<String> {
    let plan = lowered(sql, Emit::OnUpdate).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    explain::text(&plan)
        .lines()
        .map(|l| l.trim().split("  ").next().unwrap_or_default().to_string())
        .collect()
}

fn operations(sql: &str) -> Vec<String> {
    lines(sql).iter().map(|l| l.split(' ').next().unwrap_or_default().to_string()).collect()
}

fn refusal(sql: &str, emit: Emit) -> Error {
    let e = lowered(sql, emit).expect_err(sql);
    assert_eq!(e.kind(), ErrorKind::FeatureNotSupported, "{e:?}");
    e
}

#[test]
fn a_chain_of_projections_and_filters_becomes_one_map_over_the_columns_it_needs() {
    let l = lines("SELECT x + 1 AS y FROM (SELECT v AS x, g FROM t WHERE id > 3) q WHERE g = 'a'");
    assert_eq!(l.len(), 3, "{l:#?}");
    assert!(l[0].starts_with("Exchange"), "{l:#?}");
    assert!(l[1].starts_with("Map filter=") && l[1].contains("exprs="), "{l:#?}");
    assert_eq!(l[2], "Input relation=16384 columns=[id, g, v]");
}

#[test]
fn names_and_types_of_the_result_are_those_of_the_query() {
    let plan = lowered("SELECT v AS a, count(*) AS b FROM t GROUP BY v", Emit::OnUpdate).unwrap();
    let names: Vec<_> = plan.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(plan.facts().unique_keys, vec![vec![0]]);
    assert!(!plan.facts().append_only);
}

#[test]
fn a_group_by_is_exchanged_on_its_keys_once() {
    assert_eq!(operations("SELECT g, count(*), sum(v) FROM t GROUP BY g"), ["Reduce", "Exchange", "Input"]);
    // The outer grouping is finer than what lies together already.
    let nested =
        "SELECT g, v, count(*) FROM (SELECT g, v, count(*) AS c FROM t GROUP BY g, v) q GROUP BY g, v";
    assert_eq!(operations(nested).iter().filter(|o| *o == "Exchange").count(), 1);
}

#[test]
fn join_conditions_become_keys_conditions_of_one_side_and_a_residual() {
    let l = lines("SELECT t.g, u.w FROM t, u WHERE t.id = u.k AND t.v > 5 AND t.v < u.k * 2 AND u.w <> 'x'");
    let text = l.join("\n");
    assert!(text.contains("Join left=[id] right=[k] on="), "{text}");
    assert_eq!(l.iter().filter(|l| l.starts_with("Map filter=")).count(), 2, "{text}");
}

#[test]
fn key_expressions_are_computed_below_the_join_in_one_type() {
    let plan = lowered("SELECT t.id FROM t JOIN u ON t.v + 1 = CAST(u.k AS int)", Emit::OnUpdate).unwrap();
    let join = plan.nodes.iter().find(|n| matches!(n.op, Op::Join { .. })).unwrap();
    let Op::Join { left_keys, right_keys, .. } = &join.op else { unreachable!() };
    let key =
        |input: usize, column: usize| plan.nodes[join.inputs[input]].schema.field(column).data_type().clone();
    assert_eq!(key(0, left_keys[0]), key(1, right_keys[0]));
}

#[test]
fn a_join_on_the_others_unique_key_keeps_ones_own_key() {
    let plan = lowered("SELECT s.v, t.id, t.g FROM t JOIN s ON t.id = s.v", Emit::OnUpdate).unwrap();
    assert!(plan.facts().unique_keys.is_empty());
    let plan = lowered("SELECT a.id, b.g FROM t a JOIN t b ON a.v = b.id", Emit::OnUpdate).unwrap();
    assert_eq!(plan.facts().unique_keys, vec![vec![0]]);
}

#[test]
fn a_cross_join_broadcasts_its_right_side_and_says_that_it_is_dear() {
    let plan = lowered("SELECT t.id, u.w FROM t, u WHERE t.v < u.k", Emit::OnUpdate).unwrap();
    assert!(plan.nodes.iter().any(|n| matches!(n.op, Op::Broadcast)));
    assert_eq!(plan.facts().unbounded_state.len(), 1);
}

#[test]
fn in_with_a_subquery_is_a_join_with_distinct_keys() {
    let ops = operations("SELECT id FROM t WHERE v IN (SELECT k FROM u WHERE w = 'a')");
    assert!(ops.contains(&"Join".to_string()) && ops.contains(&"Distinct".to_string()), "{ops:?}");
}

#[test]
fn order_by_with_limit_is_top_k_and_order_by_alone_is_nothing() {
    let text = lines("SELECT g FROM t ORDER BY v LIMIT 5 OFFSET 2").join("\n");
    assert!(text.contains("TopK partition=[] order=[v] limit=5 offset=2"), "{text}");
    assert_eq!(operations("SELECT id, g FROM t ORDER BY v"), ["Exchange", "Input"]);
}

#[test]
fn distinct_on_keeps_the_first_row_of_each_key() {
    let text = lines("SELECT DISTINCT ON (g) g, id FROM t ORDER BY g, v DESC").join("\n");
    assert!(text.contains("TopK partition=[g] order=[v desc] limit=1"), "{text}");
}

#[test]
fn comparisons_with_now_become_bounds() {
    let text = lines("SELECT id FROM t WHERE at > now() - INTERVAL '1 hour' AND v > 2").join("\n");
    assert!(text.contains("Temporal from=- until=valid_until@1"), "{text}");
    let text = lines("SELECT id FROM t WHERE at BETWEEN now() AND now() + INTERVAL '1 day'").join("\n");
    assert!(text.contains("Temporal from=valid_from@1 until=valid_until@2"), "{text}");
    let text = lines("SELECT id FROM t WHERE at + INTERVAL '1 minute' <= now()").join("\n");
    assert!(text.contains("Temporal from=valid_from@1 until=-"), "{text}");
}

#[test]
fn now_elsewhere_is_refused_with_a_hint() {
    for q in [
        "SELECT now() FROM t",
        "SELECT id FROM t WHERE at > now() - INTERVAL '1 month'",
        "SELECT id FROM t WHERE at > now() OR v = 1",
        "SELECT date_trunc('hour', now()), count(*) FROM t GROUP BY 1",
    ] {
        assert!(refusal(q, Emit::OnUpdate).hint().is_some(), "{q}");
    }
    refusal("SELECT random() FROM t", Emit::OnUpdate);
}

#[test]
fn windows_close_by_the_watermark_of_their_end() {
    let q = "SELECT date_bin(INTERVAL '1 minute', ts) + INTERVAL '1 minute' AS e, g, count(*) FROM s GROUP BY 1, 2";
    let plan = lowered(q, Emit::OnWindowClose).unwrap();
    assert!(plan.facts().append_only);
    assert_eq!(plan.facts().delay_of(0), Some(-1));
    let text = explain::text(&plan);
    assert!(text.contains("closes_by=") && text.contains("emit=on_window_close"), "{text}");
    // A window start closes one width later: through a column with that moment.
    let q = "SELECT date_bin(INTERVAL '1 minute', ts) AS b, count(*) FROM s GROUP BY 1";
    let text = explain::text(&lowered(q, Emit::OnWindowClose).unwrap());
    assert!(text.contains("closes_by=closes_at"), "{text}");
}

#[test]
fn emit_on_window_close_without_a_window_is_refused() {
    for q in
        ["SELECT g, count(*) FROM s GROUP BY g", "SELECT g FROM t", "SELECT at, count(*) FROM t GROUP BY at"]
    {
        assert!(refusal(q, Emit::OnWindowClose).hint().is_some(), "{q}");
    }
}

#[test]
fn time_bounds_between_streams_let_join_state_go() {
    let q = "SELECT a.id, b.id FROM s a JOIN s2 b ON a.g = b.g \
             AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 minute'";
    let plan = lowered(q, Emit::OnUpdate).unwrap();
    let bounds = plan.nodes.iter().find_map(|n| match &n.op {
        Op::Join { bounds, .. } => bounds.clone(),
        _ => None,
    });
    let bounds = bounds.expect("the condition bounds both sides");
    assert_eq!(bounds.left_expiry.map(|b| b.1), Some(60_000_000));
    assert_eq!(bounds.right_expiry.map(|b| b.1), Some(0));
    assert!(plan.facts().unbounded_state.is_empty());
    assert!(plan.facts().append_only);
}

#[test]
fn outer_joins_are_lowered_with_any_condition() {
    for q in [
        "SELECT t.id FROM t LEFT JOIN u ON t.id < u.k",
        "SELECT t.id FROM t LEFT JOIN u ON t.id = u.k AND t.v < 3",
    ] {
        assert!(lowered(q, Emit::OnUpdate).is_ok(), "{q}");
    }
}

#[test]
fn a_left_join_with_a_unique_right_side_keeps_the_left_key() {
    let plan = lowered("SELECT a.id, b.g FROM t a LEFT JOIN t b ON a.v = b.id", Emit::OnUpdate).unwrap();
    assert_eq!(plan.facts().unique_keys, vec![vec![0]]);
    let plan = lowered("SELECT t.id, u.w FROM t LEFT JOIN u ON t.v = u.k", Emit::OnUpdate).unwrap();
    assert!(plan.facts().unique_keys.is_empty());
}

#[test]
fn analyzed_and_optimized_plans_both_lower() {
    let catalog = catalog();
    for q in [
        "SELECT g, count(DISTINCT v), max(at) FILTER (WHERE v > 1) FROM t GROUP BY g HAVING count(*) > 1",
        "SELECT DISTINCT g FROM t",
        "SELECT g FROM t UNION ALL SELECT w FROM u",
        "SELECT g FROM t UNION SELECT w FROM u",
        "SELECT 1 AS a, 'x' AS b",
        "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) v(a, b) WHERE a > 1",
        "SELECT count(*) FROM t",
        "SELECT a.g, b.w, c.v FROM t a, u b, t c WHERE a.id = b.k AND c.id = b.k",
        "SELECT g, g AS h, v + 1, v + 1 AS x FROM t GROUP BY g, v + 1",
    ] {
        for optimized in [false, true] {
            let plan = lower(&logical(q, &catalog, optimized), &catalog, Emit::OnUpdate);
            let plan = plan.unwrap_or_else(|e| panic!("{q} ({optimized}): {e:?}"));
            assert!(plan.nodes.iter().all(|n| !n.schema.fields().is_empty()), "{q}: a node has no columns");
            assert_eq!(plan.schema.fields().len(), plan.root().schema.fields().len());
        }
    }
}
