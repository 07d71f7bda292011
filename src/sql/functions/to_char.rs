//! to_char, to_date and to_timestamp for dates, times and intervals: templates such as `YYYY-MM-DD HH24:MI`.
//!
//! Boundary: templates and calendar fields; numbers are formatted in [`super::to_char_number`].

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Date32Builder, StringArray, StringBuilder, TimestampMicrosecondBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use chrono::{Offset, TimeZone};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::kernel::{Columns, Moment, Text, rows};
use super::registry::Build::{Native, Zoned};
use super::registry::Spec;
use super::{DfResult, df_error};
use crate::error::{Error, ErrorKind, Result};
use crate::types::text::{civil_from_days, days_from_civil};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// One field of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Meridiem { dots: bool },
    Era { dots: bool },
    Century,
    WeekDayName,
    WeekDayShort,
    DayOfYear,
    IsoDayOfYear,
    DayOfMonth,
    DayOfWeek,
    IsoDayOfWeek,
    Fraction(u8),
    Hour24,
    Hour12,
    IsoWeek,
    IsoYear(u8),
    Julian,
    Minute,
    MonthNumber,
    MonthName,
    MonthShort,
    Milliseconds,
    Offset,
    Quarter,
    MonthRoman,
    SecondOfDay,
    Second,
    ZoneName,
    ZoneHours,
    ZoneMinutes,
    Microseconds,
    WeekOfYear,
    WeekOfMonth,
    YearWithComma,
    Year(u8),
}

/// Upper case: as written in the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    Title,
    Lower,
}

/// Names of the fields; longer ones before their beginnings. Letters of either case, all the same, unless it is a name.
const FIELDS: &[(&str, Field)] = &[
    ("A.D.", Field::Era { dots: true }),
    ("A.M.", Field::Meridiem { dots: true }),
    ("AD", Field::Era { dots: false }),
    ("AM", Field::Meridiem { dots: false }),
    ("B.C.", Field::Era { dots: true }),
    ("BC", Field::Era { dots: false }),
    ("CC", Field::Century),
    ("DAY", Field::WeekDayName),
    ("DDD", Field::DayOfYear),
    ("DD", Field::DayOfMonth),
    ("DY", Field::WeekDayShort),
    ("D", Field::DayOfWeek),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::IsoDayOfYear),
    ("ID", Field::IsoDayOfWeek),
    ("IW", Field::IsoWeek),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IY", Field::IsoYear(2)),
    ("I", Field::IsoYear(1)),
    ("J", Field::Julian),
    ("MI", Field::Minute),
    ("MM", Field::MonthNumber),
    ("MONTH", Field::MonthName),
    ("MON", Field::MonthShort),
    ("MS", Field::Milliseconds),
    ("OF", Field::Offset),
    ("P.M.", Field::Meridiem { dots: true }),
    ("PM", Field::Meridiem { dots: false }),
    ("Q", Field::Quarter),
    ("RM", Field::MonthRoman),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHours),
    ("TZM", Field::ZoneMinutes),
    ("TZ", Field::ZoneName),
    ("US", Field::Microseconds),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::YearWithComma),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
    ("Y", Field::Year(1)),
];

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Field { field: Field, case: Case, fill: bool, ordinal: Option<Case> },
    Text(String),
}

fn field_at(text: &str) -> Option<(Field, Case, usize)> {
    FIELDS.iter().find_map(|(name, field)| {
        let own = text.get(..name.len())?;
        if own == *name {
            return Some((*field, Case::Upper, name.len()));
        }
        if own == name.to_lowercase() {
            return Some((*field, Case::Lower, name.len()));
        }
        let named =
            matches!(field, Field::MonthName | Field::MonthShort | Field::WeekDayName | Field::WeekDayShort);
        let title = || name[..1].to_string() + &name[1..].to_lowercase();
        (named && own == title()).then_some((*field, Case::Title, name.len()))
    })
}

