//! Which functions exist, with which argument types, and how a call is chosen among overloads.
//!
//! The choice follows PostgreSQL (chapter 10.3): exact matches first, then implicit casts with preferred types;
//! literals of unknown type and parameters without a type take the chosen function's.
//!
//! Boundary: names and types; the kernels are in the sibling modules.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ScalarUDF, Volatility, lit};

use super::cast::{CastContext, cast_context};
use super::{
    Kernel, arrays, json, json_build, native_with, numbers, regexps, texts, times, to_char, to_char_number,
};
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
    /// One of our kernels that gets the session's time zone as a last argument.
    Zoned(Kernel),
    /// Anything else: from the coerced arguments and their fields.
    With(fn(Vec<Expr>, &[FieldRef], &str) -> Result<Expr>),
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
    /// Its signature as it is written in the tables.
    pub spec: &'static str,
    /// What it gives, in a few words.
    pub about: &'static str,
}

/// Stands for any type.
pub const ANY: PgType = PgType::of(2276);
/// Stands for an array of any type; all such of one call have the same.
pub const ANY_ARRAY: PgType = PgType::of(2277);
/// Stands for an element of that array.
pub const ANY_ELEMENT: PgType = PgType::of(2283);

/// Functions whose typing has rules of its own; the binder knows them.
pub const SPECIAL: &[&str] = &[
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "pg_typeof",
    "now",
    "current_timestamp",
    "transaction_timestamp",
    "statement_timestamp",
    "clock_timestamp",
    "mz_now",
    "proctime",
    "localtimestamp",
    "localtime",
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
    "make_array",
    "any_op",
    "all_op",
    "pg_neg",
    "pg_bitnot",
    "subscript",
    "array_slice",
    "overlaps",
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
        for (spec, build, about) in all_specs() {
            let (name, overload) = parse_spec(spec, *build, about);
            table.entry(name).or_default().push(overload);
        }
        table
    });
    TABLE.get(name).map(Vec::as_slice)
}

/// The tables of all families.
pub fn all_specs() -> impl Iterator<Item = &'static Spec> {
    [
        numbers::SPECS,
        texts::SPECS,
        regexps::SPECS,
        times::SPECS,
        to_char::SPECS,
        to_char_number::SPECS,
        json::SPECS,
        json_build::SPECS,
        arrays::SPECS,
    ]
    .into_iter()
    .flatten()
}

/// Whether a function of this name exists.
pub fn exists(name: &str) -> bool {
    name.starts_with(super::sets::PREFIX)
        || is_operator(name)
        || SPECIAL.contains(&name)
        || overloads(name).is_some()
}

fn parse_spec(spec: &'static str, build: Build, about: &'static str) -> (&'static str, Overload) {
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
        "any" => ANY,
        "anyarray" => ANY_ARRAY,
        "anyelement" => ANY_ELEMENT,
        t => pg_type_by_name(t).expect(malformed),
    };
    let args = args.split(',').filter(|a| !a.is_empty()).map(of).collect();
    (name, Overload { args, variadic, result: of(result), build, spec, about })
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
                    _ if want == ANY => {}
                    Some(have) if want == ANY_ARRAY => {
                        have.element()?;
                        score.0 += 1;
                    }
                    Some(have) if want == ANY_ELEMENT => {
                        if have.element().is_some() {
                            return None;
                        }
                    }
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
pub fn build(
    name: &str,
    overload: &Overload,
    mut args: Vec<Expr>,
    fields: &[FieldRef],
    result: Field,
    time_zone: &str,
) -> Result<Expr> {
    let volatility = if is_volatile(name) { Volatility::Volatile } else { Volatility::Immutable };
    Ok(match overload.build {
        Build::Df(udf) => Expr::ScalarFunction(ScalarFunction::new_udf(udf(), args)),
        Build::Native(kernel) => native_with(name, result, kernel, volatility, args),
        Build::Zoned(kernel) => {
            args.push(lit(time_zone));
            native_with(name, result, kernel, volatility, args)
        }
        Build::With(f) => f(args, fields, time_zone)?,
    })
}

/// The type a symbol seems to have while DataFusion's planner runs; the binder settles it later.
pub fn provisional_type(name: &str, args: &[DataType]) -> DataType {
    if let Some(name) = name.strip_prefix(super::sets::PREFIX) {
        return super::sets::provisional_type(name, args);
    }
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
        "?|" | "?&" | "@?" | "@@" | "overlaps" | "^@" => DataType::Boolean,
        "||" | "->>" | "#>>" | "->" | "#>" | "#-" => match args.first() {
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
        "gen_random_uuid" => DataType::FixedSizeBinary(16),
        "timezone" => match args.get(1) {
            Some(DataType::Timestamp(_, None)) => PgType::TIMESTAMPTZ.arrow(),
            _ => PgType::TIMESTAMP.arrow(),
        },
        "subscript" => match args.first() {
            Some(DataType::List(f)) => f.data_type().clone(),
            _ => DataType::Utf8,
        },
        "array_slice" => args.first().cloned().unwrap_or(DataType::Null),
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
                let chosen = choose(all, &types).or(all.first());
                match chosen.map(|o| o.result) {
                    Some(ANY_ARRAY) => args
                        .iter()
                        .find(|t| matches!(t, DataType::List(_)))
                        .cloned()
                        .unwrap_or_else(|| PgType::of(1009).arrow()),
                    Some(ANY_ELEMENT) => args.first().cloned().unwrap_or(DataType::Null),
                    t => t.map_or(DataType::Null, PgType::arrow),
                }
            }
            // The name of a type called as a function, or nothing at all: the binder will tell.
            None => pg_type_by_name(name).map_or(DataType::Null, PgType::arrow),
        },
    }
}

