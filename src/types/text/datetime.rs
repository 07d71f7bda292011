//! Dates and times: the calendar, and PostgreSQL's many ways to write them.
//!
//! Boundary: microseconds and days since the Unix epoch; infinities are the type's greatest and least integer.

use arrow::array::timezone::Tz;
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};

use super::TextOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::time::{Clock, SystemClock};

pub(crate) const MICROS_PER_DAY: i64 = 86_400_000_000;
pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
/// PostgreSQL's range: 4713 BC to 5874897 AD for dates, to 294276 AD for timestamps.
const MIN_DAYS: i64 = -2_440_588;
const MAX_DATE_DAYS: i64 = 2_145_042_905;
const MAX_TIMESTAMP_DAYS: i64 = 106_751_991;

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar (year 0 is 1 BC).
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Years that start in March put the leap day last.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let shifted = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day number; the inverse of [`days_from_civil`].
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = (if shifted < 10 { shifted + 3 } else { shifted - 9 }) as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn naive(micros: i64) -> NaiveDateTime {
    // Outside chrono's years the zone's rules mean nothing any more: the nearest moment will do.
    let clamped = micros.clamp(-8_000_000_000_000_000_000, 8_000_000_000_000_000_000);
    DateTime::from_timestamp_micros(clamped).unwrap_or_default().naive_utc()
}

/// Seconds east of UTC in a zone at a moment.
pub(crate) fn offset_at(zone: &Tz, micros: i64) -> i32 {
    zone.offset_from_utc_datetime(&naive(micros)).fix().local_minus_utc()
}

/// Seconds east of UTC of a local time: standard time when it happens twice, the time before when it never does.
fn offset_of_local(zone: &Tz, local: i64) -> i32 {
    match zone.offset_from_local_datetime(&naive(local)) {
        LocalResult::Single(o) => o.fix().local_minus_utc(),
        LocalResult::Ambiguous(a, b) => a.fix().local_minus_utc().min(b.fix().local_minus_utc()),
        LocalResult::None => {
            let before = local.saturating_sub(MICROS_PER_DAY / 8);
            match zone.offset_from_local_datetime(&naive(before)) {
                LocalResult::Single(o) | LocalResult::Ambiguous(o, _) => o.fix().local_minus_utc(),
                LocalResult::None => 0,
            }
        }
    }
}

/// Why a date/time was refused.
enum Refusal {
    Syntax,
    Field,
    Zone(String),
}

#[derive(Clone, Copy)]
enum Zone {
    Offset(i32),
    Named(Tz),
}

#[derive(Clone, Copy, PartialEq)]
enum Special {
    Infinity,
    MinusInfinity,
    Epoch,
    Now,
    Day(i64),
}

#[derive(Default)]
struct Fields {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    time: Option<i64>,
    pm: Option<bool>,
    zone: Option<Zone>,
    bc: bool,
    /// The year was written with two digits.
    short_year: bool,
    special: Option<Special>,
}

struct Scanner<'a> {
    b: &'a [u8],
    at: usize,
    f: Fields,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const ZONES: &[(&str, i32)] = &[
    ("z", 0),
    ("utc", 0),
    ("gmt", 0),
    ("zulu", 0),
    ("uct", 0),
    ("wet", 0),
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
    ("cet", 1),
    ("cest", 2),
    ("met", 1),
    ("bst", 1),
    ("west", 1),
    ("eet", 2),
    ("eest", 3),
    ("msk", 3),
    ("jst", 9),
    ("kst", 9),
    ("akst", -9),
    ("hst", -10),
];

fn month_named(word: &str) -> Option<u32> {
    (word.len() >= 3)
        .then(|| {
            MONTHS.iter().position(|m| m.starts_with(word) && (word.len() == 3 || word.len() == m.len()))
        })
        .flatten()
        .or_else(|| (word == "sept").then_some(8))
        .map(|m| m as u32 + 1)
}

pub(super) fn number(b: &[u8]) -> i64 {
    b.iter().fold(0i64, |v, d| v.saturating_mul(10).saturating_add(i64::from(d - b'0')))
}

