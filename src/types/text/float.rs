//! Floats as text: the shortest digits that read back equal, in PostgreSQL's choice and layout.
//!
//! PostgreSQL's choice differs from Rust's in two rare cases: digits that lie exactly between two floats are not
//! taken for either, and of two equally near ones the even is taken.
//!
//! Boundary: output of finite and special floats; input is in [`super::parse`].

use std::io::Write;

use super::format::write_u64;

/// A number as Rust's `{:e}` writes it (`d.ddde±x`), in a buffer that needs no allocation.
struct Scientific {
    buf: [u8; 64],
    len: usize,
}

impl Write for Scientific {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let n = data.len().min(self.buf.len() - self.len);
        self.buf[self.len..self.len + n].copy_from_slice(&data[..n]);
        self.len += n;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The decimal digits of a number `0.d1d2d3… × 10^(exponent + 1)`, trailing zeros removed.
struct Decimal {
    negative: bool,
    digits: [u8; 24],
    n: usize,
    exponent: i32,
}

impl Decimal {
    fn read(s: &Scientific) -> Decimal {
        let text = &s.buf[..s.len];
        let negative = text.first() == Some(&b'-');
        let e_at = text.iter().position(|b| *b == b'e').unwrap_or(text.len());
        let exponent = std::str::from_utf8(text.get(e_at + 1..).unwrap_or_default());
        let mut d = Decimal {
            negative,
            digits: [b'0'; 24],
            n: 0,
            exponent: exponent.ok().and_then(|e| e.parse().ok()).unwrap_or(0),
        };
        for b in text[..e_at].iter().filter(|b| b.is_ascii_digit()).take(24) {
            d.digits[d.n] = *b;
            d.n += 1;
        }
        while d.n > 1 && d.digits[d.n - 1] == b'0' {
            d.n -= 1;
        }
        d
    }

    /// With `precision` significant digits, correctly rounded; without, the shortest that Rust gives.
    fn of(v: f64, single: bool, precision: Option<usize>) -> Decimal {
        let mut s = Scientific { buf: [0; 64], len: 0 };
        // A buffer that is large enough never fails to be written.
        let _ = match (precision, single) {
            (Some(p), _) => write!(s, "{:.*e}", p.max(1) - 1, v),
            (None, true) => write!(s, "{:e}", v as f32),
            (None, false) => write!(s, "{v:e}"),
        };
        Decimal::read(&s)
    }

    /// Whether these digits lie exactly between two floats with this many bits of mantissa.
    fn is_midpoint(&self, bits: u32) -> bool {
        let d = self.digits[..self.n].iter().fold(0u128, |v, b| v * 10 + u128::from(b - b'0'));
        let power = self.exponent - (self.n as i32 - 1);
        // Powers of two do not matter: what is left must be an odd number one bit too long.
        let rest = match u32::try_from(power.abs()) {
            Ok(p) if p <= 27 && power >= 0 => d * 5u128.pow(p),
            Ok(p) if p <= 27 && d % 5u128.pow(p) == 0 => d / 5u128.pow(p),
            _ => return false,
        };
        rest != 0 && 128 - (rest >> rest.trailing_zeros()).leading_zeros() == bits + 1
    }

    fn reads_back(&self, v: f64, single: bool) -> bool {
        let mut text = Vec::with_capacity(32);
        self.write(-400, &mut text);
        let text = std::str::from_utf8(&text).unwrap_or_default();
        if single {
            text.parse::<f32>().is_ok_and(|x| f64::from(x) == v)
        } else {
            text.parse::<f64>().is_ok_and(|x| x == v)
        }
    }

