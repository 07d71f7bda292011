//! PostgreSQL's built-in types as pg_type shows them, and the names of all types.
//!
//! Boundary: facts about types; the rows of pg_type are put together in [`super::classes`].

use std::collections::HashMap;
use std::sync::OnceLock;

use super::oids;
use crate::catalog::object::{Catalog, ObjectId};
use crate::types::{PgType, oid};

/// Oid of the pseudo-type record.
pub const RECORD: u32 = 2249;
/// Oid of regnamespace.
pub const REGNAMESPACE: u32 = 4089;
/// Oid of regrole.
pub const REGROLE: u32 = 4096;
/// Oid of regprocedure.
pub const REGPROCEDURE: u32 = 2202;
/// Oid of int2vector.
pub const INT2VECTOR: u32 = 22;
/// Oid of oidvector.
pub const OIDVECTOR: u32 = 30;

/// A row of pg_type: the columns that differ between types, in the order of the data file.
#[derive(Debug)]
pub struct TypeInfo {
    /// Its oid.
    pub oid: u32,
    /// typname.
    pub name: &'static str,
    /// Schema.
    pub namespace: &'static str,
    /// typlen.
    pub len: i16,
    /// typtype: b, p, d, r, m.
    pub kind: char,
    /// typcategory.
    pub category: char,
    /// Element type, 0 if it is no array.
    pub elem: u32,
    /// Array type, 0 if there is none.
    pub array: u32,
    /// All fields as text.
    pub fields: Vec<&'static str>,
}

/// The built-in types by oid.
pub fn all() -> &'static [TypeInfo] {
    static TYPES: OnceLock<Vec<TypeInfo>> = OnceLock::new();
    TYPES.get_or_init(|| {
        include_str!("data/types.txt")
            .lines()
            .filter_map(|line| {
                let fields: Vec<&'static str> = line.split(' ').collect();
                let at = |i: usize| fields.get(i).copied().unwrap_or_default();
                Some(TypeInfo {
                    oid: at(0).parse().ok()?,
                    name: at(1),
                    namespace: at(2),
                    len: at(3).parse().ok()?,
                    kind: at(5).chars().next()?,
                    category: at(6).chars().next()?,
                    elem: at(9).parse().ok()?,
                    array: at(10).parse().ok()?,
                    fields,
                })
            })
            .collect()
    })
}

/// The type of this oid.
pub fn by_oid(oid: u32) -> Option<&'static TypeInfo> {
    static INDEX: OnceLock<HashMap<u32, &'static TypeInfo>> = OnceLock::new();
    INDEX.get_or_init(|| all().iter().map(|t| (t.oid, t)).collect()).get(&oid).copied()
}

/// The type of this internal name (`int4`, `_text`).
pub fn by_name(name: &str) -> Option<&'static TypeInfo> {
    static INDEX: OnceLock<HashMap<&'static str, &'static TypeInfo>> = OnceLock::new();
    INDEX.get_or_init(|| all().iter().map(|t| (t.name, t)).collect()).get(name).copied()
}

/// The element type of an array type.
pub fn element(oid: u32) -> Option<u32> {
    match oid {
        INT2VECTOR => Some(oid::INT2),
        OIDVECTOR => Some(oid::OID),
        2277 => Some(oid::TEXT),
        _ => by_oid(oid).filter(|t| t.elem != 0 && t.category == 'A').map(|t| t.elem),
    }
}

/// The array type of a type; text[] for types without one.
pub fn array_of(oid: u32) -> u32 {
    by_oid(oid).map(|t| t.array).filter(|a| *a != 0).unwrap_or(1009)
}

/// SQL names that differ from the internal ones.
const SQL_NAMES: &[(&str, u32)] = &[
    ("boolean", oid::BOOL),
    ("smallint", oid::INT2),
    ("integer", oid::INT4),
    ("int", oid::INT4),
    ("bigint", oid::INT8),
    ("real", oid::FLOAT4),
    ("double precision", oid::FLOAT8),
    ("float", oid::FLOAT8),
    ("decimal", oid::NUMERIC),
    ("character varying", oid::VARCHAR),
    ("character", oid::BPCHAR),
    ("timestamp without time zone", oid::TIMESTAMP),
    ("timestamp with time zone", oid::TIMESTAMPTZ),
    ("time without time zone", oid::TIME),
    ("time with time zone", 1266),
    ("bit varying", 1562),
];

