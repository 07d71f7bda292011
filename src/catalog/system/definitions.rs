//! The system relations: names, oids, columns; and the making of their rows.
//!
//! Boundary: shapes only.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::types;
use super::value::Value;
use crate::types::{PgType, oid};

/// A column of a system relation.
#[derive(Debug)]
pub struct SystemColumn {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub pg_type: PgType,
    /// Whether it is never NULL.
    pub not_null: bool,
}

/// A relation of pg_catalog or information_schema.
#[derive(Debug)]
pub struct SystemRelation {
    /// Schema.
    pub schema: &'static str,
    /// Name.
    pub name: &'static str,
    /// Oid, as in PostgreSQL 15.
    pub oid: u32,
    /// relkind: r or v.
    pub kind: char,
    /// Columns.
    pub columns: Vec<SystemColumn>,
}

/// All system relations.
pub fn relations() -> &'static [SystemRelation] {
    static RELATIONS: OnceLock<Vec<SystemRelation>> = OnceLock::new();
    RELATIONS.get_or_init(|| include_str!("data/relations.txt").lines().filter_map(parse).collect())
}

fn parse(line: &'static str) -> Option<SystemRelation> {
    let mut fields = line.split(' ');
    let schema = fields.next()?;
    let name = fields.next()?;
    let oid = fields.next()?.parse().ok()?;
    let kind = fields.next()?.chars().next()?;
    let columns = fields
        .filter_map(|column| {
            let (name, type_name) = column.split_once(':')?;
            let not_null = type_name.ends_with('!');
            let known = types::by_name(type_name.trim_end_matches('!')).map_or(oid::TEXT, |t| t.oid);
            Some(SystemColumn { name, pg_type: PgType::of(known), not_null })
        })
        .collect();
    Some(SystemRelation { schema, name, oid, kind, columns })
}

/// The system relation of this name; without a schema, one of pg_catalog.
pub fn find(schema: Option<&str>, name: &str) -> Option<&'static SystemRelation> {
    static INDEX: OnceLock<HashMap<(&'static str, &'static str), &'static SystemRelation>> = OnceLock::new();
    INDEX
        .get_or_init(|| relations().iter().map(|r| ((r.schema, r.name), r)).collect())
        .get(&(schema.unwrap_or("pg_catalog"), name))
        .copied()
}

/// Rows in the making: values are given by column name once for all rows, the others get neutral values.
pub(super) struct Rows<'a> {
    /// The relation.
    pub relation: &'a SystemRelation,
    positions: Vec<usize>,
    neutral: Vec<Value>,
    rows: Vec<Vec<Value>>,
}

impl<'a> Rows<'a> {
    pub fn new(relation: &'a SystemRelation) -> Self {
        let neutral = relation
            .columns
            .iter()
            .map(|c| match c.pg_type.oid {
                _ if !c.not_null => Value::Null,
                oid::BOOL => Value::Bool(false),
                oid::CHAR | oid::TEXT | oid::NAME | oid::VARCHAR => Value::from(""),
                types::INT2VECTOR | types::OIDVECTOR => Value::vector(vec![]),
                oid::FLOAT4 | oid::FLOAT8 => Value::Float(0.0),
                other if types::element(other).is_some() => Value::array(vec![]),
                _ => Value::Int(0),
            })
            .collect();
        Rows { relation, positions: vec![], neutral, rows: vec![] }
    }

    /// Says which columns the values of the following rows are for.
    pub fn columns(&mut self, names: &[&str]) {
        let columns = &self.relation.columns;
        self.positions = names
            .iter()
            .map(|n| {
                let at = columns.iter().position(|c| c.name == *n);
                debug_assert!(at.is_some(), "{} has no column {n}", self.relation.name);
                at.unwrap_or(usize::MAX)
            })
            .collect();
    }

    /// Adds a row.
    pub fn push<const N: usize>(&mut self, values: [Value; N]) {
        debug_assert_eq!(N, self.positions.len(), "{}", self.relation.name);
        let mut row = self.neutral.clone();
        for (at, value) in self.positions.iter().zip(values) {
            if let Some(slot) = row.get_mut(*at) {
                *slot = value;
            }
        }
        self.rows.push(row);
    }

    pub fn finish(self) -> Vec<Vec<Value>> {
        self.rows
    }
}
