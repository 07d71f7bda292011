//! SHOW in all its forms, and PREPARE, EXECUTE, DEALLOCATE.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;

use crate::catalog::{Object, ObjectBody};
use crate::coord::backend::{Outcome, OutputColumn, Prepared, RowsTag};
use crate::coord::ddl;
use crate::coord::session::{Parsed, Session, command};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind;
use crate::sql::statement::{
    Execute, Name, ObjectKind, ParsedStatement, Prepare, ShowFilter, ShowKind, ShowObjects, Statement,
};
use crate::types::PgType;

/// A result of text columns.
pub(super) fn text_rows(names: &[&str], rows: Vec<Vec<Option<String>>>, tag: RowsTag) -> Result<Outcome> {
    let columns: Vec<OutputColumn> = names.iter().map(|n| OutputColumn::computed(*n, PgType::TEXT)).collect();
    let fields: Vec<Field> = names.iter().map(|n| Field::new(*n, DataType::Utf8, true)).collect();
    let arrays = (0..names.len())
        .map(|i| -> ArrayRef {
            Arc::new(rows.iter().map(|r| r.get(i).and_then(|v| v.as_deref())).collect::<StringArray>())
        })
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    Ok(Outcome::Rows { columns: columns.into(), stream: Box::pin(futures::stream::iter([Ok(batch)])), tag })
}

/// The column names that SHOW of a kind gives.
fn show_columns(kind: ShowKind) -> &'static [&'static str] {
    match kind {
        ShowKind::Objects(ObjectKind::Index) => &["name", "on", "key", "comment"],
        ShowKind::Objects(ObjectKind::Source) => &["name", "connector", "comment"],
        ShowKind::Columns => &["name", "nullable", "type", "comment"],
        ShowKind::Processlist => &["pid", "user", "application_name"],
        ShowKind::Objects(_)
        | ShowKind::Roles
        | ShowKind::Jobs
        | ShowKind::Cursors
        | ShowKind::ResourceGroups => &["name", "comment"],
    }
}

impl Session {
    /// The columns of a SHOW statement, for Describe.
    pub(super) fn show_description(&self, statement: &Statement) -> Vec<OutputColumn> {
        let text = |names: &[&str]| names.iter().map(|n| OutputColumn::computed(*n, PgType::TEXT)).collect();
        match statement {
            Statement::Show(name) if name == "all" => text(&["name", "setting", "description"]),
            Statement::Show(name) => text(&[self.shown_name(name).as_str()]),
            Statement::ShowObjects(show) => text(show_columns(show.kind)),
            _ => text(&["name", "create_sql"]),
        }
    }

    /// The column SHOW gives has the setting's own spelling.
    fn shown_name(&self, name: &str) -> String {
        let known = |n: &str| crate::config::find(n).map(|s| s.name.to_string());
        match name {
            "timezone" | "time zone" => "TimeZone".into(),
            "transaction isolation level" => "transaction_isolation".into(),
            other => known(other).unwrap_or_else(|| other.to_string()),
        }
    }

    pub(super) fn show_setting(&mut self, name: &str) -> Result<Outcome> {
        self.transaction();
        if name == "all" {
            let rows = self
                .settings
                .rows()
                .into_iter()
                .map(|s| vec![Some(s.name), Some(s.shown), s.setting_def.map(|d| d.doc.to_string())])
                .collect();
            return text_rows(&["name", "setting", "description"], rows, RowsTag::plain("SHOW"));
        }
        let value = self.settings.get(name)?;
        text_rows(&[&self.shown_name(name)], vec![vec![Some(value)]], RowsTag::plain("SHOW"))
    }

