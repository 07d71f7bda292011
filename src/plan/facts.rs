//! What is known of a node's output without running it.
//!
//! Boundary: facts are derived, never guessed; an unknown fact is absent. Everything here looks at schemas and
//! expressions only.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};

use crate::catalog::{Object, ObjectBody};

/// Facts about the rows a node gives out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Sets of columns whose values no two rows share. The empty set: there is at most one row.
    pub unique_keys: Vec<Vec<usize>>,
    /// Rows are only ever inserted, each with weight +1.
    pub append_only: bool,
    /// (column, delay µs): no row with `column < watermark - delay` will come any more, so that the rows with
    /// value `v` are complete once `watermark > v + delay`. The event time of a source has
    /// no delay, a window start one µs less than its width more, a window end (it lies after every event of the
    /// window) one µs less.
    pub watermarks: Vec<(usize, i64)>,
    /// State below and at this node that grows without bound, one sentence per operator (for the NOTICE).
    pub unbounded_state: Vec<String>,
}

impl Facts {
    /// The delay of a column's watermark, if it has one.
    pub fn delay_of(&self, column: usize) -> Option<i64> {
        self.watermarks.iter().find(|(c, _)| *c == column).map(|(_, d)| *d)
    }

    /// Adds a unique key; a key that contains a smaller one says nothing more.
    pub fn add_key(&mut self, mut key: Vec<usize>) {
        key.sort_unstable();
        key.dedup();
        if self.unique_keys.iter().any(|k| k.iter().all(|c| key.contains(c))) {
            return;
        }
        self.unique_keys.retain(|k| !key.iter().all(|c| k.contains(c)));
        self.unique_keys.push(key);
    }

    /// The shortest unique key that has columns; what a view is indexed by.
    pub fn best_key(&self) -> Option<&[usize]> {
        self.unique_keys.iter().filter(|k| !k.is_empty()).min_by_key(|k| k.len()).map(Vec::as_slice)
    }

    /// Whether there is at most one row.
    pub fn at_most_one_row(&self) -> bool {
        self.unique_keys.iter().any(Vec::is_empty)
    }

    /// The facts of the same rows under other columns: `outputs_of(i)` are the output columns that repeat
    /// column `i`.
    pub fn project(&self, outputs_of: impl Fn(usize) -> Option<usize>) -> Facts {
        let mut facts = Facts {
            append_only: self.append_only,
            unbounded_state: self.unbounded_state.clone(),
            watermarks: self.watermarks.iter().filter_map(|(c, d)| Some((outputs_of(*c)?, *d))).collect(),
            unique_keys: Vec::new(),
        };
        for key in &self.unique_keys {
            if let Some(key) = key.iter().map(|c| outputs_of(*c)).collect() {
                facts.add_key(key);
            }
        }
        facts
    }
}

/// The facts of a stored relation that its catalog entry tells.
pub fn of_relation(object: &Object) -> Facts {
    let append_only = object.is_append_only();
    let mut facts = Facts { append_only, ..Facts::default() };
    let key = object.unique_key();
    if !key.is_empty() {
        facts.add_key(key.to_vec());
    }
    // Deleting an old row is always allowed where rows can be deleted at all, so only insert-only relations
    // let state go by event time.
    if append_only && let Some(watermark) = object.watermark() {
        // The watermark that dataflows see has the allowed lateness taken off already.
        facts.watermarks.push((watermark.column, 0));
    }
    if let ObjectBody::MaterializedView { append_only: true, watermark_columns, .. } = &object.body {
        facts.watermarks.extend(watermark_columns.iter().copied());
    }
    facts
}

/// Names of the columns in which the binder numbers the copies of a row, for INTERSECT ALL and EXCEPT ALL: of the left
/// side and of the right side.
pub const COPY_NUMBERS: [&str; 2] = ["__copy_left", "__copy_right"];
/// Name of the function that the binder expands windows to: start of the window of this width that holds a time.
pub const WINDOW_START: &str = "freshet_window_start";
/// Name of the function that the binder expands windows to: end of the window of this width that holds a time.
pub const WINDOW_END: &str = "freshet_window_end";