/// Takes a template apart.
fn parse(template: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let mut chars = rest[1..].char_indices();
            let mut end = rest.len();
            while let Some((i, c)) = chars.next() {
                match c {
                    '"' => {
                        end = i + 2;
                        break;
                    }
                    '\\' => {
                        if let Some((_, c)) = chars.next() {
                            text.push(c);
                        }
                    }
                    c => text.push(c),
                }
            }
            rest = &rest[end.min(rest.len())..];
            continue;
        }
        if c == '\\' {
            let mut chars = rest.chars();
            chars.next();
            if chars.as_str().starts_with('"') {
                text.push('"');
                chars.next();
            } else {
                text.push('\\');
            }
            rest = chars.as_str();
            continue;
        }
        let mut body = rest;
        let mut fill = true;
        loop {
            match body.get(..2) {
                Some("FM" | "fm") => fill = false,
                // Translated names are not filled either.
                Some("TM" | "tm") => fill = false,
                Some("FX" | "fx") => {}
                _ => break,
            }
            body = &body[2..];
        }
        let Some((field, case, used)) = field_at(body) else {
            if body.len() < rest.len() {
                // A modifier without a field is dropped.
                rest = body;
                continue;
            }
            text.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        rest = &body[used..];
        let ordinal = match rest.get(..2) {
            Some("TH") => Some(Case::Upper),
            Some("th") => Some(Case::Lower),
            _ => None,
        };
        if ordinal.is_some() {
            rest = &rest[2..];
        }
        if let Some("SP" | "sp") = rest.get(..2) {
            rest = &rest[2..];
        }
        parts.push(Part::Field { field, case, fill, ordinal });
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    parts
}

/// What a template is filled from.
#[derive(Debug, Clone, Default)]
struct Fields {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    /// Days since 1970; `None` for intervals.
    days: Option<i64>,
    /// Seconds east of UTC and the zone's abbreviation.
    zone: Option<(i32, String)>,
}

impl Fields {
    fn of_local(micros: i64) -> Fields {
        let (days, time) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
        let (year, month, day) = civil_from_days(days);
        Fields { year, month: month.into(), day: day.into(), days: Some(days), ..Fields::of_time(time) }
    }

    fn of_time(time: i64) -> Fields {
        Fields {
            hour: time / (3600 * SECOND),
            minute: time / (60 * SECOND) % 60,
            second: time / SECOND % 60,
            micros: time % SECOND,
            ..Fields::default()
        }
    }

    fn of_interval(v: IntervalMonthDayNano) -> Fields {
        Fields {
            year: i64::from(v.months / 12),
            month: i64::from(v.months % 12),
            day: v.days.into(),
            ..Fields::of_time(v.nanoseconds / 1000)
        }
    }

    fn weekday(&self) -> i64 {
        // 1970-01-01 was a Thursday; Sunday is 0.
        (self.days.unwrap_or(0) + 4).rem_euclid(7)
    }

    fn day_of_year(&self) -> i64 {
        match self.days {
            Some(days) => days - days_from_civil(self.year, 1, 1) + 1,
            None => self.month * 30 + self.day,
        }
    }

    /// ISO year, week and day of that year.
    fn iso(&self) -> (i64, i64, i64) {
        let days = self.days.unwrap_or(0);
        let monday = |year: i64| {
            let fourth = days_from_civil(year, 1, 4);
            fourth - (fourth + 3).rem_euclid(7)
        };
        let mut year = self.year;
        if days < monday(year) {
            year -= 1;
        } else if days >= monday(year + 1) {
            year += 1;
        }
        let from = days - monday(year);
        (year, from / 7 + 1, from + 1)
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

fn cased(text: &str, case: Case) -> String {
    match case {
        Case::Upper => text.to_uppercase(),
        Case::Lower => text.to_lowercase(),
        Case::Title => text.to_string(),
    }
}

/// The ending of an ordinal number.
pub(super) fn ordinal_ending(number: &str, upper: bool) -> &'static str {
    let b = number.trim_end().as_bytes();
    let teen = b.len() > 1 && b[b.len() - 2] == b'1';
    let ending = match b.last() {
        Some(b'1') if !teen => ["st", "ST"],
        Some(b'2') if !teen => ["nd", "ND"],
        Some(b'3') if !teen => ["rd", "RD"],
        _ => ["th", "TH"],
    };
    ending[usize::from(upper)]
}

fn not_for_intervals() -> Error {
    Error::new(ErrorKind::InvalidDatetime, "invalid format specification for an interval value")
        .with_hint("Intervals are not tied to specific calendar dates.")
}

/// Writes the values in the template's form.
fn write(parts: &[Part], v: &Fields, out: &mut String) -> Result<()> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Field { field, case, fill, ordinal } => {
                let start = out.len();
                write_field(*field, *case, *fill, v, out)?;
                if let Some(ordinal) = ordinal {
                    let ending = ordinal_ending(&out[start..], *ordinal == Case::Upper);
                    out.push_str(ending);
                }
            }
        }
    }
    Ok(())
}