/// Microseconds of the digits after a decimal point, rounded at the seventh.
pub(super) fn fraction_micros(digits: &[u8]) -> i64 {
    let mut v = 0;
    for i in 0..6 {
        v = v * 10 + digits.get(i).map_or(0, |d| i64::from(d - b'0'));
    }
    v + i64::from(digits.get(6).is_some_and(|d| *d >= b'5'))
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.b.get(self.at).copied()
    }

    fn digits(&mut self) -> &[u8] {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        &self.b[start..self.at]
    }

    fn word(&mut self) -> &str {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
            self.at += 1;
        }
        // Only ASCII letters lie between the two.
        std::str::from_utf8(&self.b[start..self.at]).unwrap_or_default()
    }

    fn run(mut self) -> Result<Fields, Refusal> {
        while let Some(c) = self.peek() {
            match c {
                b' ' | b',' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'0'..=b'9' => self.numeric()?,
                b'+' | b'-' if self.f.time.is_some() || self.f.is_date() => self.offset()?,
                b'-' if self.b[self.at..].eq_ignore_ascii_case(b"-infinity") => {
                    self.at = self.b.len();
                    self.special(Special::MinusInfinity)?;
                }
                b'-' | b'/' | b'.' if self.f.month.is_some() => self.at += 1,
                c if c.is_ascii_alphabetic() => self.alphabetic()?,
                _ => return Err(Refusal::Syntax),
            }
        }
        Ok(self.f)
    }

    fn special(&mut self, s: Special) -> Result<(), Refusal> {
        if self.f.special.replace(s).is_some() { Err(Refusal::Syntax) } else { Ok(()) }
    }

    fn numeric(&mut self) -> Result<(), Refusal> {
        let first = self.digits().to_vec();
        match self.peek() {
            Some(b':') => self.clock(&first),
            Some(sep @ (b'-' | b'/' | b'.'))
                if self.f.year.is_none()
                    && self.f.month.is_none()
                    && self.b.get(self.at + 1).is_some_and(|c| c.is_ascii_alphanumeric()) =>
            {
                self.date_parts(&first, sep)
            }
            Some(b'.') if self.f.month.is_some() && self.f.time.is_none() && first.len() == 6 => {
                self.at += 1;
                let fraction = fraction_micros(self.digits());
                self.compact_time(&first)?;
                self.f.time = self.f.time.map(|t| t + fraction);
                Ok(())
            }
            _ => self.bare(&first),
        }
    }

    fn clock(&mut self, hours: &[u8]) -> Result<(), Refusal> {
        if self.f.time.is_some() || hours.len() > 2 {
            return Err(Refusal::Syntax);
        }
        let h = number(hours);
        self.at += 1;
        let minutes = self.digits();
        if minutes.is_empty() || minutes.len() > 2 {
            return Err(Refusal::Syntax);
        }
        let m = number(minutes);
        let (mut s, mut micros) = (0, 0);
        if self.peek() == Some(b':') {
            self.at += 1;
            let seconds = self.digits();
            if seconds.is_empty() || seconds.len() > 2 {
                return Err(Refusal::Syntax);
            }
            s = number(seconds);
            if self.peek() == Some(b'.') {
                self.at += 1;
                micros = fraction_micros(self.digits());
            }
        }
        self.set_time(h, m, s, micros)
    }

    fn set_time(&mut self, h: i64, m: i64, s: i64, micros: i64) -> Result<(), Refusal> {
        if h > 24 || m > 59 || s > 60 || (h == 24 && (m > 0 || s > 0 || micros > 0)) {
            return Err(Refusal::Field);
        }
        self.f.time = Some((h * 3600 + m * 60 + s) * MICROS_PER_SECOND + micros);
        Ok(())
    }

    fn compact_time(&mut self, digits: &[u8]) -> Result<(), Refusal> {
        self.set_time(
            number(&digits[..2]),
            number(&digits[2..4]),
            number(digits.get(4..6).unwrap_or(b"0")),
            0,
        )
    }

    /// `a-b-c`: year first when it has at least three digits, otherwise month first (DateStyle MDY).
    fn date_parts(&mut self, a: &[u8], sep: u8) -> Result<(), Refusal> {
        self.at += 1;
        let month_word = if self.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
            let word = self.word().to_ascii_lowercase();
            Some(month_named(&word).ok_or(Refusal::Syntax)?)
        } else {
            None
        };
        let b = if month_word.is_some() { Vec::new() } else { self.digits().to_vec() };
        if self.peek() != Some(sep) {
            // Year and day of the year, year and month: neither is a date.
            return Err(Refusal::Syntax);
        }
        self.at += 1;
        let c = self.digits().to_vec();
        if c.is_empty() {
            return Err(Refusal::Syntax);
        }
        let (year, month, day) = match month_word {
            Some(m) if a.len() >= 3 => (a.to_vec(), m.into(), number(&c)),
            Some(m) => (c, m.into(), number(a)),
            None if a.len() >= 3 => (a.to_vec(), number(&b), number(&c)),
            None => (c, number(a), number(&b)),
        };
        self.set_year(&year);
        self.f.month = Some(u32::try_from(month).unwrap_or(u32::MAX));
        self.f.day = Some(u32::try_from(day).unwrap_or(u32::MAX));
        if matches!(self.peek(), Some(b'T' | b't'))
            && self.b.get(self.at + 1).is_some_and(|c| c.is_ascii_digit())
        {
            self.at += 1;
        }
        Ok(())
    }

    fn set_year(&mut self, digits: &[u8]) {
        self.f.year = Some(number(digits));
        self.f.short_year = digits.len() <= 2;
    }

    /// A number without separators.
    fn bare(&mut self, d: &[u8]) -> Result<(), Refusal> {
        let f = &mut self.f;
        let have_date = f.is_date();
        if f.month.is_none() && f.year.is_none() && d.len() >= 8 {
            let y = d.len() - 4;
            f.year = Some(number(&d[..y]));
            f.month = Some(number(&d[y..y + 2]) as u32);
            f.day = Some(number(&d[y + 2..]) as u32);
            if matches!(self.peek(), Some(b'T' | b't')) {
                self.at += 1;
            }
        } else if f.month.is_none() && f.year.is_none() && d.len() == 6 {
            let (y, m, day) = (d[..2].to_vec(), number(&d[2..4]), number(&d[4..]));
            self.set_year(&y);
            self.f.month = Some(m as u32);
            self.f.day = Some(day as u32);
        } else if have_date && f.time.is_none() && (d.len() == 6 || d.len() == 4) {
            return self.compact_time(d);
        } else if f.day.is_none() && d.len() <= 2 {
            f.day = Some(number(d) as u32);
        } else if f.year.is_none() {
            self.set_year(d);
        } else {
            return Err(Refusal::Syntax);
        }
        Ok(())
    }

    fn offset(&mut self) -> Result<(), Refusal> {
        if self.f.zone.is_some() {
            return Err(Refusal::Syntax);
        }
        let sign = if self.peek() == Some(b'-') { -1 } else { 1 };
        self.at += 1;
        let d = self.digits().to_vec();
        let (h, mut m, mut s) = match d.len() {
            1 | 2 => (number(&d), 0, 0),
            3 | 4 => (number(&d[..d.len() - 2]), number(&d[d.len() - 2..]), 0),
            6 => (number(&d[..2]), number(&d[2..4]), number(&d[4..])),
            _ => return Err(Refusal::Syntax),
        };
        for part in [&mut m, &mut s] {
            if self.peek() == Some(b':') && d.len() <= 2 {
                self.at += 1;
                let more = self.digits();
                if more.len() != 2 {
                    return Err(Refusal::Syntax);
                }
                *part = number(more);
            }
        }
        if h > 15 || m > 59 || s > 59 {
            return Err(Refusal::Zone(String::new()));
        }
        self.f.zone = Some(Zone::Offset(sign * (h * 3600 + m * 60 + s) as i32));
        Ok(())
    }

    fn alphabetic(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        let word = self.word().to_ascii_lowercase();
        if let Some(m) = month_named(&word) {
            if self.f.month.is_some() {
                // "1 January 1999": what was taken for something else cannot be a month by number.
                return Err(Refusal::Syntax);
            }
            self.f.month = Some(m);
            return Ok(());
        }
        if word.len() >= 3 && WEEKDAYS.iter().any(|d| d.starts_with(word.as_str())) {
            return Ok(());
        }
        match word.as_str() {
            "am" => self.f.pm = Some(false),
            "pm" => self.f.pm = Some(true),
            "bc" => self.f.bc = true,
            "ad" | "at" | "on" => {}
            "t" if self.f.day.is_some() && self.f.time.is_none() => {}
            "infinity" | "inf" => self.special(Special::Infinity)?,
            "epoch" => self.special(Special::Epoch)?,
            "now" => self.special(Special::Now)?,
            "today" => self.special(Special::Day(0))?,
            "tomorrow" => self.special(Special::Day(1))?,
            "yesterday" => self.special(Special::Day(-1))?,
            "allballs" => self.f.time = Some(0),
            _ => {
                while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'_')) {
                    self.at += 1;
                }
                let name = String::from_utf8_lossy(&self.b[start..self.at]).into_owned();
                self.zone_named(&word, &name)?;
            }
        }
        Ok(())
    }

    fn zone_named(&mut self, word: &str, name: &str) -> Result<(), Refusal> {
        if self.f.zone.is_some() {
            return Err(Refusal::Syntax);
        }
        let zone = if name.len() == word.len()
            && let Some((_, hours)) = ZONES.iter().find(|(z, _)| *z == word)
        {
            Zone::Offset(hours * 3600)
        } else if name.contains('/') {
            Zone::Named(name.parse().map_err(|_| Refusal::Zone(name.to_string()))?)
        } else {
            return Err(Refusal::Syntax);
        };
        self.f.zone = Some(zone);
        Ok(())
    }
}

