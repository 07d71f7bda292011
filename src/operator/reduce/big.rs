//! Integers of any size, for the few places where exact sums meet: a sum of squares times a count, minus the square
//! of a sum.
//!
//! Boundary: arithmetic only; used once per result, never per row.

use std::cmp::Ordering;

/// A signed integer: magnitude, little end first, without leading zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Big {
    negative: bool,
    words: Vec<u64>,
}

impl Big {
    /// The integer that a two's complement number stands for.
    pub fn from_words(words: &[u64]) -> Big {
        let negative = words.last().is_some_and(|w| *w >> 63 == 1);
        let mut out = words.to_vec();
        if negative {
            let mut carry = true;
            for w in &mut out {
                (*w, carry) = (!*w).overflowing_add(u64::from(carry));
            }
        }
        Big { negative, words: out }.trimmed()
    }

    fn trimmed(mut self) -> Big {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
        self.negative &= !self.words.is_empty();
        self
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The product.
    pub fn times(&self, other: &Big) -> Big {
        let mut words = vec![0_u64; self.words.len() + other.words.len()];
        for (i, a) in self.words.iter().enumerate() {
            let mut carry = 0_u128;
            for (j, b) in other.words.iter().enumerate() {
                let sum = u128::from(*a) * u128::from(*b) + u128::from(words[i + j]) + carry;
                words[i + j] = sum as u64;
                carry = sum >> 64;
            }
            words[i + other.words.len()] = carry as u64;
        }
        Big { negative: self.negative != other.negative, words }.trimmed()
    }

    /// The product with a small number.
    pub fn times_small(&self, by: u64) -> Big {
        self.times(&Big { negative: false, words: vec![by] }.trimmed())
    }

    /// The difference.
    pub fn minus(&self, other: &Big) -> Big {
        if self.negative != other.negative {
            return Big { negative: self.negative, words: add(&self.words, &other.words) }.trimmed();
        }
        match compare(&self.words, &other.words) {
            Ordering::Less => {
                Big { negative: !self.negative, words: subtract(&other.words, &self.words) }.trimmed()
            }
            _ => Big { negative: self.negative, words: subtract(&self.words, &other.words) }.trimmed(),
        }
    }

    /// The sum.
    pub fn plus(&self, other: &Big) -> Big {
        let mut negated = other.clone();
        negated.negative = !negated.negative && !negated.is_zero();
        self.minus(&negated)
    }

    /// The quotient by a small number other than zero, towards zero.
    pub fn over_small(&self, by: u64) -> Big {
        let mut words = self.words.clone();
        let mut rest = 0_u128;
        for w in words.iter_mut().rev() {
            let value = rest << 64 | u128::from(*w);
            *w = (value / u128::from(by)) as u64;
            rest = value % u128::from(by);
        }
        Big { negative: self.negative, words }.trimmed()
    }

    /// `self * 2^exponent` rounded to the nearest double.
    pub fn to_f64(&self, exponent: i32) -> f64 {
        let Some(top) = self.words.last() else { return 0.0 };
        let shift = top.leading_zeros();
        let len = self.words.len();
        let below = if len > 1 { self.words[len - 2] } else { 0 };
        let mut mantissa = if shift == 0 { *top } else { *top << shift | below >> (64 - shift) };
        let cut = if shift == 0 { below != 0 } else { below << shift != 0 };
        // What is cut off decides ties only: eleven more bits than a double has are still there.
        if cut || self.words[..len.saturating_sub(2)].iter().any(|w| *w != 0) {
            mantissa |= 1;
        }
        let exponent = exponent.saturating_add((len as i32 - 1) * 64 - shift as i32);
        let value = scale(mantissa as f64, exponent);
        if self.negative { -value } else { value }
    }

    /// As a 128-bit integer, if it fits.
    pub fn to_i128(&self) -> Option<i128> {
        let magnitude = match self.words.as_slice() {
            [] => 0,
            [a] => u128::from(*a),
            [a, b] => u128::from(*b) << 64 | u128::from(*a),
            _ => return None,
        };
        let value = i128::try_from(magnitude).ok()?;
        Some(if self.negative { -value } else { value })
    }

    /// A 128-bit integer.
    pub fn from_i128(value: i128) -> Big {
        let m = value.unsigned_abs();
        Big { negative: value < 0, words: vec![m as u64, (m >> 64) as u64] }.trimmed()
    }

    /// The square root of a number that is not negative, rounded to the nearest integer.
    pub fn root(&self) -> Big {
        // From the top bit down, like long division.
        let bits = self.words.len() * 64;
        let mut root = Big { negative: false, words: vec![0; self.words.len() / 2 + 1] };
        for bit in (0..bits.div_ceil(2)).rev() {
            let mut next = root.clone();
            next.words[bit / 64] |= 1 << (bit % 64);
            let square = next.clone().trimmed().times(&next.clone().trimmed());
            if compare(&square.words, &self.words) != Ordering::Greater {
                root = next;
            }
        }
        let root = root.trimmed();
        // Nearest: root + 1/2 is exceeded when the rest is more than root.
        let rest = self.minus(&root.times(&root));
        if compare(&rest.words, &root.words) == Ordering::Greater {
            root.plus(&Big::from_i128(1))
        } else {
            root
        }
    }
}

/// Ten to a power.
pub fn power_of_ten(exponent: u32) -> Big {
    let mut out = Big::from_i128(1);
    let mut rest = exponent;
    while rest > 0 {
        let step = rest.min(19);
        out = out.times_small(10_u64.pow(step));
        rest -= step;
    }
    out
}

fn compare(a: &[u64], b: &[u64]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

fn add(a: &[u64], b: &[u64]) -> Vec<u64> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut out = long.to_vec();
    let mut carry = false;
    for (i, w) in out.iter_mut().enumerate() {
        let (x, c1) = w.overflowing_add(short.get(i).copied().unwrap_or(0));
        let (y, c2) = x.overflowing_add(u64::from(carry));
        *w = y;
        carry = c1 || c2;
    }
    if carry {
        out.push(1);
    }
    out
}

/// `a - b` of magnitudes with `a >= b`.
fn subtract(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut out = a.to_vec();
    let mut borrow = false;
    for (i, w) in out.iter_mut().enumerate() {
        let (x, c1) = w.overflowing_sub(b.get(i).copied().unwrap_or(0));
        let (y, c2) = x.overflowing_sub(u64::from(borrow));
        *w = y;
        borrow = c1 || c2;
    }
    out
}

/// `x * 2^exponent`.
fn scale(x: f64, exponent: i32) -> f64 {
    let power = |e: i32| f64::from_bits(((e + 1023) as u64) << 52);
    let (mut x, mut rest) = (x, exponent.clamp(-2400, 2400));
    while rest != 0 && x != 0.0 && x.is_finite() {
        let step = rest.clamp(-1000, 1000);
        x *= power(step);
        rest -= step;
    }
    x
}

/// Adds `a * b * weight` to a two's complement sum, wrapping.
pub fn add_product(sum: &mut [u64], a: i128, b: i128, weight: i64) {
    let negative = (a < 0) ^ (b < 0) ^ (weight < 0);
    let (a, b, w) = (a.unsigned_abs(), b.unsigned_abs(), weight.unsigned_abs());
    let mut product = [0_u64; 5];
    if let (Ok(a), Ok(b), 1) = (u64::try_from(a), u64::try_from(b), w) {
        let p = u128::from(a) * u128::from(b);
        product[0] = p as u64;
        product[1] = (p >> 64) as u64;
    } else {
        let (x, y) = ([a as u64, (a >> 64) as u64], [b as u64, (b >> 64) as u64]);
        let mut square = [0_u64; 4];
        multiply(&x, &y, &mut square);
        multiply(&square, &[w], &mut product);
    }
    let mut carry = negative;
    for (i, word) in sum.iter_mut().enumerate() {
        let part = product.get(i).copied().unwrap_or(0);
        let part = if negative { !part } else { part };
        let (x, c1) = word.overflowing_add(part);
        let (y, c2) = x.overflowing_add(u64::from(carry));
        *word = y;
        carry = c1 || c2;
    }
}

fn multiply(a: &[u64], b: &[u64], out: &mut [u64]) {
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0_u128;
        for (j, y) in b.iter().enumerate() {
            let sum = u128::from(*x) * u128::from(*y) + u128::from(out[i + j]) + carry;
            out[i + j] = sum as u64;
            carry = sum >> 64;
        }
        out[i + b.len()] = carry as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn arithmetic_agrees_with_128_bits() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        for _ in 0..5000 {
            let bits = rng.random_range(1..63);
            let (a, b) = (rng.random::<i64>() >> bits, rng.random::<i64>() >> rng.random_range(1..63));
            let (x, y) = (Big::from_i128(a.into()), Big::from_i128(b.into()));
            let (a, b) = (i128::from(a), i128::from(b));
            assert_eq!(x.times(&y).to_i128(), Some(a * b));
            assert_eq!(x.minus(&y).to_i128(), Some(a - b));
            assert_eq!(x.plus(&y).to_i128(), Some(a + b));
            if b > 0 {
                assert_eq!(x.over_small(b as u64).to_i128(), Some(a / b));
            }
            assert_eq!(x.times(&y).to_f64(0), (a * b) as f64);
            let mut sum = [0_u64; 6];
            add_product(&mut sum, a, b, 7);
            add_product(&mut sum, b, b, -3);
            assert_eq!(Big::from_words(&sum).to_i128(), Some(a * b * 7 - b * b * 3));
        }
    }

    #[test]
    fn roots_are_rounded_to_the_nearest() {
        for (n, root) in
            [(0, 0), (1, 1), (2, 1), (3, 2), (6, 2), (7, 3), (99, 10), (10_i128.pow(37), 3162277660168379332)]
        {
            assert_eq!(Big::from_i128(n).root().to_i128(), Some(root), "{n}");
        }
    }

    #[test]
    fn large_products_round_once() {
        let big = power_of_ten(300);
        assert_eq!(big.to_f64(0), 1e300);
        assert_eq!(big.times(&big).to_f64(-1000), 1e300 / 2f64.powi(500) * (1e300 / 2f64.powi(500)));
        assert_eq!(Big::from_i128((1 << 53) + 1).to_f64(0), 9007199254740992.0);
    }
}
