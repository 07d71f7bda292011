//! SQL type names: from the parser's data types to [`PgType`].
//!
//! Boundary: names and modifiers only; what the types mean is in `types`.

pub use sqlparser::ast::DataType;
use sqlparser::ast::{ArrayElemTypeDef, CharacterLength, ExactNumberInfo, TimezoneInfo};

use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

/// Greatest precision of a numeric we store.
const MAX_PRECISION: u64 = 76;

/// The data type as a statement would name it.
pub fn data_type_of(pg_type: PgType) -> Result<DataType> {
    match super::parse_expression(&format!("NULL::{}", pg_type.sql_name()))? {
        sqlparser::ast::Expr::Cast { data_type, .. } => Ok(data_type),
        _ => Err(Error::internal("a type whose name is none")),
    }
}

/// The type that a data type of a parsed statement stands for; 42704 when there is none of this name.
pub fn pg_type(data_type: &DataType) -> Result<PgType> {
    Ok(match data_type {
        DataType::Bool | DataType::Boolean => PgType::BOOL,
        DataType::SmallInt(None) | DataType::Int2(None) => PgType::INT2,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => PgType::INT4,
        DataType::BigInt(None) | DataType::Int8(None) => PgType::INT8,
        DataType::Real | DataType::Float4 => PgType::FLOAT4,
        DataType::DoublePrecision | DataType::Float8 | DataType::Double(ExactNumberInfo::None) => {
            PgType::FLOAT8
        }
        DataType::Float(ExactNumberInfo::None) => PgType::FLOAT8,
        DataType::Float(ExactNumberInfo::Precision(p)) => match p {
            1..=24 => PgType::FLOAT4,
            25..=53 => PgType::FLOAT8,
            0 => return Err(invalid("precision for type float must be at least 1 bit")),
            _ => return Err(invalid("precision for type float must be less than 54 bits")),
        },
        DataType::Numeric(n) | DataType::Decimal(n) | DataType::Dec(n) => numeric(n)?,
        DataType::Text => PgType::TEXT,
        DataType::Varchar(n) | DataType::CharVarying(n) | DataType::CharacterVarying(n) => {
            text(oid::VARCHAR, "varchar", n.as_ref(), None)?
        }
        DataType::Char(n) | DataType::Character(n) => text(oid::BPCHAR, "char", n.as_ref(), Some(1))?,
        DataType::Bytea => PgType::BYTEA,
        DataType::Date => PgType::DATE,
        DataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => PgType::TIME,
        DataType::Timestamp(p, zone) => {
            if p.is_some_and(|p| p < 6) {
                return Err(Error::unsupported(
                    "timestamp with fewer than six fraction digits is not supported",
                ));
            }
            match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => PgType::TIMESTAMP,
                TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => PgType::TIMESTAMPTZ,
            }
        }
        DataType::Interval { fields: None, .. } => PgType::INTERVAL,
        DataType::Uuid => PgType::UUID,
        DataType::JSON => PgType::of(oid::JSON),
        DataType::JSONB => PgType::JSONB,
        DataType::Regclass => PgType::of(oid::REGCLASS),
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(inner, _) | ArrayElemTypeDef::AngleBracket(inner),
        ) => array_of(pg_type(inner)?, data_type)?,
        DataType::Custom(name, modifiers) => {
            let mut parts: Vec<String> = name
                .0
                .iter()
                .filter_map(|p| p.as_ident())
                .map(|i| if i.quote_style.is_some() { i.value.clone() } else { i.value.to_lowercase() })
                .collect();
            if parts.len() == 2 && parts[0] == "pg_catalog" {
                parts.remove(0);
            }
            let [name] = parts.as_slice() else { return Err(unknown(&parts.join("."))) };
            let base = pg_type_by_name(name).ok_or_else(|| unknown(name))?;
            match modifiers.as_slice() {
                [] => base,
                [n] if matches!(base.oid, oid::VARCHAR | oid::BPCHAR) => {
                    let length = n.parse().map_err(|_| invalid("invalid type modifier"))?;
                    text(base.oid, name, Some(&CharacterLength::IntegerLength { length, unit: None }), None)?
                }
                _ => {
                    return Err(Error::new(
                        ErrorKind::Syntax,
                        format!("type modifier is not allowed for type \"{name}\""),
                    ));
                }
            }
        }
        other => return Err(unknown(&other.to_string().to_lowercase())),
    })
}