impl Fields {
    fn clock(&self) -> Result<Option<i64>, Refusal> {
        let Some(t) = self.time else { return Ok(None) };
        let noon = 12 * 3600 * MICROS_PER_SECOND;
        let hour = 3600 * MICROS_PER_SECOND;
        Ok(Some(match self.pm {
            Some(_) if t >= 13 * hour => return Err(Refusal::Field),
            Some(true) if t < noon => t + noon,
            Some(false) if t >= noon => t - noon,
            _ => t,
        }))
    }

    fn days(&self) -> Result<i64, Refusal> {
        let (Some(y), Some(m), Some(d)) = (self.year, self.month, self.day) else {
            return Err(Refusal::Syntax);
        };
        if (y == 0 && (self.bc || !self.short_year)) || !(1..=12).contains(&m) || y > 10_000_000 {
            return Err(Refusal::Field);
        }
        let y = match (self.bc, self.short_year) {
            (true, _) => 1 - y,
            (false, true) => y + if y < 70 { 2000 } else { 1900 },
            (false, false) => y,
        };
        if d < 1 || d > days_in_month(y, m) {
            return Err(Refusal::Field);
        }
        Ok(days_from_civil(y, m, d))
    }

    fn is_date(&self) -> bool {
        self.year.is_some() && self.month.is_some() && self.day.is_some()
    }