/// How far the value of `expr` can lag behind the watermark, given the lags of its columns: no row with
/// `expr < watermark - lag` will come. `None` when nothing is known.
pub fn lag(expr: &Expr, column: &dyn Fn(&datafusion::common::Column) -> Option<i64>) -> Option<i64> {
    match expr {
        Expr::Column(c) => column(c),
        Expr::Alias(a) => lag(&a.expr, column),
        Expr::Cast(c) if c.field.data_type().is_temporal() && !is_date(c.field.data_type()) => {
            lag(&c.expr, column)
        }
        Expr::BinaryExpr(b) if b.op == Operator::Plus => {
            if let Some(by) = interval_micros(&b.right) {
                return lag(&b.left, column)?.checked_sub(by);
            }
            lag(&b.right, column)?.checked_sub(interval_micros(&b.left)?)
        }
        Expr::BinaryExpr(b) if b.op == Operator::Minus => {
            lag(&b.left, column)?.checked_add(interval_micros(&b.right)?)
        }
        Expr::ScalarFunction(f) => {
            let time = |i: usize| f.args.get(i).and_then(|a| lag(a, column));
            let width = |i: usize| f.args.get(i).and_then(interval_micros).filter(|w| *w > 0);
            match f.func.name() {
                // The start of a window of width w lies at most w - 1 before any event in it.
                WINDOW_START => time(0)?.checked_add(width(1)? - 1),
                // The end lies at least 1 after it.
                WINDOW_END => {
                    width(1)?;
                    time(0)?.checked_sub(1)
                }
                "date_bin" => time(1)?.checked_add(width(0)? - 1),
                "date_trunc" => time(1)?.checked_add(unit_micros(f.args.first()?)? - 1),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_date(t: &arrow::datatypes::DataType) -> bool {
    matches!(t, arrow::datatypes::DataType::Date32 | arrow::datatypes::DataType::Date64)
}

/// Greatest length of a unit of date_trunc.
fn unit_micros(unit: &Expr) -> Option<i64> {
    const SECOND: i64 = 1_000_000;
    let text = match unit {
        Expr::Literal(ScalarValue::Utf8(Some(s)) | ScalarValue::Utf8View(Some(s)), _) => {
            s.to_ascii_lowercase()
        }
        _ => return None,
    };
    Some(match text.as_str() {
        "second" => SECOND,
        "minute" => 60 * SECOND,
        "hour" => 3600 * SECOND,
        "day" => 86_400 * SECOND,
        "week" => 7 * 86_400 * SECOND,
        "month" => 31 * 86_400 * SECOND,
        _ => return None,
    })
}

/// The length in µs of a constant interval without months.
pub fn interval_micros(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) => scalar_micros(value),
        Expr::Alias(a) => interval_micros(&a.expr),
        Expr::Cast(c) => interval_micros(&c.expr),
        Expr::Negative(e) => interval_micros(e)?.checked_neg(),
        _ => None,
    }
}

/// The length in µs of an interval value without months.
pub fn scalar_micros(value: &ScalarValue) -> Option<i64> {
    const DAY: i64 = 86_400_000_000;
    match value {
        ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 => {
            i64::from(i.days).checked_mul(DAY)?.checked_add(i.nanoseconds / 1000)
        }
        ScalarValue::IntervalDayTime(Some(i)) => {
            i64::from(i.days).checked_mul(DAY)?.checked_add(i64::from(i.milliseconds) * 1000)
        }
        ScalarValue::DurationMicrosecond(Some(d)) => Some(*d),
        ScalarValue::DurationNanosecond(Some(d)) => Some(*d / 1000),
        ScalarValue::DurationMillisecond(Some(d)) => d.checked_mul(1000),
        ScalarValue::DurationSecond(Some(d)) => d.checked_mul(1_000_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_contains_a_smaller_one_is_dropped() {
        let mut f = Facts::default();
        f.add_key(vec![0, 1]);
        f.add_key(vec![1]);
        f.add_key(vec![2, 1]);
        assert_eq!(f.unique_keys, vec![vec![1]]);
    }

    #[test]
    fn keys_survive_a_projection_only_with_all_their_columns() {
        let mut f = Facts { append_only: true, watermarks: vec![(1, 5)], ..Facts::default() };
        f.add_key(vec![0, 1]);
        f.add_key(vec![2]);
        let p = f.project(|c| [None, Some(3), Some(0)][c]);
        assert_eq!(p.unique_keys, vec![vec![0]]);
        assert_eq!(p.watermarks, vec![(3, 5)]);
        assert!(p.append_only);
    }

    #[test]
    fn an_interval_shifts_the_lag() {
        use datafusion::logical_expr::{col, lit};
        let second = || lit(ScalarValue::new_interval_mdn(0, 0, 1_000_000_000));
        let of = |_: &datafusion::common::Column| Some(7);
        assert_eq!(lag(&(col("t") + second()), &of), Some(7 - 1_000_000));
        assert_eq!(lag(&(col("t") - second()), &of), Some(7 + 1_000_000));
        assert_eq!(lag(&(col("t") * second()), &of), None);
    }
}
