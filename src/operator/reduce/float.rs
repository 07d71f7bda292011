//! Exact sums of floats: the result does not depend on the order of insertions and retractions.
//!
//! Every finite float is an integer multiple of 2^-1074, so sums can be kept as integers. Almost all values of
//! practice lie between 2^-88 and 2^75 and go into a 256-bit window per group; the few others go into an integer
//! of 2,304 bits that only the groups with such values have. Sums are rounded once, when they are read.
//!
//! Boundary: numbers only.

use hashbrown::HashMap;

use crate::store::arrangement::slab::Slab;

use super::big::Big;

/// Exponent of the lowest bit of the window.
const WINDOW_LOW: i32 = -140;
/// Values (with their weight) stay below 2^75 in the window: 2^40 of them cannot leave its 256 bits.
const WINDOW_HIGH: i32 = 75;
/// Exponent of the lowest bit of the wide sum: the smallest subnormal.
const WIDE_LOW: i32 = -1074;
const WIDE_WORDS: usize = 36;
/// Weights are added digit by digit; a mantissa times a digit still fits 63 bits.
const DIGIT_BITS: i32 = 10;

/// How many values that are not finite a group has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Special {
    nan: i64,
    plus: i64,
    minus: i64,
}

/// Exact sums of floats by slot.
#[derive(Debug, Default)]
pub struct FloatSums {
    windows: Slab<[u64; 4]>,
    wide: HashMap<u32, Box<[u64; WIDE_WORDS]>>,
    special: HashMap<u32, Special>,
}

/// Adds `part * 2^shift` to a two's complement integer, little end first.
#[inline]
fn add_shifted(words: &mut [u64], part: i64, shift: u32) {
    let at = (shift / 64) as usize;
    let value = i128::from(part) << (shift % 64);
    let fill = if value < 0 { u64::MAX } else { 0 };
    let (low, high) = (value as u64, (value >> 64) as u64);
    let (sum, mut carry) = words[at].overflowing_add(low);
    words[at] = sum;
    let mut add = high;
    for word in &mut words[at + 1..] {
        let (a, c1) = word.overflowing_add(add);
        let (b, c2) = a.overflowing_add(u64::from(carry));
        *word = b;
        carry = c1 || c2;
        add = fill;
        // Beyond the value's own words only carries (or the sign with a carry) can matter.
        if carry == (fill != 0) {
            break;
        }
    }
}

/// Mantissa (signed) and exponent of a finite float.
#[inline]
fn decompose(x: f64) -> (i64, i32) {
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let (mantissa, exponent) =
        if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    (if x.is_sign_negative() { -mantissa } else { mantissa }, exponent)
}

impl FloatSums {
    /// Makes room for slots below `len`.
    pub fn grow(&mut self, len: usize) {
        self.windows.grow(len, [0; 4]);
    }

    /// Adds `x` with a weight to the sum of a slot.
    #[inline]
    pub fn add(&mut self, slot: u32, x: f64, weight: i64) {
        if !x.is_finite() {
            self.add_special(slot, x, weight);
            return;
        }
        let (mantissa, exponent) = decompose(x);
        if mantissa == 0 {
            return;
        }
        let signed = if weight == -1 { -mantissa } else { mantissa };
        if exponent >= WINDOW_LOW && exponent + 53 <= WINDOW_HIGH && (weight == 1 || weight == -1) {
            add_shifted(self.windows.get_mut(slot), signed, (exponent - WINDOW_LOW) as u32);
        } else {
            self.add_any(slot, mantissa, exponent, weight);
        }
    }

    fn add_any(&mut self, slot: u32, mantissa: i64, exponent: i32, weight: i64) {
        // Trailing zeros are no precision: 2^-100 is a small value but 0.5 * 2^80 might still fit.
        let zeros = mantissa.trailing_zeros().min(52);
        let (mantissa, exponent) = (mantissa >> zeros, exponent + zeros as i32);
        let length = 64 - mantissa.unsigned_abs().leading_zeros() as i32;
        let weight_length = 64 - weight.unsigned_abs().leading_zeros() as i32;
        let (words, low): (&mut [u64], i32) =
            if exponent >= WINDOW_LOW && exponent + length + weight_length <= WINDOW_HIGH {
                (self.windows.get_mut(slot), WINDOW_LOW)
            } else {
                (&mut **self.wide.entry(slot).or_insert_with(|| Box::new([0; WIDE_WORDS])), WIDE_LOW)
            };
        let mantissa = if weight < 0 { -mantissa } else { mantissa };
        let (mut rest, mut shift) = (weight.unsigned_abs(), (exponent - low) as u32);
        while rest != 0 {
            let digit = (rest & ((1 << DIGIT_BITS) - 1)) as i64;
            if digit != 0 {
                add_shifted(words, mantissa * digit, shift);
            }
            rest >>= DIGIT_BITS;
            shift += DIGIT_BITS as u32;
        }
        if self.wide.get(&slot).is_some_and(|w| w.iter().all(|x| *x == 0)) {
            self.wide.remove(&slot);
        }
    }