    fn has_date(&self) -> bool {
        self.year.is_some() || self.month.is_some() || self.day.is_some()
    }
}

fn refused(r: Refusal, type_name: &str, text: &str) -> Error {
    match r {
        Refusal::Syntax => Error::new(
            ErrorKind::InvalidDatetime,
            format!("invalid input syntax for type {type_name}: \"{text}\""),
        ),
        Refusal::Field => {
            let e = Error::new(
                ErrorKind::DatetimeOverflow,
                format!("date/time field value out of range: \"{text}\""),
            );
            // As PostgreSQL: a day or month too large may be a matter of their order.
            let looks_swapped = text.bytes().take_while(|c| c.is_ascii_digit()).count() <= 2;
            if looks_swapped { e.with_hint("Perhaps you need a different \"datestyle\" setting.") } else { e }
        }
        Refusal::Zone(name) if name.is_empty() => Error::new(
            ErrorKind::InvalidDisplacement,
            format!("time zone displacement out of range: \"{text}\""),
        ),
        Refusal::Zone(name) => Error::new(
            ErrorKind::InvalidParameter,
            format!("time zone \"{}\" not recognized", name.to_lowercase()),
        ),
    }
}

fn fields(text: &str, type_name: &str) -> Result<Fields> {
    Scanner { b: text.trim_ascii().as_bytes(), at: 0, f: Fields::default() }
        .run()
        .map_err(|r| refused(r, type_name, text))
}