/// The type of this `pg_type.typname` (or alias that PostgreSQL's grammar knows), arrays with `[]` or a leading underscore.
pub fn pg_type_by_name(name: &str) -> Option<PgType> {
    if let Some(element) = name.strip_suffix("[]").or_else(|| name.strip_prefix('_')) {
        return pg_type_by_name(element)?.array_oid().map(PgType::of);
    }
    Some(PgType::of(match name {
        "bool" | "boolean" => oid::BOOL,
        "int2" | "smallint" => oid::INT2,
        "int4" | "int" | "integer" => oid::INT4,
        "int8" | "bigint" => oid::INT8,
        "float4" | "real" => oid::FLOAT4,
        "float8" | "double precision" => oid::FLOAT8,
        "numeric" | "decimal" => oid::NUMERIC,
        "text" | "string" => oid::TEXT,
        "varchar" | "character varying" => oid::VARCHAR,
        "bpchar" | "char" | "character" => oid::BPCHAR,
        "name" => oid::NAME,
        "bytea" => oid::BYTEA,
        "date" => oid::DATE,
        "time" => oid::TIME,
        "timestamp" => oid::TIMESTAMP,
        "timestamptz" => oid::TIMESTAMPTZ,
        "interval" => oid::INTERVAL,
        "uuid" => oid::UUID,
        "json" => oid::JSON,
        "jsonb" => oid::JSONB,
        "oid" => oid::OID,
        "regclass" => oid::REGCLASS,
        "regtype" => oid::REGTYPE,
        "regproc" => oid::REGPROC,
        _ => return None,
    }))
}

fn array_of(element: PgType, data_type: &DataType) -> Result<PgType> {
    let array = element.array_oid().ok_or_else(|| unknown(&data_type.to_string().to_lowercase()))?;
    Ok(PgType { oid: array, typmod: element.typmod })
}

fn numeric(info: &ExactNumberInfo) -> Result<PgType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(PgType::NUMERIC),
        ExactNumberInfo::Precision(p) => (*p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (*p, *s),
    };
    if precision == 0 || precision > 1000 {
        return Err(invalid(&format!("NUMERIC precision {precision} must be between 1 and 1000")));
    }
    if !(-1000..=1000).contains(&scale) {
        return Err(invalid(&format!("NUMERIC scale {scale} must be between -1000 and 1000")));
    }
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p), Ok(s)) if precision <= MAX_PRECISION && s >= 0 && scale <= precision as i64 => {
            Ok(PgType::numeric(p, s))
        }
        _ => Err(Error::unsupported(format!("numeric({precision},{scale}) is not supported")).with_hint(
            format!("Use a precision up to {MAX_PRECISION} and a scale between 0 and the precision."),
        )),
    }
}

fn text(oid: u32, name: &str, length: Option<&CharacterLength>, default: Option<u64>) -> Result<PgType> {
    let length = match length {
        Some(CharacterLength::IntegerLength { length, .. }) => Some(*length),
        Some(CharacterLength::Max) => {
            return Err(Error::new(ErrorKind::Syntax, "syntax error at or near \"MAX\""));
        }
        None => default,
    };
    match length {
        None => Ok(PgType::of(oid)),
        Some(0) => Err(invalid(&format!("length for type {name} must be at least 1"))),
        Some(n) if n > 10_485_760 => Err(invalid(&format!("length for type {name} cannot exceed 10485760"))),
        Some(n) => Ok(PgType { oid, typmod: n as i32 + 4 }),
    }
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::UndefinedObject, format!("type \"{name}\" does not exist"))
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidParameter, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    fn of(name: &str) -> Result<PgType> {
        let dialect = PostgreSqlDialect {};
        pg_type(&Parser::new(&dialect).try_with_sql(name).unwrap().parse_data_type().unwrap())
    }

    #[test]
    fn names_and_modifiers_give_postgresql_types() {
        assert_eq!(of("varchar(10)").unwrap(), PgType { oid: oid::VARCHAR, typmod: 14 });
        assert_eq!(of("numeric(12,2)").unwrap(), PgType::numeric(12, 2));
        assert_eq!(of("char").unwrap(), PgType { oid: oid::BPCHAR, typmod: 5 });
        assert_eq!(of("timestamp with time zone").unwrap(), PgType::TIMESTAMPTZ);
        assert_eq!(of("timestamptz").unwrap(), PgType::TIMESTAMPTZ);
        assert_eq!(of("int8[]").unwrap(), PgType::of(1016));
        assert_eq!(of("pg_catalog.int4").unwrap(), PgType::INT4);
        assert_eq!(of("interval").unwrap(), PgType::INTERVAL);
    }

    #[test]
    fn an_unknown_name_is_42704() {
        let e = of("nosuch").unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::UndefinedObject, "type \"nosuch\" does not exist"));
        assert_eq!(of("numeric(0)").unwrap_err().kind(), ErrorKind::InvalidParameter);
    }
}
