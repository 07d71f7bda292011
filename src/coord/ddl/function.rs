//! CREATE FUNCTION in SQL: a query that stands in for the calls.

use super::Definer;
use crate::catalog::object::FunctionSpec;
use crate::catalog::{Column, ObjectBody};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind;
use crate::sql::statement::CreateFunction;
use crate::types::PgType;

impl Definer<'_> {
    /// CREATE [OR REPLACE] FUNCTION.
    pub fn create_function(&mut self, stmt: &CreateFunction) -> Result<()> {
        match stmt.language.as_str() {
            "sql" => {}
            "wasm" => {
                return Err(Error::unsupported("functions in WebAssembly are not supported yet")
                    .with_hint("Write the function in SQL."));
            }
            "plpgsql" | "c" | "internal" => {
                return Err(Error::unsupported(format!("language \"{}\" is not supported", stmt.language))
                    .with_hint("Write the function in SQL."));
            }
            other => {
                return Err(Error::new(
                    ErrorKind::UndefinedObject,
                    format!("language \"{other}\" does not exist"),
                ));
            }
        }
        let (schema, name) = self.new_name(&stmt.name)?;
        let types = |list: &[(String, crate::sql::types::DataType)]| -> Result<Vec<(String, u32)>> {
            list.iter().map(|(n, t)| Ok((n.clone(), crate::sql::types::pg_type(t)?.oid))).collect()
        };
        let args = stmt
            .args
            .iter()
            .map(|(n, t)| Ok((n.clone(), crate::sql::types::pg_type(t)?.oid)))
            .collect::<Result<Vec<_>>>()?;
        let result = match &stmt.result {
            Some(t) if t.to_string().eq_ignore_ascii_case("void") => {
                return Err(Error::unsupported("a function without a result is not supported"));
            }
            Some(t) => crate::sql::types::pg_type(t)?.oid,
            None => 0,
        };
        let columns = match (&stmt.columns, stmt.set) {
            (Some(columns), _) => Some(types(columns)?),
            (None, true) => Some(vec![(name.clone(), result)]),
            (None, false) => None,
        };
        let spec = FunctionSpec {
            args,
            result,
            columns,
            body: stmt.body.trim().trim_end_matches(';').to_string(),
            volatility: stmt.volatility,
            strict: stmt.strict,
        };
        let context = (self.context)(self.catalog, false);
        let depends_on = bind::check_function(&spec, &context)?;
        let old = self.catalog.find_function(&schema, &name).cloned();
        if old.is_some() && !stmt.or_replace {
            return Err(Error::new(
                ErrorKind::DuplicateFunction,
                format!("function \"{name}\" already exists with same argument types"),
            ));
        }
        let columns: Vec<Column> =
            spec.columns.iter().flatten().map(|(n, oid)| Column::new(n, PgType::of(*oid))).collect();
        let mut object = self.object(&schema, &name, columns, ObjectBody::Function(spec.clone()));
        object.depends_on = depends_on;
        let Some(old) = old else { return self.create(object, None).map(drop) };
        if let ObjectBody::Function(was) = &old.body
            && (was.result != spec.result || was.columns != spec.columns)
        {
            return Err(Error::new(
                ErrorKind::InvalidFunctionDefinition,
                "cannot change return type of existing function",
            )
            .with_hint(format!("Use DROP FUNCTION {name} first.")));
        }
        if let Some(user) = self.catalog.dependents(old.id).first() {
            return Err(Error::new(
                ErrorKind::DependentObjects,
                format!("cannot replace function {name} because {} {} uses it", user.kind_name(), user.name),
            )
            .with_hint("Drop the dependent objects first."));
        }
        object.id = old.id;
        self.replace(object)
    }
}
