//! The flights pipeline as the demo needs it: SQL files and data are part of the program, so that the demo runs
//! anywhere; data that the server reads as files are unpacked into a directory.
//!
//! Boundary: knows the data's layout; what is done with it is the demo's.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::migrate::Migration;
use crate::error::{Error, ErrorKind, Result};

macro_rules! embedded {
    ($include:ident, $($path:literal),* $(,)?) => {
        [$(($path, $include!(concat!("../../sql/pipelines/flights/", $path)))),*]
    };
}

static SQL: [(&str, &str); 4] =
    embedded!(include_str, "001_sources.sql", "002_carriers.sql", "003_routes.sql", "004_hours.sql");

static FILES: [(&str, &[u8]); 3] = [
    ("airlines.csv.gz", include_bytes!("../../sql/pipelines/flights/data/airlines.csv.gz")),
    ("airports.csv.gz", include_bytes!("../../sql/pipelines/flights/data/airports.csv.gz")),
    ("planes.csv.gz", include_bytes!("../../sql/pipelines/flights/data/planes.csv.gz")),
];

static FLIGHTS: &[u8] = include_bytes!("../../sql/pipelines/flights/data/flights-2013-01.csv.gz");

/// Where the SQL files look for the data.
const DATA_PATH: &str = "sql/pipelines/flights/data";

/// The table's columns, in the order of [`Flight::line`].
pub(super) const COLUMNS: [&str; 14] = [
    "time_hour",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "sched_dep_time",
    "dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_time",
    "arr_delay",
    "air_time",
    "distance",
];

/// One flight of the month.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    /// When it was to leave: seconds since 1970, UTC.
    pub time: i64,
    /// Its row as a line of CSV with NA for missing values.
    pub line: String,
}

/// Writes the files that the sources read into `dir`.
pub(super) fn unpack(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for (name, bytes) in FILES {
        std::fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}

/// How many rows each source will have when it has read its file.
pub(super) fn source_rows() -> Result<Vec<(&'static str, u64)>> {
    FILES
        .iter()
        .map(|(name, bytes)| {
            let rows = gunzip(bytes)?.lines().count().saturating_sub(1);
            Ok((name.split('.').next().unwrap_or(name), rows as u64))
        })
        .collect()
}

/// The SQL files, with the data in `dir`.
pub(super) fn migrations(dir: &Path) -> Result<Vec<Migration>> {
    let dir = std::path::absolute(dir)?.display().to_string().replace('\'', "''");
    SQL.iter()
        .map(|(name, text)| Ok(Migration::new(name, text)?.with_sql(text.replace(DATA_PATH, &dir))))
        .collect()
}

/// The flights in the order in which they were to leave.
pub(super) fn flights() -> Result<Vec<Flight>> {
    let text = gunzip(FLIGHTS)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let position = |name: &str| header.iter().position(|h| *h == name).ok_or_else(|| damaged(name));
    let columns = COLUMNS.iter().map(|c| position(c)).collect::<Result<Vec<_>>>()?;
    let minute = position("minute")?;
    let mut flights = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() != header.len() {
            return Err(damaged(line));
        }
        let hour = chrono::DateTime::parse_from_rfc3339(fields[columns[0]]).map_err(|_| damaged(line))?;
        let minute: i64 = fields[minute].parse().map_err(|_| damaged(line))?;
        let row: Vec<&str> = columns.iter().map(|c| fields[*c]).collect();
        flights.push(Flight { time: hour.timestamp() + minute * 60, line: row.join(",") });
    }
    flights.sort_by_key(|f| f.time);
    Ok(flights)
}

fn gunzip(bytes: &[u8]) -> Result<String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text)?;
    Ok(text)
}

/// The data are part of the program: this cannot happen to a user.
fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("the demo's data are not as expected: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_month_is_whole_and_in_order() {
        let flights = flights().expect("flights");
        assert_eq!(flights.len(), 27_004);
        assert!(flights.windows(2).all(|w| w[0].time <= w[1].time));
        assert!(flights.iter().all(|f| f.line.split(',').count() == COLUMNS.len()));
        assert!(flights[0].line.starts_with("2013-01-01T10:00:00Z,"), "{}", flights[0].line);
    }

    #[test]
    fn sources_read_from_the_given_directory() {
        let dir = tempfile::tempdir().expect("dir");
        unpack(&dir.path().join("it's")).expect("unpack");
        let migrations = migrations(&dir.path().join("it's")).expect("migrations");
        assert_eq!(migrations.len(), 4);
        assert!(migrations[0].sql.contains("it''s/airlines.csv.gz'"));
        assert!(migrations.iter().all(|m| !m.sql.contains(DATA_PATH)));
        assert_eq!(source_rows().expect("rows"), [("airlines", 16), ("airports", 1458), ("planes", 3322)]);
    }
}