fn now(options: &TextOptions) -> i64 {
    options.now.unwrap_or_else(|| SystemClock.now()).0
}

fn local(micros: i64, options: &TextOptions) -> i64 {
    let offset = options.time_zone.as_ref().map_or(0, |z| offset_at(z, micros));
    micros + i64::from(offset) * MICROS_PER_SECOND
}

/// `YYYY-MM-DD` at the start of the text, the form that machines write.
fn iso_date(b: &[u8]) -> Option<i64> {
    let b = b.first_chunk::<10>()?;
    let digit = |i: usize| b[i].is_ascii_digit();
    if b[4] != b'-' || b[7] != b'-' || ![0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit) {
        return None;
    }
    let (y, m, d) = (number(&b[..4]), number(&b[5..7]) as u32, number(&b[8..]) as u32);
    (y > 0 && (1..=12).contains(&m) && d >= 1 && d <= days_in_month(y, m)).then(|| days_from_civil(y, m, d))
}

/// `YYYY-MM-DD[T ]HH:MM:SS[.ffffff][Z]`: local microseconds and whether the text ended with a `Z`.
fn iso_timestamp(text: &str) -> Option<(i64, bool)> {
    let b = text.as_bytes();
    let days = iso_date(b)?;
    let rest = &b[10..];
    let t = rest.first_chunk::<9>()?;
    if !matches!(t[0], b' ' | b'T') || t[3] != b':' || t[6] != b':' {
        return None;
    }
    if ![1, 2, 4, 5, 7, 8].into_iter().all(|i| t[i].is_ascii_digit()) {
        return None;
    }
    let (h, m, s) = (number(&t[1..3]), number(&t[4..6]), number(&t[7..9]));
    if h > 23 || m > 59 || s > 59 {
        return None;
    }
    let mut rest = &rest[9..];
    let mut micros = 0;
    if let Some(f) = rest.strip_prefix(b".") {
        let n = f.iter().take_while(|c| c.is_ascii_digit()).count();
        micros = fraction_micros(&f[..n]);
        rest = &f[n..];
    }
    let z = match rest {
        [] => false,
        [b'Z'] => true,
        _ => return None,
    };
    Some((days * MICROS_PER_DAY + (h * 3600 + m * 60 + s) * MICROS_PER_SECOND + micros, z))
}

/// Parses a date into days since the Unix epoch.
pub(crate) fn parse_date(text: &str, options: &TextOptions) -> Result<i32> {
    if text.len() == 10
        && let Some(days) = iso_date(text.as_bytes())
    {
        return Ok(days as i32);
    }
    let f = fields(text, "date")?;
    let days = match f.special {
        Some(Special::Infinity) => return Ok(i32::MAX),
        Some(Special::MinusInfinity) => return Ok(i32::MIN),
        Some(Special::Epoch) => 0,
        Some(Special::Now) => local(now(options), options).div_euclid(MICROS_PER_DAY),
        Some(Special::Day(d)) => local(now(options), options).div_euclid(MICROS_PER_DAY) + d,
        None => f.days().map_err(|r| refused(r, "date", text))?,
    };
    if !(MIN_DAYS..=MAX_DATE_DAYS).contains(&days) {
        return Err(Error::new(ErrorKind::DatetimeOverflow, format!("date out of range: \"{text}\"")));
    }
    Ok(days as i32)
}

/// Parses a time of day into microseconds.
pub(crate) fn parse_time(text: &str, options: &TextOptions) -> Result<i64> {
    let b = text.trim_ascii().as_bytes();
    let name = "time";
    let f = if matches!(b.len(), 4 | 6) && b.iter().all(u8::is_ascii_digit) {
        let mut s = Scanner { b, at: b.len(), f: Fields::default() };
        s.compact_time(b).map_err(|r| refused(r, name, text))?;
        s.f
    } else {
        fields(text, name)?
    };
    if f.special == Some(Special::Now) {
        return Ok(local(now(options), options).rem_euclid(MICROS_PER_DAY));
    }
    match f.clock().map_err(|r| refused(r, name, text))? {
        Some(t) if f.special.is_none() => Ok(t),
        _ => Err(refused(Refusal::Syntax, name, text)),
    }
}