/// The type that a name as written in SQL means: `int`, `pg_catalog.int4`, `text[]`, `numeric(10,2)`, `"char"`.
pub fn parse_name(text: &str) -> Option<u32> {
    let text = text.trim();
    let text = text.strip_prefix("pg_catalog.").unwrap_or(text);
    if let Some(elem) = text.strip_suffix("[]") {
        return parse_name(elem).and_then(by_oid).map(|t| t.array).filter(|a| *a != 0);
    }
    if let Some(quoted) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return by_name(quoted).map(|t| t.oid);
    }
    let text = text.split_once('(').map_or(text.to_string(), |(before, rest)| {
        let after = rest.split_once(')').map_or("", |(_, a)| a);
        format!("{}{after}", before.trim_end())
    });
    let text = text.to_lowercase();
    if text == "char" {
        return Some(oid::BPCHAR);
    }
    if let Some((_, oid)) = SQL_NAMES.iter().find(|(n, _)| *n == text) {
        return Some(*oid);
    }
    by_name(&text).map(|t| t.oid)
}

/// What `format_type(oid, typmod)` gives; `None` when there is no such type.
pub fn format_type(catalog: &Catalog, type_oid: u32, typmod: i32) -> Option<String> {
    if let Some(object) = oids::object_of_type(type_oid).and_then(|id| catalog.get(ObjectId(id))) {
        return Some(super::quote_ident(&object.name));
    }
    if let Some(object) = oids::object_of_array_type(type_oid).and_then(|id| catalog.get(ObjectId(id))) {
        return Some(format!("{}[]", super::quote_ident(&object.name)));
    }
    let info = by_oid(type_oid)?;
    if info.category == 'A' && info.elem != 0 && !matches!(type_oid, INT2VECTOR | OIDVECTOR) {
        return format_type(catalog, info.elem, typmod).map(|e| format!("{e}[]"));
    }
    if type_oid == oid::BPCHAR && typmod < 0 {
        return Some("character".into());
    }
    let pg = PgType { oid: type_oid, typmod };
    Some(match SQL_NAMES.iter().find(|(n, o)| *o == type_oid && *n != "decimal") {
        Some((name, _)) if typmod < 0 => (*name).to_string(),
        _ if pg.typname() == info.name => pg.sql_name(),
        _ if info.name.chars().any(|c| c.is_ascii_uppercase()) || info.name == "any" => {
            format!("\"{}\"", info.name)
        }
        _ => info.name.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_those_of_postgresql() {
        let c = Catalog::new();
        for (oid, typmod, name) in [
            (23, -1, "integer"),
            (1009, -1, "text[]"),
            (1043, 24, "character varying(20)"),
            (1700, 786438, "numeric(12,2)"),
            (1700, -1, "numeric"),
            (18, -1, "\"char\""),
            (1184, -1, "timestamp with time zone"),
            (2205, -1, "regclass"),
            (22, -1, "int2vector"),
            (2276, -1, "\"any\""),
        ] {
            assert_eq!(format_type(&c, oid, typmod).as_deref(), Some(name));
        }
        assert_eq!(format_type(&c, 99999, -1), None);
    }

    #[test]
    fn types_are_found_by_any_of_their_names() {
        for (name, oid) in [
            ("int", 23),
            ("pg_catalog.int4", 23),
            ("text[]", 1009),
            ("\"char\"", 18),
            ("char", 1042),
            ("numeric(10,2)", 1700),
            ("timestamp(3) with time zone", 1184),
            ("_int4", 1007),
        ] {
            assert_eq!(parse_name(name), Some(oid), "{name}");
        }
        assert_eq!(parse_name("nothing"), None);
    }
}