fn write_field(field: Field, case: Case, fill: bool, v: &Fields, out: &mut String) -> Result<()> {
    let number = |n: i64, width: usize, out: &mut String| {
        // Writing into a String never fails.
        let _ = if !fill {
            write!(out, "{n}")
        } else if n < 0 {
            write!(out, "-{:0width$}", -n)
        } else {
            write!(out, "{n:0width$}")
        };
    };
    let name = |text: &str, width: usize, out: &mut String| {
        let text = cased(text, case);
        let _ = if fill { write!(out, "{text:<width$}") } else { write!(out, "{text}") };
    };
    let dated = || v.days.ok_or_else(not_for_intervals);
    // Years before Christ count from 1 backwards.
    let year = if v.days.is_some() && v.year <= 0 { 1 - v.year } else { v.year };
    match field {
        Field::Meridiem { dots } => {
            let pm = v.hour.rem_euclid(24) >= 12;
            let text = match (pm, dots) {
                (false, false) => "AM",
                (true, false) => "PM",
                (false, true) => "A.M.",
                (true, true) => "P.M.",
            };
            out.push_str(&cased(text, case));
        }
        Field::Era { dots } => {
            let text = match (v.year <= 0, dots) {
                (false, false) => "AD",
                (true, false) => "BC",
                (false, true) => "A.D.",
                (true, true) => "B.C.",
            };
            dated()?;
            out.push_str(&cased(text, case));
        }
        Field::Century => {
            let century = if v.days.is_none() {
                v.year / 100
            } else if v.year > 0 {
                (v.year - 1) / 100 + 1
            } else {
                (v.year - 1).div_euclid(100).min(-1)
            };
            number(century, 2, out);
        }
        Field::WeekDayName => {
            dated()?;
            name(DAYS[v.weekday() as usize], 9, out);
        }
        Field::WeekDayShort => {
            dated()?;
            out.push_str(&cased(&DAYS[v.weekday() as usize][..3], case));
        }
        Field::DayOfYear => number(v.day_of_year(), 3, out),
        Field::IsoDayOfYear => {
            dated()?;
            number(v.iso().2, 3, out);
        }
        Field::DayOfMonth => number(v.day, 2, out),
        Field::DayOfWeek => {
            dated()?;
            number(v.weekday() + 1, 0, out);
        }
        Field::IsoDayOfWeek => {
            dated()?;
            number(if v.weekday() == 0 { 7 } else { v.weekday() }, 0, out);
        }
        Field::Fraction(digits) => {
            let _ = write!(
                out,
                "{:0width$}",
                v.micros / 10i64.pow(6 - u32::from(digits)),
                width = usize::from(digits)
            );
        }
        Field::Hour24 => number(v.hour, 2, out),
        Field::Hour12 => {
            let h = v.hour % 12;
            number(if h == 0 { 12 } else { h }, 2, out);
        }
        Field::IsoWeek => {
            dated()?;
            number(v.iso().1, 2, out);
        }
        Field::IsoYear(digits) => {
            let iso = if v.days.is_some() { v.iso().0 } else { v.year };
            let iso = if iso <= 0 && v.days.is_some() { 1 - iso } else { iso };
            number(if digits < 4 { iso % 10i64.pow(digits.into()) } else { iso }, digits.into(), out);
        }
        Field::Julian => number(dated()? + 2_440_588, 0, out),
        Field::Minute => number(v.minute, 2, out),
        Field::MonthNumber => number(v.month, 2, out),
        Field::MonthName | Field::MonthShort | Field::MonthRoman => {
            // A whole number of years has no month's name.
            if v.month == 0 {
                return Ok(());
            }
            dated().or(if field == Field::MonthRoman { Ok(0) } else { Err(not_for_intervals()) })?;
            let i = (v.month - 1).rem_euclid(12) as usize;
            match field {
                Field::MonthName => name(MONTHS[i], 9, out),
                Field::MonthShort => out.push_str(&cased(&MONTHS[i][..3], case)),
                _ => {
                    let text = cased(ROMAN[i], if case == Case::Lower { Case::Lower } else { Case::Upper });
                    let _ = if fill { write!(out, "{text:<4}") } else { write!(out, "{text}") };
                }
            }
        }
        Field::Milliseconds => {
            let _ = write!(out, "{:03}", v.micros / 1000);
        }
        Field::Microseconds => {
            let _ = write!(out, "{:06}", v.micros);
        }
        Field::Offset => {
            dated()?;
            let offset = v.zone.as_ref().map_or(0, |z| z.0);
            let sign = if offset < 0 { '-' } else { '+' };
            let offset = offset.abs();
            let _ = if fill {
                write!(out, "{sign}{:02}", offset / 3600)
            } else {
                write!(out, "{sign}{}", offset / 3600)
            };
            if offset % 3600 != 0 {
                let _ = write!(out, ":{:02}", offset / 60 % 60);
            }
        }
        Field::ZoneHours => {
            dated()?;
            let offset = v.zone.as_ref().map_or(0, |z| z.0);
            let _ = write!(out, "{}{:02}", if offset < 0 { '-' } else { '+' }, offset.abs() / 3600);
        }
        Field::ZoneMinutes => {
            dated()?;
            let _ = write!(out, "{:02}", v.zone.as_ref().map_or(0, |z| z.0).abs() / 60 % 60);
        }
        Field::ZoneName => {
            dated()?;
            if let Some((_, name)) = &v.zone {
                out.push_str(&if case == Case::Lower { name.to_lowercase() } else { name.to_uppercase() });
            }
        }
        Field::Quarter => {
            if v.month != 0 {
                number((v.month - 1) / 3 + 1, 0, out);
            }
        }
        Field::SecondOfDay => number(v.hour * 3600 + v.minute * 60 + v.second, 0, out),
        Field::Second => number(v.second, 2, out),
        Field::WeekOfYear => number((v.day_of_year() - 1) / 7 + 1, 2, out),
        Field::WeekOfMonth => number((v.day - 1) / 7 + 1, 0, out),
        Field::YearWithComma => {
            let _ = write!(out, "{},{:03}", year / 1000, year % 1000);
        }
        Field::Year(digits) => {
            number(if digits < 4 { year % 10i64.pow(digits.into()) } else { year }, digits.into(), out);
        }
    }
    Ok(())
}

