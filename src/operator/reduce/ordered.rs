//! Aggregates over the values of a group in order, by slot: array_agg, string_agg, the JSON aggregates, percentiles,
//! mode, first and last value.
//!
//! A group keeps the multiset of its argument rows as order-preserving bytes: the order that the call asks for, then
//! the arguments ascending with NULLs last. So the order of rows is always complete, and a result depends neither on
//! how rows came nor on what was there before. Rows that agree in all of it are interchangeable.
//!
//! The first or last value, and a percentile, decode only the rows they show; the others read the group.
//!
//! Boundary: argument rows by slot.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, Float64Array, IntervalMonthDayNanoArray,
    ListArray, StringBuilder, UInt32Array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
};

use crate::error::{Error, ErrorKind, Result};
use crate::expr::aggregate::{Order, Ordered, Shape};
use crate::zset::key::RowEncoder;

use super::extreme::Sets;
use super::json::JsonColumn;
use super::state::{NEGATIVE, Rows, State};

/// The rows of all groups in order.
#[derive(Debug)]
struct OrderedRows {
    sets: Sets<Box<[u8]>>,
    encoder: Box<RowEncoder>,
    /// For each encoded column the argument it is; an argument that is ordered by is encoded only there.
    columns: Vec<usize>,
    /// Where argument `i` is among the encoded columns.
    place: Vec<usize>,
    kind: Ordered,
    shape: Shape,
    /// Fields of the arguments.
    fields: Vec<FieldRef>,
    result: DataType,
}

/// Rows of several groups: indexes into decoded rows, and where each group's begin.
struct Picked<'a> {
    rows: Vec<&'a [u8]>,
    /// Which of `rows`, repeated as often as the row is there.
    picks: Vec<u32>,
    offsets: Vec<i32>,
}

impl OrderedRows {
    fn entries(&self, slot: u32) -> impl DoubleEndedIterator<Item = (&[u8], i64)> {
        self.sets.of(slot).iter().filter(|(_, n)| *n > 0).map(|(v, n)| (&**v, n))
    }

