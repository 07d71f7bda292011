//! Values of settings: reading what users write (`5s`, `64MB`, `on`), checking it, printing it as SHOW does.
//!
//! Boundary: text to canonical text. The canonical form of a number with a unit is the plain number in the
//! setting's base unit, as in `pg_settings.setting`.

use std::str::FromStr;

use arrow::array::timezone::Tz;

use super::{Kind, MemoryUnit, Setting, TimeUnit};
use crate::error::{Error, ErrorKind, Result};

/// (suffix, microseconds)
const TIME_SUFFIXES: &[(&str, f64)] =
    &[("us", 1.0), ("ms", 1e3), ("s", 1e6), ("min", 6e7), ("h", 3.6e9), ("d", 8.64e10)];
/// (suffix, bytes)
const MEMORY_SUFFIXES: &[(&str, f64)] =
    &[("B", 1.0), ("kB", 1024.0), ("MB", 1048576.0), ("GB", 1073741824.0), ("TB", 1099511627776.0)];

/// A value in its canonical form, or the reason why it is none.
pub(super) fn canonical(setting: &Setting, text: &str) -> Result<String> {
    match setting.kind {
        Kind::Bool => match parse_bool(text) {
            Some(true) => Ok("on".into()),
            Some(false) => Ok("off".into()),
            None => Err(Error::new(
                ErrorKind::InvalidParameter,
                format!("parameter \"{}\" requires a Boolean value", setting.name),
            )),
        },
        Kind::Int { min, max } => {
            let n = number(text, &[], 1.0).ok_or_else(|| invalid(setting, text, None))?;
            in_range(setting, n, min, max, "")
        }
        Kind::Time { unit, min } => {
            let n = number(text, TIME_SUFFIXES, unit.micros())
                .ok_or_else(|| invalid(setting, text, Some(TIME_HINT)))?;
            in_range(setting, n, min, i64::from(i32::MAX), unit.suffix())
        }
        Kind::Memory { unit, min } => {
            let n = number(text, MEMORY_SUFFIXES, unit.bytes())
                .ok_or_else(|| invalid(setting, text, Some(MEMORY_HINT)))?;
            let max = if unit == MemoryUnit::Bytes { i64::MAX } else { i64::from(i32::MAX) };
            in_range(setting, n, min, max, unit.suffix())
        }
        Kind::Real => match text.trim().parse::<f64>() {
            Ok(v) if v.is_finite() => Ok(v.to_string()),
            _ => Err(invalid(setting, text, None)),
        },
        Kind::Enum(words) => enum_value(words, text).ok_or_else(|| {
            invalid(setting, text, None).with_hint(format!("Available values: {}.", words.join(", ")))
        }),
        Kind::Text => Ok(text.to_string()),
        Kind::TimeZone => time_zone(text).ok_or_else(|| invalid(setting, text, None)),
        Kind::DateStyle => date_style(text).ok_or_else(|| {
            invalid(setting, text, Some("The style is ISO, with an order of MDY, DMY or YMD."))
        }),
        Kind::Encoding => encoding(text).ok_or_else(|| invalid(setting, text, Some("The encoding is UTF8."))),
    }
}

const TIME_HINT: &str =
    "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".";
const MEMORY_HINT: &str = "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".";

/// The canonical value as SHOW prints it: in the greatest unit that leaves no fraction.
pub(super) fn display(setting: &Setting, canonical: &str) -> String {
    let (suffixes, unit) = match setting.kind {
        Kind::Time { unit, .. } => (TIME_SUFFIXES, unit.micros()),
        Kind::Memory { unit, .. } => (MEMORY_SUFFIXES, unit.bytes()),
        _ => return canonical.to_string(),
    };
    let Ok(n) = canonical.parse::<i64>() else { return canonical.to_string() };
    if n <= 0 {
        return canonical.to_string();
    }
    let base = i128::from(n) * unit as i128;
    for (suffix, size) in suffixes.iter().rev() {
        let size = *size as i128;
        if base % size == 0 {
            return format!("{}{suffix}", base / size);
        }
    }
    canonical.to_string()
}