/// The template of the last row, taken apart.
#[derive(Default)]
struct Templates {
    text: Option<String>,
    parts: Vec<Part>,
}

impl Templates {
    fn get(&mut self, template: &str) -> &[Part] {
        if self.text.as_deref() != Some(template) {
            self.parts = parse(template);
            self.text = Some(template.to_string());
        }
        &self.parts
    }
}

/// The microseconds within which the text of a template cannot change.
fn finest(parts: &[Part]) -> i64 {
    let mut unit = DAY;
    for part in parts {
        if let Part::Field { field, .. } = part {
            unit = unit.min(match field {
                Field::Fraction(_) | Field::Milliseconds | Field::Microseconds => 1,
                Field::Hour12
                | Field::Hour24
                | Field::Minute
                | Field::Second
                | Field::SecondOfDay
                | Field::Meridiem { .. } => SECOND,
                _ => DAY,
            });
        }
    }
    unit
}

fn infinite(micros: i64) -> bool {
    matches!(micros, i64::MAX | i64::MIN)
}

/// to_char(timestamp, template).
pub fn of_timestamp(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    if let Some(null) = columns.all_null(result)? {
        return Ok(null);
    }
    let (times, texts) = (Moment::of(&columns, 0)?, Text::of(&columns, 1)?);
    let mut bytes: Vec<u8> = Vec::with_capacity(columns.rows * 10);
    let mut offsets = Vec::with_capacity(columns.rows + 1);
    offsets.push(0_i32);
    let mut valid = Vec::with_capacity(columns.rows);
    let mut templates = Templates::default();
    // Rows of one time come together, and most templates show days: the last text is often the next one. It holds
    // for times from `start` until before `end`.
    let (mut template, mut text, mut start, mut end) = ("", String::new(), 0, 0);
    for row in 0..columns.rows {
        let shown = !columns.any_null(row) && {
            let (time, wanted) = (times.at(row), texts.at(row));
            let same = std::ptr::eq(wanted, template) || wanted == template;
            let finite = !infinite(time) && !wanted.is_empty();
            if finite && (!same || time < start || time >= end) {
                let parts = templates.get(wanted);
                let unit = finest(parts);
                text.clear();
                write(parts, &Fields::of_local(time), &mut text).map_err(df_error)?;
                template = wanted;
                start = time.div_euclid(unit) * unit;
                end = start.saturating_add(unit);
            }
            finite
        };
        if shown {
            bytes.extend_from_slice(text.as_bytes());
        }
        valid.push(shown);
        let end = i32::try_from(bytes.len());
        offsets.push(
            end.map_err(|_| df_error(Error::new(ErrorKind::ProgramLimit, "requested length too large")))?,
        );
    }
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    let array = StringArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), nulls)?;
    columns.finish(Arc::new(array), result)
}