    pub(super) fn show_objects(&mut self, show: &ShowObjects) -> Result<Outcome> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        let path = self.search_path();
        let in_schema = |o: &Object| match &show.from {
            Some(name) => o.schema == name.name,
            None => path.contains(&o.schema),
        };
        let mut rows: Vec<Vec<Option<String>>> = match show.kind {
            ShowKind::Objects(ObjectKind::Schema) => {
                catalog.schemas().map(|(n, _)| vec![Some(n.to_string()), None]).collect()
            }
            ShowKind::Objects(ObjectKind::Database) => {
                vec![vec![Some(crate::catalog::object::DATABASE.to_string()), None]]
            }
            ShowKind::Objects(ObjectKind::Index) => {
                let on = match &show.from {
                    Some(name) => {
                        Some(ddl::find(&catalog, &path, name).ok_or_else(|| ddl::undefined(name))?.id)
                    }
                    None => None,
                };
                catalog.objects().filter_map(|o| index_row(o, on, &catalog)).collect()
            }
            ShowKind::Objects(kind) => catalog
                .objects()
                .filter(|o| in_schema(o) && is_kind(kind, o))
                .map(|o| match &o.body {
                    ObjectBody::Source { connector, .. } => {
                        vec![Some(o.name.clone()), Some(connector.clone()), o.comment.clone()]
                    }
                    _ => vec![Some(o.name.clone()), o.comment.clone()],
                })
                .collect(),
            ShowKind::Columns => {
                let name = show
                    .from
                    .as_ref()
                    .ok_or_else(|| Error::new(ErrorKind::Syntax, "SHOW COLUMNS needs FROM and a relation"))?;
                let object = ddl::find(&catalog, &path, name).ok_or_else(|| ddl::undefined(name))?;
                object
                    .live_columns()
                    .map(|(_, c)| {
                        vec![
                            Some(c.name.clone()),
                            Some(c.nullable.to_string()),
                            Some(c.pg_type().sql_name()),
                            c.comment.clone(),
                        ]
                    })
                    .collect()
            }
            ShowKind::Roles => vec![vec![Some(self.user.clone()), None]],
            ShowKind::Cursors => self.cursors.keys().map(|n| vec![Some(n.clone()), None]).collect(),
            ShowKind::Processlist => self
                .server
                .sessions()
                .into_iter()
                .map(|s| vec![Some(s.pid.to_string()), Some(s.user), Some(s.application_name)])
                .collect(),
            ShowKind::Jobs | ShowKind::ResourceGroups => Vec::new(),
        };
        match &show.filter {
            None => {}
            Some(ShowFilter::Like(pattern)) => {
                rows.retain(|r| r[0].as_deref().is_some_and(|name| like(pattern, name)));
            }
            Some(ShowFilter::Where(_)) => {
                return Err(Error::unsupported("WHERE in SHOW is not supported")
                    .with_hint("Use LIKE, or query the relations of schema freshet."));
            }
        }
        rows.sort();
        text_rows(show_columns(show.kind), rows, RowsTag::plain("SHOW"))
    }

    pub(super) fn show_create(&mut self, kind: ObjectKind, name: &Name) -> Result<Outcome> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        let object = ddl::find(&catalog, &self.search_path(), name).ok_or_else(|| ddl::undefined(name))?;
        if !is_kind(kind, &object) {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("\"{}\" is not a {}", object.name, kind.keyword().to_lowercase()),
            ));
        }
        let row = vec![Some(format!("{}.{}", object.schema, object.name)), Some(object.ddl.clone())];
        text_rows(&["name", "create_sql"], vec![row], RowsTag::plain("SHOW"))
    }

    // ---- prepared statements ------------------------------------------------------------------

    pub(super) async fn prepare(&mut self, prepare: &Prepare) -> Result<Outcome> {
        let parsed = Parsed::new(ParsedStatement {
            statement: (*prepare.statement).clone(),
            text: prepare.text.clone(),
            offset: 0,
        });
        let types = prepare
            .types
            .iter()
            .map(|t| crate::sql::types::pg_type(t).map(|t| t.oid))
            .collect::<Result<Vec<_>>>()?;
        let description = self.describe_inner(&parsed, &types)?;
        let statement: Arc<dyn Any + Send + Sync> = parsed;
        let prepared = Prepared { statement: Some(statement), description: Arc::new(description) };
        if !self.statements.insert(&prepare.name, Arc::new(prepared)) {
            return Err(Error::new(
                ErrorKind::DuplicateStatement,
                format!("prepared statement \"{}\" already exists", prepare.name),
            ));
        }
        Ok(command("PREPARE"))
    }

    /// A prepared statement by name.
    pub(super) fn prepared(&self, name: &str) -> Result<(Arc<Parsed>, Arc<Prepared>)> {
        let missing = || {
            Error::new(
                ErrorKind::InvalidStatementName,
                format!("prepared statement \"{name}\" does not exist"),
            )
        };
        let prepared = self.statements.get(name).ok_or_else(missing)?;
        let statement = prepared.statement.clone().ok_or_else(missing)?;
        let parsed =
            statement.downcast::<Parsed>().map_err(|_| Error::internal("a foreign prepared statement"))?;
        Ok((parsed, prepared))
    }

    /// The values of EXECUTE's arguments, in the types of the parameters.
    pub(super) fn arguments(&mut self, execute: &Execute, types: &[PgType]) -> Result<Vec<ScalarValue>> {
        if execute.args.len() != types.len() {
            return Err(Error::new(
                ErrorKind::Syntax,
                format!("wrong number of parameters for prepared statement \"{}\"", execute.name),
            )
            .with_detail(format!(
                "Expected {} parameters but got {}.",
                types.len(),
                execute.args.len()
            )));
        }
        let context = self.bind_context(Vec::new());
        execute.args.iter().zip(types).map(|(arg, t)| bind::evaluate_as(arg, *t, &context)).collect()
    }

    pub(super) async fn execute_prepared(&mut self, execute: &Execute) -> Result<Outcome> {
        let (parsed, prepared) = self.prepared(&execute.name)?;
        let params = self.arguments(execute, &prepared.description.params)?;
        let outcome = self.dispatch(&parsed, params).await?;
        if let (Outcome::Rows { columns, .. }, Some(described)) = (&outcome, &prepared.description.columns) {
            let types = |c: &[OutputColumn]| c.iter().map(|c| c.pg_type.oid).collect::<Vec<_>>();
            if types(columns) != types(described) {
                return Err(Error::unsupported("cached plan must not change result type"));
            }
        }
        Ok(outcome)
    }

    pub(super) fn deallocate(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            Some(name) if !self.statements.remove(name) => Err(Error::new(
                ErrorKind::InvalidStatementName,
                format!("prepared statement \"{name}\" does not exist"),
            )),
            Some(_) => Ok(command("DEALLOCATE")),
            None => {
                self.statements.clear();
                Ok(command("DEALLOCATE ALL"))
            }
        }
    }
}

