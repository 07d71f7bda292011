//! The variance family and the aggregates over pairs, by slot, exact under any retraction.
//!
//! Kept are exact sums: of values, of squares, of products. A result is computed from N * sum(x²) - sum(x)², which is
//! exact too, and rounded at the end, so it depends neither on the order of rows nor on what was there before.
//! The square of a float is kept as the two floats that make it up exactly.
//!
//! Boundary: numbers by slot. Numeric results have PostgreSQL's number of digits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float32Array, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Int16Type, Int32Type, Int64Type};

use crate::error::{Error, Result};
use crate::expr::aggregate::{Pairs, Spread};
use crate::store::arrangement::slab::Slab;

use super::big::{Big, add_product, power_of_ten};
use super::float::FloatSums;
use super::state::{NEGATIVE, Rows, State};
use super::sum::nulls_of;

/// Decimals up to this can be results.
const LIMIT: u128 = 10_u128.pow(38);

/// Sum and sum of squares of exact numbers.
#[derive(Debug)]
struct ExactSpread {
    sums: Slab<[u64; 4]>,
    squares: Slab<[u64; 6]>,
    spread: Spread,
    /// Scale of the input and of the result.
    scale: u32,
    result_scale: u32,
}

impl ExactSpread {
    fn add(&mut self, slot: u32, value: i128, weight: i64) {
        add_product(self.sums.get_mut(slot), value, 1, weight);
        add_product(self.squares.get_mut(slot), value, value, weight);
    }

    /// The unscaled result; `None` in the middle: NULL, `None` inside: out of range.
    fn value(&self, slot: u32, count: i64) -> Option<Option<i128>> {
        let n = u64::try_from(count).ok()?;
        let sample = matches!(self.spread, Spread::VarSamp | Spread::StddevSamp);
        if n == 0 || sample && n == 1 {
            return None;
        }
        let sum = Big::from_words(self.sums.get(slot));
        let numerator = Big::from_words(self.squares.get(slot)).times_small(n).minus(&sum.times(&sum));
        if numerator.is_zero() || numerator.is_negative() {
            return Some(Some(0));
        }
        let other = if sample { n - 1 } else { n };
        // As PostgreSQL does: the variance rounded to the scale of a quotient, the deviation its root there.
        let digits = quotient_scale(&numerator, n, other, self.scale).min(self.result_scale);
        let variance = rounded_quotient(&numerator, n, other, digits as i32 - 2 * self.scale as i32);
        let value = match self.spread {
            Spread::VarSamp | Spread::VarPop => variance,
            // The root of v / 10^d is root(v * 10^d) / 10^d.
            _ => variance.times(&power_of_ten(digits)).root(),
        };
        let value = value.times(&power_of_ten(self.result_scale - digits)).to_i128();
        Some(value.filter(|v| v.unsigned_abs() < LIMIT))
    }
}

/// `numerator / (n * m) * 10^shift`, rounded half up.
fn rounded_quotient(numerator: &Big, n: u64, m: u64, shift: i32) -> Big {
    let mut top = numerator.clone();
    let mut bottom = Big::from_i128(i128::from(n)).times_small(m);
    if shift >= 0 {
        top = top.times(&power_of_ten(shift.unsigned_abs()));
    } else {
        bottom = bottom.times(&power_of_ten(shift.unsigned_abs()));
    }
    // floor(top / bottom + 1/2) = floor((2 top + bottom) / (2 bottom)), divided step by step.
    let mut value = top.times_small(2).plus(&bottom).over_small(2).over_small(n).over_small(m);
    let mut rest = if shift < 0 { shift.unsigned_abs() } else { 0 };
    while rest > 0 {
        let step = rest.min(19);
        value = value.over_small(10_u64.pow(step));
        rest -= step;
    }
    value
}

/// How many digits after the point PostgreSQL gives the quotient of these (`select_div_scale`): at least 16 significant
/// ones, counted in digits of base 10,000.
fn quotient_scale(numerator: &Big, n: u64, m: u64, scale: u32) -> u32 {
    let top = first_digit(numerator.to_f64(0) / 10f64.powi(2 * scale as i32));
    let bottom = first_digit(n as f64 * m as f64);
    let weight = top.0 - bottom.0 - i32::from(top.1 <= bottom.1);
    // A numeric without a modifier has as many digits as its value needs, seldom this many.
    let least = if i64::from(scale) == i64::from(crate::types::FREE_NUMERIC_SCALE) { 0 } else { 2 * scale };
    (16 - 4 * weight).clamp(0, 1000).unsigned_abs().max(least)
}