/// to_char(timestamptz, template), in the session's time zone.
fn of_timestamptz(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut templates = Templates::default();
    let mut buffer = String::new();
    let mut zones = Zones::default();
    rows!(args, result, out = StringBuilder::new(), (t: Moment, template: Text, zone: Text) {
        if infinite(t) || template.is_empty() {
            out.append_null();
            return Ok(());
        }
        let (offset, name) = zones.offset(zone, t)?;
        let mut fields = Fields::of_local(t + i64::from(offset) * SECOND);
        fields.zone = Some((offset, name));
        buffer.clear();
        write(templates.get(template), &fields, &mut buffer)?;
        out.append_value(&buffer);
    })
}

fn of_interval(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut templates = Templates::default();
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Span, template: Text) {
        buffer.clear();
        write(templates.get(template), &Fields::of_interval(v), &mut buffer)?;
        out.append_value(&buffer);
    })
}

/// The time zone last used.
#[derive(Default)]
pub(super) struct Zones {
    last: Option<(String, Tz)>,
}

impl Zones {
    /// A zone by its name.
    pub(super) fn get(&mut self, name: &str) -> Result<Tz> {
        if let Some((n, tz)) = &self.last
            && n == name
        {
            return Ok(*tz);
        }
        let tz = super::times::zone(name)?;
        self.last = Some((name.to_string(), tz));
        Ok(tz)
    }

    fn offset(&mut self, name: &str, micros: i64) -> Result<(i32, String)> {
        let tz = self.get(name)?;
        let at = chrono::DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| Error::new(ErrorKind::DatetimeOverflow, "timestamp out of range"))?
            .naive_utc();
        let offset = tz.offset_from_utc_datetime(&at);
        let seconds = offset.fix().local_minus_utc();
        // The zone database at hand keeps no abbreviations.
        let utc = matches!(name, "UTC" | "utc" | "GMT" | "Etc/UTC" | "Zulu");
        Ok((seconds, if utc { "UTC".to_string() } else { offset.to_string() }))
    }
}

/// What is read by a template.
#[derive(Debug, Default, Clone, Copy)]
struct Read {
    year: Option<i64>,
    iso_year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    iso_week: Option<i64>,
    week: Option<i64>,
    iso_day: Option<i64>,
    iso_day_of_year: Option<i64>,
    julian: Option<i64>,
    century: Option<i64>,
    hour: Option<i64>,
    twelve: bool,
    minute: Option<i64>,
    second: Option<i64>,
    second_of_day: Option<i64>,
    micros: i64,
    pm: Option<bool>,
    bc: bool,
    zone: Option<i64>,
    zone_minutes: i64,
}

fn invalid_value(value: &str, field: &str, detail: &str) -> Error {
    Error::new(ErrorKind::InvalidDatetime, format!("invalid value \"{value}\" for \"{field}\""))
        .with_detail(detail)
}

fn field_name(field: Field) -> &'static str {
    FIELDS.iter().find(|(_, f)| *f == field).map_or("", |(n, _)| n)
}

/// Reads a text by a template.
fn read(parts: &[Part], text: &str) -> Result<Read> {
    let mut r = Read::default();
    let mut rest = text;
    for (i, part) in parts.iter().enumerate() {
        match part {
            Part::Text(t) => {
                for c in t.chars() {
                    let Some(next) = rest.chars().next() else { break };
                    if c.is_whitespace() {
                        rest = rest.trim_start();
                        // A blank also stands for one separator.
                        if rest.starts_with(|c: char| c.is_ascii_punctuation() && !matches!(c, '-' | '+')) {
                            rest = &rest[1..];
                        }
                    } else if c.is_ascii_punctuation() {
                        let trimmed = rest.trim_start();
                        if trimmed.starts_with(|c: char| c.is_ascii_punctuation()) {
                            rest = &trimmed[1..];
                        } else if trimmed.len() < rest.len() {
                            rest = trimmed;
                        }
                    } else {
                        rest = &rest[next.len_utf8()..];
                    }
                }
            }
            Part::Field { field, ordinal, .. } => {
                rest = rest.trim_start();
                let adjacent = matches!(
                    parts.get(i + 1),
                    Some(Part::Field { field, .. }) if !matches!(field, Field::MonthName | Field::MonthShort | Field::WeekDayName | Field::WeekDayShort | Field::Meridiem { .. } | Field::Era { .. } | Field::ZoneName)
                );
                rest = read_field(*field, adjacent, rest, &mut r)?;
                if ordinal.is_some() {
                    rest = rest.get(2..).unwrap_or("");
                }
            }
        }
    }
    Ok(r)
}