/// A signature, how it is done, and what it gives.
pub type Spec = (&'static str, Build, &'static str);

/// Functions whose typing has rules of its own, for the documentation.
const SPECIAL_DOCS: &[(&str, &str)] = &[
    ("abs(number)->number", "magnitude"),
    ("array_slice(anyarray,int4,int4)->anyarray", "array[from:to]"),
    ("ceil(number)->number", "next integer above; also ceiling"),
    ("clock_timestamp()->timestamptz", "the time of the call"),
    ("coalesce(any...)->any", "first argument that is not NULL"),
    (
        "current_date->date",
        "day of the transaction's start; also current_timestamp, localtimestamp, localtime",
    ),
    ("date_part(text,time)->float8", "a part of a date, time or interval"),
    ("extract(field FROM time)->numeric", "a part of a date, time or interval"),
    ("floor(number)->number", "next integer below"),
    ("gen_random_uuid()->uuid", "a random uuid; not in views"),
    ("greatest(any...)->any", "greatest argument, NULLs left out"),
    ("least(any...)->any", "least argument, NULLs left out"),
    ("mod(number,number)->number", "remainder"),
    ("now()->timestamptz", "start of the transaction; also transaction_timestamp, statement_timestamp"),
    ("nullif(any,any)->any", "NULL if both are equal, else the first"),
    ("pg_typeof(any)->text", "name of a type"),
    ("random()->float8", "from 0 to 1; not in views"),
    ("round(number,int4)->numeric", "rounded, without the second argument to an integer"),
    ("sign(number)->number", "-1, 0 or 1"),
    ("trunc(number,int4)->numeric", "cut, without the second argument to an integer"),
];

/// Every function and operator with its types, as a table for the documentation.
pub fn documentation() -> String {
    let shown = |t: &str| match t {
        "ts" => "timestamp".to_string(),
        "tstz" => "timestamptz".to_string(),
        t => t.strip_prefix('_').map_or(t.to_string(), |e| format!("{e}[]")),
    };
    let mut rows: Vec<(bool, String, String, &str)> = Vec::new();
    let specs = all_specs().map(|(spec, _, about)| (*spec, *about));
    for (spec, about) in specs.chain(SPECIAL_DOCS.iter().copied()) {
        let (call, result) = spec.split_once("->").filter(|(c, _)| !c.is_empty()).unwrap_or_else(|| {
            // Operators such as -> begin with what separates the result.
            let at = spec.rfind(")->").map_or(spec.len(), |i| i + 1);
            (&spec[..at], spec.get(at + 2..).unwrap_or(""))
        });
        let (call, result) = match spec.rfind(")->") {
            Some(at) => (&spec[..=at], &spec[at + 3..]),
            None => (call, result),
        };
        let text = match call.split_once('(') {
            Some((name, args)) => {
                let args = args.trim_end_matches(')');
                let (args, more) = args.strip_suffix("...").map_or((args, ""), |a| (a, " …"));
                let args: Vec<String> = args.split(',').filter(|a| !a.is_empty()).map(shown).collect();
                if is_operator(name) && args.len() == 2 {
                    format!("{} {name} {}", args[0], args[1])
                } else {
                    format!("{name}({}{more})", args.join(", "))
                }
            }
            None => call.to_string(),
        };
        rows.push((!is_operator(call), text, shown(result), about));
    }
    rows.sort();
    rows.dedup_by(|a, b| a.1 == b.1);
    let mut out = String::from("| function or operator | result | what it gives |\n|---|---|---|\n");
    for (_, text, result, about) in rows {
        let text = text.replace('|', "\\|");
        out.push_str(&format!("| `{text}` | {result} | {about} |\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_specification_is_well_formed() {
        for (spec, build, about) in all_specs() {
            parse_spec(spec, *build, about);
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

    /// `FRESHET_DOCS=update` writes the table into the document.
    #[test]
    fn the_documentation_lists_every_function() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (begin, end) = ("<!-- functions: begin -->\n", "<!-- functions: end -->\n");
        let (head, rest) = text.split_once(begin).expect("a mark where the functions begin");
        let (_, tail) = rest.split_once(end).expect("a mark where the functions end");
        let wanted = format!("{head}{begin}\n{}\n{end}{tail}", documentation());
        if std::env::var_os("FRESHET_DOCS").is_some_and(|v| v == "update") {
            std::fs::write(path, wanted).unwrap();
        } else {
            assert!(
                text == wanted,
                "docs/sql.md is not what the registry gives: run with FRESHET_DOCS=update"
            );
        }
    }

    #[test]
    fn every_function_says_what_it_gives() {
        for (spec, _, about) in all_specs() {
            assert!(!about.is_empty(), "{spec}");
        }
    }
}
