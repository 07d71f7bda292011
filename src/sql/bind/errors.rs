//! Errors of DataFusion's planner in PostgreSQL's words, with positions and hints.
//!
//! Boundary: translation only.

use datafusion::common::{DataFusionError, SchemaError};

use super::BindContext;
use crate::error::{Error, ErrorKind};

/// The error of planning a statement.
pub fn planning(e: DataFusionError, context: &BindContext) -> Error {
    let position = position(&e, context.text.as_deref());
    let error = translate(e);
    let position = position.or_else(|| mention(&error, context.text.as_deref()?));
    match position {
        Some(p) if error.position().is_none() => error.with_position(p),
        _ => error,
    }
}

/// 1-based character position of the first diagnostic with a place.
fn position(e: &DataFusionError, text: Option<&str>) -> Option<usize> {
    let text = text?;
    let start = e.diagnostic()?.span?.start;
    character_position(text, start.line, start.column)
}

/// Where the text mentions what an error without a place is about: an unknown function's call or a value that is no
/// value of its type. `None` unless there is exactly one such place.
fn mention(error: &Error, text: &str) -> Option<usize> {
    let message = error.message();
    let found: Vec<usize> = match error.kind() {
        ErrorKind::UndefinedFunction => {
            let name = message.strip_prefix("function ")?.split(['(', ' ']).next()?;
            let inside = |c: char| c.is_alphanumeric() || c == '_';
            let is_call = |at: &usize| {
                let (before, after) = (&text[..*at], &text[*at + name.len()..]);
                !before.ends_with(inside) && after.trim_start().starts_with('(')
            };
            let lower = text.to_ascii_lowercase();
            lower.match_indices(name).map(|(at, _)| at).filter(is_call).collect()
        }
        ErrorKind::InvalidText | ErrorKind::InvalidDatetime => {
            let value = message.split_once(": \"")?.1.strip_suffix('"')?;
            text.match_indices(&format!("'{value}'")).map(|(at, _)| at).collect()
        }
        _ => return None,
    };
    match found.as_slice() {
        [at] => Some(text[..*at].chars().count() + 1),
        _ => None,
    }
}

/// The 1-based character number of a line and column.
pub fn character_position(text: &str, line: u64, column: u64) -> Option<usize> {
    if line == 0 || column == 0 {
        return None;
    }
    let before: usize =
        text.split('\n').take(usize::try_from(line - 1).ok()?).map(|l| l.chars().count() + 1).sum();
    Some(before + usize::try_from(column).ok()?)
}

fn translate(e: DataFusionError) -> Error {
    match e {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => translate(*inner),
        DataFusionError::Collection(mut all) if !all.is_empty() => translate(all.swap_remove(0)),
        DataFusionError::SchemaError(s, backtrace) => match *s {
            SchemaError::FieldNotFound { field, valid_fields } => not_found(&field, &valid_fields),
            other => DataFusionError::SchemaError(Box::new(other), backtrace).into(),
        },
        DataFusionError::NotImplemented(m) if m.starts_with("LATERAL syntax is not supported") => Error::new(
            ErrorKind::InvalidColumnReference,
            "invalid reference to FROM-clause entry from the right side of this join",
        )
        .with_detail("The combining JOIN type must be INNER or LEFT for a LATERAL reference."),
        DataFusionError::Plan(m) => plan(&m).unwrap_or_else(|| DataFusionError::Plan(m).into()),
        other => other.into(),
    }
}

fn not_found(field: &datafusion::common::Column, valid: &[datafusion::common::Column]) -> Error {
    let name = super::prepare::visible_name(&field.name);
    if let Some(relation) = &field.relation {
        let table = relation.table();
        if !valid.iter().any(|v| v.relation.as_ref().is_some_and(|r| r.table() == table)) && !valid.is_empty()
        {
            return Error::new(
                ErrorKind::UndefinedTable,
                format!("missing FROM-clause entry for table \"{table}\""),
            );
        }
    }
    let error = Error::new(
        ErrorKind::UndefinedColumn,
        match &field.relation {
            Some(r) => format!("column {}.{name} does not exist", r.table()),
            None => format!("column \"{name}\" does not exist"),
        },
    );
    let near = valid
        .iter()
        .filter(|v| {
            field
                .relation
                .as_ref()
                .is_none_or(|r| v.relation.as_ref().is_some_and(|o| o.table() == r.table()))
        })
        .map(|v| (datafusion::common::utils::datafusion_strsim::levenshtein(name, &v.name), v))
        .filter(|(d, _)| *d * 2 <= name.chars().count())
        .min_by_key(|(d, _)| *d);
    match near {
        Some((_, v)) => {
            let full = v.relation.as_ref().map_or(v.name.clone(), |r| format!("{}.{}", r.table(), v.name));
            error.with_hint(format!("Perhaps you meant to reference the column \"{full}\"."))
        }
        None => error,
    }
}