    /// All rows of these groups.
    fn all(&self, slots: &[u32]) -> Result<Picked<'_>> {
        let mut picked = Picked { rows: vec![], picks: vec![], offsets: vec![0] };
        for slot in slots {
            for (row, count) in self.entries(*slot) {
                let at = picked.rows.len() as u32;
                picked.rows.push(row);
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                if picked.picks.len().saturating_add(count) > i32::MAX as usize {
                    return Err(Error::new(ErrorKind::ProgramLimit, "aggregate result is too large"));
                }
                picked.picks.extend(std::iter::repeat_n(at, count));
            }
            picked.offsets.push(picked.picks.len() as i32);
        }
        Ok(picked)
    }

    /// An argument's column of some rows, one per row; NULL where there is no row.
    fn column(&self, argument: usize, rows: &[Option<&[u8]>]) -> Result<ArrayRef> {
        let field = &self.fields[argument];
        let there: Vec<&[u8]> = rows.iter().copied().flatten().collect();
        if there.is_empty() {
            return Ok(new_null_array(field.data_type(), rows.len()));
        }
        let decoded = self.decode(argument, there)?;
        if decoded.len() == rows.len() {
            return Ok(decoded);
        }
        let mut at = 0;
        let picks: UInt32Array = rows
            .iter()
            .map(|r| {
                r.map(|_| {
                    at += 1;
                    at - 1
                })
            })
            .collect();
        Ok(take(&decoded, &picks, None)?)
    }

    fn decode(&self, argument: usize, rows: Vec<&[u8]>) -> Result<ArrayRef> {
        if rows.is_empty() {
            return Ok(new_null_array(self.fields[argument].data_type(), 0));
        }
        let mut columns = self.encoder.decode_bytes(rows)?;
        Ok(columns.swap_remove(self.place[argument]))
    }

    /// The first (or last) value of each group.
    fn edge(&self, slots: &[u32], last: bool) -> Result<ArrayRef> {
        let row = |slot: &u32| {
            let mut entries = self.entries(*slot);
            if last { entries.next_back() } else { entries.next() }.map(|(row, _)| row)
        };
        let rows: Vec<Option<&[u8]>> = slots.iter().map(row).collect();
        self.column(0, &rows)
    }

    fn modes(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mode = |slot: &u32| {
            // Equal values are the rows of one entry; the first of the most frequent wins.
            let mut best: Option<(&[u8], i64)> = None;
            for (row, count) in self.entries(*slot) {
                if best.is_none_or(|(_, most)| count > most) {
                    best = Some((row, count));
                }
            }
            best.map(|(row, _)| row)
        };
        let rows: Vec<Option<&[u8]>> = slots.iter().map(mode).collect();
        self.column(0, &rows)
    }

    /// For each group and fraction the two rows around it and how far it is between them.
    fn percentile_rows(&self, slots: &[u32]) -> Vec<Option<(&[u8], &[u8], f64)>> {
        let mut out = Vec::with_capacity(slots.len() * self.shape.fractions.len());
        for slot in slots {
            let n: i64 = self.entries(*slot).map(|(_, count)| count).sum();
            for fraction in &self.shape.fractions {
                let Some(p) = fraction.map(f64::from_bits).filter(|_| n > 0) else {
                    out.push(None);
                    continue;
                };
                let (low, high, between) = if self.kind == Ordered::Discrete {
                    let row = ((p * n as f64).ceil() as i64 - 1).clamp(0, n - 1);
                    (row, row, 0.0)
                } else {
                    let at = p * (n - 1) as f64;
                    (at.floor() as i64, (at.ceil() as i64).min(n - 1), at - at.floor())
                };
                out.push(self.pair(*slot, low, high).map(|(a, b)| (a, b, between)));
            }
        }
        out
    }

    /// The rows at two positions of a group.
    fn pair(&self, slot: u32, low: i64, high: i64) -> Option<(&[u8], &[u8])> {
        let (mut seen, mut first) = (0, None);
        for (row, count) in self.entries(slot) {
            seen += count;
            if first.is_none() && seen > low {
                first = Some(row);
            }
            if seen > high {
                return first.map(|f| (f, row));
            }
        }
        None
    }

    fn percentiles(&self, slots: &[u32]) -> Result<ArrayRef> {
        let rows = self.percentile_rows(slots);
        let low: Vec<Option<&[u8]>> = rows.iter().map(|r| r.map(|(a, ..)| a)).collect();
        let values = self.column(0, &low)?;
        let values = if self.kind == Ordered::Discrete {
            values
        } else {
            let high: Vec<Option<&[u8]>> = rows.iter().map(|r| r.map(|(_, b, _)| b)).collect();
            let between: Vec<f64> = rows.iter().map(|r| r.map_or(0.0, |(.., f)| f)).collect();
            interpolate(&values, &self.column(0, &high)?, &between)?
        };
        if !self.shape.array {
            return Ok(values);
        }
        let DataType::List(item) = &self.result else {
            return Err(Error::internal("percentiles that are not an array"));
        };
        let width = self.shape.fractions.len();
        let offsets: Vec<i32> = (0..=slots.len()).map(|i| (i * width) as i32).collect();
        let nulls: NullBuffer = slots.iter().map(|s| self.entries(*s).next().is_some()).collect();
        let values = as_type(values, item.data_type())?;
        Ok(Arc::new(ListArray::try_new(
            item.clone(),
            OffsetBuffer::new(offsets.into()),
            values,
            Some(nulls),
        )?))
    }

    fn arrays(&self, slots: &[u32]) -> Result<ArrayRef> {
        let DataType::List(item) = &self.result else {
            return Err(Error::internal("an array_agg that is not an array"));
        };
        let picked = self.all(slots)?;
        let values = take(&self.decode(0, picked.rows)?, &UInt32Array::from(picked.picks), None)?;
        let values = as_type(values, item.data_type())?;
        let nulls: NullBuffer = picked.offsets.windows(2).map(|w| w[0] < w[1]).collect();
        let offsets = OffsetBuffer::new(picked.offsets.into());
        Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, Some(nulls))?))
    }

    fn texts(&self, slots: &[u32]) -> Result<ArrayRef> {
        let picked = self.all(slots)?;
        let columns = if picked.rows.is_empty() { vec![] } else { self.encoder.decode_bytes(picked.rows)? };
        let binary = |argument: usize| -> Result<Option<ArrayRef>> {
            let column = columns.get(self.place[argument]);
            Ok(column.map(|c| cast(c, &DataType::Binary)).transpose()?)
        };
        let (values, delimiters) = (binary(0)?, if self.fields.len() > 1 { binary(1)? } else { None });
        let mut out = BinaryBuilder::new();
        for group in picked.offsets.windows(2) {
            let picks = &picked.picks[group[0] as usize..group[1] as usize];
            if picks.is_empty() {
                out.append_null();
                continue;
            }
            let mut joined: Vec<u8> = Vec::new();
            for (i, pick) in picks.iter().enumerate() {
                let at = *pick as usize;
                if let Some(d) = delimiters.as_ref().filter(|d| i > 0 && d.is_valid(at)) {
                    joined.extend_from_slice(d.as_binary::<i32>().value(at));
                }
                if let Some(v) = &values {
                    joined.extend_from_slice(v.as_binary::<i32>().value(at));
                }
            }
            out.append_value(joined);
        }
        as_type(Arc::new(out.finish()), &self.result)
    }

    fn json(&self, slots: &[u32]) -> Result<ArrayRef> {
        let binary = matches!(self.kind, Ordered::Jsonb | Ordered::JsonbObject);
        let object = matches!(self.kind, Ordered::JsonObject | Ordered::JsonbObject);
        let picked = self.all(slots)?;
        let columns = if picked.rows.is_empty() { vec![] } else { self.encoder.decode_bytes(picked.rows)? };
        let of = |argument: usize| columns.get(self.place[argument]).map(|c| (c, &self.fields[argument]));
        let value = of(usize::from(object)).map(|(c, f)| JsonColumn::new(c, f, binary)).transpose()?;
        let key = if object { of(0) } else { None };
        let key = key.map(|(c, f)| JsonColumn::new(c, f, binary)).transpose()?;
        let mut out = StringBuilder::new();
        let mut text = String::new();
        for group in picked.offsets.windows(2) {
            let picks = &picked.picks[group[0] as usize..group[1] as usize];
            let Some(value) = value.as_ref().filter(|_| !picks.is_empty()) else {
                out.append_null();
                continue;
            };
            text.clear();
            match &key {
                None => super::json::write_array(value, picks, &mut text)?,
                Some(key) if binary => super::json::write_jsonb_object(key, value, picks, &mut text)?,
                Some(key) => super::json::write_json_object(key, value, picks, &mut text)?,
            }
            out.append_value(&text);
        }
        Ok(Arc::new(out.finish()))
    }
}