    #[cold]
    fn add_special(&mut self, slot: u32, x: f64, weight: i64) {
        let s = self.special.entry(slot).or_default();
        let count = match x {
            x if x.is_nan() => &mut s.nan,
            x if x > 0.0 => &mut s.plus,
            _ => &mut s.minus,
        };
        *count = count.saturating_add(weight);
        if *s == Special::default() {
            self.special.remove(&slot);
        }
    }

    /// The sum of a slot, rounded to the nearest float.
    pub fn value(&self, slot: u32) -> f64 {
        if let Some(s) = self.special.get(&slot).filter(|_| !self.special.is_empty()) {
            match (s.nan != 0, s.plus > 0, s.minus > 0) {
                (true, _, _) | (_, true, true) => return f64::NAN,
                (_, true, _) => return f64::INFINITY,
                (_, _, true) => return f64::NEG_INFINITY,
                _ => {}
            }
        }
        let window = self.windows.get(slot);
        match self.wide.get(&slot).filter(|_| !self.wide.is_empty()) {
            None => round(window, WINDOW_LOW),
            Some(wide) => {
                let mut sum = **wide;
                add_window(&mut sum, window);
                round(&sum, WIDE_LOW)
            }
        }
    }

    /// Whether a slot holds values that are not finite, so that an infinite sum is no overflow.
    pub fn is_special(&self, slot: u32) -> bool {
        !self.special.is_empty() && self.special.contains_key(&slot)
    }

    /// Whether any slot holds values that are not finite.
    pub fn has_special(&self) -> bool {
        !self.special.is_empty()
    }

    /// The sum of the finite values of a slot, exactly: an integer and the exponent of its lowest bit.
    pub fn exact(&self, slot: u32) -> (Big, i32) {
        let window = self.windows.get(slot);
        match self.wide.get(&slot).filter(|_| !self.wide.is_empty()) {
            None => (Big::from_words(window), WINDOW_LOW),
            Some(wide) => {
                let mut sum = **wide;
                add_window(&mut sum, window);
                (Big::from_words(&sum), WIDE_LOW)
            }
        }
    }

    /// Whether some slot holds values far from one, so that sums may overflow.
    pub fn has_wide(&self) -> bool {
        !self.wide.is_empty()
    }

    /// Whether nothing, or only what cancels out exactly, has been added to a slot.
    pub fn is_zero(&self, slot: u32) -> bool {
        let window = self.windows.get(slot);
        let sum_is_zero = match self.wide.get(&slot) {
            None => *window == [0; 4],
            Some(wide) => {
                let mut sum = **wide;
                add_window(&mut sum, window);
                sum.iter().all(|w| *w == 0)
            }
        };
        sum_is_zero && !self.special.contains_key(&slot)
    }

    /// Sets a slot back to zero.
    pub fn clear(&mut self, slot: u32) {
        *self.windows.get_mut(slot) = [0; 4];
        if !self.wide.is_empty() {
            self.wide.remove(&slot);
        }
        if !self.special.is_empty() {
            self.special.remove(&slot);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.windows.bytes() + self.wide.capacity() * (16 + WIDE_WORDS * 8) + self.special.capacity() * 32
    }
}

/// One exact sum by itself, for those who hold few sums and merge them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactSum {
    words: [u64; WIDE_WORDS],
    special: Special,
}

impl Default for ExactSum {
    fn default() -> ExactSum {
        ExactSum { words: [0; WIDE_WORDS], special: Special::default() }
    }
}