/// The place of the first digit of base 10,000 of a positive number, and the digit.
fn first_digit(value: f64) -> (i32, i32) {
    let mut weight = value.log(10_000.0).floor() as i32;
    // The logarithm may miss a power by a hair.
    while value >= 10_000f64.powi(weight + 1) {
        weight += 1;
    }
    while weight > -80 && value < 10_000f64.powi(weight) {
        weight -= 1;
    }
    (weight, (value / 10_000f64.powi(weight)) as i32)
}

impl State for ExactSpread {
    fn grow(&mut self, len: usize) {
        self.sums.grow(len, [0; 4]);
        self.squares.grow(len, [0; 6]);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        macro_rules! each {
            ($type:ty) => {
                for (i, value) in rows.values.as_primitive::<$type>().values().iter().enumerate() {
                    self.add(rows.slots[i], i128::from(*value), rows.weight(i));
                }
            };
        }
        match rows.values.data_type() {
            DataType::Int16 => each!(Int16Type),
            DataType::Int32 => each!(Int32Type),
            DataType::Int64 => each!(Int64Type),
            DataType::Decimal128(..) => each!(Decimal128Type),
            other => return Err(Error::internal(format!("variance of {other}"))),
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        let values = slots.iter().zip(counts).map(|(s, c)| self.value(*s, *c).map(Option::unwrap_or_default));
        let array: Decimal128Array = values.collect();
        Ok(Arc::new(array.with_precision_and_scale(38, self.result_scale as i8)?))
    }
    fn check(&self, slots: &[u32], _: u16, status: &mut [u16]) {
        for (slot, status) in slots.iter().zip(status) {
            // Squares are never negative together, unless more was taken away than was there.
            if self.squares.get(*slot)[5] >> 63 == 1 {
                *status = NEGATIVE;
            }
        }
    }
    fn check_results(&self, slots: &[u32], counts: &[i64], overflow: u16, status: &mut [u16]) {
        for (i, slot) in slots.iter().enumerate() {
            // Nothing near the limit can come of small squares: spare the division.
            let small = self.squares.get(*slot)[1..].iter().all(|w| *w == 0) && self.scale == 0;
            if !small && counts[i] > 0 && self.value(*slot, counts[i]) == Some(None) {
                status[i] = status[i].max(overflow);
            }
        }
    }
    fn is_zero(&self, slot: u32) -> bool {
        *self.sums.get(slot) == [0; 4] && *self.squares.get(slot) == [0; 6]
    }
    fn clear(&mut self, slot: u32) {
        *self.sums.get_mut(slot) = [0; 4];
        *self.squares.get_mut(slot) = [0; 6];
    }
    fn bytes(&self) -> usize {
        self.sums.bytes() + self.squares.bytes()
    }
}

/// Sums of products of floats, each product kept as the two floats that make it up.
#[derive(Debug, Default)]
struct Products(FloatSums);

impl Products {
    #[inline]
    fn add(&mut self, slot: u32, x: f64, y: f64, weight: i64) {
        let high = x * y;
        self.0.add(slot, high, weight);
        if high.is_finite() {
            let low = x.mul_add(y, -high);
            if low != 0.0 {
                self.0.add(slot, low, weight);
            }
        }
    }
}

/// `n * sum(xy) - sum(x) * sum(y)`, rounded once; not a number when infinities take part.
fn central(slot: u32, n: i64, products: &Products, x: &FloatSums, y: &FloatSums) -> f64 {
    if products.0.is_special(slot) || x.is_special(slot) || y.is_special(slot) {
        return f64::NAN;
    }
    let ((p, pe), (x, xe), (y, ye)) = (products.0.exact(slot), x.exact(slot), y.exact(slot));
    // All on the lowest exponent; windows and wide sums start at different ones.
    let low = pe.min(xe + ye);
    let lift = |b: Big, by: i32| {
        let mut words = vec![0_u64; by.unsigned_abs() as usize / 64];
        words.push(1 << (by.unsigned_abs() % 64));
        // A one in the top bit would be a sign.
        words.push(0);
        b.times(&Big::from_words(&words))
    };
    let first = lift(p.times_small(n.unsigned_abs()), pe - low);
    let second = lift(x.times(&y), xe + ye - low);
    first.minus(&second).to_f64(low)
}

/// Sum and sum of squares of floats.
#[derive(Debug)]
struct FloatSpread {
    sums: FloatSums,
    squares: Products,
    spread: Spread,
}

impl State for FloatSpread {
    fn grow(&mut self, len: usize) {
        self.sums.grow(len);
        self.squares.0.grow(len);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let values = doubles(rows.values)?;
        for (i, slot) in rows.slots.iter().enumerate() {
            let (x, weight) = (values.value(i), rows.weight(i));
            self.sums.add(*slot, x, weight);
            self.squares.add(*slot, x, x, weight);
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        let value = |(slot, n): (&u32, &i64)| {
            let sample = matches!(self.spread, Spread::VarSamp | Spread::StddevSamp);
            if *n <= 0 || sample && *n == 1 {
                return None;
            }
            let central = central(*slot, *n, &self.squares, &self.sums, &self.sums).max_or_nan(0.0);
            let variance = central / *n as f64 / if sample { *n as f64 - 1.0 } else { *n as f64 };
            Some(match self.spread {
                Spread::VarSamp | Spread::VarPop => variance,
                _ => variance.sqrt(),
            })
        };
        Ok(Arc::new(slots.iter().zip(counts).map(value).collect::<Float64Array>()))
    }
    fn check(&self, slots: &[u32], overflow: u16, status: &mut [u16]) {
        if !self.squares.0.has_special() {
            return;
        }
        for (slot, status) in slots.iter().zip(status) {
            if self.squares.0.is_special(*slot) && !self.sums.is_special(*slot) {
                *status = (*status).max(overflow);
            }
        }
    }
    fn is_zero(&self, slot: u32) -> bool {
        self.sums.is_zero(slot) && self.squares.0.is_zero(slot)
    }
    fn clear(&mut self, slot: u32) {
        self.sums.clear(slot);
        self.squares.0.clear(slot);
    }
    fn bytes(&self) -> usize {
        self.sums.bytes() + self.squares.0.bytes()
    }
}

trait MaxOrNan {
    /// The greater one; not a number stays so.
    fn max_or_nan(self, other: f64) -> f64;
}
impl MaxOrNan for f64 {
    fn max_or_nan(self, other: f64) -> f64 {
        if self < other { other } else { self }
    }
}

/// A column of floats as doubles.
fn doubles(values: &ArrayRef) -> Result<Float64Array> {
    Ok(match values.data_type() {
        DataType::Float64 => values.as_primitive().clone(),
        DataType::Float32 => {
            let narrow: &Float32Array = values.as_primitive();
            narrow.unary(f64::from)
        }
        other => return Err(Error::internal(format!("floats expected, not {other}"))),
    })
}

/// Sums over pairs; values are structs of (Y, X).
#[derive(Debug)]
struct PairSums {
    x: FloatSums,
    y: FloatSums,
    xx: Products,
    yy: Products,
    xy: Products,
    kind: Pairs,
}

impl PairSums {
    fn needs(&self) -> (bool, bool, bool) {
        use Pairs::*;
        let xx = matches!(self.kind, Corr | Sxx | R2 | Slope | Intercept);
        let yy = matches!(self.kind, Corr | Syy | R2);
        let xy = matches!(self.kind, Corr | CovarPop | CovarSamp | Sxy | R2 | Slope | Intercept);
        (xx, yy, xy)
    }

