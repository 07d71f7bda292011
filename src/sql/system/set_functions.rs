//! Functions that give rows: unnest, generate_series, _pg_expandarray, …
//!
//! Boundary: their columns and rows; where the rows go is the business of the plan.

use super::bind::Binder;
use super::execute::Run;
use super::scope::{ScopeColumn, Typed};
use super::tree::SetCall;
use crate::catalog::system::{Value, types};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

/// A function that gives rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetFunction {
    Unnest,
    Series,
    Subscripts,
    ExpandArray,
    Options,
    Keywords,
    SplitRegex,
    SplitText,
    Settings,
    /// A function of this width that never has rows.
    Nothing,
    /// One row: the argument.
    Once,
}

/// Names of all of them.
pub(super) const NAMES: &[&str] = &[
    "unnest",
    "generate_series",
    "generate_subscripts",
    "_pg_expandarray",
    "pg_options_to_table",
    "pg_get_keywords",
    "regexp_split_to_table",
    "string_to_table",
    "pg_show_all_settings",
    "aclexplode",
    "pg_available_extensions",
    "pg_listening_channels",
    "pg_timezone_names",
    "pg_partition_tree",
    "pg_partition_ancestors",
];

/// Key words and their categories: what tools complete and quote.
const KEYWORDS: &str = "all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral leading limit localtime localtimestamp not null offset on only or order placing primary references returning select session_user some symmetric table then to trailing true union unique user using variadic when where window with";

impl Binder<'_> {
    /// The call of a function that gives rows, with its columns; `None`: the function is none of these.
    pub(super) fn set_call(
        &self,
        name: &str,
        args: Vec<Typed>,
    ) -> Result<Option<(SetCall, Vec<ScopeColumn>)>> {
        let column = |name: &str, oid: u32| ScopeColumn::new(name, PgType::of(oid));
        let array_type =
            |i: usize| args.get(i).map(|t: &Typed| t.ty.oid).filter(|o| types::element(*o).is_some());
        let array = array_type(0).unwrap_or(1009);
        let element = types::element(array).unwrap_or(oid::TEXT);
        let (function, columns, wanted): (_, Vec<ScopeColumn>, Vec<u32>) = match (name, args.len()) {
            ("unnest", 1) => (SetFunction::Unnest, vec![column("unnest", element)], vec![array]),
            ("generate_series", 2 | 3) => {
                let ty = match args[0].ty.oid {
                    oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::DATE => {
                        return Err(Error::unsupported(
                            "generate_series over timestamps is not supported here",
                        ));
                    }
                    oid::INT8 => oid::INT8,
                    _ if args[1].ty.oid == oid::INT8 => oid::INT8,
                    _ => oid::INT4,
                };
                (SetFunction::Series, vec![column(name, ty)], vec![ty; args.len()])
            }
            ("generate_subscripts", 2 | 3) => {
                let wanted = [array, oid::INT4, oid::BOOL][..args.len()].to_vec();
                (SetFunction::Subscripts, vec![column(name, oid::INT4)], wanted)
            }
            ("_pg_expandarray", 1) => {
                (SetFunction::ExpandArray, vec![column("x", element), column("n", oid::INT4)], vec![array])
            }
            ("pg_options_to_table", 1) => (
                SetFunction::Options,
                vec![column("option_name", oid::TEXT), column("option_value", oid::TEXT)],
                vec![1009],
            ),
            ("pg_get_keywords", 0) => (
                SetFunction::Keywords,
                vec![
                    column("word", oid::TEXT),
                    column("catcode", oid::CHAR),
                    column("barelabel", oid::BOOL),
                    column("catdesc", oid::TEXT),
                    column("baredesc", oid::TEXT),
                ],
                vec![],
            ),
            ("regexp_split_to_table", 2) => {
                (SetFunction::SplitRegex, vec![column(name, oid::TEXT)], vec![oid::TEXT; 2])
            }
            ("string_to_table", 2) => {
                (SetFunction::SplitText, vec![column(name, oid::TEXT)], vec![oid::TEXT; 2])
            }
            ("pg_show_all_settings", 0) => {
                let columns = crate::catalog::system::find(None, "pg_settings")
                    .map(|r| r.columns.iter().map(|c| ScopeColumn::new(c.name, c.pg_type)).collect())
                    .unwrap_or_default();
                (SetFunction::Settings, columns, vec![])
            }
            ("aclexplode", 1) => (
                SetFunction::Nothing,
                vec![
                    column("grantor", oid::OID),
                    column("grantee", oid::OID),
                    column("privilege_type", oid::TEXT),
                    column("is_grantable", oid::BOOL),
                ],
                vec![0],
            ),
            ("pg_available_extensions", 0) => (
                SetFunction::Nothing,
                vec![
                    column("name", oid::NAME),
                    column("default_version", oid::TEXT),
                    column("comment", oid::TEXT),
                ],
                vec![],
            ),
            ("pg_listening_channels", 0) => (SetFunction::Nothing, vec![column(name, oid::TEXT)], vec![]),
            ("pg_partition_tree" | "pg_partition_ancestors", 1) => {
                (SetFunction::Nothing, vec![column("relid", oid::REGCLASS)], vec![oid::REGCLASS])
            }
            ("pg_timezone_names", 0) => (
                SetFunction::Nothing,
                vec![
                    column("name", oid::TEXT),
                    column("abbrev", oid::TEXT),
                    column("utc_offset", oid::INTERVAL),
                    column("is_dst", oid::BOOL),
                ],
                vec![],
            ),
            _ => return Ok(None),
        };
        let args = args
            .into_iter()
            .zip(wanted)
            .map(|(arg, to)| self.coerce(arg, PgType::of(to)))
            .collect::<Result<_>>()?;
        Ok(Some((SetCall { function, args, width: columns.len() }, columns)))
    }
}