fn is_kind(kind: ObjectKind, object: &Object) -> bool {
    matches!(
        (kind, &object.body),
        (ObjectKind::Table, ObjectBody::Table { .. })
            | (ObjectKind::Source, ObjectBody::Source { .. })
            | (ObjectKind::View, ObjectBody::View { .. })
            | (ObjectKind::MaterializedView, ObjectBody::MaterializedView { .. })
            | (ObjectKind::Sink, ObjectBody::Sink { .. })
            | (ObjectKind::Index, ObjectBody::Index { .. })
    )
}

fn index_row(
    object: &Object,
    on: Option<crate::catalog::ObjectId>,
    catalog: &crate::catalog::Catalog,
) -> Option<Vec<Option<String>>> {
    let ObjectBody::Index { on: table, columns, .. } = &object.body else { return None };
    if on.is_some_and(|id| id != *table) {
        return None;
    }
    let table = catalog.get(*table)?;
    let key: Vec<&str> =
        columns.iter().filter_map(|c| table.columns.get(*c)).map(|c| c.name.as_str()).collect();
    Some(vec![
        Some(object.name.clone()),
        Some(table.name.clone()),
        Some(key.join(", ")),
        object.comment.clone(),
    ])
}

/// SQL's LIKE with `%`, `_` and backslash.
fn like(pattern: &str, text: &str) -> bool {
    fn matches(p: &[char], t: &[char]) -> bool {
        match p {
            [] => t.is_empty(),
            ['%', rest @ ..] => (0..=t.len()).any(|i| matches(rest, &t[i..])),
            ['_', rest @ ..] => !t.is_empty() && matches(rest, &t[1..]),
            ['\\', c, rest @ ..] | [c, rest @ ..] => t.first() == Some(c) && matches(rest, &t[1..]),
        }
    }
    let chars = |s: &str| s.chars().collect::<Vec<_>>();
    matches(&chars(pattern), &chars(text))
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn patterns_match_as_in_sql() {
        assert!(like("a%c", "abbc") && like("_b", "ab") && like("100\\%", "100%"));
        assert!(!like("a", "ab") && !like("_", "") && !like("100\\%", "1000"));
    }
}