impl ExactSum {
    /// Adds a value `weight` times; the weight is less than 2^53.
    pub fn add(&mut self, x: f64, weight: i64) {
        if !x.is_finite() {
            let count = match x {
                x if x.is_nan() => &mut self.special.nan,
                x if x > 0.0 => &mut self.special.plus,
                _ => &mut self.special.minus,
            };
            *count = count.saturating_add(weight);
            return;
        }
        let (mantissa, exponent) = decompose(x);
        let mantissa = if weight < 0 { -mantissa } else { mantissa };
        let (mut rest, mut shift) = (weight.unsigned_abs(), (exponent - WIDE_LOW) as u32);
        while rest != 0 && mantissa != 0 {
            let digit = (rest & ((1 << DIGIT_BITS) - 1)) as i64;
            if digit != 0 {
                add_shifted(&mut self.words, mantissa * digit, shift);
            }
            rest >>= DIGIT_BITS;
            shift += DIGIT_BITS as u32;
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &ExactSum) {
        let mut carry = false;
        for (word, add) in self.words.iter_mut().zip(other.words) {
            let (a, c1) = word.overflowing_add(add);
            let (b, c2) = a.overflowing_add(u64::from(carry));
            (*word, carry) = (b, c1 || c2);
        }
        self.special.nan = self.special.nan.saturating_add(other.special.nan);
        self.special.plus = self.special.plus.saturating_add(other.special.plus);
        self.special.minus = self.special.minus.saturating_add(other.special.minus);
    }

    /// The sum, rounded once.
    pub fn value(&self) -> f64 {
        match (self.special.nan != 0, self.special.plus > 0, self.special.minus > 0) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => round(&self.words, WIDE_LOW),
        }
    }

    /// Whether there are values that are not finite, so that an infinite sum is no overflow.
    pub fn is_special(&self) -> bool {
        self.special != Special::default()
    }
}

/// Adds the window, whose lowest bit is `WINDOW_LOW`, to a wide sum.
fn add_window(wide: &mut [u64; WIDE_WORDS], window: &[u64; 4]) {
    for (i, word) in window.iter().enumerate() {
        let shift = (WINDOW_LOW - WIDE_LOW) as u32 + 64 * i as u32;
        // In halves, because the pieces to add are signed; only the topmost one carries the sign.
        add_shifted(wide, (*word & 0xffff_ffff) as i64, shift);
        let high = *word >> 32;
        add_shifted(wide, if i == 3 { (*word as i64) >> 32 } else { high as i64 }, shift + 32);
    }
}

/// The float nearest to a two's complement integer times `2^low`, ties to even.
fn round(words: &[u64], low: i32) -> f64 {
    let negative = words.last().is_some_and(|w| *w >> 63 == 1);
    let mut magnitude = [0_u64; WIDE_WORDS];
    let mut carry = true;
    for (m, w) in magnitude.iter_mut().zip(words) {
        if negative {
            let (x, c) = (!w).overflowing_add(u64::from(carry));
            (*m, carry) = (x, c);
        } else {
            *m = *w;
        }
    }
    let Some(top) = magnitude.iter().rposition(|w| *w != 0) else { return 0.0 };
    let highest = top as i32 * 64 + 63 - magnitude[top].leading_zeros() as i32;
    // The lowest bit that the result can hold: 52 below the highest one, but no less than a subnormal's.
    let mut cut = (highest - 52).max(-1074 - low).max(0);
    let bits_from = |from: i32| -> u64 {
        let (word, bit) = ((from / 64) as usize, from % 64);
        let lower = magnitude[word] >> bit;
        if bit == 0 || word + 1 == WIDE_WORDS { lower } else { lower | magnitude[word + 1] << (64 - bit) }
    };
    let mut mantissa = bits_from(cut) & ((1 << 53) - 1);
    if cut > 0 {
        let half = bits_from(cut - 1) & 1 == 1;
        let (word, bit) = (((cut - 1) / 64) as usize, (cut - 1) % 64);
        let sticky = magnitude[..word].iter().any(|w| *w != 0) || magnitude[word] & ((1 << bit) - 1) != 0;
        if half && (sticky || mantissa & 1 == 1) {
            mantissa += 1;
            if mantissa == 1 << 53 {
                mantissa >>= 1;
                cut += 1;
            }
        }
    }
    let exponent = cut + low;
    let value = if exponent > 971 {
        f64::INFINITY
    } else if mantissa < 1 << 52 {
        // Fewer than 53 bits: all of them were kept (or it is subnormal), so scaling is exact.
        scale(mantissa as f64, exponent)
    } else {
        f64::from_bits((((exponent + 1075) as u64) << 52) | (mantissa & ((1 << 52) - 1)))
    };
    if negative { -value } else { value }
}