/// PostgreSQL's words for on and off, with their unambiguous beginnings.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    let t = text.trim().to_ascii_lowercase();
    match t.as_str() {
        "" | "o" => None,
        "1" | "on" => Some(true),
        "0" | "of" | "off" => Some(false),
        _ if "true".starts_with(&t) || "yes".starts_with(&t) => Some(true),
        _ if "false".starts_with(&t) || "no".starts_with(&t) => Some(false),
        _ => None,
    }
}

/// An amount of memory (`4GB`, `512 MB`, `1000`) in bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    number(text, MEMORY_SUFFIXES, 1.0).and_then(|n| u64::try_from(n).ok())
}

/// A time (`100ms`, `5s`, `1 min`, also `5 seconds`) in microseconds; a bare number counts seconds.
pub fn parse_duration_micros(text: &str) -> Option<i64> {
    let t = text.trim();
    let split = t.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(t.len());
    let unit = match &t[split..].to_ascii_lowercase()[..] {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "us" | "microsecond" | "microseconds" => "us",
        "ms" | "millisecond" | "milliseconds" => "ms",
        "min" | "mins" | "minute" | "minutes" => "min",
        "h" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    };
    number(&format!("{}{unit}", t[..split].trim()), TIME_SUFFIXES, 1.0).filter(|n| *n >= 0)
}

/// A number with an optional unit, in multiples of `base`.
fn number(text: &str, suffixes: &[(&str, f64)], base: f64) -> Option<i64> {
    let t = text.trim();
    let digits = t.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(t.len());
    let (value, suffix) = (t[..digits].trim(), &t[digits..]);
    if suffix.is_empty()
        && let Ok(n) = value.parse::<i64>()
    {
        return Some(n);
    }
    let factor = match suffix {
        "" => base,
        s => suffixes.iter().find(|(name, _)| *name == s)?.1,
    };
    let n = (value.parse::<f64>().ok()? * factor / base).round();
    (n.abs() < 9.2e18).then_some(n as i64)
}

fn in_range(setting: &Setting, n: i64, min: i64, max: i64, unit: &str) -> Result<String> {
    if (min..=max).contains(&n) {
        return Ok(n.to_string());
    }
    let space = if unit.is_empty() { "" } else { " " };
    Err(Error::new(
        ErrorKind::InvalidParameter,
        format!(
            "{n}{space}{unit} is outside the valid range for parameter \"{}\" ({min} .. {max})",
            setting.name
        ),
    ))
}

fn invalid(setting: &Setting, text: &str, hint: Option<&str>) -> Error {
    let e = Error::new(
        ErrorKind::InvalidParameter,
        format!("invalid value for parameter \"{}\": \"{text}\"", setting.name),
    );
    match hint {
        Some(h) => e.with_hint(h),
        None => e,
    }
}

/// A word of an enumeration. Where `on` and `off` are words of it, every spelling of a Boolean is taken.
fn enum_value(words: &[&str], text: &str) -> Option<String> {
    let t = text.trim();
    if let Some(w) = words.iter().find(|w| w.eq_ignore_ascii_case(t)) {
        return Some((*w).to_string());
    }
    let word = if parse_bool(t)? { "on" } else { "off" };
    words.contains(&word).then(|| word.to_string())
}

/// A time zone as it will be shown: a name of the IANA data base or an offset `+05:30`.
fn time_zone(text: &str) -> Option<String> {
    let t = text.trim().trim_matches('\'');
    if t.is_empty() {
        return None;
    }
    if let Ok(hours) = t.parse::<f64>() {
        let minutes = (hours * 60.0).round() as i64;
        let sign = if minutes < 0 { '-' } else { '+' };
        return (minutes.abs() < 24 * 60)
            .then(|| format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60));
    }
    if t.eq_ignore_ascii_case("utc") || t.eq_ignore_ascii_case("z") || t.eq_ignore_ascii_case("zulu") {
        return Some("UTC".into());
    }
    let title = t
        .split('/')
        .map(|part| part.split('_').map(capitalised).collect::<Vec<_>>().join("_"))
        .collect::<Vec<_>>()
        .join("/");
    [t.to_string(), title, t.to_ascii_uppercase()].into_iter().find(|name| Tz::from_str(name).is_ok())
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    match chars.next() {
        Some(c) => c.to_ascii_uppercase().to_string() + &chars.as_str().to_ascii_lowercase(),
        None => String::new(),
    }
}

