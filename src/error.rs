//! The one error type of the server: what went wrong, in PostgreSQL's terms.
//!
//! Boundary: this module knows PostgreSQL's SQLSTATE codes and nothing else of the server. An error says
//! what to do through its [`ErrorKind`], carries PostgreSQL's fields (message, detail, hint, position, names) and
//! keeps its source. Messages follow PostgreSQL's style: the primary message is lower case without a period,
//! detail and hint are sentences.

use std::fmt;

/// The result of anything in Freshet that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed lower-level error kept as the source of an [`Error`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What kind of failure an [`Error`] is; each maps to exactly one SQLSTATE
        /// (PostgreSQL 15, appendix A).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* #[doc = concat!(" SQLSTATE ", $code, ".")] $name,)* }

        impl ErrorKind {
            /// The five-character SQLSTATE code.
            pub fn sqlstate(self) -> &'static str {
                match self { $(ErrorKind::$name => $code,)* }
            }

            /// The kind that stands for a SQLSTATE code, if there is one.
            pub fn from_sqlstate(code: &str) -> Option<ErrorKind> {
                match code { $($code => Some(ErrorKind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    Syntax = "42601",
    UndefinedTable = "42P01",
    UndefinedColumn = "42703",
    AmbiguousColumn = "42702",
    AmbiguousFunction = "42725",
    Grouping = "42803",
    Windowing = "42P20",
    UndefinedFunction = "42883",
    UndefinedObject = "42704",
    UndefinedParameter = "42P02",
    UndefinedSchema = "3F000",
    UndefinedDatabase = "3D000",
    DatatypeMismatch = "42804",
    IndeterminateDatatype = "42P18",
    CannotCoerce = "42846",
    DuplicateTable = "42P07",
    DuplicateObject = "42710",
    DuplicateColumn = "42701",
    DuplicateAlias = "42712",
    DuplicateSchema = "42P06",
    InvalidName = "42602",
    InvalidColumnReference = "42P10",
    InvalidTableDefinition = "42P16",
    InvalidObjectDefinition = "42P17",
    WrongObjectType = "42809",
    ReservedName = "42939",
    InsufficientPrivilege = "42501",
    InvalidText = "22P02",
    InvalidBinary = "22P03",
    BadCopyFormat = "22P04",
    NumericOutOfRange = "22003",
    DivisionByZero = "22012",
    InvalidDatetime = "22007",
    DatetimeOverflow = "22008",
    InvalidParameter = "22023",
    InvalidEscape = "22025",
    InvalidRegex = "2201B",
    InvalidLimit = "2201W",
    InvalidOffset = "2201X",
    InvalidLogarithm = "2201E",
    InvalidPower = "2201F",
    InvalidDisplacement = "22009",
    /// An offset of a window frame is negative.
    InvalidFrameOffset = "22013",
    /// NULL where it is not allowed.
    NullNotAllowed = "22004",
    /// The argument of ntile() is not positive.
    InvalidNtile = "22014",
    /// The argument of nth_value() is not positive.
    InvalidNthValue = "22016",
    GeneratedAlways = "428C9",
    StringTooLong = "22001",
    StringLengthMismatch = "22026",
    InvalidEncoding = "22021",
    InvalidJson = "22032",
    ArraySubscript = "2202E",
    InvalidEscapeUse = "2200C",
    InvalidBucketCount = "2201G",
    Substring = "22011",
    Cardinality = "21000",
    NotNullViolation = "23502",
    UniqueViolation = "23505",
    CheckViolation = "23514",
    ForeignKeyViolation = "23503",
    InvalidForeignKey = "42830",
    FeatureNotSupported = "0A000",
    DependentObjects = "2BP01",
    ObjectInUse = "55006",
    ObjectNotInState = "55000",
    CannotChangeParameter = "55P02",
    LockNotAvailable = "55P03",
    FailedTransaction = "25P02",
    NoActiveTransaction = "25P01",
    ActiveTransaction = "25001",
    ReadOnlyTransaction = "25006",
    InvalidSavepoint = "3B001",
    Serialization = "40001",
    QueryCanceled = "57014",
    AdminShutdown = "57P01",
    IdleSession = "57P05",
    IdleInTransaction = "25P03",
    CrashShutdown = "57P02",
    CannotConnectNow = "57P03",
    OutOfMemory = "53200",
    DiskFull = "53100",
    TooManyConnections = "53300",
    ConfigurationLimit = "53400",
    ProgramLimit = "54000",
    SequenceLimit = "2200H",
    DuplicateFunction = "42723",
    InvalidFunctionDefinition = "42P13",
    StatementTooComplex = "54001",
    TooManyColumns = "54011",
    ProtocolViolation = "08P01",
    ConnectionFailure = "08006",
    InvalidAuthorization = "28000",
    InvalidPassword = "28P01",
    InvalidStatementName = "26000",
    InvalidCursorName = "34000",
    DuplicateStatement = "42P05",
    DuplicateCursor = "42P03",
    LockFileExists = "F0001",
    Io = "58030",
    DataCorrupted = "XX001",
    Internal = "XX000",
}

impl ErrorKind {
    /// Whether the same request may succeed when it is simply sent again.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            ErrorKind::Serialization
                | ErrorKind::LockNotAvailable
                | ErrorKind::CannotConnectNow
                | ErrorKind::TooManyConnections
                | ErrorKind::AdminShutdown
        )
    }
}

#[derive(Debug, Default)]
struct Fields {
    detail: Option<String>,
    hint: Option<String>,
    position: Option<usize>,
    context: Option<String>,
    schema: Option<String>,
    table: Option<String>,
    column: Option<String>,
    constraint: Option<String>,
    source: Option<BoxError>,
}

/// A failure, with everything PostgreSQL's error message can carry.
pub struct Error {
    kind: ErrorKind,
    message: String,
    fields: Box<Fields>,
}

impl Error {
    /// A new error with its primary message (lower case, no period).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), fields: Box::default() }
    }

    /// "0A000 … is not supported", the refusal for everything Freshet does not (yet) do.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::FeatureNotSupported, message)
    }

    /// A broken invariant of our own: never the user's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    /// Adds the DETAIL field (a sentence).
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.fields.detail = Some(detail.into());
        self
    }

    /// Adds the HINT field (a sentence).
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.fields.hint = Some(hint.into());
        self
    }

    /// Adds the position of the error in the query text: 1-based, counted in characters.
    pub fn with_position(mut self, position: usize) -> Self {
        self.fields.position = Some(position);
        self
    }

    /// Adds where it happened (CONTEXT), for example the line of a COPY.
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.fields.context = Some(context.into());
        self
    }

    /// Adds the table (and schema) the error is about.
    pub fn with_table(mut self, schema: impl Into<String>, table: impl Into<String>) -> Self {
        self.fields.schema = Some(schema.into());
        self.fields.table = Some(table.into());
        self
    }

    /// Adds the column the error is about.
    pub fn with_column(mut self, column: impl Into<String>) -> Self {
        self.fields.column = Some(column.into());
        self
    }

    /// Adds the constraint the error is about.
    pub fn with_constraint(mut self, constraint: impl Into<String>) -> Self {
        self.fields.constraint = Some(constraint.into());
        self
    }

    /// Keeps the lower-level error that caused this one.
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.fields.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// The primary message.
    pub fn message(&self) -> &str {
        &self.message
    }
    /// The DETAIL field.
    pub fn detail(&self) -> Option<&str> {
        self.fields.detail.as_deref()
    }
    /// The HINT field.
    pub fn hint(&self) -> Option<&str> {
        self.fields.hint.as_deref()
    }
    /// The 1-based character position in the query text.
    pub fn position(&self) -> Option<usize> {
        self.fields.position
    }
    /// The CONTEXT field.
    pub fn context(&self) -> Option<&str> {
        self.fields.context.as_deref()
    }
    /// The schema the error is about.
    pub fn schema(&self) -> Option<&str> {
        self.fields.schema.as_deref()
    }
    /// The table the error is about.
    pub fn table(&self) -> Option<&str> {
        self.fields.table.as_deref()
    }
    /// The column the error is about.
    pub fn column(&self) -> Option<&str> {
        self.fields.column.as_deref()
    }
    /// The constraint the error is about.
    pub fn constraint(&self) -> Option<&str> {
        self.fields.constraint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.sqlstate(), self.message)?;
        if let Some(detail) = &self.fields.detail {
            write!(f, " DETAIL: {detail}")?;
        }
        if let Some(hint) = &self.fields.hint {
            write!(f, " HINT: {hint}")?;
        }
        if let Some(source) = &self.fields.source {
            write!(f, " SOURCE: {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fields.source.as_ref().map(|s| &**s as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let kind = match e.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => ErrorKind::DiskFull,
            _ => ErrorKind::Io,
        };
        Error::new(kind, e.to_string()).with_source(e)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError as A;
        match e {
            A::DivideByZero => Error::new(ErrorKind::DivisionByZero, "division by zero"),
            A::ArithmeticOverflow(m) => Error::new(ErrorKind::NumericOutOfRange, overflow_message(&m)),
            A::ExternalError(b) => match b.downcast::<Error>() {
                Ok(e) => *e,
                Err(b) => match b.downcast::<datafusion::error::DataFusionError>() {
                    Ok(e) => Error::from(*e),
                    Err(b) => foreign(b),
                },
            },
            A::CastError(m) => cast_error(&m),
            A::ParseError(m) => Error::new(ErrorKind::InvalidText, lower_first(&m)),
            A::ComputeError(m) => Error::new(ErrorKind::InvalidParameter, lower_first(&m)),
            A::InvalidArgumentError(m) if m.contains("verflow") || m.contains("too large to store") => {
                Error::new(ErrorKind::NumericOutOfRange, overflow_message(&m))
            }
            A::InvalidArgumentError(m) => Error::new(ErrorKind::InvalidParameter, lower_first(&m)),
            A::NotYetImplemented(m) => Error::unsupported(lower_first(&m)),
            A::MemoryError(m) => Error::new(ErrorKind::OutOfMemory, lower_first(&m)),
            other => Error::internal(other.to_string()).with_source(other),
        }
    }
}

