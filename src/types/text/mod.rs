//! PostgreSQL's text forms of values, both ways: what `SELECT` prints and what a literal may look like.
//!
//! Output is exactly PostgreSQL 15's with `DateStyle = ISO` and `IntervalStyle = postgres`; input takes the
//! syntax (and gives the error texts) of PostgreSQL's input functions.
//!
//! Boundary: values and their text only. Knows nothing of protocols (see `pgwire`), of `COPY` quoting or of
//! source formats; those call this.

mod datetime;
mod float;
mod format;
mod interval;
mod json;
mod numeric;
mod parse;

pub use datetime::{civil_from_days, days_from_civil};
pub use format::{TextColumn, TextFormatter, write_i64};
pub use json::normalize as normalize_jsonb;
pub use numeric::parse_decimal128;
pub use parse::{parse_column, parse_column_with_errors, parse_text};

use std::collections::HashMap;

use arrow::array::timezone::Tz;

use crate::time::EventTime;

/// Field metadata key: how a numeric column is displayed: [`NUMERIC_DIV`], [`NUMERIC_VAR`], [`NUMERIC_DEV`] or
/// [`NUMERIC_TRIM`].
pub const NUMERIC_KEY: &str = "pg.numeric";
/// The column is the result of a division: it prints with PostgreSQL's scale of a quotient.
pub const NUMERIC_DIV: &str = "div";
/// A variance: the same, but nothing prints as "0".
pub const NUMERIC_VAR: &str = "var";
/// A standard deviation: it prints with the scale of its variance.
pub const NUMERIC_DEV: &str = "dev";

/// Values print without trailing zeros.
pub const NUMERIC_TRIM: &str = "trim";

/// The metadata entry of a column that shows PostgreSQL's scale of a division.
pub fn division_metadata() -> HashMap<String, String> {
    HashMap::from([(NUMERIC_KEY.to_string(), NUMERIC_DIV.to_string())])
}

/// The session settings that text forms depend on.
#[derive(Debug, Clone)]
pub struct TextOptions {
    /// `TimeZone`; `None` is UTC.
    pub time_zone: Option<Tz>,
    /// `extra_float_digits`: above 0 floats print the shortest text that reads back equal.
    pub extra_float_digits: i32,
    /// `bytea_output = hex` (else `escape`).
    pub bytea_hex: bool,
    /// What `now`, `today`, … mean in date/time input; `None` is the machine's clock.
    pub now: Option<EventTime>,
}

impl Default for TextOptions {
    fn default() -> Self {
        TextOptions { time_zone: None, extra_float_digits: 1, bytea_hex: true, now: None }
    }
}

impl TextOptions {
    /// These options with the time zone of this name; `UTC` and its aliases are kept as `None`.
    pub fn with_time_zone(mut self, name: &str) -> crate::error::Result<TextOptions> {
        self.time_zone = match name {
            "UTC" | "utc" | "Etc/UTC" | "GMT" | "Zulu" | "Etc/GMT" => None,
            other => Some(other.parse().map_err(|_| {
                crate::error::Error::new(
                    crate::error::ErrorKind::InvalidParameter,
                    format!("time zone \"{other}\" not recognized"),
                )
            })?),
        };
        Ok(self)
    }
}
