//! Settings: one table of name, type, default, scope and meaning, from which flags, environment variables, the
//! configuration file, SET and SHOW, pg_settings and the README's table all come.
//!
//! Boundary: plain data and its validation. Nothing here acts on a setting; components (clock, storage) are
//! passed to the server beside its settings, not through them.

mod server;
mod session;
mod table;
mod value;

pub use server::ServerSettings;
pub use session::{SavedSettings, SessionSettings, SettingRow};
pub use table::{SETTINGS, find, markdown_table};
pub use value::{parse_bytes, parse_duration_micros};

/// The PostgreSQL version that clients are told; tools compare it, so it is a version that exists.
pub const PG_VERSION: &str = "15.0";

/// The type of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// on or off.
    Bool,
    /// A whole number within limits.
    Int {
        /// Smallest value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A time, kept as a number of its base unit.
    Time {
        /// The unit of a bare number.
        unit: TimeUnit,
        /// Smallest value, in the unit.
        min: i64,
    },
    /// An amount of memory, kept as a number of its base unit.
    Memory {
        /// The unit of a bare number.
        unit: MemoryUnit,
        /// Smallest value, in the unit.
        min: i64,
    },
    /// A number with fraction.
    Real,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// Any text.
    Text,
    /// The name of a time zone or an offset.
    TimeZone,
    /// ISO with an order of day, month and year.
    DateStyle,
    /// An encoding: only UTF8.
    Encoding,
}

/// Base units of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

/// Base units of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryUnit {
    /// Bytes.
    Bytes,
    /// Kilobytes.
    Kilobytes,
    /// PostgreSQL's 8 kB blocks.
    Blocks,
}

/// Where a setting can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// On the command line, in the environment or in the configuration file; shown, but fixed while running.
    Server,
    /// By SET and at connection.
    Session,
    /// By SET; its default for all sessions on the command line.
    Both,
    /// Nowhere: a fact that clients ask for.
    Fact,
}

/// One row of the table of settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Name as SHOW prints it; compared without regard to case.
    pub name: &'static str,
    /// Type of its value.
    pub kind: Kind,
    /// Default, in the form in which a user would write it.
    pub default: &'static str,
    /// Where it can be given.
    pub scope: Scope,
    /// Whether clients are told of its value when they connect and when it changes (ParameterStatus).
    pub reported: bool,
    /// Whether it changes what Freshet does; the others are there because clients set or read them.
    pub effective: bool,
    /// Its heading in pg_settings and in the README.
    pub category: &'static str,
    /// What it does, one sentence.
    pub doc: &'static str,
}

impl Setting {
    /// Whether it is given to the server as a flag.
    pub fn is_flag(&self) -> bool {
        matches!(self.scope, Scope::Server | Scope::Both)
    }

    /// `pg_settings.vartype`.
    pub fn vartype(&self) -> &'static str {
        match self.kind {
            Kind::Bool => "bool",
            Kind::Int { .. } | Kind::Time { .. } | Kind::Memory { .. } => "integer",
            Kind::Real => "real",
            Kind::Enum(_) => "enum",
            Kind::Text | Kind::TimeZone | Kind::DateStyle | Kind::Encoding => "string",
        }
    }

    /// `pg_settings.unit`.
    pub fn unit(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Time { unit: TimeUnit::Milliseconds, .. } => Some("ms"),
            Kind::Time { unit: TimeUnit::Seconds, .. } => Some("s"),
            Kind::Memory { unit: MemoryUnit::Bytes, .. } => Some("B"),
            Kind::Memory { unit: MemoryUnit::Kilobytes, .. } => Some("kB"),
            Kind::Memory { unit: MemoryUnit::Blocks, .. } => Some("8kB"),
            _ => None,
        }
    }

    /// `pg_settings.context`: who can change it.
    pub fn context(&self) -> &'static str {
        match self.scope {
            Scope::Server => "postmaster",
            Scope::Session | Scope::Both => "user",
            Scope::Fact => "internal",
        }
    }
}