/// What a date/time text says: local microseconds and the zone it names, or a moment that needs no zone.
enum Moment {
    Local(i64, Option<Zone>),
    Absolute(i64),
}

fn moment(text: &str, name: &str, options: &TextOptions) -> Result<Moment> {
    let f = fields(text, name)?;
    let clock = f.clock().map_err(|r| refused(r, name, text))?;
    let days = match f.special {
        Some(_) if f.has_date() => return Err(refused(Refusal::Syntax, name, text)),
        Some(Special::Infinity) => return Ok(Moment::Absolute(i64::MAX)),
        Some(Special::MinusInfinity) => return Ok(Moment::Absolute(i64::MIN)),
        Some(Special::Epoch) => return Ok(Moment::Absolute(0)),
        Some(Special::Now) => return Ok(Moment::Absolute(now(options))),
        Some(Special::Day(d)) => local(now(options), options).div_euclid(MICROS_PER_DAY) + d,
        None => f.days().map_err(|r| refused(r, name, text))?,
    };
    if !(MIN_DAYS..=MAX_TIMESTAMP_DAYS).contains(&days) {
        return Err(out_of_range(text));
    }
    let micros = days.checked_mul(MICROS_PER_DAY).and_then(|m| m.checked_add(clock.unwrap_or(0)));
    Ok(Moment::Local(micros.ok_or_else(|| out_of_range(text))?, f.zone))
}

fn out_of_range(text: &str) -> Error {
    Error::new(ErrorKind::DatetimeOverflow, format!("timestamp out of range: \"{text}\""))
}

/// Parses a timestamp without time zone; a zone in the text is ignored, as in PostgreSQL.
pub(crate) fn parse_timestamp(text: &str, options: &TextOptions) -> Result<i64> {
    if let Some((micros, _)) = iso_timestamp(text) {
        return Ok(micros);
    }
    Ok(match moment(text, "timestamp", options)? {
        Moment::Local(micros, _) => micros,
        Moment::Absolute(m @ (i64::MAX | i64::MIN | 0)) => m,
        Moment::Absolute(m) => local(m, options),
    })
}

