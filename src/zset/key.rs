//! Row keys: a stable vectorised hash of columns, and rows as comparable bytes.
//!
//! Both follow PostgreSQL's equality: -0 equals 0, every NaN equals every other, NULL is one value of its own, and
//! text is the same text in whatever Arrow layout it is held. The hash decides on which shard and worker a row
//! lives and will be written into durable state, so it depends on nothing but the values and [`HASH_VERSION`].
//!
//! Boundary: columns in, hashes or bytes out. No tables, no weights.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericByteArray, GenericByteViewArray, GenericListArray, OffsetSizeTrait,
    PrimitiveArray, StructArray, downcast_dictionary_array, downcast_integer,
};
use arrow::buffer::NullBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{
    ArrowPrimitiveType, ByteArrayType, ByteViewType, DataType, Date32Type, Date64Type, Decimal32Type,
    Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type, IntervalDayTime,
    IntervalDayTimeType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, i256,
};
use arrow::row::{Row, RowConverter, Rows, SortField};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::Result;

/// Version of the hash function: durable state written under another one must not be read as if it were this one.
pub const HASH_VERSION: u32 = 1;

/// Digits of pi: constants with nothing up their sleeve.
const SEED: u64 = 0x243f_6a88_85a3_08d3;
const K0: u64 = 0x1319_8a2e_0370_7344;
const K1: u64 = 0xa409_3822_299f_31d0;
const K2: u64 = 0x082e_fa98_ec4e_6c89;
const NULL_WORD: u64 = 0x4528_21e6_38d0_1377;

/// Multiplies to 128 bits and folds the halves: every input bit reaches both ends of the result.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline(always)]
fn combine(hash: u64, word: u64) -> u64 {
    fold(hash ^ K0, word ^ K1)
}

#[inline(always)]
fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, SEED)
}

/// The 64 bits that stand for a value of fixed width.
trait Word: Copy {
    fn word(self) -> u64;
}

macro_rules! integer_words {
    ($($t:ty),*) => { $(impl Word for $t {
        #[inline(always)]
        fn word(self) -> u64 {
            // Sign-extended, so that integer columns of different widths agree on equal numbers.
            self as i64 as u64
        }
    })* };
}
integer_words!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! float_words {
    ($($t:ty),*) => { $(impl Word for $t {
        #[inline(always)]
        fn word(self) -> u64 {
            u64::from(canonical(self).to_bits())
        }
    })* };
}
float_words!(f32, f64);

impl Word for i128 {
    #[inline(always)]
    fn word(self) -> u64 {
        fold(self as u64 ^ K2, ((self >> 64) as u64) ^ K1)
    }
}

impl Word for i256 {
    #[inline(always)]
    fn word(self) -> u64 {
        let (low, high) = self.to_parts();
        fold((low as i128).word() ^ K0, high.word() ^ K2)
    }
}

impl Word for IntervalDayTime {
    #[inline(always)]
    fn word(self) -> u64 {
        fold(self.days.word() ^ K2, self.milliseconds.word() ^ K1)
    }
}

impl Word for IntervalMonthDayNano {
    #[inline(always)]
    fn word(self) -> u64 {
        fold(fold(self.months.word() ^ K2, self.days.word() ^ K1) ^ K0, self.nanoseconds.word() ^ K2)
    }
}

/// One float for all that compare equal.
trait Canonical: Sized {
    fn canonical(self) -> Self;
}
macro_rules! canonical_floats {
    ($($t:ty),*) => { $(impl Canonical for $t {
        #[inline(always)]
        fn canonical(self) -> Self {
            // Adding +0 turns -0 into +0 and changes nothing else.
            if self.is_nan() { <$t>::NAN } else { self + 0.0 }
        }
    })* };
}
canonical_floats!(f32, f64);
#[inline(always)]
fn canonical<T: Canonical>(value: T) -> T {
    value.canonical()
}

