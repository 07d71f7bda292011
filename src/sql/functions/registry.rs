//! Which functions exist, with which argument types, and how a call is chosen among overloads.
//!
//! The choice follows PostgreSQL (chapter 10.3): exact matches first, then implicit casts with preferred types;
//! literals of unknown type and parameters without a type take the chosen function's.
//!
//! Boundary: names and types; the kernels are in the sibling modules.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::functions::{crypto, encoding, math, regex, string, unicode};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ScalarUDF};

use super::cast::{CastContext, cast_context};
use super::{Kernel, datetime, native, periods, strings};
use crate::error::Result;
use crate::sql::types::pg_type_by_name;
use crate::types::{PgType, oid};

/// How a call is expressed once its types are settled.
#[derive(Clone, Copy)]
pub enum Build {
    /// A function of DataFusion that agrees with PostgreSQL.
    Df(fn() -> Arc<ScalarUDF>),
    /// One of our kernels.
    Native(Kernel),
    /// Anything else: from the coerced arguments and their fields.
    With(fn(Vec<Expr>, &[FieldRef]) -> Result<Expr>),
}

/// One overload of a function.
pub struct Overload {
    /// Types of the arguments.
    pub args: Vec<PgType>,
    /// Whether the last one may repeat.
    pub variadic: bool,
    /// Type of the result.
    pub result: PgType,
    /// How it is done.
    pub build: Build,
}

/// Functions whose typing has rules of its own; the binder knows them.
pub const SPECIAL: &[&str] = &[
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "concat",
    "concat_ws",
    "pg_typeof",
    "now",
    "current_timestamp",
    "transaction_timestamp",
    "statement_timestamp",
    "clock_timestamp",
    "mz_now",
    "proctime",
    "localtimestamp",
    "current_date",
    "current_time",
    "version",
    "current_database",
    "current_catalog",
    "current_schema",
    "current_user",
    "session_user",
    "user",
    "current_role",
    "extract",
    "date_part",
    "round",
    "trunc",
    "ceil",
    "ceiling",
    "floor",
    "abs",
    "mod",
    "sign",
    "random",
    "gen_random_uuid",
    "timezone",
    "array_length",
    "cardinality",
    "array_to_string",
    "array_position",
    "make_array",
    "any_op",
    "all_op",
    "array_append",
    "array_cat",
    "array_prepend",
    "pg_neg",
    "pg_bitnot",
    "jsonb_build_object",
    "num_nonnulls",
];

/// Whether each call may give another value.
pub fn is_volatile(name: &str) -> bool {
    matches!(
        name,
        "random" | "gen_random_uuid" | "clock_timestamp" | "nextval" | "currval" | "setval" | "lastval"
    )
}

/// Whether the name is an operator's symbol.
pub fn is_operator(name: &str) -> bool {
    name.starts_with(|c: char| !c.is_alphabetic() && c != '_')
}

/// The overloads of a function; `None` when there is no function of this name.
pub fn overloads(name: &str) -> Option<&'static [Overload]> {
    static TABLE: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
        let mut table: HashMap<&'static str, Vec<Overload>> = HashMap::new();
        for (spec, build) in SPECS {
            let (name, overload) = parse_spec(spec, *build);
            table.entry(name).or_default().push(overload);
        }
        table
    });
    TABLE.get(name).map(Vec::as_slice)
}

/// Whether a function of this name exists.
pub fn exists(name: &str) -> bool {
    is_operator(name) || SPECIAL.contains(&name) || overloads(name).is_some()
}

fn parse_spec(spec: &'static str, build: Build) -> (&'static str, Overload) {
    let malformed = "function specifications are checked by a test";
    let (name, rest) = spec.split_once('(').expect(malformed);
    let (args, result) = rest.split_once(")->").expect(malformed);
    let (args, variadic) = match args.strip_suffix("...") {
        Some(a) => (a, true),
        None => (args, false),
    };
    let of = |t: &str| match t {
        "ts" => PgType::TIMESTAMP,
        "tstz" => PgType::TIMESTAMPTZ,
        t => pg_type_by_name(t).expect(malformed),
    };
    let args = args.split(',').filter(|a| !a.is_empty()).map(of).collect();
    (name, Overload { args, variadic, result: of(result), build })
}