    fn value(&self, slot: u32, n: i64) -> Option<f64> {
        if n <= 0 {
            return None;
        }
        let count = n as f64;
        let xx = || central(slot, n, &self.xx, &self.x, &self.x).max_or_nan(0.0) / count;
        let yy = || central(slot, n, &self.yy, &self.y, &self.y).max_or_nan(0.0) / count;
        let xy = || central(slot, n, &self.xy, &self.x, &self.y) / count;
        match self.kind {
            // Counted elsewhere.
            Pairs::Count => None,
            Pairs::Sxx => Some(xx()),
            Pairs::Syy => Some(yy()),
            Pairs::Sxy => Some(xy()),
            Pairs::AvgX => Some(self.x.value(slot) / count),
            Pairs::AvgY => Some(self.y.value(slot) / count),
            Pairs::CovarPop => Some(xy() / count),
            Pairs::CovarSamp => (n > 1).then(|| xy() / (count - 1.0)),
            Pairs::Corr => {
                let (xx, yy) = (xx(), yy());
                (xx != 0.0 && yy != 0.0).then(|| xy() / (xx * yy).sqrt())
            }
            Pairs::R2 => {
                let (xx, yy) = (xx(), yy());
                if xx == 0.0 {
                    return None;
                }
                let xy = xy();
                Some(if yy == 0.0 { 1.0 } else { (xy * xy) / (xx * yy) })
            }
            Pairs::Slope => {
                let xx = xx();
                (xx != 0.0).then(|| xy() / xx)
            }
            Pairs::Intercept => {
                let xx = xx();
                (xx != 0.0).then(|| (self.y.value(slot) - self.x.value(slot) * xy() / xx) / count)
            }
        }
    }
}

impl State for PairSums {
    fn grow(&mut self, len: usize) {
        let (xx, yy, xy) = self.needs();
        self.x.grow(len);
        self.y.grow(len);
        // What is not needed stays empty.
        for (products, needed) in [(&mut self.xx, xx), (&mut self.yy, yy), (&mut self.xy, xy)] {
            if needed {
                products.0.grow(len);
            }
        }
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let pair = rows.values.as_struct();
        let (ys, xs) = (doubles(pair.column(0))?, doubles(pair.column(1))?);
        let (xx, yy, xy) = self.needs();
        for (i, slot) in rows.slots.iter().enumerate() {
            let (x, y, weight) = (xs.value(i), ys.value(i), rows.weight(i));
            self.x.add(*slot, x, weight);
            self.y.add(*slot, y, weight);
            if xx {
                self.xx.add(*slot, x, x, weight);
            }
            if yy {
                self.yy.add(*slot, y, y, weight);
            }
            if xy {
                self.xy.add(*slot, x, y, weight);
            }
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        if self.kind == Pairs::Count {
            return Ok(Arc::new(Int64Array::from(counts.to_vec())));
        }
        Ok(Arc::new(slots.iter().zip(counts).map(|(s, n)| self.value(*s, *n)).collect::<Float64Array>()))
    }
    fn check(&self, slots: &[u32], overflow: u16, status: &mut [u16]) {
        if ![&self.xx, &self.yy, &self.xy].iter().any(|p| p.0.has_special()) {
            return;
        }
        for (slot, status) in slots.iter().zip(status) {
            let special = [&self.xx, &self.yy, &self.xy].iter().any(|p| p.0.is_special(*slot));
            if special && !self.x.is_special(*slot) && !self.y.is_special(*slot) {
                *status = (*status).max(overflow);
            }
        }
    }
    fn is_zero(&self, slot: u32) -> bool {
        let (xx, yy, xy) = self.needs();
        let products = [(&self.xx, xx), (&self.yy, yy), (&self.xy, xy)];
        self.x.is_zero(slot)
            && self.y.is_zero(slot)
            && products.iter().all(|(p, needed)| !needed || p.0.is_zero(slot))
    }
    fn clear(&mut self, slot: u32) {
        let (xx, yy, xy) = self.needs();
        self.x.clear(slot);
        self.y.clear(slot);
        for (products, needed) in [(&mut self.xx, xx), (&mut self.yy, yy), (&mut self.xy, xy)] {
            if needed {
                products.0.clear(slot);
            }
        }
    }
    fn bytes(&self) -> usize {
        self.x.bytes() + self.y.bytes() + self.xx.0.bytes() + self.yy.0.bytes() + self.xy.0.bytes()
    }
}

/// Sums of intervals, field by field.
#[derive(Debug)]
struct IntervalSum {
    /// Months, days, nanoseconds.
    sums: Slab<[i128; 3]>,
}

impl IntervalSum {
    fn value(&self, slot: u32) -> Option<arrow::datatypes::IntervalMonthDayNano> {
        let [months, days, nanos] = *self.sums.get(slot);
        Some(arrow::datatypes::IntervalMonthDayNano {
            months: i32::try_from(months).ok()?,
            days: i32::try_from(days).ok()?,
            nanoseconds: i64::try_from(nanos).ok()?,
        })
    }
}

impl State for IntervalSum {
    fn grow(&mut self, len: usize) {
        self.sums.grow(len, [0; 3]);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let values = rows.values.as_primitive::<arrow::datatypes::IntervalMonthDayNanoType>().values();
        for (i, (slot, value)) in rows.slots.iter().zip(values.iter()).enumerate() {
            let weight = i128::from(rows.weight(i));
            let sum = self.sums.get_mut(*slot);
            sum[0] += i128::from(value.months) * weight;
            sum[1] += i128::from(value.days) * weight;
            sum[2] = sum[2].wrapping_add(i128::from(value.nanoseconds) * weight);
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        let values: Vec<_> = slots.iter().map(|s| self.value(*s).unwrap_or_default()).collect();
        Ok(Arc::new(arrow::array::IntervalMonthDayNanoArray::new(values.into(), nulls_of(counts))))
    }
    fn check(&self, slots: &[u32], overflow: u16, status: &mut [u16]) {
        for (slot, status) in slots.iter().zip(status) {
            if self.value(*slot).is_none() {
                *status = (*status).max(overflow);
            }
        }
    }
    fn is_zero(&self, slot: u32) -> bool {
        *self.sums.get(slot) == [0; 3]
    }
    fn clear(&mut self, slot: u32) {
        *self.sums.get_mut(slot) = [0; 3];
    }
    fn bytes(&self) -> usize {
        self.sums.bytes()
    }
}

/// The state of `sum(interval)`.
pub fn interval_sum_state() -> Box<dyn State> {
    Box::new(IntervalSum { sums: Slab::new() })
}

/// The state of an aggregate of the variance family.
pub fn spread_state(input: &DataType, result: &DataType, spread: Spread) -> Result<Box<dyn State>> {
    let scale = match input {
        DataType::Float32 | DataType::Float64 => {
            let (sums, squares) = (FloatSums::default(), Products::default());
            return Ok(Box::new(FloatSpread { sums, squares, spread }));
        }
        DataType::Decimal128(_, s) if *s >= 0 => *s,
        _ => 0,
    };
    let DataType::Decimal128(38, result_scale) = result else {
        return Err(Error::internal(format!("variance of {input} as {result}")));
    };
    Ok(Box::new(ExactSpread {
        sums: Slab::new(),
        squares: Slab::new(),
        spread,
        scale: scale.unsigned_abs().into(),
        result_scale: result_scale.unsigned_abs().into(),
    }))
}

/// The state of an aggregate over pairs of floats.
pub fn pairs_state(kind: Pairs) -> Box<dyn State> {
    let (x, y) = (FloatSums::default(), FloatSums::default());
    let (xx, yy, xy) = (Products::default(), Products::default(), Products::default());
    Box::new(PairSums { x, y, xx, yy, xy, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64], spread: Spread) -> f64 {
        let mut state = spread_state(&DataType::Float64, &DataType::Float64, spread).unwrap();
        state.grow(1);
        let array: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let slots = vec![0; values.len()];
        state.update(&Rows { slots: &slots, weights: None, values: &array }).unwrap();
        let out = state.output(&[0], &[values.len() as i64]).unwrap();
        out.as_primitive::<arrow::datatypes::Float64Type>().value(0)
    }

    #[test]
    fn a_small_variance_around_a_large_mean_is_exact() {
        assert_eq!(spread(&[1e9, 1e9 + 1.0, 1e9 + 2.0], Spread::VarSamp), 1.0);
        assert_eq!(spread(&[1e15 + 0.25, 1e15 + 0.75], Spread::VarPop), 0.0625);
        assert_eq!(spread(&[0.1, 0.1, 0.1], Spread::StddevPop), 0.0);
        assert!(spread(&[1.0, f64::INFINITY], Spread::VarSamp).is_nan());
    }

    #[test]
    fn retraction_leaves_nothing_behind() {
        let mut state = pairs_state(Pairs::Slope);
        state.grow(1);
        let column = |v: &[f64]| Arc::new(Float64Array::from(v.to_vec())) as ArrayRef;
        let pairs = |y: &[f64], x: &[f64]| -> ArrayRef {
            let field = |n| Arc::new(arrow::datatypes::Field::new(n, DataType::Float64, true));
            let fields = vec![(field("y"), column(y)), (field("x"), column(x))];
            Arc::new(arrow::array::StructArray::from(fields))
        };
        let rows = pairs(&[1e-20, 7.3, 1e30, 2.0, 4.0], &[3e7, 0.1, -1e-9, 1.0, 2.0]);
        state.update(&Rows { slots: &[0; 5], weights: None, values: &rows }).unwrap();
        state.update(&Rows { slots: &[0; 3], weights: Some(&[-1; 3]), values: &rows.slice(0, 3) }).unwrap();
        let slope = state.output(&[0], &[2]).unwrap();
        assert_eq!(slope.as_primitive::<arrow::datatypes::Float64Type>().value(0), 2.0);
        state.update(&Rows { slots: &[0; 2], weights: Some(&[-1; 2]), values: &rows.slice(3, 2) }).unwrap();
        assert!(state.is_zero(0));
    }
}