/// Digits at the beginning: at most `width` when another number follows at once.
fn digits(rest: &str, width: usize, fixed: bool, field: Field) -> Result<(i64, usize, &str)> {
    let signed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let sign = rest.len() - signed.len();
    let all = signed.bytes().take_while(u8::is_ascii_digit).count();
    let n = if fixed { all.min(width) } else { all };
    let name = field_name(field);
    if rest.is_empty() {
        return Ok((0, 0, rest));
    }
    if n == 0 {
        let shown: String = rest.chars().take(width.max(1)).collect();
        return Err(invalid_value(&shown, name, "Value must be an integer."));
    }
    let value: i64 = rest[..sign + n].trim_start_matches('+').parse().map_err(|_| {
        invalid_value(&rest[..sign + n], name, "Value must be in the range -2147483648 to 2147483647.")
    })?;
    Ok((value, n, &rest[sign + n..]))
}

fn read_field<'a>(field: Field, adjacent: bool, rest: &'a str, r: &mut Read) -> Result<&'a str> {
    let named = |names: &[&str], length: Option<usize>| -> Option<(usize, usize)> {
        let lower = rest.to_lowercase();
        names.iter().enumerate().find_map(|(i, n)| {
            let n = length.map_or(*n, |l| &n[..l]).to_lowercase();
            lower.starts_with(&n).then_some((i, n.len()))
        })
    };
    let no_match = |width: usize| {
        let shown: String = rest.chars().take(width).collect();
        invalid_value(
            &shown,
            field_name(field),
            "The given value did not match any of the allowed values for this field.",
        )
    };
    let number = |width: usize| digits(rest, width, adjacent, field);
    Ok(match field {
        Field::Year(w) => {
            let (v, n, after) = digits(rest, w.into(), adjacent, field)?;
            // Two digits mean the nearest year to 2020.
            r.year = Some(if n <= 2 && w < 4 {
                if v < 70 { v + 2000 } else { v + 1900 }
            } else if n == 3 && w < 4 {
                if v < 520 { v + 2000 } else { v + 1000 }
            } else {
                v
            });
            after
        }
        Field::YearWithComma => {
            let (thousands, _, after) = digits(rest, 1, false, field)?;
            let after = after.strip_prefix(',').unwrap_or(after);
            let (units, _, after) = digits(after, 3, true, field)?;
            r.year = Some(thousands * 1000 + units);
            after
        }
        Field::IsoYear(w) => {
            let (v, n, after) = number(w.into())?;
            r.iso_year = Some(if n <= 2 && w < 4 { if v < 70 { v + 2000 } else { v + 1900 } } else { v });
            after
        }
        Field::MonthNumber => {
            let (v, _, after) = number(2)?;
            r.month = Some(v);
            after
        }
        Field::MonthName | Field::MonthShort => {
            let full = if field == Field::MonthName { named(&MONTHS, None) } else { None };
            let (i, used) = full
                .or_else(|| named(&MONTHS, Some(3)))
                .ok_or_else(|| no_match(if field == Field::MonthShort { 3 } else { 9 }))?;
            r.month = Some(i as i64 + 1);
            &rest[used..]
        }
        Field::MonthRoman => {
            let best = ROMAN
                .iter()
                .enumerate()
                .filter(|(_, n)| rest.to_uppercase().starts_with(**n))
                .max_by_key(|(_, n)| n.len())
                .ok_or_else(|| no_match(4))?;
            r.month = Some(best.0 as i64 + 1);
            &rest[best.1.len()..]
        }
        Field::WeekDayName | Field::WeekDayShort => {
            let (_, used) = named(&DAYS, None)
                .filter(|_| field == Field::WeekDayName)
                .or_else(|| named(&DAYS, Some(3)))
                .ok_or_else(|| no_match(3))?;
            &rest[used..]
        }
        Field::DayOfMonth => {
            let (v, _, after) = number(2)?;
            r.day = Some(v);
            after
        }
        Field::DayOfYear => {
            let (v, _, after) = number(3)?;
            r.day_of_year = Some(v);
            after
        }
        Field::IsoDayOfYear => {
            let (v, _, after) = number(3)?;
            r.iso_day_of_year = Some(v);
            after
        }
        Field::DayOfWeek => number(1)?.2,
        Field::IsoDayOfWeek => {
            let (v, _, after) = number(1)?;
            r.iso_day = Some(v);
            after
        }
        Field::IsoWeek => {
            let (v, _, after) = number(2)?;
            r.iso_week = Some(v);
            after
        }
        Field::WeekOfYear => {
            let (v, _, after) = number(2)?;
            r.week = Some(v);
            after
        }
        Field::WeekOfMonth => number(1)?.2,
        Field::Quarter => number(1)?.2,
        Field::Century => {
            let (v, _, after) = number(2)?;
            r.century = Some(v);
            after
        }
        Field::Julian => {
            let (v, _, after) = number(9)?;
            r.julian = Some(v);
            after
        }
        Field::Hour24 | Field::Hour12 => {
            let (v, _, after) = number(2)?;
            r.hour = Some(v);
            r.twelve |= field == Field::Hour12;
            after
        }
        Field::Minute => {
            let (v, _, after) = number(2)?;
            r.minute = Some(v);
            after
        }
        Field::Second => {
            let (v, _, after) = number(2)?;
            r.second = Some(v);
            after
        }
        Field::SecondOfDay => {
            let (v, _, after) = number(5)?;
            r.second_of_day = Some(v);
            after
        }
        Field::Milliseconds | Field::Microseconds | Field::Fraction(_) => {
            let width = match field {
                Field::Milliseconds => 3,
                Field::Microseconds => 6,
                Field::Fraction(n) => usize::from(n),
                _ => 6,
            };
            let (v, n, after) = number(width)?;
            let n = u32::try_from(n.min(6)).unwrap_or(6);
            r.micros += v * 10i64.pow(6 - n);
            after
        }
        Field::Meridiem { dots } => {
            let names: [&str; 2] = if dots { ["a.m.", "p.m."] } else { ["am", "pm"] };
            let (i, used) = named(&names, None).ok_or_else(|| no_match(if dots { 4 } else { 2 }))?;
            r.pm = Some(i == 1);
            r.twelve = true;
            &rest[used..]
        }
        Field::Era { dots } => {
            let names: [&str; 2] = if dots { ["a.d.", "b.c."] } else { ["ad", "bc"] };
            let (i, used) = named(&names, None).ok_or_else(|| no_match(if dots { 4 } else { 2 }))?;
            r.bc = i == 1;
            &rest[used..]
        }
        Field::ZoneHours => {
            let (v, _, after) = number(2)?;
            r.zone = Some(v);
            after
        }
        Field::ZoneMinutes => {
            let (v, _, after) = number(2)?;
            r.zone_minutes = v;
            after
        }
        Field::ZoneName | Field::Offset => {
            return Err(Error::unsupported(format!(
                "formatting field \"{}\" is only supported in to_char",
                field_name(field)
            )));
        }
    })
}

