//! Which queries are the evaluator's.
//!
//! Boundary: looks at names in a syntax tree; decides nothing else.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, FunctionArguments, Query, SetExpr, TableFactor, Visit, Visitor};

use super::bind::{fold, split_name};
use super::functions::{is_keyword_function, is_system_function};
use crate::catalog::Catalog;
use crate::catalog::system::{find, is_system_schema};
use crate::sql::functions::registry::overloads;
use crate::sql::functions::sets;

/// What a query names.
#[derive(Default)]
struct Names {
    ctes: HashSet<String>,
    relations: Vec<(Option<String>, String)>,
    /// Something that only the evaluator knows.
    special: bool,
    /// Functions of sequences, which it does not know.
    sequences: bool,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.ctes.extend(with.cte_tables.iter().map(|c| fold(&c.alias.name)));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relations.push(split_name(name)),
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                let (schema, name) = split_name(name);
                // The query engine streams, can be cancelled, and knows more types.
                let known = sets::columns(&name).is_some();
                self.special |=
                    schema.is_some_and(|s| is_system_schema(&s)) || (is_system_function(&name) && !known);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(f) => {
                let (schema, name) = split_name(&f.name);
                self.sequences |= matches!(name.as_str(), "nextval" | "currval" | "setval" | "lastval");
                let array = name == "array" && matches!(f.args, FunctionArguments::Subquery(_));
                self.special |= schema.is_some_and(|s| is_system_schema(&s))
                    || array
                    // The binder knows types better than values do.
                    || (is_system_function(&name) && !binder_knows(&name) && sets::columns(&name).is_none());
            }
            Expr::Identifier(name) if name.quote_style.is_none() => {
                let name = fold(name);
                self.special |= is_keyword_function(&name)
                    && !matches!(
                        name.as_str(),
                        "current_timestamp"
                            | "current_date"
                            | "localtimestamp"
                            | "localtime"
                            | "current_time"
                    );
            }
            Expr::Cast { data_type, .. } => {
                let text = data_type.to_string().to_lowercase();
                let name = text.rsplit('.').next().unwrap_or_default();
                self.special |= text.starts_with("pg_catalog.")
                    || name.starts_with("reg")
                    || name.starts_with("oid")
                    || matches!(name, "name" | "\"char\"");
            }
            Expr::BinaryOp { op: BinaryOperator::PGCustomBinaryOperator(_), .. } => self.special = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Functions that the binder has with all their types.
fn binder_knows(name: &str) -> bool {
    name == "pg_typeof" || overloads(name).is_some()
}

/// Whether a query makes one row of nothing, so that its answer takes no time (`SELECT current_setting('x')`).
pub fn is_short(query: &Query) -> bool {
    let SetExpr::Select(select) = &*query.body else { return false };
    if query.with.is_some() || !select.from.is_empty() {
        return false;
    }
    let mut count = Queries::default();
    let _ = stacker::maybe_grow(super::STACK_LEFT, super::STACK, || query.visit(&mut count));
    count.0 <= 1 && !count.1
}

/// How many queries there are in one another, and whether any of them calls a function that may give rows or wait.
#[derive(Default)]
struct Queries(usize, bool);

impl Visitor for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.0 += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(f) = expr {
            let (_, name) = split_name(&f.name);
            self.1 |= super::set_functions::NAMES.contains(&name.as_str())
                || name.starts_with("pg_sleep")
                || name.starts_with("pg_advisory") && !name.starts_with("pg_advisory_unlock");
        }
        ControlFlow::Continue(())
    }
}

/// Whether the evaluator answers a query: all relations it names are the system's (an unqualified name that is no
/// relation of the user but begins with `pg_` counts as one), or it names none and uses what only the evaluator
/// knows (`current_setting`, `version()`, `'x'::regclass`, …).
pub fn is_catalog_query(query: &Query, catalog: &Catalog, search_path: &[String]) -> bool {
    let mut names = Names::default();
    let _ = stacker::maybe_grow(super::STACK_LEFT, super::STACK, || query.visit(&mut names));
    let Names { ctes, relations, special, sequences } = names;
    if sequences {
        return false;
    }
    let mut any = false;
    for (schema, name) in relations {
        match schema {
            Some(schema) if is_system_schema(&schema) => any = true,
            Some(_) => return false,
            None if ctes.contains(&name) => {}
            None if find(None, &name).is_some() => any = true,
            None => {
                let users = search_path.iter().any(|s| catalog.find(s, &name).is_some());
                let standard = search_path.iter().any(|s| s == "information_schema")
                    && find(Some("information_schema"), &name).is_some();
                if users || !(name.starts_with("pg_") || standard) {
                    return false;
                }
                any = true;
            }
        }
    }
    any || special
}