/// The rows of a call.
pub(super) fn rows(run: &Run<'_>, function: SetFunction, args: &[Value]) -> Result<Vec<Vec<Value>>> {
    let arg = |i: usize| args.get(i).unwrap_or(&Value::Null);
    let one = |v: Value| vec![v];
    Ok(match function {
        SetFunction::Unnest => match arg(0).as_array() {
            Some(a) => a.items.iter().cloned().map(one).collect(),
            None => vec![],
        },
        SetFunction::Series => {
            let (Some(from), Some(to)) = (arg(0).as_int(), arg(1).as_int()) else { return Ok(vec![]) };
            let step = match args.get(2) {
                None => 1,
                Some(v) => match v.as_int() {
                    Some(0) => {
                        return Err(Error::new(ErrorKind::InvalidParameter, "step size cannot equal zero"));
                    }
                    Some(step) => step,
                    None => return Ok(vec![]),
                },
            };
            let mut out = vec![];
            let mut at = from;
            while if step > 0 { at <= to } else { at >= to } {
                out.push(one(Value::Int(at)));
                run.count(1)?;
                match at.checked_add(step) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            out
        }
        SetFunction::Subscripts => match (arg(0).as_array(), arg(1).as_int()) {
            (Some(a), Some(1)) => {
                let count = a.items.len() as i64;
                let mut all: Vec<_> = (a.lower..a.lower + count).map(|i| one(Value::Int(i))).collect();
                if *arg(2) == Value::Bool(true) {
                    all.reverse();
                }
                all
            }
            _ => vec![],
        },
        SetFunction::ExpandArray => match arg(0).as_array() {
            Some(a) => (1i64..).zip(&a.items).map(|(n, x)| vec![x.clone(), Value::Int(n)]).collect(),
            None => vec![],
        },
        SetFunction::Options => match arg(0).as_array() {
            Some(a) => a
                .items
                .iter()
                .filter_map(Value::as_str)
                .map(|o| {
                    let (name, value) = o.split_once('=').unwrap_or((o, ""));
                    vec![name.into(), value.into()]
                })
                .collect(),
            None => vec![],
        },
        SetFunction::Keywords => KEYWORDS
            .split(' ')
            .map(|w| vec![w.into(), "R".into(), true.into(), "reserved".into(), "can be bare label".into()])
            .collect(),
        SetFunction::SplitRegex => match (arg(0).as_str(), arg(1).as_str()) {
            (Some(text), Some(pattern)) => {
                run.regex(pattern, false)?.split(text).map(|t| one(t.into())).collect()
            }
            _ => vec![],
        },
        SetFunction::SplitText => match (arg(0).as_str(), arg(1).as_str()) {
            (Some(text), Some("")) => vec![one(text.into())],
            (Some(text), Some(by)) => text.split(by).map(|t| one(t.into())).collect(),
            _ => vec![],
        },
        SetFunction::Settings => match crate::catalog::system::find(None, "pg_settings") {
            Some(relation) => run.scan(relation).iter().map(|r| r.to_vec()).collect(),
            None => vec![],
        },
        SetFunction::Nothing => vec![],
        SetFunction::Once => vec![one(arg(0).clone())],
    })
}