fn date_style(text: &str) -> Option<String> {
    let mut order = "MDY";
    for part in text.split(',').map(|p| p.trim().to_ascii_uppercase()) {
        order = match part.as_str() {
            "ISO" | "DEFAULT" => order,
            "MDY" | "US" | "NONEURO" | "NONEUROPEAN" => "MDY",
            "DMY" | "EURO" | "EUROPEAN" => "DMY",
            "YMD" => "YMD",
            _ => return None,
        };
    }
    Some(format!("ISO, {order}"))
}

fn encoding(text: &str) -> Option<String> {
    let plain: String =
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    matches!(plain.as_str(), "utf8" | "unicode").then(|| "UTF8".to_string())
}

impl TimeUnit {
    fn micros(self) -> f64 {
        match self {
            TimeUnit::Milliseconds => 1e3,
            TimeUnit::Seconds => 1e6,
        }
    }
    fn suffix(self) -> &'static str {
        match self {
            TimeUnit::Milliseconds => "ms",
            TimeUnit::Seconds => "s",
        }
    }
}

impl MemoryUnit {
    pub(super) fn bytes(self) -> f64 {
        match self {
            MemoryUnit::Bytes => 1.0,
            MemoryUnit::Kilobytes => 1024.0,
            MemoryUnit::Blocks => 8192.0,
        }
    }
    fn suffix(self) -> &'static str {
        match self {
            MemoryUnit::Bytes => "B",
            MemoryUnit::Kilobytes => "kB",
            MemoryUnit::Blocks => "8kB",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;

    fn shown(name: &str, text: &str) -> String {
        let s = find(name).expect("setting");
        display(s, &canonical(s, text).expect("valid"))
    }

    #[test]
    fn times_print_in_the_greatest_unit_without_fraction() {
        assert_eq!(shown("statement_timeout", "5000"), "5s");
        assert_eq!(shown("statement_timeout", "4321"), "4321ms");
        assert_eq!(shown("statement_timeout", "1.5min"), "90s");
        assert_eq!(shown("statement_timeout", "1 d"), "1d");
        assert_eq!(shown("statement_timeout", "0"), "0");
        assert_eq!(shown("work_mem", "4096"), "4MB");
        assert_eq!(shown("memory_limit", "4GB"), "4GB");
    }

    #[test]
    fn malformed_values_are_refused_in_postgresql_s_words() {
        let message = |n: &str, v: &str| {
            let e = canonical(find(n).expect("setting"), v).expect_err("invalid");
            assert_eq!(e.kind(), ErrorKind::InvalidParameter);
            e.message().to_string()
        };
        assert_eq!(
            message("statement_timeout", "5 parsecs"),
            "invalid value for parameter \"statement_timeout\": \"5 parsecs\""
        );
        assert_eq!(
            message("statement_timeout", "-1"),
            "-1 ms is outside the valid range for parameter \"statement_timeout\" (0 .. 2147483647)"
        );
        assert_eq!(message("jit", "maybe"), "parameter \"jit\" requires a Boolean value");
        assert_eq!(
            message("TimeZone", "Mars/Base"),
            "invalid value for parameter \"TimeZone\": \"Mars/Base\""
        );
        message("DateStyle", "German");
        message("client_encoding", "LATIN1");
        message("bytea_output", "base64");
    }

    #[test]
    fn spellings_that_clients_use_are_taken() {
        assert_eq!(shown("client_encoding", "'utf-8'"), "UTF8");
        assert_eq!(shown("TimeZone", "america/new_york"), "America/New_York");
        assert_eq!(shown("TimeZone", "utc"), "UTC");
        assert_eq!(shown("TimeZone", "-5"), "-05:00");
        assert_eq!(shown("DateStyle", "DMY"), "ISO, DMY");
        assert_eq!(shown("jit", "TRUE"), "on");
        assert_eq!(shown("bytea_output", "HEX"), "hex");
        assert_eq!(parse_duration_micros("1.5 seconds"), Some(1_500_000));
        assert_eq!(parse_duration_micros("250ms"), Some(250_000));
        assert_eq!(parse_bytes("1.5kB"), Some(1536));
    }
}