/// An error of a library below the query engine.
fn foreign(e: BoxError) -> Error {
    let text = e.to_string();
    if text.starts_with("regex parse error") || text.contains("regex exceeds size limit") {
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
        return Error::new(ErrorKind::InvalidRegex, format!("invalid regular expression: {reason}"))
            .with_source(e);
    }
    Error::internal(text).with_source(e)
}

/// A cast that failed: out of range and malformed text have different codes in PostgreSQL.
fn cast_error(message: &str) -> Error {
    if message.contains("Can't cast value")
        || message.contains("verflow")
        || message.contains("too large")
        || message.contains("out of range")
    {
        Error::new(ErrorKind::NumericOutOfRange, overflow_message(message))
    } else if message.contains("imestamp") || message.contains("Date") || message.contains("Time") {
        Error::new(ErrorKind::InvalidDatetime, lower_first(message))
    } else {
        Error::new(ErrorKind::InvalidText, lower_first(message))
    }
}

/// PostgreSQL's words for an arithmetic overflow reported by an Arrow kernel.
fn overflow_message(message: &str) -> String {
    for (arrow_name, pg) in [("Int16", "smallint"), ("Int32", "integer"), ("Int64", "bigint")] {
        if message.contains(arrow_name) {
            return format!("{pg} out of range");
        }
    }
    if message.contains("ecimal") { "numeric field overflow".into() } else { "value out of range".into() }
}