/// The overload that fits arguments of these types; `None` stands for an unknown literal or untyped parameter.
pub fn choose<'a>(overloads: &'a [Overload], args: &[Option<PgType>]) -> Option<&'a Overload> {
    overloads
        .iter()
        .filter_map(|o| {
            let fits = o.args.len() == args.len() || (o.variadic && args.len() >= o.args.len());
            if !fits {
                return None;
            }
            let mut score = (0, 0);
            for (i, arg) in args.iter().enumerate() {
                let want = *o.args.get(i).or(o.args.last())?;
                match arg {
                    Some(have) if have.oid == want.oid => score = (score.0 + 1, score.1 + 1),
                    Some(have) if cast_context(*have, want) == Some(CastContext::Implicit) => {
                        score.1 += i32::from(preferred(want.oid));
                    }
                    Some(_) => return None,
                    // An unknown literal is text if text will do, else of the preferred type.
                    None if want.oid == oid::TEXT => score.1 += 2,
                    None => score.1 += i32::from(preferred(want.oid)),
                }
            }
            Some((score, o))
        })
        // The first of equal candidates wins.
        .fold(None, |best: Option<((i32, i32), &Overload)>, (score, o)| match best {
            Some((b, _)) if b >= score => best,
            _ => Some((score, o)),
        })
        .map(|(_, o)| o)
}

fn preferred(oid: u32) -> bool {
    matches!(oid, oid::TEXT | oid::FLOAT8 | oid::TIMESTAMPTZ | oid::BOOL | oid::INTERVAL)
}

/// The expression of a chosen overload over arguments that were cast to its types.
pub fn build(name: &str, overload: &Overload, args: Vec<Expr>, fields: &[FieldRef]) -> Result<Expr> {
    Ok(match overload.build {
        Build::Df(udf) => Expr::ScalarFunction(ScalarFunction::new_udf(udf(), args)),
        Build::Native(kernel) => native(name, overload.result.arrow(), kernel, args),
        Build::With(f) => f(args, fields)?,
    })
}

/// The type a symbol seems to have while DataFusion's planner runs; the binder settles it later.
pub fn provisional_type(name: &str, args: &[DataType]) -> DataType {
    let numeric_rank = |t: &DataType| match t {
        DataType::Int16 => 1,
        DataType::Int32 => 2,
        DataType::Int64 => 3,
        DataType::Decimal128(..) => 4,
        DataType::Float32 => 5,
        DataType::Float64 => 6,
        _ => 0,
    };
    match name {
        "=" | "<>" | "<" | "<=" | ">" | ">=" | "~" | "~*" | "!~" | "!~*" | "@>" | "<@" | "&&" | "any_op"
        | "all_op" | "?" => DataType::Boolean,
        "||" | "->>" | "#>>" | "concat" | "concat_ws" | "->" | "#>" => match args.first() {
            Some(list @ DataType::List(_)) => list.clone(),
            _ => DataType::Utf8,
        },
        _ if is_operator(name) => match args {
            [l, r] if numeric_rank(l) > 0 && numeric_rank(r) > 0 => {
                let wider = if numeric_rank(l) >= numeric_rank(r) { l } else { r };
                match wider {
                    DataType::Decimal128(..) => DataType::Decimal128(38, 10),
                    t => t.clone(),
                }
            }
            [DataType::Date32, DataType::Date32] => DataType::Int32,
            [DataType::Timestamp(..), DataType::Timestamp(..)] => PgType::INTERVAL.arrow(),
            [DataType::Date32, DataType::Interval(_)] => PgType::TIMESTAMP.arrow(),
            [t @ DataType::Timestamp(..), _] | [_, t @ DataType::Timestamp(..)] => t.clone(),
            [DataType::Null | DataType::Utf8, t] | [t, _] | [t] => t.clone(),
            _ => DataType::Null,
        },
        "now"
        | "current_timestamp"
        | "transaction_timestamp"
        | "statement_timestamp"
        | "clock_timestamp"
        | "mz_now"
        | "proctime" => PgType::TIMESTAMPTZ.arrow(),
        "localtimestamp" => PgType::TIMESTAMP.arrow(),
        "current_date" => DataType::Date32,
        "extract" => DataType::Decimal128(38, 6),
        "date_part" | "random" => DataType::Float64,
        "array_length" | "cardinality" | "array_position" | "num_nonnulls" => DataType::Int32,
        "gen_random_uuid" => DataType::FixedSizeBinary(16),
        "timezone" => match args.get(1) {
            Some(DataType::Timestamp(_, None)) => PgType::TIMESTAMPTZ.arrow(),
            _ => PgType::TIMESTAMP.arrow(),
        },
        "make_array" => DataType::List(Arc::new(arrow::datatypes::Field::new(
            "item",
            args.first().cloned().unwrap_or(DataType::Utf8),
            true,
        ))),
        "coalesce" | "greatest" | "least" | "nullif" => {
            let typed = |t: &&DataType| !matches!(t, DataType::Null | DataType::Utf8);
            args.iter()
                .filter(typed)
                .max_by_key(|t| numeric_rank(t))
                .or(args.first())
                .cloned()
                .unwrap_or(DataType::Null)
        }
        "round" | "trunc" | "ceil" | "ceiling" | "floor" | "abs" | "mod" | "sign" | "pg_neg"
        | "pg_bitnot" => match args.first() {
            Some(t @ (DataType::Decimal128(..) | DataType::Float32)) => t.clone(),
            Some(t) if matches!(name, "abs" | "mod" | "pg_neg" | "pg_bitnot") => t.clone(),
            _ => DataType::Float64,
        },
        // A cell of VALUES, which the binder types.
        super::VALUES_ITEM => args.first().cloned().unwrap_or(DataType::Null),
        _ => match overloads(name) {
            Some(all) => {
                let types: Vec<Option<PgType>> = args
                    .iter()
                    .map(|t| (!matches!(t, DataType::Null)).then(|| PgType::from_arrow(t)))
                    .collect();
                choose(all, &types).or(all.first()).map_or(DataType::Null, |o| o.result.arrow())
            }
            // The name of a type called as a function, or nothing at all: the binder will tell.
            None => pg_type_by_name(name).map_or(DataType::Null, PgType::arrow),
        },
    }
}

