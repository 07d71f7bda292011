//! Functions of one value: which there are, with what types, and the general ones of text, arrays and time.
//!
//! Boundary: the table of functions; those that ask the catalog or the session are in [`super::catalog_functions`].

use super::bind::Binder;
use super::catalog_functions as catalog;
use super::coerce::{ANY, ANY_ARRAY, ANY_ELEMENT};
use super::execute::Run;
use super::scope::Typed;
use super::tree::Expr;
use crate::catalog::system::{Value, quote_ident, quote_literal, types};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

/// What a function returns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Returns {
    Type(u32),
    /// The type of this argument.
    Argument(usize),
}

/// A function of one value.
pub(super) struct Function {
    pub name: &'static str,
    /// Types of its arguments.
    pub args: &'static [u32],
    /// How many must be given.
    pub min: usize,
    /// The last argument may be repeated.
    pub variadic: bool,
    pub returns: Returns,
    /// NULL for NULL.
    pub strict: bool,
    /// Only the evaluator of system queries knows it.
    pub system: bool,
    pub eval: fn(&Run<'_>, &[Value]) -> Result<Value>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

type Eval = fn(&Run<'_>, &[Value]) -> Result<Value>;

/// A strict function.
pub(super) const fn function(
    name: &'static str,
    args: &'static [u32],
    min: usize,
    returns: u32,
    system: bool,
    eval: Eval,
) -> Function {
    Function { name, args, min, variadic: false, returns: Returns::Type(returns), strict: true, system, eval }
}

/// A function that is called with NULL too.
pub(super) const fn lenient(
    name: &'static str,
    args: &'static [u32],
    min: usize,
    returns: u32,
    system: bool,
    eval: Eval,
) -> Function {
    Function {
        name,
        args,
        min,
        variadic: false,
        returns: Returns::Type(returns),
        strict: false,
        system,
        eval,
    }
}

const fn like_argument(name: &'static str, args: &'static [u32], eval: Eval) -> Function {
    Function {
        name,
        args,
        min: args.len(),
        variadic: false,
        returns: Returns::Argument(0),
        strict: false,
        system: false,
        eval,
    }
}

const fn variadic(
    name: &'static str,
    args: &'static [u32],
    min: usize,
    strict: bool,
    eval: Eval,
) -> Function {
    Function {
        name,
        args,
        min,
        variadic: true,
        returns: Returns::Type(oid::TEXT),
        strict,
        system: false,
        eval,
    }
}

use oid::{BOOL, BYTEA, FLOAT8, INT4, INT8, NAME, TEXT, TIMESTAMP, TIMESTAMPTZ};

const TEXTS: u32 = 1009;

fn text(args: &[Value], i: usize) -> &str {
    args.get(i).and_then(Value::as_str).unwrap_or_default()
}

fn int(args: &[Value], i: usize) -> i64 {
    args.get(i).and_then(Value::as_int).unwrap_or_default()
}

static GENERAL: &[Function] = &[
    function("lower", &[TEXT], 1, TEXT, false, |_, a| Ok(text(a, 0).to_lowercase().into())),
    function("upper", &[TEXT], 1, TEXT, false, |_, a| Ok(text(a, 0).to_uppercase().into())),
    function("length", &[TEXT], 1, INT4, false, |_, a| Ok(text(a, 0).chars().count().into())),
    function("char_length", &[TEXT], 1, INT4, false, |_, a| Ok(text(a, 0).chars().count().into())),
    function("octet_length", &[TEXT], 1, INT4, false, |_, a| Ok(text(a, 0).len().into())),
    function("md5", &[TEXT], 1, TEXT, false, |_, _| Err(Error::unsupported("md5 is not supported here"))),
    function("reverse", &[TEXT], 1, TEXT, false, |_, a| {
        Ok(text(a, 0).chars().rev().collect::<String>().into())
    }),
    function("initcap", &[TEXT], 1, TEXT, false, |_, a| Ok(initcap(text(a, 0)).into())),
    function("replace", &[TEXT, TEXT, TEXT], 3, TEXT, false, |_, a| {
        Ok(if text(a, 1).is_empty() {
            a[0].clone()
        } else {
            text(a, 0).replace(text(a, 1), text(a, 2)).into()
        })
    }),
    function("translate", &[TEXT, TEXT, TEXT], 3, TEXT, false, |_, a| {
        let (from, to): (Vec<char>, Vec<char>) = (text(a, 1).chars().collect(), text(a, 2).chars().collect());
        let put = |c: char| match from.iter().position(|f| *f == c) {
            Some(i) => to.get(i).copied(),
            None => Some(c),
        };
        Ok(text(a, 0).chars().filter_map(put).collect::<String>().into())
    }),
    function("strpos", &[TEXT, TEXT], 2, INT4, false, |_, a| {
        let at = text(a, 0).find(text(a, 1));
        Ok(at.map_or(0, |b| text(a, 0)[..b].chars().count() + 1).into())
    }),
    function("starts_with", &[TEXT, TEXT], 2, BOOL, false, |_, a| {
        Ok(text(a, 0).starts_with(text(a, 1)).into())
    }),
    function("substring", &[TEXT, INT4, INT4], 2, TEXT, false, |_, a| substring(a)),
    function("substring", &[TEXT, TEXT], 2, TEXT, false, |run, a| {
        let found = run.regex(text(a, 1), false)?;
        let found = found.captures(text(a, 0));
        Ok(found.and_then(|c| c.get(1).or_else(|| c.get(0)).map(|m| m.as_str().to_string())).into())
    }),
    function("substr", &[TEXT, INT4, INT4], 2, TEXT, false, |_, a| substring(a)),
    function("left", &[TEXT, INT4], 2, TEXT, false, |_, a| Ok(left(text(a, 0), int(a, 1)).into())),
    function("right", &[TEXT, INT4], 2, TEXT, false, |_, a| {
        let backwards: String = text(a, 0).chars().rev().collect();
        Ok(left(&backwards, int(a, 1)).chars().rev().collect::<String>().into())
    }),
    function("btrim", &[TEXT, TEXT], 1, TEXT, false, |_, a| {
        let cut = |c: char| trimmed(a, c);
        Ok(text(a, 0).trim_matches(cut).into())
    }),
    function("ltrim", &[TEXT, TEXT], 1, TEXT, false, |_, a| {
        Ok(text(a, 0).trim_start_matches(|c| trimmed(a, c)).into())
    }),
    function("rtrim", &[TEXT, TEXT], 1, TEXT, false, |_, a| {
        Ok(text(a, 0).trim_end_matches(|c| trimmed(a, c)).into())
    }),
    function("repeat", &[TEXT, INT4], 2, TEXT, false, |_, a| {
        let times = usize::try_from(int(a, 1)).unwrap_or(0).min((1 << 20) / text(a, 0).len().max(1));
        Ok(text(a, 0).repeat(times).into())
    }),
    function("split_part", &[TEXT, TEXT, INT4], 3, TEXT, false, |_, a| {
        let n = usize::try_from(int(a, 2)).unwrap_or(0);
        Ok(n.checked_sub(1).and_then(|n| text(a, 0).split(text(a, 1)).nth(n)).unwrap_or_default().into())
    }),
    function("ascii", &[TEXT], 1, INT4, false, |_, a| {
        Ok(text(a, 0).chars().next().map_or(0, u32::from).into())
    }),
    function("chr", &[INT4], 1, TEXT, false, |_, a| {
        Ok(u32::try_from(int(a, 0)).ok().and_then(char::from_u32).map(|c| c.to_string()).into())
    }),
    function("regexp_replace", &[TEXT, TEXT, TEXT, TEXT], 3, TEXT, false, |run, a| {
        let found = run.regex(text(a, 1), text(a, 3).contains('i'))?;
        let with = text(a, 2).replace('$', "$$");
        let with = run.regex(r"\\(\d)", false)?.replace_all(&with, "$${$1}").replace("\\&", "${0}");
        let limit = if text(a, 3).contains('g') { 0 } else { 1 };
        Ok(found.replacen(text(a, 0), limit, with.as_str()).into_owned().into())
    }),
    function("regexp_split_to_array", &[TEXT, TEXT], 2, TEXTS, false, |run, a| {
        Ok(Value::texts(run.regex(text(a, 1), false)?.split(text(a, 0))))
    }),
    function("regexp_match", &[TEXT, TEXT, TEXT], 2, TEXTS, false, |run, a| {
        let found = run.regex(text(a, 1), text(a, 2).contains('i'))?;
        Ok(found.captures(text(a, 0)).map_or(Value::Null, |c| {
            let from = usize::from(c.len() > 1);
            Value::array(c.iter().skip(from).map(|m| m.map(|m| m.as_str()).into()).collect())
        }))
    }),
    variadic("concat", &[TEXT], 1, false, |_, a| {
        Ok(a.iter().filter_map(Value::as_str).collect::<String>().into())
    }),
    variadic("concat_ws", &[TEXT, TEXT], 1, false, |_, a| {
        let Some(by) = a.first().and_then(Value::as_str) else { return Ok(Value::Null) };
        Ok(a[1..].iter().filter_map(Value::as_str).collect::<Vec<_>>().join(by).into())
    }),
    variadic("format", &[TEXT, TEXT], 1, false, |_, a| format_text(a)),
    function("quote_ident", &[TEXT], 1, TEXT, true, |_, a| Ok(quote_ident(text(a, 0)).into())),
    function("quote_literal", &[TEXT], 1, TEXT, true, |_, a| Ok(quote_literal(text(a, 0)).into())),
    lenient("quote_nullable", &[TEXT], 1, TEXT, true, |_, a| {
        Ok(a[0].as_str().map_or("NULL".to_string(), quote_literal).into())
    }),
    function("to_char", &[TEXT, TEXT], 2, TEXT, false, |_, a| Ok(a[0].clone())),
    function("abs", &[FLOAT8], 1, FLOAT8, false, |_, a| Ok(a[0].as_float().map(f64::abs).into())),
    function("ceil", &[FLOAT8], 1, FLOAT8, false, |_, a| Ok(a[0].as_float().map(f64::ceil).into())),
    function("floor", &[FLOAT8], 1, FLOAT8, false, |_, a| Ok(a[0].as_float().map(f64::floor).into())),
    function("round", &[oid::NUMERIC, INT4], 1, oid::NUMERIC, false, |_, a| {
        let unit = 10f64.powi(i32::try_from(int(a, 1)).unwrap_or(0).clamp(-18, 18));
        Ok(a[0].as_float().map(|f| (f * unit).round() / unit).into())
    }),
    function("mod", &[INT8, INT8], 2, INT8, false, |_, a| {
        int(a, 0)
            .checked_rem(int(a, 1))
            .map(Value::Int)
            .ok_or_else(|| Error::new(ErrorKind::DivisionByZero, "division by zero"))
    }),
    function("power", &[FLOAT8, FLOAT8], 2, FLOAT8, false, |_, a| {
        Ok(a[0].as_float().zip(a[1].as_float()).map(|(x, y)| x.powf(y)).into())
    }),
    function("array_to_string", &[TEXTS, TEXT, TEXT], 2, TEXT, true, |_, a| {
        Ok(a[0].as_array().map_or(Value::Null, |all| {
            let shown =
                all.items.iter().filter_map(|v| v.as_str().or_else(|| a.get(2).and_then(Value::as_str)));
            shown.collect::<Vec<_>>().join(text(a, 1)).into()
        }))
    }),
    function("string_to_array", &[TEXT, TEXT], 2, TEXTS, false, |_, a| {
        Ok(match (text(a, 0), text(a, 1)) {
            ("", _) => Value::array(vec![]),
            (t, "") => Value::texts([t]),
            (t, by) => Value::texts(t.split(by)),
        })
    }),
    function("array_length", &[ANY_ARRAY, INT4], 2, INT4, false, |_, a| {
        Ok(extent(a).map(|(low, high)| high - low + 1).into())
    }),
    function("array_upper", &[ANY_ARRAY, INT4], 2, INT4, true, |_, a| {
        Ok(extent(a).map(|(_, high)| high).into())
    }),
    function("array_lower", &[ANY_ARRAY, INT4], 2, INT4, true, |_, a| {
        Ok(extent(a).map(|(low, _)| low).into())
    }),
    function("array_ndims", &[ANY_ARRAY], 1, INT4, true, |_, a| {
        Ok(a[0].as_array().filter(|a| !a.items.is_empty()).map(|_| 1i64).into())
    }),
    function("cardinality", &[ANY_ARRAY], 1, INT4, false, |_, a| {
        Ok(a[0].as_array().map_or(0, |a| a.items.len()).into())
    }),
    lenient("array_position", &[ANY_ARRAY, ANY_ELEMENT], 2, INT4, true, |_, a| {
        Ok(a[0]
            .as_array()
            .and_then(|all| Some(all.lower + i64::try_from(all.items.iter().position(|v| *v == a[1])?).ok()?))
            .into())
    }),
    like_argument("array_append", &[ANY_ARRAY, ANY_ELEMENT], |_, a| {
        let mut items = a[0].as_array().map(|a| a.items.clone()).unwrap_or_default();
        items.push(a[1].clone());
        Ok(Value::array(items))
    }),
    like_argument("array_cat", &[ANY_ARRAY, ANY_ARRAY], |run, a| {
        run.apply(super::tree::Op::ArrayConcat, &a[0], &a[1])
    }),
    like_argument("array_remove", &[ANY_ARRAY, ANY_ELEMENT], |_, a| {
        Ok(a[0].as_array().map_or(Value::Null, |all| {
            Value::array(all.items.iter().filter(|v| **v != a[1]).cloned().collect())
        }))
    }),
    function("now", &[], 0, TIMESTAMPTZ, false, |run, _| Ok(Value::Timestamp(run.context.now.0))),
    function("current_timestamp", &[], 0, TIMESTAMPTZ, false, |run, _| {
        Ok(Value::Timestamp(run.context.now.0))
    }),
    function("transaction_timestamp", &[], 0, TIMESTAMPTZ, false, |run, _| {
        Ok(Value::Timestamp(run.context.now.0))
    }),
    function("statement_timestamp", &[], 0, TIMESTAMPTZ, false, |run, _| {
        Ok(Value::Timestamp(run.context.now.0))
    }),
    function("clock_timestamp", &[], 0, TIMESTAMPTZ, false, |run, _| Ok(Value::Timestamp(run.context.now.0))),
    function("current_date", &[], 0, oid::DATE, false, |run, _| Ok(Value::Timestamp(run.context.now.0))),
    function("timezone", &[TEXT, TIMESTAMPTZ], 2, TIMESTAMP, false, |_, a| Ok(a[1].clone())),
    function("to_timestamp", &[FLOAT8], 1, TIMESTAMPTZ, false, |_, a| {
        Ok(a[0].as_float().map_or(Value::Null, |f| Value::Timestamp((f * 1e6) as i64)))
    }),
    function("extract", &[TEXT, ANY], 2, oid::NUMERIC, false, |_, a| epoch(a)),
    function("date_part", &[TEXT, ANY], 2, FLOAT8, false, |_, a| epoch(a)),
    function("age", &[ANY, ANY], 1, oid::INTERVAL, true, |run, a| {
        let now = Value::Timestamp(run.context.now.0);
        Ok(match (&a[0], a.get(1)) {
            (Value::Timestamp(_), None) => run.apply(super::tree::Op::Sub, &now, &a[0])?,
            (Value::Timestamp(_), Some(b)) => run.apply(super::tree::Op::Sub, &a[0], b)?,
            _ => Value::Null,
        })
    }),
    function("encode", &[BYTEA, TEXT], 2, TEXT, false, |_, a| {
        Ok(match &a[0] {
            Value::Bytes(b) => b.iter().map(|b| format!("{b:02x}")).collect::<String>().into(),
            _ => Value::Null,
        })
    }),
    function("parse_ident", &[TEXT, BOOL], 1, TEXTS, true, |_, a| {
        let parts = super::cast::split_identifier(text(a, 0));
        Ok(Value::texts(parts.iter().map(String::as_str)))
    }),
    function("name", &[TEXT], 1, NAME, true, |_, a| Ok(a[0].clone())),
    function("text", &[TEXT], 1, TEXT, true, |_, a| Ok(a[0].clone())),
];

fn trimmed(args: &[Value], c: char) -> bool {
    args.get(1).and_then(Value::as_str).map_or(c == ' ', |set| set.contains(c))
}

fn initcap(text: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphanumeric();
    }
    out
}

fn left(text: &str, n: i64) -> String {
    let length = text.chars().count();
    let kept = match usize::try_from(n) {
        Ok(n) => n,
        Err(_) => length.saturating_sub(usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    text.chars().take(kept).collect()
}

fn substring(args: &[Value]) -> Result<Value> {
    let from = int(args, 1);
    let end = match args.get(2) {
        Some(length) => {
            let length = length.as_int().unwrap_or_default();
            if length < 0 {
                return Err(Error::new(ErrorKind::InvalidParameter, "negative substring length not allowed"));
            }
            from.saturating_add(length)
        }
        None => i64::MAX,
    };
    let inside = (1i64..).zip(text(args, 0).chars()).filter(|(i, _)| (from..end).contains(i));
    Ok(inside.map(|(_, c)| c).collect::<String>().into())
}

/// First and last number of an array's elements, unless it has none.
fn extent(args: &[Value]) -> Option<(i64, i64)> {
    let array = args.first()?.as_array()?;
    let count = i64::try_from(array.items.len()).ok()?;
    (count > 0 && int(args, 1) == 1).then(|| (array.lower, array.lower + count - 1))
}

fn format_text(args: &[Value]) -> Result<Value> {
    let Some(pattern) = args.first().and_then(Value::as_str) else { return Ok(Value::Null) };
    let mut out = String::new();
    let mut next = 1;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut digits = String::new();
        while let Some(d) = chars.peek().filter(|d| d.is_ascii_digit()) {
            digits.push(*d);
            chars.next();
        }
        if chars.peek() == Some(&'$') {
            chars.next();
            next = digits.parse().unwrap_or(next);
        }
        let kind = chars.next();
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let Some(value) = args.get(next) else {
            return Err(Error::new(ErrorKind::InvalidParameter, "too few arguments for format()"));
        };
        next += 1;
        match (kind, value.as_str()) {
            (Some('s'), text) => out.push_str(text.unwrap_or_default()),
            (Some('I'), Some(text)) => out.push_str(&quote_ident(text)),
            (Some('L'), text) => out.push_str(&text.map_or("NULL".to_string(), quote_literal)),
            _ => return Err(Error::new(ErrorKind::InvalidParameter, "unrecognized format() type specifier")),
        }
    }
    Ok(out.into())
}

/// `extract(epoch from …)`.
fn epoch(args: &[Value]) -> Result<Value> {
    if text(args, 0) != "epoch" {
        return Err(Error::unsupported("only EPOCH can be extracted in queries of the system catalogs"));
    }
    Ok(match &args[1] {
        Value::Timestamp(t) => Value::Float(*t as f64 / 1e6),
        Value::Interval { months, days, micros } => {
            Value::Float((f64::from(*months) * 30.0 + f64::from(*days)) * 86400.0 + *micros as f64 / 1e6)
        }
        _ => Value::Null,
    })
}

fn all() -> impl Iterator<Item = &'static Function> {
    GENERAL.iter().chain(catalog::FUNCTIONS)
}

/// Whether a name is a function only the evaluator knows.
pub(super) fn is_system_function(name: &str) -> bool {
    super::set_functions::NAMES.contains(&name) || all().any(|f| f.system && f.name == name)
}

/// Whether a bare name is a call.
pub(super) fn is_keyword_function(name: &str) -> bool {
    matches!(
        name,
        "current_user"
            | "session_user"
            | "user"
            | "current_role"
            | "current_catalog"
            | "current_schema"
            | "current_timestamp"
            | "current_date"
    )
}

impl Binder<'_> {
    /// A call of a function.
    pub(super) fn call(&self, name: &str, args: Vec<Typed>) -> Result<Typed> {
        let fits = |f: &&Function| {
            f.name == name
                && args.len() >= f.min
                && (f.variadic || args.len() <= f.args.len())
                && args.iter().zip(f.args).all(|(a, to)| self.accepts(a, *to))
        };
        let Some(function) = all().find(fits) else {
            // A type's name is a cast.
            if let ([_], Some(to)) = (args.as_slice(), types::by_name(name))
                && let Some(arg) = args.into_iter().next()
            {
                let to = PgType::of(to.oid);
                return Ok(Typed::new(self.convert(arg, to, true)?, to));
            }
            return Err(Error::new(
                ErrorKind::UndefinedFunction,
                format!("function {name} does not exist or takes other arguments"),
            )
            .with_hint("Queries of the system catalogs have a set of functions of their own."));
        };
        let first = args.first().map_or(PgType::TEXT, |t| t.ty);
        let array = if types::element(first.oid).is_some() { first } else { PgType::of(TEXTS) };
        let last = function.args.last().copied().unwrap_or(ANY);
        let mut exprs = vec![];
        for (i, arg) in args.into_iter().enumerate() {
            let to = match function.args.get(i).copied().unwrap_or(last) {
                ANY if arg.ty.oid == oid::UNKNOWN => PgType::TEXT,
                ANY_ARRAY => array,
                ANY_ELEMENT => PgType::of(types::element(array.oid).unwrap_or(TEXT)),
                to => PgType::of(to),
            };
            // Text takes any value here: arguments are shown.
            exprs.push(self.convert(arg, to, to.oid == TEXT || to.oid == TEXTS)?);
        }
        let ty = match function.returns {
            Returns::Type(ty) => PgType::of(ty),
            Returns::Argument(0) => array,
            Returns::Argument(_) => first,
        };
        Ok(Typed::new(Expr::Call { function, args: exprs }, ty))
    }

    fn accepts(&self, arg: &Typed, to: u32) -> bool {
        use super::coerce::{is_integer, is_number, is_text, is_time};
        let from = arg.ty.oid;
        match to {
            ANY | TEXT | ANY_ELEMENT => true,
            _ if from == oid::UNKNOWN => true,
            ANY_ARRAY | TEXTS => types::element(from).is_some(),
            BOOL | BYTEA => from == to,
            to if is_integer(to) && to != INT4 && to != INT8 => is_integer(from) || is_text(from),
            to if is_number(to) => is_number(from),
            to if is_time(to) => is_time(from),
            _ => is_text(from),
        }
    }
}