fn out_of_range(text: &str) -> Error {
    Error::new(ErrorKind::DatetimeOverflow, format!("date/time field value out of range: \"{text}\""))
}

/// Days since 1970 and the time of day.
fn assemble(r: &Read, text: &str) -> Result<(i64, i64)> {
    let range = || out_of_range(text);
    let mut hour = r.hour.unwrap_or(0);
    if r.twelve {
        if !(1..=12).contains(&hour) && r.hour.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidDatetime,
                format!("hour \"{hour}\" is invalid for the 12-hour clock"),
            )
            .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
        }
        hour = match r.pm {
            Some(true) if hour < 12 => hour + 12,
            Some(false) | None if hour == 12 && r.pm.is_some() => 0,
            _ if hour == 12 && r.pm.is_none() => 0,
            _ => hour,
        };
    }
    let (mut minute, mut second) = (r.minute.unwrap_or(0), r.second.unwrap_or(0));
    if let Some(s) = r.second_of_day {
        (hour, minute, second) = (s / 3600, s / 60 % 60, s % 60);
    }
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
        return Err(range());
    }
    let time = (hour * 3600 + minute * 60 + second) * SECOND + r.micros;
    if let Some(julian) = r.julian {
        return Ok((julian - 2_440_588, time));
    }
    let mut year = match (r.year, r.century) {
        (Some(y), Some(c)) if y.abs() < 100 => (c - 1) * 100 + y,
        (Some(y), _) => y,
        (None, Some(c)) => (c - 1) * 100 + 1,
        (None, None) => r.iso_year.unwrap_or(0),
    };
    if r.bc && year > 0 {
        year = 1 - year;
    } else if year < 0 {
        year += 1;
    } else if year == 0 && r.year.is_none() {
        // Without a year it is 1 BC.
        year = 0;
    }
    if let Some(week) = r.iso_week {
        let fourth = days_from_civil(year, 1, 4);
        let monday = fourth - (fourth + 3).rem_euclid(7);
        return Ok((monday + (week - 1) * 7 + r.iso_day.unwrap_or(1) - 1, time));
    }
    if let Some(day) = r.iso_day_of_year {
        let fourth = days_from_civil(year, 1, 4);
        return Ok((fourth - (fourth + 3).rem_euclid(7) + day - 1, time));
    }
    if let Some(day) = r.day_of_year {
        let length = days_from_civil(year + 1, 1, 1) - days_from_civil(year, 1, 1);
        if !(1..=length).contains(&day) {
            return Err(range());
        }
        return Ok((days_from_civil(year, 1, 1) + day - 1, time));
    }
    if let Some(week) = r.week
        && r.month.is_none()
    {
        return Ok((days_from_civil(year, 1, 1) + (week - 1) * 7, time));
    }
    let (month, day) = (r.month.unwrap_or(1), r.day.unwrap_or(1));
    let length = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(range()),
    };
    if !(1..=length).contains(&day) {
        return Err(range());
    }
    let (m, d) = (month as u32, day as u32);
    Ok((days_from_civil(year, m, d), time))
}