fn lower_first(message: &str) -> String {
    let mut chars = message.trim_end_matches('.').chars();
    match (chars.next(), chars.clone().next()) {
        (Some(a), Some(b)) if a.is_uppercase() && b.is_lowercase() => a.to_lowercase().chain(chars).collect(),
        (Some(a), _) => std::iter::once(a).chain(chars).collect(),
        _ => String::new(),
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(e: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as D;
        match e {
            D::ArrowError(a, _) => Error::from(*a),
            D::External(b) => match b.downcast::<Error>() {
                Ok(e) => *e,
                Err(b) => match b.downcast::<arrow::error::ArrowError>() {
                    Ok(a) => Error::from(*a),
                    Err(b) => foreign(b),
                },
            },
            D::Context(_, inner) => Error::from(*inner),
            D::Diagnostic(_, inner) => Error::from(*inner),
            D::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
                Ok(e) => Error::from(e),
                Err(shared) => Error::from_shared(&shared),
            },
            D::Collection(mut all) if !all.is_empty() => Error::from(all.swap_remove(0)),
            D::SchemaError(s, _) => schema_error(*s),
            D::NotImplemented(m) => Error::unsupported(lower_first(&m)),
            D::ResourcesExhausted(m) => Error::new(ErrorKind::OutOfMemory, "out of memory").with_detail(m),
            D::SQL(e, _) => Error::new(ErrorKind::Syntax, e.to_string()),
            D::Plan(m) => plan_error(&m),
            D::Execution(m) => execution_error(&m),
            D::IoError(e) => Error::from(e),
            other => Error::internal(other.strip_backtrace()),
        }
    }
}