/// Hashes rows of `columns` (all of one length) into `out`, which is cleared first. No columns: no hashes.
pub fn hash_columns(columns: &[ArrayRef], out: &mut Vec<u64>) {
    out.clear();
    append_hashes(columns, out);
}

/// Like [`hash_columns`], but keeps what is in `out` already.
pub fn append_hashes(columns: &[ArrayRef], out: &mut Vec<u64>) {
    let Some(first) = columns.first() else { return };
    let start = out.len();
    out.resize(start + first.len(), SEED);
    for column in columns {
        fold_column(column, &mut out[start..], combine);
    }
}

/// [`hash_columns`] that also returns the words of the columns that `keep` chooses (else nothing), from which the
/// hash was made: for a text its own hash.
pub fn hash_columns_keeping(
    columns: &[ArrayRef],
    keep: impl Fn(usize) -> bool,
    out: &mut Vec<u64>,
) -> Vec<Vec<u64>> {
    out.clear();
    out.resize(columns.first().map_or(0, |c| c.len()), SEED);
    let mut kept = vec![Vec::new(); columns.len()];
    for (i, column) in columns.iter().enumerate() {
        if keep(i) {
            kept[i].resize(column.len(), 0);
            fold_column(column, &mut kept[i], take_word);
            out.iter_mut().zip(&kept[i]).for_each(|(hash, word)| *hash = combine(*hash, *word));
        } else {
            fold_column(column, out, combine);
        }
    }
    kept
}

/// The hash of a row that has these 64-bit integers as its only columns, as [`hash_columns`] computes it.
pub fn hash_i64(values: &[i64]) -> u64 {
    values.iter().fold(SEED, |hash, value| combine(hash, value.word()))
}

/// Which of the 256 virtual shards a row with this hash belongs to.
#[inline]
pub fn shard_of(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// The hash as a `hashbrown` table should see it. The table takes its tag from the top bits, which all rows of a
/// shard share, so the halves are swapped.
#[inline]
pub fn table_hash(hash: u64) -> u64 {
    hash.rotate_left(32)
}

fn take_word(_: u64, word: u64) -> u64 {
    word
}

/// Applies `op(out[i], word of value i)` to the whole column.
fn fold_column<F: Fn(u64, u64) -> u64 + Copy>(array: &dyn Array, out: &mut [u64], op: F) {
    macro_rules! primitive {
        ($t:ty) => {
            fold_primitive::<$t, F>(array.as_primitive::<$t>(), out, op)
        };
    }
    downcast_integer! {
        array.data_type() => (primitive),
        DataType::Float32 => primitive!(Float32Type),
        DataType::Float64 => primitive!(Float64Type),
        DataType::Decimal32(_, _) => primitive!(Decimal32Type),
        DataType::Decimal64(_, _) => primitive!(Decimal64Type),
        DataType::Decimal128(_, _) => primitive!(Decimal128Type),
        DataType::Decimal256(_, _) => primitive!(Decimal256Type),
        DataType::Interval(IntervalUnit::YearMonth) => primitive!(IntervalYearMonthType),
        DataType::Interval(IntervalUnit::DayTime) => primitive!(IntervalDayTimeType),
        DataType::Interval(IntervalUnit::MonthDayNano) => primitive!(IntervalMonthDayNanoType),
        DataType::Date32 => primitive!(Date32Type),
        DataType::Date64 => primitive!(Date64Type),
        DataType::Time32(TimeUnit::Second) => primitive!(Time32SecondType),
        DataType::Time32(TimeUnit::Millisecond) => primitive!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => primitive!(Time64MicrosecondType),
        DataType::Time64(TimeUnit::Nanosecond) => primitive!(Time64NanosecondType),
        DataType::Timestamp(TimeUnit::Second, _) => primitive!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => primitive!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => primitive!(TimestampNanosecondType),
        DataType::Boolean => {
            let values = array.as_boolean();
            fold_indexed(array.nulls(), out, op, |i| u64::from(values.value(i)) + 1)
        }
        DataType::Utf8 => fold_byte_array(array.as_string::<i32>(), out, op),
        DataType::LargeUtf8 => fold_byte_array(array.as_string::<i64>(), out, op),
        DataType::Binary => fold_byte_array(array.as_binary::<i32>(), out, op),
        DataType::LargeBinary => fold_byte_array(array.as_binary::<i64>(), out, op),
        DataType::Utf8View => fold_view_array(array.as_string_view(), out, op),
        DataType::BinaryView => fold_view_array(array.as_binary_view(), out, op),
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            fold_indexed(array.nulls(), out, op, |i| hash_bytes(values.value(i)))
        }
        DataType::Dictionary(_, _) => downcast_dictionary_array! {
            array => {
                let mut words = vec![0; array.values().len()];
                fold_column(array.values(), &mut words, take_word);
                let keys = array.keys();
                fold_indexed(keys.nulls(), out, op, |i| words[keys.value(i) as usize])
            }
            _ => unreachable!("matched as a dictionary")
        },
        _ => fold_encoded(array, out, op),
    }
}