fn to_date(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut templates = Templates::default();
    rows!(args, result, out = Date32Builder::new(), (t: Text, template: Text) {
        let (days, _) = assemble(&read(templates.get(template), t)?, t)?;
        out.append_value(i32::try_from(days).map_err(|_| out_of_range(t))?);
    })
}

fn to_timestamp(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut templates = Templates::default();
    let mut zones = Zones::default();
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (t: Text, template: Text, zone: Text) {
        let r = read(templates.get(template), t)?;
        let (days, time) = assemble(&r, t)?;
        let local = days.checked_mul(DAY).and_then(|d| d.checked_add(time)).ok_or_else(|| out_of_range(t))?;
        out.append_value(match r.zone {
            Some(hours) => {
                let minutes = if hours < 0 { -r.zone_minutes } else { r.zone_minutes };
                local - (hours * 3600 + minutes * 60) * SECOND
            }
            None => super::times::local_to_utc(zones.get(zone)?, local)?,
        });
    })
}

/// The functions with their signatures.
pub const SPECS: &[Spec] = &[
    ("to_char(ts,text)->text", Native(of_timestamp), "the time in the form of a template"),
    ("to_char(tstz,text)->text", Zoned(of_timestamptz), "the time in the form of a template"),
    ("to_char(interval,text)->text", Native(of_interval), "the interval in the form of a template"),
    ("to_date(text,text)->date", Native(to_date), "date of a text in the form of a template"),
    ("to_timestamp(text,text)->timestamptz", Zoned(to_timestamp), "time of a text in the form of a template"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn show(template: &str) -> String {
        // 2024-02-29 13:04:05.678900
        let t = days_from_civil(2024, 2, 29) * DAY + ((13 * 60 + 4) * 60 + 5) * SECOND + 678_900;
        let mut out = String::new();
        write(&parse(template), &Fields::of_local(t), &mut out).unwrap();
        out
    }

    #[test]
    fn templates_are_filled_in() {
        assert_eq!(show("YYYY-MM-DD HH24:MI:SS.US"), "2024-02-29 13:04:05.678900");
        assert_eq!(show("Day|FMDay|DAY|dy"), "Thursday |Thursday|THURSDAY |thu");
        assert_eq!(show("FMMonth DDth, HH12:MI am \"quoted YYYY\""), "February 29th, 01:04 pm quoted YYYY");
        assert_eq!(show("IYYY-IW-ID DDD Q WW CC J"), "2024-09-4 060 1 09 21 2460370");
    }

    #[test]
    fn what_is_written_by_a_template_is_read_by_it() {
        for template in [
            "YYYY-MM-DD HH24:MI:SS.US",
            "DD Mon YYYY HH:MI:SS.US PM",
            "YYYYMMDDHH24MISSUS",
            "IYYY-IW-ID HH24:MI:SS.US",
        ] {
            let text = show(template);
            let (days, time) = assemble(&read(&parse(template), &text).unwrap(), &text).unwrap();
            assert_eq!(
                (days, time),
                (days_from_civil(2024, 2, 29), ((13 * 60 + 4) * 60 + 5) * SECOND + 678_900),
                "{template}"
            );
        }
    }
}