fn as_type(array: ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(if array.data_type() == to { array } else { cast(&array, to)? })
}

/// Values between two columns.
fn interpolate(low: &ArrayRef, high: &ArrayRef, between: &[f64]) -> Result<ArrayRef> {
    fn each<T: ArrowPrimitiveType>(
        low: &ArrayRef,
        high: &ArrayRef,
        between: &[f64],
        f: impl Fn(T::Native, T::Native, f64) -> T::Native,
    ) -> Vec<T::Native> {
        let (low, high) = (low.as_primitive::<T>().values(), high.as_primitive::<T>().values());
        low.iter().zip(high.iter()).zip(between).map(|((a, b), at)| f(*a, *b, *at)).collect()
    }
    let nulls = low.nulls().cloned();
    Ok(match low.data_type() {
        DataType::Float64 => {
            let lerp = |a: f64, b: f64, at: f64| if a == b { a } else { a + at * (b - a) };
            Arc::new(Float64Array::new(each::<Float64Type>(low, high, between, lerp).into(), nulls))
        }
        DataType::Interval(_) => {
            let values = each::<IntervalMonthDayNanoType>(low, high, between, between_intervals);
            Arc::new(IntervalMonthDayNanoArray::new(values.into(), nulls))
        }
        other => return Err(Error::internal(format!("percentile_cont of {other}"))),
    })
}

/// PostgreSQL's `interval_lerp`: the difference, times the fraction, added to the first.
fn between_intervals(a: IntervalMonthDayNano, b: IntervalMonthDayNano, at: f64) -> IntervalMonthDayNano {
    let (months, days) = (i64::from(b.months) - i64::from(a.months), i64::from(b.days) - i64::from(a.days));
    let micros = (b.nanoseconds as f64 - a.nanoseconds as f64) / 1000.0;
    // As interval * float8: fractions of months become days of a 30-day month, those of days become time.
    let month_part = months as f64 * at;
    let day_part = days as f64 * at;
    let from_months = (month_part.fract() * 30.0 * 1e6).round() / 1e6;
    let seconds = (day_part.fract() + from_months.fract()) * 86_400.0;
    let nanos = (micros * at + seconds * 1e6).round() * 1000.0;
    IntervalMonthDayNano {
        months: a.months.saturating_add(month_part as i32),
        days: a.days.saturating_add(day_part as i32).saturating_add(from_months as i32),
        nanoseconds: a.nanoseconds.saturating_add(nanos as i64),
    }
}

