//! Intervals: PostgreSQL's words, `H:M:S`, `Y-M`, and ISO 8601's `P1Y2M3DT4H5M6S`.
//!
//! Boundary: text to months, days and nanoseconds.

use arrow::datatypes::IntervalMonthDayNano;

use super::datetime::{MICROS_PER_DAY, MICROS_PER_SECOND, fraction_micros, number};
use crate::error::{Error, ErrorKind, Result};

/// An interval while it is being read: whole units apart, fractions carried down.
#[derive(Default)]
struct Parts {
    months: i64,
    days: i64,
    micros: i128,
}

impl Parts {
    fn add(&mut self, whole: i64, fraction: f64, unit: &str) -> Option<()> {
        let micros = match unit {
            "microsecond" | "us" | "usec" | "usecond" => 1,
            "millisecond" | "ms" | "msec" | "msecond" | "mil_s" => 1_000,
            "second" | "s" | "sec" => MICROS_PER_SECOND,
            "minute" | "m" | "min" => 60 * MICROS_PER_SECOND,
            "hour" | "h" | "hr" => 3600 * MICROS_PER_SECOND,
            "day" | "d" => {
                self.days = self.days.checked_add(whole)?;
                self.add_days_fraction(fraction);
                return Some(());
            }
            "week" | "w" => {
                self.days = self.days.checked_add(whole.checked_mul(7)?)?;
                let d = fraction * 7.0;
                self.days += d.trunc() as i64;
                self.add_days_fraction(d.fract());
                return Some(());
            }
            "month" | "mon" => {
                self.months = self.months.checked_add(whole)?;
                let d = fraction * 30.0;
                self.days += d.trunc() as i64;
                self.add_days_fraction(d.fract());
                return Some(());
            }
            _ => {
                let years = match unit {
                    "year" | "y" | "yr" => 1,
                    "decade" | "dec" => 10,
                    "century" | "centurie" | "cent" | "c" => 100,
                    "millennium" | "millennia" | "mil" => 1000,
                    _ => return None,
                };
                self.months = self.months.checked_add(whole.checked_mul(12 * years)?)?;
                self.months += (fraction * 12.0 * years as f64).round() as i64;
                return Some(());
            }
        };
        self.micros +=
            i128::from(whole) * i128::from(micros) + (fraction * micros as f64).round_ties_even() as i128;
        Some(())
    }

    fn add_days_fraction(&mut self, fraction: f64) {
        self.micros += (fraction * MICROS_PER_DAY as f64).round() as i128;
    }

    fn finish(self, negate: bool, text: &str) -> Result<IntervalMonthDayNano> {
        let sign = if negate { -1 } else { 1 };
        let range = || Error::new(ErrorKind::DatetimeOverflow, format!("interval out of range: \"{text}\""));
        let months = i32::try_from(self.months.saturating_mul(sign)).map_err(|_| range())?;
        let days = i32::try_from(self.days.saturating_mul(sign)).map_err(|_| range())?;
        let nanos = i64::try_from(self.micros * i128::from(sign) * 1000).map_err(|_| range())?;
        Ok(IntervalMonthDayNano::new(months, days, nanos))
    }
}

/// Parses an interval: PostgreSQL's words, `H:M:S`, `Y-M`, and ISO 8601's `P1Y2M3DT4H5M6S`.
pub(crate) fn parse_interval(text: &str) -> Result<IntervalMonthDayNano> {
    let syntax = || {
        Error::new(ErrorKind::InvalidDatetime, format!("invalid input syntax for type interval: \"{text}\""))
    };
    let b = text.trim_ascii().as_bytes();
    if let Some(iso) = b.strip_prefix(b"P") {
        let parts = iso_interval(iso).ok_or_else(syntax)?;
        return parts.finish(false, text);
    }
    let mut parts = Parts::default();
    let mut at = 0;
    let mut ago = false;
    let mut any = false;
    let mut pending: Option<(i64, f64)> = None;
    while at < b.len() {
        match b[at] {
            b' ' | b'\t' | b'\n' | b'@' | b',' => at += 1,
            b'0'..=b'9' | b'+' | b'-' | b'.' => {
                if let Some((whole, fraction)) = pending.take() {
                    // Before a time a bare number counts days ("1 2:03:04").
                    if !b[at..].contains(&b':') {
                        return Err(syntax());
                    }
                    parts.add(whole, fraction, "day").ok_or_else(syntax)?;
                }
                let used = interval_number(&b[at..], &mut parts, &mut pending).ok_or_else(syntax)?;
                at += used;
                any = true;
            }
            c if c.is_ascii_alphabetic() => {
                let end = at + b[at..].iter().take_while(|c| c.is_ascii_alphabetic()).count();
                let word = String::from_utf8_lossy(&b[at..end]).to_ascii_lowercase();
                at = end;
                if word == "ago" {
                    ago = true;
                    continue;
                }
                let (whole, fraction) = pending.take().ok_or_else(syntax)?;
                let unit = match word.as_str() {
                    "s" | "ms" | "us" => word.as_str(),
                    other => other.strip_suffix('s').unwrap_or(other),
                };
                parts.add(whole, fraction, unit).ok_or_else(syntax)?;
            }
            _ => return Err(syntax()),
        }
    }
    if let Some((whole, fraction)) = pending {
        parts.add(whole, fraction, "second").ok_or_else(syntax)?;
    }
    if !any {
        return Err(syntax());
    }
    parts.finish(ago, text)
}