#[inline]
fn fold_indexed<F: Fn(u64, u64) -> u64 + Copy>(
    nulls: Option<&NullBuffer>,
    out: &mut [u64],
    op: F,
    word: impl Fn(usize) -> u64,
) {
    match nulls.filter(|n| n.null_count() > 0) {
        None => {
            for (i, hash) in out.iter_mut().enumerate() {
                *hash = op(*hash, word(i));
            }
        }
        Some(nulls) => {
            for (i, hash) in out.iter_mut().enumerate() {
                *hash = op(*hash, if nulls.is_valid(i) { word(i) } else { NULL_WORD });
            }
        }
    }
}

#[inline]
fn fold_primitive<T: ArrowPrimitiveType<Native: Word>, F: Fn(u64, u64) -> u64 + Copy>(
    array: &PrimitiveArray<T>,
    out: &mut [u64],
    op: F,
) {
    match array.nulls().filter(|n| n.null_count() > 0) {
        None => {
            for (hash, value) in out.iter_mut().zip(array.values().iter()) {
                *hash = op(*hash, value.word());
            }
        }
        Some(nulls) => {
            for ((hash, value), valid) in out.iter_mut().zip(array.values().iter()).zip(nulls.iter()) {
                *hash = op(*hash, if valid { value.word() } else { NULL_WORD });
            }
        }
    }
}

fn fold_byte_array<T: ByteArrayType, F: Fn(u64, u64) -> u64 + Copy>(
    array: &GenericByteArray<T>,
    out: &mut [u64],
    op: F,
) {
    fold_indexed(array.nulls(), out, op, |i| hash_bytes(array.value(i).as_ref()));
}

fn fold_view_array<T: ByteViewType + ?Sized, F: Fn(u64, u64) -> u64 + Copy>(
    array: &GenericByteViewArray<T>,
    out: &mut [u64],
    op: F,
) {
    fold_indexed(array.nulls(), out, op, |i| hash_bytes(array.value(i).as_ref()));
}

/// Nested types: through their row encoding. A type that has none hashes to a constant, which is slow, not wrong.
fn fold_encoded<F: Fn(u64, u64) -> u64 + Copy>(array: &dyn Array, out: &mut [u64], op: F) {
    let rows = RowEncoder::new([array.data_type().clone()])
        .and_then(|encoder| encoder.encode(&[arrow::array::make_array(array.to_data())]));
    match rows {
        Ok(rows) => fold_indexed(array.nulls(), out, op, |i| hash_bytes(rows.row(i).data())),
        Err(_) => fold_indexed(array.nulls(), out, op, |_| K2),
    }
}

/// Rows as bytes: equal bytes for equal rows, and in byte order the order that the sort options ask for.
#[derive(Debug)]
pub struct RowEncoder {
    converter: RowConverter,
    types: Vec<DataType>,
    /// Columns whose values may need normalising.
    floats: Vec<usize>,
}