    /// printf's `%g` layout: plain between 1e-4 and 10^`fixed_below`.
    fn write(&self, fixed_below: i32, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        let (digits, exponent) = (&self.digits[..self.n], self.exponent);
        if exponent < -4 || exponent >= fixed_below {
            out.push(digits[0]);
            if digits.len() > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            out.push(b'e');
            out.push(if exponent < 0 { b'-' } else { b'+' });
            if exponent.abs() < 10 {
                out.push(b'0');
            }
            write_u64(exponent.unsigned_abs().into(), out);
        } else if exponent < 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + exponent.unsigned_abs() as usize - 1, b'0');
            out.extend_from_slice(digits);
        } else {
            let whole = exponent as usize + 1;
            if digits.len() <= whole {
                out.extend_from_slice(digits);
                out.resize(out.len() + whole - digits.len(), b'0');
            } else {
                out.extend_from_slice(&digits[..whole]);
                out.push(b'.');
                out.extend_from_slice(&digits[whole..]);
            }
        }
    }
}

/// Whether a number could lie exactly between two decimals of `n` digits: its own digits are one more.
fn may_be_tie(v: f64, d: &Decimal, bits: u32) -> bool {
    let raw = v.abs().to_bits();
    let (fraction, biased) = (raw & ((1 << 52) - 1), (raw >> 52) as i32);
    let mantissa = if biased == 0 { fraction } else { fraction | 1 << 52 };
    let power = biased.max(1) - 1075 + mantissa.trailing_zeros() as i32;
    if power >= 0 { d.exponent >= (bits * 3 / 10) as i32 } else { d.exponent + 1 - power == d.n as i32 + 1 }
}

fn shortest(v: f64, single: bool) -> Decimal {
    let (bits, most) = if single { (24, 9) } else { (53, 17) };
    let mut d = Decimal::of(v, single, None);
    if may_be_tie(v, &d, bits) {
        let even = Decimal::of(v, single, Some(d.n));
        if even.reads_back(v, single) {
            d = even;
        }
    }
    if d.is_midpoint(bits) {
        for n in d.n + 1..=most {
            let longer = Decimal::of(v, single, Some(n));
            if !longer.is_midpoint(bits) && longer.reads_back(v, single) {
                return longer;
            }
        }
    }
    d
}

/// Writes a `float8` under `extra_float_digits`.
pub(super) fn write_f64(v: f64, extra: i32, out: &mut Vec<u8>) {
    if write_special(v, out) {
        return;
    }
    if extra > 0 {
        shortest(v, false).write(15, out);
    } else {
        let digits = (15 + extra).clamp(1, 17);
        Decimal::of(v, false, Some(digits as usize)).write(digits, out);
    }
}

/// Writes a `float4` under `extra_float_digits`.
pub(super) fn write_f32(v: f32, extra: i32, out: &mut Vec<u8>) {
    let v = f64::from(v);
    if write_special(v, out) {
        return;
    }
    if extra > 0 {
        shortest(v, true).write(6, out);
    } else {
        let digits = (6 + extra).clamp(1, 9);
        Decimal::of(v, true, Some(digits as usize)).write(digits, out);
    }
}

fn write_special(v: f64, out: &mut Vec<u8>) -> bool {
    let text: &[u8] = if v.is_nan() {
        b"NaN"
    } else if v == f64::INFINITY {
        b"Infinity"
    } else if v == f64::NEG_INFINITY {
        b"-Infinity"
    } else {
        return false;
    };
    out.extend_from_slice(text);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(v: f64) -> String {
        let mut out = Vec::new();
        write_f64(v, 1, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digits_between_two_floats_belong_to_neither_and_ties_go_to_the_even() {
        assert_eq!(double(1e23), "9.999999999999999e+22");
        assert_eq!(double(988106180615617.25), "988106180615617.2");
        assert_eq!(double(2173616056240790.25), "2.1736160562407902e+15");
        assert_eq!(double(1e22), "1e+22");
        assert_eq!(double(9007199254740993.0), "9.007199254740992e+15");
        let mut out = Vec::new();
        write_f32(82749456.0, 1, &mut out);
        assert_eq!(out, b"8.2749456e+07");
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let v = f64::from_bits(seed);
            if v.is_finite() {
                assert_eq!(double(v).parse::<f64>().unwrap(), v);
            }
            let s = f32::from_bits((seed >> 32) as u32);
            if s.is_finite() {
                let mut out = Vec::new();
                write_f32(s, 1, &mut out);
                assert_eq!(String::from_utf8(out).unwrap().parse::<f32>().unwrap(), s);
            }
        }
    }
}