/// A signed number with its fraction; the rest of the text.
fn signed(b: &[u8]) -> Option<(bool, i64, f64, &[u8])> {
    let (negative, mut rest) = match b.first()? {
        b'-' => (true, &b[1..]),
        b'+' => (false, &b[1..]),
        _ => (false, b),
    };
    let n = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    if n > 18 {
        return None;
    }
    let whole = number(&rest[..n]);
    rest = &rest[n..];
    let mut fraction = 0.0;
    let mut digits = n;
    if let Some(f) = rest.strip_prefix(b".") {
        let n = f.iter().take_while(|c| c.is_ascii_digit()).count();
        let text = std::str::from_utf8(&b[b.len() - rest.len()..b.len() - f.len() + n]).ok()?;
        fraction = if n == 0 { 0.0 } else { text.parse().ok()? };
        rest = &f[n..];
        digits += n;
    }
    (digits > 0).then_some((negative, whole, fraction, rest))
}

fn interval_number(b: &[u8], parts: &mut Parts, pending: &mut Option<(i64, f64)>) -> Option<usize> {
    let (negative, whole, fraction, rest) = signed(b)?;
    let sign = if negative { -1 } else { 1 };
    match rest {
        [b':', ..] if fraction == 0.0 => {
            let mut fields = [0i64; 2];
            let mut micros = 0;
            let mut rest = rest;
            for (i, field) in fields.iter_mut().enumerate() {
                let Some(after) = rest.strip_prefix(b":") else { break };
                let n = after.iter().take_while(|c| c.is_ascii_digit()).count();
                if n == 0 || n > 2 {
                    return None;
                }
                *field = number(&after[..n]);
                rest = &after[n..];
                if let (1, Some(f)) = (i, rest.strip_prefix(b".")) {
                    let n = f.iter().take_while(|c| c.is_ascii_digit()).count();
                    micros = fraction_micros(&f[..n]);
                    rest = &f[n..];
                }
            }
            if fields[0] > 59 || fields[1] > 60 {
                return None;
            }
            let seconds = i128::from(whole) * 3600 + i128::from(fields[0] * 60 + fields[1]);
            parts.micros += i128::from(sign) * (seconds * 1_000_000 + i128::from(micros));
            Some(b.len() - rest.len())
        }
        [b'-', d, ..] if d.is_ascii_digit() && fraction == 0.0 => {
            let n = rest[1..].iter().take_while(|c| c.is_ascii_digit()).count();
            let months = number(&rest[1..1 + n]);
            if months > 11 {
                return None;
            }
            parts.months = parts.months.checked_add(sign * (whole.checked_mul(12)? + months))?;
            Some(b.len() - rest.len() + 1 + n)
        }
        _ => {
            *pending = Some((sign * whole, sign as f64 * fraction));
            Some(b.len() - rest.len())
        }
    }
}

fn iso_interval(mut b: &[u8]) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut in_time = false;
    if b.is_empty() {
        return None;
    }
    while !b.is_empty() {
        if let Some(rest) = b.strip_prefix(b"T") {
            in_time = true;
            b = rest;
            continue;
        }
        let (negative, whole, fraction, rest) = signed(b)?;
        let sign = if negative { -1 } else { 1 };
        let unit = match (rest.first()?, in_time) {
            (b'Y', false) => "year",
            (b'M', false) => "month",
            (b'W', false) => "week",
            (b'D', false) => "day",
            (b'H', true) => "hour",
            (b'M', true) => "minute",
            (b'S', true) => "second",
            _ => return None,
        };
        parts.add(sign * whole, sign as f64 * fraction, unit)?;
        b = &rest[1..];
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_in_all_styles() {
        let i = |months, days, micros: i64| IntervalMonthDayNano::new(months, days, micros * 1000);
        let s = 1_000_000;
        for (text, expected) in [
            ("1 year 2 mons 3 days 04:05:06.789", i(14, 3, 14_706_789_000)),
            ("1 day", i(0, 1, 0)),
            ("5 minutes", i(0, 0, 300 * s)),
            ("10s", i(0, 0, 10 * s)),
            ("-1 day +02:03:00", i(0, -1, 7_380 * s)),
            ("1.5 days", i(0, 1, 43_200 * s)),
            ("1.5 months", i(1, 15, 0)),
            ("1.5 years", i(18, 0, 0)),
            ("2 weeks", i(0, 14, 0)),
            ("@ 1 minute ago", i(0, 0, -60 * s)),
            ("1-2", i(14, 0, 0)),
            ("1 2:03:04", i(0, 1, 7_384 * s)),
            ("P1Y2M3DT4H5M6S", i(14, 3, 14_706 * s)),
            ("PT0.5S", i(0, 0, 500_000)),
            ("100", i(0, 0, 100 * s)),
            ("250 ms", i(0, 0, 250_000)),
            ("3 centuries", i(3600, 0, 0)),
        ] {
            assert_eq!(parse_interval(text).unwrap(), expected, "{text}");
        }
        for text in ["", "x", "1 potato", "P", "1 day day", "1:99", "-"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
        assert_eq!(parse_interval("999999999999 years").unwrap_err().kind().sqlstate(), "22008");
    }
}