/// `x * 2^exponent` for results that are exact.
fn scale(x: f64, exponent: i32) -> f64 {
    let power = |e: i32| f64::from_bits(((e + 1023) as u64) << 52);
    if exponent < -1022 {
        x * power(-1022 + 52) * power(exponent + 1022 - 52)
    } else {
        x * power(exponent.min(1023))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn sum_of(values: &[f64]) -> f64 {
        let mut sums = FloatSums::default();
        sums.grow(1);
        values.iter().for_each(|v| sums.add(0, *v, 1));
        sums.value(0)
    }

    #[test]
    fn sums_are_rounded_once_from_the_exact_value() {
        assert_eq!(sum_of(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum_of(&[0.1; 10]), 1.0);
        assert_eq!(sum_of(&[1e16, 1.0, 1.0]), 1e16 + 2.0);
        assert_eq!(sum_of(&[9_007_199_254_740_992.0, 1.0]), 9_007_199_254_740_992.0);
        assert_eq!(sum_of(&[9_007_199_254_740_992.0, 1.0, 1e-30]), 9_007_199_254_740_994.0);
        assert_eq!(sum_of(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum_of(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum_of(&[f64::MIN_POSITIVE / 8.0, 5e-324]), f64::MIN_POSITIVE / 8.0 + 5e-324);
        assert_eq!(sum_of(&[5e-324, 5e-324, -5e-324]), 5e-324);
        assert_eq!(sum_of(&[-2.5, -1e-200, 1e-200]), -2.5);
        assert!(sum_of(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn a_sum_by_itself_is_that_of_many() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        for _ in 0..500 {
            let values: Vec<f64> = (0..6)
                .map(|_| {
                    if rng.random_bool(0.5) {
                        rng.random_range(-1e9..1e9)
                    } else {
                        f64::from_bits(rng.random())
                    }
                })
                .collect();
            let (mut a, mut b) = (ExactSum::default(), ExactSum::default());
            values[..3].iter().for_each(|v| a.add(*v, 1));
            values[3..].iter().for_each(|v| b.add(*v, 1));
            b.add(2.5, 5000);
            b.add(2.5, -5000);
            a.merge(&b);
            assert_eq!(a.value().to_bits(), sum_of(&values).to_bits(), "{values:?}");
        }
    }

    #[test]
    fn every_float_alone_sums_to_itself() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        for _ in 0..20_000 {
            let x = f64::from_bits(rng.random());
            if x.is_finite() {
                assert_eq!(sum_of(&[x]), x, "{x:e}");
                let other = f64::from_bits(rng.random());
                if other.is_finite() {
                    assert_eq!(sum_of(&[x, other]), x + other + 0.0, "{x:e} + {other:e}");
                }
            }
        }
    }

    #[test]
    fn retraction_brings_back_exactly_what_was_there() {
        let seed = 11;
        println!("seed {seed}");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut sums = FloatSums::default();
        sums.grow(2);
        let values: Vec<(f64, i64)> = (0..2000)
            .map(|_| {
                let x = match rng.random_range(0..20) {
                    0 => f64::from_bits(rng.random()),
                    1 => f64::NAN,
                    2 => f64::INFINITY,
                    _ => rng.random_range(-1e6..1e6),
                };
                (
                    x,
                    if rng.random_bool(0.1) {
                        rng.random_range(-1_000_000_000_000..1_000_000_000_000)
                    } else {
                        1
                    },
                )
            })
            .collect();
        sums.add(0, 0.3, 1);
        values.iter().for_each(|(x, w)| sums.add(0, *x, *w));
        values.iter().rev().for_each(|(x, w)| sums.add(0, *x, -*w));
        assert_eq!(sums.value(0), 0.3);
        sums.add(0, 0.3, -1);
        assert!(sums.is_zero(0));
        sums.add(1, 1.5, 3_000_000_000_001);
        assert_eq!(sums.value(1), 4_500_000_000_001.5);
    }
}
