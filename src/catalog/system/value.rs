//! A value of a system relation, with the order and equality that sorting, grouping and joining use.
//!
//! Boundary: plain data; what a value's type is, its column or expression knows.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A value. Which PostgreSQL type it has is told by its column: oids and all whole numbers are [`Value::Int`], all
/// strings [`Value::Text`], numbers with fraction [`Value::Float`].
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// NULL.
    #[default]
    Null,
    /// A Boolean.
    Bool(bool),
    /// A whole number, an oid.
    Int(i64),
    /// A number with fraction (real, double precision, numeric).
    Float(f64),
    /// Text of any type.
    Text(Arc<str>),
    /// A timestamp or date: µs since the Unix epoch.
    Timestamp(i64),
    /// An interval.
    Interval {
        /// Months.
        months: i32,
        /// Days.
        days: i32,
        /// µs.
        micros: i64,
    },
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// An array.
    Array(Arc<ArrayValue>),
    /// A row.
    Record(Arc<[Value]>),
}

/// The elements of a one-dimensional array.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArrayValue {
    /// Number of the first element: 1, or 0 for int2vector and oidvector.
    pub lower: i64,
    /// The elements.
    pub items: Vec<Value>,
}

impl Value {
    /// An array that counts from 1.
    pub fn array(items: Vec<Value>) -> Value {
        Value::Array(Arc::new(ArrayValue { lower: 1, items }))
    }

    /// An int2vector or oidvector: counts from 0.
    pub fn vector(items: Vec<Value>) -> Value {
        Value::Array(Arc::new(ArrayValue { lower: 0, items }))
    }

    /// An array of texts.
    pub fn texts<'a>(items: impl IntoIterator<Item = &'a str>) -> Value {
        Value::array(items.into_iter().map(Value::from).collect())
    }

    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    /// The whole number.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(i) => Some(*i),
            Value::Float(f) => Some(*f as i64),
            _ => None,
        }
    }

    /// The number.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&ArrayValue> {
        match self {
            Value::Array(a) => Some(a),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Bool(_) => 0,
            Value::Int(_) | Value::Float(_) => 1,
            Value::Text(_) => 2,
            Value::Timestamp(_) => 3,
            Value::Interval { .. } => 4,
            Value::Bytes(_) => 5,
            Value::Array(_) => 6,
            Value::Record(_) => 7,
            Value::Null => 8,
        }
    }
}

impl Ord for Value {
    /// The order of ORDER BY ascending: NULL last, NaN greatest of numbers.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
                let (a, b) = (self.as_float().unwrap_or(0.0) + 0.0, other.as_float().unwrap_or(0.0) + 0.0);
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (
                Value::Interval { months, days, micros },
                Value::Interval { months: months2, days: days2, micros: micros2 },
            ) => interval_micros(*months, *days, *micros).cmp(&interval_micros(*months2, *days2, *micros2)),
            (Value::Array(a), Value::Array(b)) => a.items.cmp(&b.items),
            (Value::Record(a), Value::Record(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

fn interval_micros(months: i32, days: i32, micros: i64) -> i128 {
    (i128::from(months) * 30 + i128::from(days)) * 86_400_000_000 + i128::from(micros)
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Value::Null => state.write_u8(0),
            Value::Bool(b) => b.hash(state),
            // Equal numbers hash alike whether they have a fraction or not.
            Value::Int(_) | Value::Float(_) => {
                let f = self.as_float().unwrap_or(0.0) + 0.0;
                state.write_u64(if f.is_nan() { u64::MAX } else { f.to_bits() });
            }
            Value::Text(t) => t.hash(state),
            Value::Timestamp(t) => t.hash(state),
            Value::Interval { months, days, micros } => interval_micros(*months, *days, *micros).hash(state),
            Value::Bytes(b) => b.hash(state),
            Value::Array(a) => a.items.hash(state),
            Value::Record(r) => r.hash(state),
        }
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Value::Bool(v)
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::Text(v.into())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Value::Text(v.into())
    }
}
impl From<&String> for Value {
    fn from(v: &String) -> Self {
        Value::Text(v.as_str().into())
    }
}
impl From<char> for Value {
    fn from(v: char) -> Self {
        Value::Text(v.to_string().into())
    }
}
impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Value::Float(v)
    }
}
macro_rules! from_int {
    ($($t:ty)*) => { $(impl From<$t> for Value {
        fn from(v: $t) -> Self { Value::Int(i64::from(v)) }
    })* };
}
from_int!(i16 i32 i64 u16 u32);
impl From<usize> for Value {
    fn from(v: usize) -> Self {
        Value::Int(i64::try_from(v).unwrap_or(i64::MAX))
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Value::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn equal_numbers_of_different_kinds_are_one_key() {
        let set: HashSet<Value> =
            [Value::Int(1), Value::Float(1.0), Value::Float(0.0), Value::Float(-0.0)].into_iter().collect();
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn null_sorts_last() {
        let mut values = vec![Value::Null, Value::from("b"), Value::from("a")];
        values.sort();
        assert_eq!(values, [Value::from("a"), Value::from("b"), Value::Null]);
    }
}
