//! The audit of statements that write rows.

use sqlparser::ast::{
    Assignment, ConflictTarget, Delete, DoUpdate, FromTable, Insert, OnConflict, OnConflictAction, OnInsert,
    TableAliasWithoutColumns, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind,
};

use super::{Audited, Auditor, PLAIN, refuse, refuse_if};

impl Auditor {
    pub(super) fn assignments(&self, assignments: &[Assignment]) -> Audited {
        assignments.iter().try_for_each(|assignment| {
            let Assignment { target: _, value } = assignment;
            self.expr(value)
        })
    }
}

/// Audits INSERT. What remains set: table and its alias, columns, source, RETURNING.
pub fn insert(insert: &Insert) -> Audited {
    let Insert {
        insert_token: _,
        optimizer_hints,
        or,
        ignore,
        into,
        table,
        table_alias,
        columns,
        overwrite,
        source,
        assignments,
        partitioned,
        after_columns,
        has_table_keyword,
        on,
        returning,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    } = insert;
    refuse_if(!optimizer_hints.is_empty(), "an optimizer hint", "")?;
    refuse_if(*overwrite, "INSERT OVERWRITE", "TRUNCATE and INSERT in one transaction.")?;
    refuse_if(or.is_some() || *ignore || *replace_into, "INSERT OR …, IGNORE and REPLACE", "")?;
    refuse_if(!*into, "INSERT without INTO", "Write INSERT INTO.")?;
    refuse_if(*has_table_keyword, "INSERT INTO TABLE", "Leave TABLE out.")?;
    refuse_if(!assignments.is_empty(), "INSERT … SET", "Use VALUES.")?;
    refuse_if(partitioned.is_some() || !after_columns.is_empty(), "PARTITION in INSERT", "")?;
    match on {
        None => {}
        Some(OnInsert::OnConflict(OnConflict { conflict_target, action })) => {
            match conflict_target {
                Some(ConflictTarget::OnConstraint(name)) => PLAIN.name(name)?,
                Some(ConflictTarget::Columns(_)) | None => {}
            }
            if let OnConflictAction::DoUpdate(DoUpdate { assignments, selection }) = action {
                PLAIN.assignments(assignments)?;
                PLAIN.exprs(selection)?;
            }
        }
        Some(_) => return refuse("ON DUPLICATE KEY", "Write ON CONFLICT (key) DO UPDATE."),
    }
    refuse_if(output.is_some(), "OUTPUT", "Use RETURNING.")?;
    refuse_if(priority.is_some(), "an INSERT priority", "")?;
    refuse_if(insert_alias.is_some(), "an alias of the inserted row", "")?;
    refuse_if(settings.is_some() || format_clause.is_some(), "SETTINGS and FORMAT in INSERT", "")?;
    let many = multi_table_insert_type.is_some()
        || !multi_table_into_clauses.is_empty()
        || !multi_table_when_clauses.is_empty()
        || multi_table_else_clause.is_some();
    refuse_if(many, "INSERT into several tables", "Write one INSERT for each.")?;
    match table {
        TableObject::TableName(name) => PLAIN.name(name)?,
        TableObject::TableFunction(_) | TableObject::TableQuery(_) => {
            return refuse("INSERT INTO anything but a table", "");
        }
    }
    if let Some(TableAliasWithoutColumns { explicit: _, alias }) = table_alias {
        PLAIN.alias(alias)?;
    }
    columns.iter().try_for_each(|column| PLAIN.name(column))?;
    if let Some(source) = source {
        PLAIN.query(source)?;
    }
    returning.iter().try_for_each(|items| PLAIN.select_items(items))
}

/// Audits UPDATE. What remains set: one plain table with an alias, assignments, WHERE, RETURNING.
pub fn update(update: &Update) -> Audited {
    let Update {
        update_token: _,
        optimizer_hints,
        table,
        assignments,
        from,
        selection,
        returning,
        output,
        or,
        order_by,
        limit,
    } = update;
    refuse_if(!optimizer_hints.is_empty(), "an optimizer hint", "")?;
    match from {
        Some(UpdateTableFromKind::AfterSet(from)) => {
            from.iter().try_for_each(|table| PLAIN.table_with_joins(table))?;
        }
        Some(UpdateTableFromKind::BeforeSet(_)) => {
            return refuse("UPDATE … FROM before SET", "Write SET first.");
        }
        None => {}
    }
    refuse_if(output.is_some(), "OUTPUT", "Use RETURNING.")?;
    refuse_if(or.is_some(), "UPDATE OR …", "")?;
    refuse_if(!order_by.is_empty() || limit.is_some(), "ORDER BY and LIMIT in UPDATE", "")?;
    plain_table(table, "UPDATE")?;
    PLAIN.assignments(assignments)?;
    PLAIN.exprs(selection)?;
    returning.iter().try_for_each(|items| PLAIN.select_items(items))
}

/// Audits DELETE. What remains set: one plain table with an alias, WHERE, RETURNING.
pub fn delete(delete: &Delete) -> Audited {
    let Delete {
        delete_token: _,
        optimizer_hints,
        tables,
        from,
        using,
        selection,
        returning,
        output,
        order_by,
        limit,
    } = delete;
    refuse_if(!optimizer_hints.is_empty(), "an optimizer hint", "")?;
    refuse_if(!tables.is_empty(), "DELETE tables FROM", "Write DELETE FROM one table.")?;
    using.iter().flatten().try_for_each(|table| PLAIN.table_with_joins(table))?;
    refuse_if(output.is_some(), "OUTPUT", "Use RETURNING.")?;
    refuse_if(!order_by.is_empty() || limit.is_some(), "ORDER BY and LIMIT in DELETE", "")?;
    match from {
        FromTable::WithFromKeyword(from) => match from.as_slice() {
            [table] => plain_table(table, "DELETE")?,
            _ => return refuse("DELETE from several tables", "Write one DELETE for each."),
        },
        FromTable::WithoutKeyword(_) => return refuse("DELETE without FROM", "Write DELETE FROM."),
    }
    PLAIN.exprs(selection)?;
    returning.iter().try_for_each(|items| PLAIN.select_items(items))
}

/// The target of UPDATE and DELETE: a table by name.
fn plain_table(table: &TableWithJoins, verb: &str) -> Audited {
    PLAIN.table_with_joins(table)?;
    let plain = table.joins.is_empty() && matches!(&table.relation, TableFactor::Table { args: None, .. });
    refuse_if(!plain, &format!("{verb} of anything but one table"), "")
}
