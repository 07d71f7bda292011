//! Tests of the rows of the system relations.

use super::*;
use crate::catalog::object::{Column, Object, ObjectBody};

fn catalog() -> Catalog {
    let mut c = Catalog::new();
    let id = c.allocate_id();
    let mut key = Column::new("id", PgType::INT4);
    key.nullable = false;
    c.insert(Object {
        id,
        schema: "public".into(),
        name: "orders".into(),
        columns: vec![key, Column::new("note", PgType::TEXT)],
        body: ObjectBody::Table {
            primary_key: vec![0],
            append_only: false,
            watermark: None,
            checks: vec![("c".into(), "id > 0".into())],
            options: Default::default(),
        },
        depends_on: vec![],
        ddl: String::new(),
        search_path: vec![],
        comment: Some("All".into()),
        seen: vec![],
    })
    .unwrap();
    c
}

#[test]
fn every_system_relation_gives_rows_as_wide_as_its_columns() {
    let catalog = catalog();
    let state = SystemState {
        catalog: &catalog,
        user: "u",
        database: "freshet",
        settings: crate::config::SessionSettings::default().rows(),
        sessions: &[SessionRow::default()],
        server_relations: &[ServerRelation {
            schema: "freshet".into(),
            name: "views".into(),
            columns: vec![("name".into(), PgType::TEXT)],
        }],
        row_count: &|_| Some(3),
        started: 0,
    };
    assert!(relations().len() > 190);
    let mut filled = 0;
    for relation in relations() {
        let rows = rows(relation, &state);
        filled += usize::from(!rows.is_empty());
        for row in rows {
            assert_eq!(row.len(), relation.columns.len(), "{}", relation.name);
            for (value, column) in row.iter().zip(&relation.columns) {
                assert!(!column.not_null || !value.is_null(), "{}.{}", relation.name, column.name);
            }
        }
    }
    assert!(filled > 30, "{filled}");
}

#[test]
fn derived_oids_do_not_meet_those_of_objects_or_of_each_other() {
    let all = [
        oids::row_type(16384),
        oids::row_array_type(16384),
        oids::key_index(16384),
        oids::key_constraint(16384),
        oids::rule(16384),
        oids::check(16384, 0),
        oids::default(16384, 1),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(*a > 100_000_000 && *a < 1 << 31);
        assert!(all[i + 1..].iter().all(|b| a != b));
    }
    assert_eq!(oids::object_of_key_index(oids::key_index(16400)), Some(16400));
}

#[test]
fn names_are_quoted_where_needed() {
    assert_eq!(quote_ident("a_1"), "a_1");
    assert_eq!(quote_ident("A"), "\"A\"");
    assert_eq!(quote_ident("user"), "\"user\"");
    assert_eq!(quote_ident("v$errors"), "\"v$errors\"");
    assert_eq!(quote_literal("it's"), "'it''s'");
}