impl RowEncoder {
    /// An encoder of rows with columns of these types, ascending with NULLs first.
    pub fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        Self::with_options(types.into_iter().map(|t| (t, SortOptions::default())))
    }

    /// An encoder with an order per column.
    pub fn with_options(columns: impl IntoIterator<Item = (DataType, SortOptions)>) -> Result<Self> {
        let (types, options): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let fields =
            types.iter().zip(options).map(|(t, o)| SortField::new_with_options(t.clone(), o)).collect();
        let floats = types.iter().enumerate().filter(|(_, t)| has_float(t)).map(|(i, _)| i).collect();
        Ok(RowEncoder { converter: RowConverter::new(fields)?, types, floats })
    }

    /// Types of the columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Whether equal rows can differ in bits, because of floats.
    pub fn has_floats(&self) -> bool {
        !self.floats.is_empty()
    }

    /// Room for rows to be appended.
    pub fn empty_rows(&self) -> Rows {
        self.converter.empty_rows(0, 0)
    }

    /// All rows of these columns.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Rows> {
        Ok(match self.normalised(columns) {
            None => self.converter.convert_columns(columns)?,
            Some(columns) => self.converter.convert_columns(&columns)?,
        })
    }

    /// Replaces `rows` by the rows of these columns, reusing its memory.
    pub fn encode_into(&self, rows: &mut Rows, columns: &[ArrayRef]) -> Result<()> {
        rows.clear();
        match self.normalised(columns) {
            None => self.converter.append(rows, columns)?,
            Some(columns) => self.converter.append(rows, &columns)?,
        }
        Ok(())
    }

    fn normalised(&self, columns: &[ArrayRef]) -> Option<Vec<ArrayRef>> {
        if self.floats.is_empty() {
            return None;
        }
        let mut columns = columns.to_vec();
        for &i in &self.floats {
            if let Some(column) = columns.get_mut(i) {
                *column = normalise_floats(column);
            }
        }
        Some(columns)
    }

    /// The columns of encoded rows.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = Row<'a>>) -> Result<Vec<ArrayRef>> {
        let columns = self.converter.convert_rows(rows)?;
        // Dictionaries come back as plain values.
        columns
            .into_iter()
            .zip(&self.types)
            .map(|(c, t)| Ok(if c.data_type() == t { c } else { arrow::compute::cast(&c, t)? }))
            .collect()
    }

    /// The columns of rows kept as bytes. The bytes must come from this encoder.
    pub fn decode_bytes<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        self.decode(rows.into_iter().map(|bytes| parser.parse(bytes)))
    }
}

fn has_float(t: &DataType) -> bool {
    match t {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::List(f) | DataType::LargeList(f) => has_float(f.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_float(f.data_type())),
        _ => false,
    }
}

/// The same column with one representation per float value.
fn normalise_floats(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float16 => Arc::new(array.as_primitive::<Float16Type>().unary::<_, Float16Type>(|v| {
            type F16 = <Float16Type as ArrowPrimitiveType>::Native;
            if v.is_nan() { F16::NAN } else { v + F16::ZERO }
        })),
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical)),
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical)),
        DataType::List(f) if has_float(f.data_type()) => normalise_list(array.as_list::<i32>()),
        DataType::LargeList(f) if has_float(f.data_type()) => normalise_list(array.as_list::<i64>()),
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let columns = array.columns().iter().map(normalise_floats).collect();
            match StructArray::try_new_with_length(
                fields.clone(),
                columns,
                array.nulls().cloned(),
                array.len(),
            ) {
                Ok(normal) => Arc::new(normal),
                Err(_) => Arc::new(array.clone()),
            }
        }
        _ => Arc::clone(array),
    }
}