use Build::{Df, Native, With};

const SPECS: &[(&str, Build)] = &[
    ("lower(text)->text", Native(strings::lower)),
    ("upper(text)->text", Native(strings::upper)),
    ("btrim(text)->text", Df(string::btrim)),
    ("btrim(text,text)->text", Df(string::btrim)),
    ("trim(text)->text", Df(string::btrim)),
    ("trim(text,text)->text", Df(string::btrim)),
    ("ltrim(text)->text", Df(string::ltrim)),
    ("ltrim(text,text)->text", Df(string::ltrim)),
    ("rtrim(text)->text", Df(string::rtrim)),
    ("rtrim(text,text)->text", Df(string::rtrim)),
    ("replace(text,text,text)->text", Df(string::replace)),
    ("split_part(text,text,int4)->text", Native(strings::split_part)),
    ("starts_with(text,text)->bool", Df(string::starts_with)),
    ("ascii(text)->int4", Df(string::ascii)),
    ("chr(int4)->text", Df(string::chr)),
    ("octet_length(text)->int4", Df(string::octet_length)),
    ("bit_length(text)->int4", Df(string::bit_length)),
    ("to_hex(int8)->text", Df(string::to_hex)),
    ("levenshtein(text,text)->int4", Df(string::levenshtein)),
    ("repeat(text,int4)->text", Native(strings::repeat)),
    ("lpad(text,int4)->text", Native(strings::lpad)),
    ("lpad(text,int4,text)->text", Native(strings::lpad)),
    ("rpad(text,int4)->text", Native(strings::rpad)),
    ("rpad(text,int4,text)->text", Native(strings::rpad)),
    ("length(text)->int4", Df(unicode::character_length)),
    ("length(bytea)->int4", Native(strings::byte_length)),
    ("octet_length(bytea)->int4", Native(strings::byte_length)),
    ("char_length(text)->int4", Df(unicode::character_length)),
    ("character_length(text)->int4", Df(unicode::character_length)),
    ("initcap(text)->text", Native(strings::initcap)),
    ("left(text,int4)->text", Df(unicode::left)),
    ("right(text,int4)->text", Df(unicode::right)),
    ("reverse(text)->text", Df(unicode::reverse)),
    ("strpos(text,text)->int4", Df(unicode::strpos)),
    ("position(text,text)->int4", Df(unicode::strpos)),
    ("substr(text,int4)->text", Df(unicode::substr)),
    ("substr(text,int4,int4)->text", Df(unicode::substr)),
    ("substring(text,int4)->text", Df(unicode::substr)),
    ("substring(text,int4,int4)->text", Df(unicode::substr)),
    ("substring(text,text)->text", Native(strings::substring_regex)),
    ("translate(text,text,text)->text", Df(unicode::translate)),
    ("overlay(text,text,int4)->text", Df(datafusion::functions::core::overlay)),
    ("overlay(text,text,int4,int4)->text", Df(datafusion::functions::core::overlay)),
    ("md5(text)->text", Df(crypto::md5)),
    ("sha224(bytea)->bytea", Df(crypto::sha224)),
    ("sha256(bytea)->bytea", Df(crypto::sha256)),
    ("sha384(bytea)->bytea", Df(crypto::sha384)),
    ("sha512(bytea)->bytea", Df(crypto::sha512)),
    ("encode(bytea,text)->text", Df(encoding::encode)),
    ("decode(text,text)->bytea", Df(encoding::decode)),
    ("regexp_replace(text,text,text)->text", Df(regex::regexp_replace)),
    ("regexp_replace(text,text,text,text)->text", Df(regex::regexp_replace)),
    ("regexp_match(text,text)->_text", Df(regex::regexp_match)),
    ("regexp_match(text,text,text)->_text", Df(regex::regexp_match)),
    ("regexp_like(text,text)->bool", Df(regex::regexp_like)),
    ("regexp_like(text,text,text)->bool", Df(regex::regexp_like)),
    ("regexp_count(text,text)->int4", Df(regex::regexp_count)),
    ("quote_ident(text)->text", Native(strings::quote_ident)),
    ("quote_literal(text)->text", Native(strings::quote_literal)),
    ("sqrt(float8)->float8", Native(strings::sqrt)),
    ("exp(float8)->float8", Df(math::exp)),
    ("ln(float8)->float8", Native(strings::ln)),
    ("log(float8)->float8", Native(strings::log10)),
    ("log10(float8)->float8", Native(strings::log10)),
    ("power(float8,float8)->float8", Native(strings::power)),
    ("pow(float8,float8)->float8", Native(strings::power)),
    ("cbrt(float8)->float8", Df(math::cbrt)),
    ("sin(float8)->float8", Df(math::sin)),
    ("cos(float8)->float8", Df(math::cos)),
    ("tan(float8)->float8", Df(math::tan)),
    ("asin(float8)->float8", Df(math::asin)),
    ("acos(float8)->float8", Df(math::acos)),
    ("atan(float8)->float8", Df(math::atan)),
    ("atan2(float8,float8)->float8", Df(math::atan2)),
    ("degrees(float8)->float8", Df(math::degrees)),
    ("radians(float8)->float8", Df(math::radians)),
    ("pi()->float8", Df(math::pi)),
    ("gcd(int8,int8)->int8", Df(math::gcd)),
    ("lcm(int8,int8)->int8", Df(math::lcm)),
    ("date_trunc(text,ts)->timestamp", With(periods::date_trunc)),
    ("date_trunc(text,tstz)->timestamptz", With(periods::date_trunc)),
    ("date_bin(interval,ts,ts)->timestamp", With(periods::date_bin)),
    ("date_bin(interval,tstz,tstz)->timestamptz", With(periods::date_bin)),
    ("age(ts,ts)->interval", Native(datetime::age)),
    ("age(tstz,tstz)->interval", Native(datetime::age)),
    ("make_date(int4,int4,int4)->date", Native(datetime::make_date)),
    ("to_timestamp(float8)->timestamptz", Native(datetime::to_timestamp)),
    ("to_char(ts,text)->text", Native(datetime::to_char)),
    ("to_char(tstz,text)->text", Native(datetime::to_char)),
    ("isfinite(ts)->bool", Native(datetime::is_finite)),
    ("isfinite(tstz)->bool", Native(datetime::is_finite)),
    ("justify_hours(interval)->interval", Native(datetime::justify_hours)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_specification_is_well_formed() {
        for (spec, build) in SPECS {
            parse_spec(spec, *build);
        }
        assert!(exists("substr") && exists("coalesce") && exists("+") && !exists("nosuch"));
    }

    #[test]
    fn unknown_literals_and_preferred_types_decide_between_overloads() {
        let all = overloads("date_trunc").unwrap();
        let of_date = choose(all, &[None, Some(PgType::DATE)]).unwrap();
        assert_eq!(of_date.result, PgType::TIMESTAMPTZ);
        assert_eq!(choose(all, &[None, Some(PgType::TIMESTAMP)]).unwrap().result, PgType::TIMESTAMP);
        assert!(choose(overloads("lower").unwrap(), &[Some(PgType::INT4)]).is_none());
        assert!(choose(overloads("substring").unwrap(), &[None, Some(PgType::INT4)]).is_some());
    }
}