impl Error {
    /// The same error again, from one that several owners hold.
    fn from_shared(e: &datafusion::error::DataFusionError) -> Error {
        use datafusion::error::DataFusionError as D;
        match e {
            D::Shared(inner) => Error::from_shared(inner),
            D::Context(_, inner) => Error::from_shared(inner),
            D::ResourcesExhausted(m) => {
                Error::new(ErrorKind::OutOfMemory, "out of memory").with_detail(m.clone())
            }
            D::Execution(m) => execution_error(m),
            D::Plan(m) => plan_error(m),
            D::External(b) => match b.downcast_ref::<Error>() {
                Some(e) => Error::new(e.kind, e.message.clone()),
                None => Error::internal(b.to_string()),
            },
            D::ArrowError(a, _) => match &**a {
                arrow::error::ArrowError::DivideByZero => {
                    Error::new(ErrorKind::DivisionByZero, "division by zero")
                }
                arrow::error::ArrowError::ArithmeticOverflow(m) => {
                    Error::new(ErrorKind::NumericOutOfRange, overflow_message(m))
                }
                arrow::error::ArrowError::CastError(m) => cast_error(m),
                other => Error::internal(other.to_string()),
            },
            other => Error::internal(other.strip_backtrace()),
        }
    }
}

fn schema_error(e: datafusion::common::SchemaError) -> Error {
    use datafusion::common::SchemaError as S;
    match e {
        S::FieldNotFound { field, .. } => Error::new(
            ErrorKind::UndefinedColumn,
            match &field.relation {
                Some(r) => format!("column {}.{} does not exist", r.table(), field.name),
                None => format!("column \"{}\" does not exist", field.name),
            },
        ),
        S::AmbiguousReference { field } => Error::new(
            ErrorKind::AmbiguousColumn,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        S::DuplicateQualifiedField { qualifier, name } => Error::new(
            ErrorKind::DuplicateAlias,
            format!("table name \"{qualifier}\" specified more than once"),
        )
        .with_detail(format!("Column \"{name}\" would be ambiguous.")),
        S::DuplicateUnqualifiedField { name } => {
            Error::new(ErrorKind::DuplicateColumn, format!("column \"{name}\" specified more than once"))
        }
    }
}

fn plan_error(m: &str) -> Error {
    let text = m.lines().next().unwrap_or_default();
    let kind = if text.contains("Invalid function")
        || text.contains("No function matches")
        || text.contains("not support") && text.contains("function")
    {
        ErrorKind::UndefinedFunction
    } else if text.contains("must appear in the GROUP BY") || text.contains("GROUP BY") {
        ErrorKind::Grouping
    } else if text.contains("table '") && text.contains("not found") {
        ErrorKind::UndefinedTable
    } else if text.contains("Cannot coerce")
        || text.contains("cannot be coerced")
        || text.contains("Cannot infer common")
        || text.contains("mismatch")
    {
        ErrorKind::DatatypeMismatch
    } else {
        ErrorKind::Syntax
    };
    Error::new(kind, lower_first(text))
}

fn execution_error(m: &str) -> Error {
    let kind = if m.contains("ivide by zero") || m.contains("division by zero") {
        return Error::new(ErrorKind::DivisionByZero, "division by zero");
    } else if m.contains("subquery returned more than one row") {
        return Error::new(
            ErrorKind::Cardinality,
            "more than one row returned by a subquery used as an expression",
        );
    } else if m.contains("verflow") || m.contains("out of range") {
        ErrorKind::NumericOutOfRange
    } else if m.contains("imestamp") || m.contains("date") {
        ErrorKind::InvalidDatetime
    } else {
        ErrorKind::InvalidParameter
    };
    Error::new(kind, lower_first(m))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_round_trips_through_its_sqlstate() {
        for kind in [ErrorKind::Syntax, ErrorKind::Internal, ErrorKind::UniqueViolation] {
            assert_eq!(ErrorKind::from_sqlstate(kind.sqlstate()), Some(kind));
        }
    }

    #[test]
    fn an_error_that_passed_through_datafusion_keeps_its_kind() {
        let inner = Error::new(ErrorKind::InvalidText, "invalid input syntax for type integer: \"x\"");
        let outer = datafusion::error::DataFusionError::External(Box::new(inner)).context("while testing");
        assert_eq!(Error::from(outer).kind(), ErrorKind::InvalidText);
    }
}