fn normalise_list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> ArrayRef {
    let (field, offsets, values, nulls) = list.clone().into_parts();
    Arc::new(GenericListArray::new(field, offsets, normalise_floats(&values), nulls))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, LargeStringArray, ListArray,
        StringArray, StringViewArray,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        let mut out = vec![7; 3];
        hash_columns(columns, &mut out);
        out
    }

    #[test]
    fn the_hash_is_frozen_under_its_version() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec![Some("freshet"), Some("")])),
            Arc::new(Decimal128Array::from(vec![Some(-5), Some(1 << 70)])),
        ];
        assert_eq!(HASH_VERSION, 1);
        assert_eq!(hashes(&columns), FROZEN);
        assert_eq!(hashes(&[Arc::new(Int64Array::from(vec![42, -1]))]), [hash_i64(&[42]), hash_i64(&[-1])]);
    }
    const FROZEN: [u64; 2] = [15_581_284_157_646_413_629, 10_665_775_752_534_486_821];

    #[test]
    fn equal_text_hashes_equal_in_every_layout() {
        let text = vec![Some("a"), None, Some("a longer text than fits a view"), Some("")];
        let plain = hashes(&[Arc::new(StringArray::from(text.clone()))]);
        assert_eq!(plain, hashes(&[Arc::new(LargeStringArray::from(text.clone()))]));
        assert_eq!(plain, hashes(&[Arc::new(StringViewArray::from(text.clone()))]));
        let dictionary: DictionaryArray<Int32Type> = text.into_iter().collect();
        assert_eq!(plain, hashes(&[Arc::new(dictionary)]));
    }

    #[test]
    fn equal_numbers_hash_equal_and_nulls_do_not_look_at_the_slot() {
        let zeros = hashes(&[Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]))]);
        assert_eq!(zeros[0], zeros[1]);
        assert_eq!(zeros[2], zeros[3]);
        assert_ne!(zeros[0], zeros[2]);
        assert_eq!(
            hashes(&[Arc::new(Int32Array::from(vec![-3, 9]))]),
            hashes(&[Arc::new(Int64Array::from(vec![-3, 9]))])
        );
        let nulls = NullBuffer::from(vec![false, false]);
        let null = hashes(&[Arc::new(Int64Array::new(vec![1, 2].into(), Some(nulls)))]);
        assert_eq!(null[0], null[1]);
    }

    #[test]
    fn the_order_of_columns_counts_and_slices_hash_like_the_whole() {
        let a: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let b: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
        let ab = hashes(&[a.clone(), b.clone()]);
        assert_ne!(ab, hashes(&[b.clone(), a.clone()]));
        assert_eq!(ab[1..], hashes(&[a.slice(1, 2), b.slice(1, 2)]));
    }

    #[test]
    fn shards_are_filled_evenly_by_small_integers() {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..25_600));
        let mut counts = [0u32; 256];
        let mut low = [0u32; 256];
        for h in hashes(&[values]) {
            counts[usize::from(shard_of(h))] += 1;
            low[(table_hash(h) & 255) as usize] += 1;
        }
        assert!(counts.iter().chain(&low).all(|c| (40..200).contains(c)), "{counts:?} {low:?}");
    }

    #[test]
    fn rows_encode_by_postgres_equality_and_come_back() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0, f64::NAN, -f64::NAN, 1.5]));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(vec![
            Some(vec![Some(-0.0)]),
            Some(vec![Some(0.0)]),
            None,
            None,
            Some(vec![]),
        ]));
        let encoder = RowEncoder::new([floats.data_type().clone(), list.data_type().clone()]).unwrap();
        let rows = encoder.encode(&[floats.clone(), list.clone()]).unwrap();
        assert_eq!(rows.row(0), rows.row(1));
        assert_eq!(rows.row(2), rows.row(3));
        assert_ne!(rows.row(0), rows.row(4));
        let bytes: Vec<&[u8]> = (0..5).map(|i| rows.row(i).data()).collect();
        let back = encoder.decode_bytes(bytes).unwrap();
        assert_eq!(back[0].as_primitive::<Float64Type>().value(4), 1.5);
        assert_eq!(hashes(&[list.slice(0, 2)])[0], hashes(&[list.slice(0, 2)])[1]);
        assert!(back[1].is_null(2));
    }
}