/// Messages of DataFusion's planner that stand for a PostgreSQL error of their own.
fn plan(m: &str) -> Option<Error> {
    let quoted_after = |marker: &str| {
        let rest = &m[m.find(marker)? + marker.len()..];
        rest.split('"').next().map(str::to_string)
    };
    if m.contains("must appear in the GROUP BY clause") || m.contains("must be in GROUP BY") {
        let column = quoted_after("column \"").or_else(|| quoted_after("Column \"")).unwrap_or_default();
        return Some(Error::new(
            ErrorKind::Grouping,
            format!(
                "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"
            ),
        ));
    }
    if m.contains("specified more than once") && m.starts_with("WITH query name") {
        return Some(Error::new(ErrorKind::DuplicateAlias, m.lines().next().unwrap_or(m)));
    }
    if m.contains("names given as column alias") {
        let mut numbers = m.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
        let (has, given) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
        return Some(Error::new(
            ErrorKind::InvalidColumnReference,
            format!("table has {has} columns available but {given} columns specified"),
        ));
    }
    if m.contains("LIMIT must be") {
        return Some(Error::new(ErrorKind::InvalidLimit, "LIMIT must not be negative"));
    }
    if m.contains("OFFSET must be") {
        return Some(Error::new(ErrorKind::InvalidOffset, "OFFSET must not be negative"));
    }
    if let Some((_, rest)) = m.split_once("Order by column out of bounds, specified: ") {
        let position = rest.split(',').next().unwrap_or_default();
        return Some(position_error("ORDER BY", position));
    }
    if m.contains("Order by index starts at 1") {
        return Some(position_error("ORDER BY", "0"));
    }
    if let Some((_, rest)) = m.split_once("Cannot find column with position ") {
        return Some(position_error("GROUP BY", rest.split(' ').next().unwrap_or_default()));
    }
    if m.contains("For SELECT DISTINCT, ORDER BY expressions") {
        return Some(Error::new(
            ErrorKind::InvalidColumnReference,
            "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
        ));
    }
    if let Some((_, rest)) = m.split_once("Inconsistent data type across values list at row ")
        && let Some((_, types)) = rest.split_once("Was ")
        && let Some((first, second)) = types.split_once(" but found ")
    {
        let second = second.lines().next().unwrap_or_default();
        return Some(Error::new(
            ErrorKind::DatatypeMismatch,
            format!("VALUES types {} and {} cannot be matched", arrow_name(first), arrow_name(second)),
        ));
    }
    if m.contains("non-boolean predicate") {
        let found =
            m.lines().next().unwrap_or_default().rsplit(" returning ").next().unwrap_or("unknown").trim();
        return Some(Error::new(
            ErrorKind::DatatypeMismatch,
            format!("argument of WHERE must be type boolean, not type {}", arrow_name(found)),
        ));
    }
    if m.contains("Projections require unique expression names") || m.contains("have the same name") {
        return Some(
            Error::new(ErrorKind::DuplicateColumn, "a column is specified more than once")
                .with_detail(m.to_string()),
        );
    }
    if m.contains("Invalid placeholder") || m.contains("placeholder") && m.contains("Unknown") {
        return Some(Error::new(ErrorKind::UndefinedParameter, "there is no such parameter"));
    }
    if m.contains("queries have different number of columns") || m.contains("same number of columns") {
        return Some(Error::new(ErrorKind::Syntax, "each UNION query must have the same number of columns"));
    }
    if m.contains("Aggregate function calls cannot be") || m.contains("nested aggregate") {
        return Some(Error::new(ErrorKind::Grouping, "aggregate function calls cannot be nested"));
    }
    None
}

fn position_error(clause: &str, position: &str) -> Error {
    Error::new(
        ErrorKind::InvalidColumnReference,
        format!("{clause} position {position} is not in select list"),
    )
}

fn arrow_name(name: &str) -> &str {
    match name {
        "Int16" => "smallint",
        "Int32" | "Int64" => "integer",
        "Utf8" => "text",
        "Boolean" => "boolean",
        "Float64" => "double precision",
        n if n.starts_with("Decimal") => "numeric",
        n if n.starts_with("Timestamp") => "timestamp",
        "Date32" => "date",
        n => n,
    }
}

#[cfg(test)]
mod tests {
    use super::{character_position, mention};
    use crate::error::{Error, ErrorKind};

    #[test]
    fn errors_without_a_place_point_to_the_only_mention() {
        let unknown = Error::new(ErrorKind::UndefinedFunction, "function f(integer) does not exist");
        assert_eq!(mention(&unknown, "SELECT 'é', F (1)"), Some(13));
        assert_eq!(mention(&unknown, "SELECT f(1), f(2)"), None);
        assert_eq!(mention(&unknown, "SELECT ff(1)"), None);
    }

    #[test]
    fn positions_count_characters_over_lines() {
        assert_eq!(character_position("SELECT x", 1, 8), Some(8));
        assert_eq!(character_position("SÉ\nx", 2, 1), Some(4));
        assert_eq!(character_position("x", 0, 0), None);
    }
}