impl State for OrderedRows {
    fn grow(&mut self, len: usize) {
        self.sets.grow(len);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let arguments: Vec<ArrayRef> = if self.fields.len() == 1 {
            vec![Arc::clone(rows.values)]
        } else {
            rows.values.as_struct().columns().to_vec()
        };
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| Arc::clone(&arguments[*c])).collect();
        let encoded = self.encoder.encode(&columns)?;
        for (i, slot) in rows.slots.iter().enumerate() {
            self.sets.add(*slot, encoded.row(i).data(), rows.weight(i));
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], _: &[i64]) -> Result<ArrayRef> {
        let array = match self.kind {
            Ordered::First => self.edge(slots, false)?,
            Ordered::Last => self.edge(slots, true)?,
            Ordered::Mode => self.modes(slots)?,
            Ordered::Continuous | Ordered::Discrete => self.percentiles(slots)?,
            Ordered::Array => self.arrays(slots)?,
            Ordered::Text => self.texts(slots)?,
            Ordered::Json | Ordered::Jsonb | Ordered::JsonObject | Ordered::JsonbObject => {
                self.json(slots)?
            }
        };
        as_type(array, &self.result)
    }
    fn check(&self, slots: &[u32], overflow: u16, status: &mut [u16]) {
        if self.sets.has_negative() {
            for (slot, status) in slots.iter().zip(&mut *status) {
                if self.sets.is_negative(*slot) {
                    *status = NEGATIVE;
                }
            }
        }
        if !matches!(self.kind, Ordered::JsonObject | Ordered::JsonbObject) {
            return;
        }
        // Keys sort before values, so NULL keys are at an end unless there is an ORDER BY: look at all then.
        for (slot, status) in slots.iter().zip(status) {
            if self.has_null_key(*slot).unwrap_or(false) {
                *status = (*status).max(overflow);
            }
        }
    }
    fn error(&self) -> Option<Error> {
        let object = matches!(self.kind, Ordered::JsonObject | Ordered::JsonbObject);
        object.then(|| Error::new(ErrorKind::InvalidParameter, "field name must not be null"))
    }
    fn is_zero(&self, slot: u32) -> bool {
        self.sets.of(slot).is_empty()
    }
    fn clear(&mut self, slot: u32) {
        self.sets.clear(slot);
    }
    fn bytes(&self) -> usize {
        self.sets.bytes()
    }
    fn needs_counts(&self) -> bool {
        false
    }
}

impl OrderedRows {
    fn has_null_key(&self, slot: u32) -> Result<bool> {
        let rows: Vec<Option<&[u8]>> = if self.shape.order.is_empty() {
            self.entries(slot).next_back().map(|(row, _)| Some(row)).into_iter().collect()
        } else {
            self.entries(slot).map(|(row, _)| Some(row)).collect()
        };
        Ok(!rows.is_empty() && self.column(0, &rows)?.null_count() > 0)
    }
}

/// The state of an aggregate over ordered rows; `fields` are its arguments.
pub fn ordered_state(
    kind: Ordered,
    shape: &Shape,
    fields: Vec<FieldRef>,
    result: &DataType,
) -> Result<Box<dyn State>> {
    let mut columns: Vec<usize> = Vec::with_capacity(fields.len());
    let mut orders: Vec<Order> = Vec::with_capacity(fields.len());
    let rest = (0..fields.len()).map(|i| (i, Order::ASCENDING));
    for (column, order) in shape.order.iter().copied().chain(rest) {
        if column >= fields.len() {
            return Err(Error::internal("an aggregate ordered by what it has not"));
        }
        if !columns.contains(&column) {
            columns.push(column);
            orders.push(order);
        }
    }
    let types = columns.iter().zip(&orders).map(|(c, o)| (fields[*c].data_type().clone(), o.options()));
    let encoder = Box::new(RowEncoder::with_options(types)?);
    let place = (0..fields.len()).map(|i| columns.iter().position(|c| *c == i).unwrap_or(i)).collect();
    Ok(Box::new(OrderedRows {
        sets: Sets::default(),
        encoder,
        columns,
        place,
        kind,
        shape: shape.clone(),
        fields,
        result: result.clone(),
    }))
}

/// The fields of a call's arguments when they are kept together.
pub fn argument_struct(fields: &[FieldRef]) -> DataType {
    let named =
        fields.iter().enumerate().map(|(i, f)| Field::new(format!("c{i}"), f.data_type().clone(), true));
    DataType::Struct(named.collect())
}