/// Parses a timestamp with time zone; without a zone in the text it is in the session's.
pub(crate) fn parse_timestamptz(text: &str, options: &TextOptions) -> Result<i64> {
    let (micros, zone) = match iso_timestamp(text) {
        Some((micros, true)) => return Ok(micros),
        Some((micros, false)) => (micros, None),
        None => match moment(text, "timestamp with time zone", options)? {
            Moment::Absolute(m) => return Ok(m),
            Moment::Local(micros, zone) => (micros, zone),
        },
    };
    let offset = match (zone, options.time_zone.as_ref()) {
        (Some(Zone::Offset(o)), _) => o,
        (Some(Zone::Named(z)), _) => offset_of_local(&z, micros),
        (None, Some(z)) => offset_of_local(z, micros),
        (None, None) => 0,
    };
    micros.checked_sub(i64::from(offset) * MICROS_PER_SECOND).ok_or_else(|| out_of_range(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::EventTime;

    fn ts(text: &str) -> Result<i64> {
        parse_timestamptz(text, &TextOptions::default())
    }

    #[test]
    fn the_calendar_round_trips_over_many_centuries() {
        for days in (-3_000_000..3_000_000).step_by(373) {
            let (y, m, d) = civil_from_days(days);
            assert_eq!(days_from_civil(y, m, d), days);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(days_from_civil(2000, 3, 1) - days_from_civil(2000, 2, 28), 2);
    }

    #[test]
    fn dates_are_read_in_postgresqls_ways() {
        let o = TextOptions { now: Some(EventTime(MICROS_PER_DAY * 10)), ..Default::default() };
        let day = |y, m, d| days_from_civil(y, m, d) as i32;
        for (text, expected) in [
            ("1999-01-08", day(1999, 1, 8)),
            ("January 8, 1999", day(1999, 1, 8)),
            ("1/8/1999", day(1999, 1, 8)),
            ("1999-Jan-08", day(1999, 1, 8)),
            ("Jan-08-1999", day(1999, 1, 8)),
            ("08-Jan-1999", day(1999, 1, 8)),
            ("08-Jan-99", day(1999, 1, 8)),
            ("19990108", day(1999, 1, 8)),
            ("990108", day(1999, 1, 8)),
            (" 2024-02-29 ", day(2024, 2, 29)),
            ("0044-03-15 BC", day(-43, 3, 15)),
            ("2024-02-29 10:00:00", day(2024, 2, 29)),
            ("epoch", 0),
            ("today", 10),
            ("yesterday", 9),
            ("infinity", i32::MAX),
            ("-infinity", i32::MIN),
        ] {
            assert_eq!(parse_date(text, &o).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused_with_the_right_code() {
        let o = TextOptions::default();
        for (text, code) in [
            ("2023-02-29", "22008"),
            ("2023-13-01", "22008"),
            ("13/13/2023", "22008"),
            ("hello", "22007"),
            ("", "22007"),
            ("2023", "22007"),
            ("2023-01", "22007"),
            ("99999999-01-01", "22008"),
        ] {
            let e = parse_date(text, &o).unwrap_err();
            assert_eq!(e.kind().sqlstate(), code, "{text}: {e}");
        }
        assert_eq!(
            parse_date("x y", &o).unwrap_err().message(),
            "invalid input syntax for type date: \"x y\""
        );
    }

    #[test]
    fn timestamps_take_zones_and_fractions() {
        let base = ts("2024-03-10 12:00:00+00").unwrap();
        for text in [
            "2024-03-10T12:00:00Z",
            "2024-03-10 12:00:00",
            "2024-03-10 12:00",
            "2024-03-10 14:00:00+02",
            "2024-03-10 14:00:00 +02:00",
            "2024-03-10 17:30:00+0530",
            "2024-03-10 07:00:00 EST",
            "2024-03-10 12:00 PM",
            "20240310T120000Z",
            "20240310T120000.000Z",
            "Sun Mar 10 12:00:00 2024",
            "2024-03-10 13:00:00 Europe/Berlin",
        ] {
            assert_eq!(ts(text).unwrap(), base, "{text}");
        }
        assert_eq!(ts("2024-03-10 12:00:00.1234565").unwrap(), base + 123_457);
        assert_eq!(ts("infinity").unwrap(), i64::MAX);
        let berlin = TextOptions::default().with_time_zone("Europe/Berlin").unwrap();
        assert_eq!(parse_timestamptz("2024-03-10 13:00:00", &berlin).unwrap(), base);
        assert_eq!(parse_timestamp("2024-03-10 12:00:00+05", &berlin).unwrap(), base);
    }

    #[test]
    fn local_times_that_happen_twice_or_never_are_resolved_as_in_postgresql() {
        let ny = TextOptions::default().with_time_zone("America/New_York").unwrap();
        let utc = |t: &str| ts(t).unwrap();
        assert_eq!(parse_timestamptz("2024-03-10 02:30:00", &ny).unwrap(), utc("2024-03-10 07:30:00Z"));
        assert_eq!(parse_timestamptz("2024-11-03 01:30:00", &ny).unwrap(), utc("2024-11-03 06:30:00Z"));
    }

    #[test]
    fn malformed_timestamps_are_refused() {
        for (text, code) in [
            ("2024-03-10 25:00:00", "22008"),
            ("2024-03-10 12:60", "22008"),
            ("2024-03-10 12:00 Mars/Base", "22023"),
            ("2024-03-10 12:00 blah", "22007"),
            ("300000-01-01 00:00:00", "22008"),
            ("\u{1F600}", "22007"),
            ("2024-03-10 12:00:00+99", "22009"),
        ] {
            assert_eq!(ts(text).unwrap_err().kind().sqlstate(), code, "{text}");
        }
    }

    #[test]
    fn times_of_day_are_read() {
        let o = TextOptions::default();
        let s = 1_000_000;
        for (text, expected) in [
            ("04:05:06.789", 14_706_789_000),
            ("04:05", 14_700 * s),
            ("040506", 14_706 * s),
            ("04:05 PM", 57_900 * s),
            ("12:00 AM", 0),
            ("24:00:00", 86_400 * s),
            ("allballs", 0),
        ] {
            assert_eq!(parse_time(text, &o).unwrap(), expected, "{text}");
        }
        assert!(parse_time("25:00", &o).is_err());
        assert!(parse_time("x", &o).is_err());
    }
}
