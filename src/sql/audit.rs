//! The audit of query and DML trees: every clause that was written is used, or refused by name.
//!
//! Boundary: DataFusion's SQL planner drops many clauses silently (`FOR UPDATE`, `TABLESAMPLE`, `FOR SYSTEM_TIME
//! AS OF`, …), so a tree is walked before anything plans it. The parser runs the audit on all it returns. Structs
//! are taken apart without `..`, so that a field added by a new sqlparser does not compile until somebody has
//! decided about it. What the planner refuses by itself may pass.

use sqlparser::ast::{
    AccessExpr, Assignment, CaseWhen, CeilFloorKind, Cte, DateTimeField, Delete, Distinct,
    DuplicateTreatment, Expr, Fetch, FromTable, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, Insert, Interval,
    Join, JoinConstraint, JoinOperator, LimitClause, NamedWindowDefinition, NamedWindowExpr, ObjectName,
    ObjectNamePart, Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Query, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Subscript, TableAlias,
    TableAliasColumnDef, TableAliasWithoutColumns, TableFactor, TableFunctionArgs, TableObject, TableVersion,
    TableWithJoins, TypedString, Update, Value, Values, WildcardAdditionalOptions, WindowFrame,
    WindowFrameBound, WindowSpec, WindowType, With,
};
use sqlparser::tokenizer::Span;

use super::parser::window::window_tvf;
use super::system;
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};

/// Audits a query.
pub fn query(query: &Query) -> Result<(), Refusal> {
    // The evaluator of system queries takes WITH ORDINALITY; whose query this is, its names tell.
    let system = system::is_catalog_query(query, &Catalog::new(), &[]);
    Auditor { system }.query(query)
}

/// Audits an expression that stands alone.
pub fn expr(expr: &Expr) -> Result<(), Refusal> {
    PLAIN.expr(expr)
}

/// A refusal, and where in the text its cause stands, if the tree says so.
#[derive(Debug)]
pub struct Refusal {
    /// The error without its position.
    pub error: Error,
    /// The place.
    pub span: Option<Span>,
    /// The text of the token at that place, in case the tree does not know the place.
    pub near: Option<String>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal { error, span: None, near: None }
    }
}

type Audited = Result<(), Refusal>;

fn refuse(what: &str, hint: &str) -> Audited {
    let error = Error::unsupported(format!("{what} is not supported"));
    Err(Refusal::from(if hint.is_empty() { error } else { error.with_hint(hint) }))
}

/// The refusal of a temporal join.
pub(super) fn table_version() -> Error {
    Error::unsupported("FOR SYSTEM_TIME AS OF is not supported")
        .with_hint("A join with a table sees the table's present rows; write a plain JOIN if that is meant.")
}

fn refuse_if(written: bool, what: &str, hint: &str) -> Audited {
    if written { refuse(what, hint) } else { Ok(()) }
}

/// A syntax error at an identifier that sqlparser should not have taken.
fn syntax_error(ident: &Ident) -> Audited {
    let quote = ident.quote_style.map(String::from).unwrap_or_default();
    let near = format!("{quote}{}{quote}", ident.value);
    let error = Error::new(ErrorKind::Syntax, format!("syntax error at or near \"{near}\""));
    Err(Refusal { error, span: Some(ident.span), near: Some(near) })
}

const ONE_STATE: &str = "A transaction reads one consistent state; leave the clause out.";

/// The stack left below which the audit takes a new piece, and the size of the piece.
const STACK_MARGIN: usize = 256 * 1024;
const STACK_STEP: usize = 2 * 1024 * 1024;

struct Auditor {
    /// The query names system relations only.
    system: bool,
}

/// For everything but queries of the system catalogs.
const PLAIN: Auditor = Auditor { system: false };

impl Auditor {
    fn exprs<'a>(&self, exprs: impl IntoIterator<Item = &'a Expr>) -> Audited {
        exprs.into_iter().try_for_each(|e| self.expr(e))
    }

    // ---- queries ----

    fn query(&self, query: &Query) -> Audited {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if let Some(lock) = locks.first() {
            return refuse(&format!("FOR {}", lock.lock_type), ONE_STATE);
        }
        refuse_if(for_clause.is_some(), "FOR XML, FOR JSON and FOR BROWSE", "")?;
        refuse_if(settings.is_some(), "SETTINGS", "")?;
        refuse_if(format_clause.is_some(), "FORMAT after a query", "Clients choose their format.")?;
        refuse_if(!pipe_operators.is_empty(), "the pipe operator |>", "Write a subquery.")?;
        if let Some(with) = with {
            self.with(with)?;
        }
        self.set_expr(body)?;
        if let Some(order_by) = order_by {
            self.order_by(order_by)?;
        }
        if let Some(limit) = limit_clause {
            self.limit(limit)?;
        }
        if let Some(fetch) = fetch {
            let Fetch { with_ties, percent, quantity } = fetch;
            refuse_if(*with_ties, "WITH TIES", "Compare with rank() in a subquery.")?;
            refuse_if(*percent, "FETCH … PERCENT", "")?;
            // The parser has made a plain FETCH a LIMIT, unless there was one.
            let _ = quantity;
            return Err(Refusal::from(Error::new(ErrorKind::Syntax, "multiple LIMIT clauses not allowed")));
        }
        Ok(())
    }

    fn with(&self, with: &With) -> Audited {
        let With { with_token: _, recursive: _, cte_tables } = with;
        for cte in cte_tables {
            // MATERIALIZED asks for a way of execution; the result is the same.
            let Cte { alias, query, from, materialized: _, closing_paren_token: _ } = cte;
            refuse_if(from.is_some(), "WITH … FROM", "")?;
            self.table_alias(alias)?;
            self.query(query)?;
        }
        Ok(())
    }

    fn set_expr(&self, body: &SetExpr) -> Audited {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                match op {
                    SetOperator::Union | SetOperator::Except | SetOperator::Intersect => {}
                    SetOperator::Minus => return refuse("MINUS", "Write EXCEPT."),
                }
                match set_quantifier {
                    SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None => {}
                    SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName => {
                        return refuse("BY NAME", "List the columns in the same order.");
                    }
                }
                self.set_expr(left)?;
                self.set_expr(right)
            }
            SetExpr::Values(values) => self.values(values),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => refuse(
                "a data-modifying statement inside a query",
                "Run it as a statement of its own, in the same transaction if need be.",
            ),
            SetExpr::Table(_) => refuse("TABLE inside a query", "Write SELECT * FROM the table."),
        }
    }

    fn values(&self, values: &Values) -> Audited {
        let Values { explicit_row, value_keyword, rows } = values;
        refuse_if(*explicit_row, "VALUES ROW", "Leave ROW out.")?;
        refuse_if(*value_keyword, "VALUE", "Write VALUES.")?;
        rows.iter().try_for_each(|row| self.exprs(&row.content))
    }

    fn limit(&self, limit: &LimitClause) -> Audited {
        match limit {
            LimitClause::LimitOffset { limit, offset, limit_by } => {
                refuse_if(!limit_by.is_empty(), "LIMIT BY", "Use row_number() in a subquery.")?;
                self.exprs(limit)?;
                if let Some(Offset { value, rows: _ }) = offset {
                    self.expr(value)?;
                }
                Ok(())
            }
            LimitClause::OffsetCommaLimit { .. } => Err(Refusal::from(
                Error::new(ErrorKind::Syntax, "LIMIT #,# syntax is not supported")
                    .with_hint("Use separate LIMIT and OFFSET clauses."),
            )),
        }
    }

    fn order_by(&self, order_by: &OrderBy) -> Audited {
        let OrderBy { kind, interpolate } = order_by;
        refuse_if(interpolate.is_some(), "INTERPOLATE", "")?;
        match kind {
            OrderByKind::All(_) => refuse("ORDER BY ALL", "Name the columns."),
            OrderByKind::Expressions(list) => self.order_by_list(list),
        }
    }

    fn order_by_list(&self, list: &[OrderByExpr]) -> Audited {
        list.iter().try_for_each(|item| {
            let OrderByExpr { expr, options, with_fill } = item;
            let OrderByOptions { asc: _, nulls_first: _ } = options;
            refuse_if(with_fill.is_some(), "WITH FILL", "")?;
            self.expr(expr)
        })
    }

    fn select(&self, select: &Select) -> Audited {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        refuse_if(!optimizer_hints.is_empty(), "an optimizer hint", "")?;
        refuse_if(select_modifiers.is_some(), "a modifier of SELECT", "")?;
        refuse_if(top.is_some(), "TOP", "Use LIMIT.")?;
        refuse_if(exclude.is_some(), "EXCLUDE", "Name the columns.")?;
        refuse_if(into.is_some(), "SELECT INTO", "Use CREATE TABLE … AS or CREATE MATERIALIZED VIEW.")?;
        refuse_if(!lateral_views.is_empty(), "LATERAL VIEW", "Use unnest().")?;
        refuse_if(prewhere.is_some(), "PREWHERE", "Use WHERE.")?;
        refuse_if(!connect_by.is_empty(), "CONNECT BY", "Use WITH RECURSIVE.")?;
        refuse_if(!cluster_by.is_empty(), "CLUSTER BY", "")?;
        refuse_if(!distribute_by.is_empty(), "DISTRIBUTE BY", "")?;
        refuse_if(!sort_by.is_empty(), "SORT BY", "Use ORDER BY.")?;
        refuse_if(value_table_mode.is_some(), "SELECT AS STRUCT and AS VALUE", "")?;
        match flavor {
            SelectFlavor::Standard => {}
            SelectFlavor::FromFirst | SelectFlavor::FromFirstNoSelect => {
                return refuse("FROM before SELECT", "Begin with SELECT.");
            }
        }
        match distinct {
            Some(Distinct::On(exprs)) => self.exprs(exprs)?,
            Some(Distinct::All | Distinct::Distinct) | None => {}
        }
        self.select_items(projection)?;
        from.iter().try_for_each(|table| self.table_with_joins(table))?;
        self.exprs(selection)?;
        match group_by {
            GroupByExpr::All(_) => return refuse("GROUP BY ALL", "Name the columns."),
            GroupByExpr::Expressions(exprs, modifiers) => {
                refuse_if(
                    !modifiers.is_empty(),
                    "GROUP BY … WITH",
                    "Write ROLLUP (…), CUBE (…) or GROUPING SETS (…).",
                )?;
                self.exprs(exprs)?;
            }
        }
        self.exprs(having)?;
        for NamedWindowDefinition(_, window) in named_window {
            match window {
                NamedWindowExpr::NamedWindow(_) => return refuse("WINDOW as another window's name", ""),
                NamedWindowExpr::WindowSpec(spec) => self.window(spec)?,
            }
        }
        self.exprs(qualify)
    }

    fn select_items(&self, items: &[SelectItem]) -> Audited {
        items.iter().try_for_each(|item| match item {
            SelectItem::UnnamedExpr(expr) => self.expr(expr),
            SelectItem::ExprWithAlias { expr, alias } => {
                self.alias(alias)?;
                self.expr(expr)
            }
            SelectItem::ExprWithAliases { .. } => refuse("an alias of several names", ""),
            SelectItem::QualifiedWildcard(kind, options) => {
                self.wildcard(options)?;
                match kind {
                    SelectItemQualifiedWildcardKind::ObjectName(name) => self.name(name),
                    SelectItemQualifiedWildcardKind::Expr(_) => {
                        refuse("expansion of a composite value with .*", "")
                    }
                }
            }
            SelectItem::Wildcard(options) => self.wildcard(options),
        })
    }

    fn wildcard(&self, options: &WildcardAdditionalOptions) -> Audited {
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        if let Some(alias) = opt_alias {
            return syntax_error(alias);
        }
        let changed = opt_ilike.is_some()
            || opt_exclude.is_some()
            || opt_except.is_some()
            || opt_replace.is_some()
            || opt_rename.is_some();
        refuse_if(changed, "a changed *", "Name the columns.")
    }

    /// sqlparser takes a string constant for an alias; PostgreSQL does not.
    fn alias(&self, alias: &Ident) -> Audited {
        match alias.quote_style {
            None | Some('"') => Ok(()),
            Some(_) => syntax_error(alias),
        }
    }

    fn name(&self, name: &ObjectName) -> Audited {
        let function = name.0.iter().any(|part| matches!(part, ObjectNamePart::Function(_)));
        refuse_if(function, "a function as a name", "")?;
        name.0.iter().filter_map(ObjectNamePart::as_ident).try_for_each(|ident| self.alias(ident))
    }

    // ---- FROM ----

    fn table_with_joins(&self, table: &TableWithJoins) -> Audited {
        let TableWithJoins { relation, joins } = table;
        self.table_factor(relation)?;
        joins.iter().try_for_each(|join| self.join(join))
    }

    fn join(&self, join: &Join) -> Audited {
        let Join { relation, global, join_operator } = join;
        refuse_if(*global, "GLOBAL JOIN", "")?;
        self.table_factor(relation)?;
        match join_operator {
            JoinOperator::Join(c)
            | JoinOperator::Inner(c)
            | JoinOperator::Left(c)
            | JoinOperator::LeftOuter(c)
            | JoinOperator::Right(c)
            | JoinOperator::RightOuter(c)
            | JoinOperator::FullOuter(c)
            | JoinOperator::LeftSemi(c)
            | JoinOperator::RightSemi(c)
            | JoinOperator::LeftAnti(c)
            | JoinOperator::RightAnti(c) => match c {
                JoinConstraint::On(expr) => self.expr(expr),
                JoinConstraint::Using(columns) => columns.iter().try_for_each(|c| self.name(c)),
                JoinConstraint::Natural => Ok(()),
                JoinConstraint::None => Err(Refusal::from(
                    Error::new(ErrorKind::Syntax, "JOIN without a condition")
                        .with_hint("Write ON, USING, or CROSS JOIN."),
                )),
            },
            JoinOperator::CrossJoin(JoinConstraint::None) => Ok(()),
            JoinOperator::CrossJoin(_) => refuse("CROSS JOIN with a condition", "Write JOIN … ON."),
            JoinOperator::Semi(_) | JoinOperator::Anti(_) => {
                refuse("SEMI JOIN and ANTI JOIN", "Use EXISTS or NOT EXISTS.")
            }
            JoinOperator::CrossApply | JoinOperator::OuterApply => refuse("APPLY", "Use JOIN LATERAL."),
            JoinOperator::AsOf { .. } => {
                refuse("ASOF JOIN", "Use a LATERAL subquery with ORDER BY and LIMIT 1.")
            }
            JoinOperator::StraightJoin(_) => refuse("STRAIGHT_JOIN", "Write JOIN."),
            JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
                refuse("ARRAY JOIN", "Use unnest().")
            }
        }
    }

    fn table_alias(&self, alias: &TableAlias) -> Audited {
        let TableAlias { explicit: _, name, columns, at } = alias;
        refuse_if(at.is_some(), "AT in an alias", "")?;
        self.alias(name)?;
        columns.iter().try_for_each(|column| {
            let TableAliasColumnDef { name, data_type } = column;
            refuse_if(data_type.is_some(), "a column definition list", "Name the columns only.")?;
            self.alias(name)
        })
    }

    fn table_aliases(&self, alias: &Option<TableAlias>) -> Audited {
        alias.iter().try_for_each(|alias| self.table_alias(alias))
    }

    fn table_factor(&self, factor: &TableFactor) -> Audited {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                self.name(name)?;
                self.table_aliases(alias)?;
                refuse_if(!with_hints.is_empty(), "a table hint", "")?;
                if let Some(version) = version {
                    return self.version(version);
                }
                let numbered = args.is_some() && window_tvf(factor).is_none();
                refuse_if(
                    *with_ordinality && !numbered && !self.system,
                    "WITH ORDINALITY",
                    "Use row_number().",
                )?;
                refuse_if(!partitions.is_empty(), "PARTITION after a table", "")?;
                refuse_if(json_path.is_some(), "a path after a table", "")?;
                refuse_if(sample.is_some(), "TABLESAMPLE", "Filter with random().")?;
                refuse_if(!index_hints.is_empty(), "an index hint", "")?;
                if let Some(TableFunctionArgs { args, settings }) = args {
                    refuse_if(settings.is_some(), "SETTINGS", "")?;
                    self.table_function(factor, args)?;
                }
                Ok(())
            }
            TableFactor::Derived { lateral: _, subquery, alias, sample } => {
                refuse_if(sample.is_some(), "TABLESAMPLE", "Filter with random().")?;
                self.table_aliases(alias)?;
                self.query(subquery)
            }
            TableFactor::TableFunction { expr, alias } => {
                self.table_aliases(alias)?;
                match window_tvf(factor) {
                    Some(Ok(_)) => self.expr(expr),
                    Some(Err(error)) => Err(error.into()),
                    None => refuse("TABLE (…)", "Write the function itself after FROM."),
                }
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality, alias } => {
                self.name(name)?;
                let window = window_tvf(factor).is_some();
                refuse_if(
                    *with_ordinality && window && !self.system,
                    "WITH ORDINALITY",
                    "Use row_number().",
                )?;
                self.table_aliases(alias)?;
                self.table_function(factor, args)
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_offset_alias,
                with_ordinality: _,
            } => {
                refuse_if(*with_offset || with_offset_alias.is_some(), "WITH OFFSET", "Use row_number().")?;
                self.table_aliases(alias)?;
                self.exprs(array_exprs)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.table_aliases(alias)?;
                self.table_with_joins(table_with_joins)
            }
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => {
                refuse("JSON_TABLE", "Use the JSON operators.")
            }
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => {
                refuse("PIVOT", "Use CASE in aggregates, or UNION ALL.")
            }
            TableFactor::MatchRecognize { .. } => refuse("MATCH_RECOGNIZE", ""),
            TableFactor::XmlTable { .. } => refuse("XMLTABLE", ""),
            TableFactor::SemanticView { .. } => refuse("SEMANTIC_VIEW", ""),
        }
    }

    fn table_function(&self, factor: &TableFactor, args: &[FunctionArg]) -> Audited {
        if let Some(Err(error)) = window_tvf(factor) {
            return Err(error.into());
        }
        args.iter().try_for_each(|arg| self.function_arg(arg))
    }

    fn version(&self, version: &TableVersion) -> Audited {
        match version {
            TableVersion::ForSystemTimeAsOf(_) => Err(Refusal::from(table_version())),
            TableVersion::TimestampAsOf(_)
            | TableVersion::VersionAsOf(_)
            | TableVersion::Function(_)
            | TableVersion::Changes { .. } => refuse("reading another version of a table", ""),
        }
    }

    // ---- expressions ----

    fn expr(&self, expr: &Expr) -> Audited {
        match expr {
            Expr::Identifier(ident) => self.alias(ident),
            Expr::Value(value) => self.value(&value.value, value.span),
            Expr::BinaryOp { .. } => self.binary(expr),
            // An unoptimised frame takes kilobytes, and prefix operators nest as deep as the guard allows.
            _ => stacker::maybe_grow(STACK_MARGIN, STACK_STEP, || self.compound(expr)),
        }
    }

    fn compound(&self, expr: &Expr) -> Audited {
        match expr {
            Expr::CompoundIdentifier(parts) => parts.iter().try_for_each(|part| self.alias(part)),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root)?;
                access_chain.iter().try_for_each(|access| match access {
                    AccessExpr::Dot(expr) => self.expr(expr),
                    AccessExpr::Subscript(subscript) => self.subscript(subscript),
                })
            }
            Expr::IsFalse(e)
            | Expr::IsNotFalse(e)
            | Expr::IsTrue(e)
            | Expr::IsNotTrue(e)
            | Expr::IsNull(e)
            | Expr::IsNotNull(e)
            | Expr::IsUnknown(e)
            | Expr::IsNotUnknown(e)
            | Expr::Nested(e)
            | Expr::UnaryOp { op: _, expr: e }
            | Expr::Collate { expr: e, collation: _ }
            | Expr::IsNormalized { expr: e, form: _, negated: _ } => self.expr(e),
            Expr::IsDistinctFrom(a, b) | Expr::IsNotDistinctFrom(a, b) => {
                self.expr(a)?;
                self.expr(b)
            }
            Expr::AnyOp { left, compare_op: _, right, is_some: _ }
            | Expr::AllOp { left, compare_op: _, right } => {
                self.expr(left)?;
                self.expr(right)
            }
            Expr::InList { expr, list, negated: _ } => {
                self.expr(expr)?;
                self.exprs(list)
            }
            Expr::InSubquery { expr, subquery, negated: _ } => {
                self.expr(expr)?;
                self.query(subquery)
            }
            Expr::Exists { subquery, negated: _ } => self.query(subquery),
            Expr::Subquery(subquery) => self.query(subquery),
            Expr::Between { expr, negated: _, low, high } => {
                self.expr(expr)?;
                self.expr(low)?;
                self.expr(high)
            }
            Expr::Like { negated: _, any, expr, pattern, escape_char: _ }
            | Expr::ILike { negated: _, any, expr, pattern, escape_char: _ } => {
                refuse_if(*any, "LIKE ANY without an array", "Write LIKE ANY (ARRAY[…]).")?;
                self.expr(expr)?;
                self.expr(pattern)
            }
            Expr::SimilarTo { negated: _, expr, pattern, escape_char: _ } => {
                self.expr(expr)?;
                self.expr(pattern)
            }
            Expr::Cast { kind: _, expr, data_type: _, array, format } => {
                refuse_if(*array, "CAST … ARRAY", "Write the type with [].")?;
                refuse_if(format.is_some(), "CAST … FORMAT", "Use to_char or to_timestamp.")?;
                self.expr(expr)
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                self.expr(timestamp)?;
                self.expr(time_zone)
            }
            Expr::Extract { field: _, syntax: _, expr } => self.expr(expr),
            Expr::Ceil { expr, field } | Expr::Floor { expr, field } => {
                match field {
                    CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => {}
                    CeilFloorKind::DateTimeField(_) => {
                        return refuse("CEIL and FLOOR to a unit of time", "Use date_trunc.");
                    }
                    CeilFloorKind::Scale(_) => {
                        return refuse("CEIL and FLOOR with a scale", "Use round or trunc.");
                    }
                }
                self.expr(expr)
            }
            Expr::Position { expr, r#in } => {
                self.expr(expr)?;
                self.expr(r#in)
            }
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                self.expr(expr)?;
                self.exprs(substring_from.as_deref())?;
                self.exprs(substring_for.as_deref())
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
                self.expr(expr)?;
                self.exprs(trim_what.as_deref())?;
                self.exprs(trim_characters.iter().flatten())
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.expr(expr)?;
                self.expr(overlay_what)?;
                self.expr(overlay_from)?;
                self.exprs(overlay_for.as_deref())
            }
            Expr::TypedString(TypedString { data_type: _, value: _, uses_odbc_syntax }) => {
                refuse_if(*uses_odbc_syntax, "ODBC's {…} syntax", "")
            }
            Expr::Function(function) => self.function(function),
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.exprs(operand.as_deref())?;
                for CaseWhen { condition, result } in conditions {
                    self.expr(condition)?;
                    self.expr(result)?;
                }
                self.exprs(else_result.as_deref())
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.exprs(sets.iter().flatten())
            }
            Expr::Tuple(exprs) => self.exprs(exprs),
            Expr::Array(array) => self.exprs(&array.elem),
            Expr::Interval(interval) => {
                let Interval {
                    value,
                    leading_field: _,
                    leading_precision: _,
                    last_field: _,
                    fractional_seconds_precision: _,
                } = interval;
                self.expr(value)
            }
            other => self.unknown_expr(other),
        }
    }

    /// Left-deep chains in a loop: they are the deepest trees there are.
    fn binary(&self, expr: &Expr) -> Audited {
        let mut expr = expr;
        while let Expr::BinaryOp { left, op: _, right } = expr {
            self.expr(right)?;
            expr = left;
        }
        self.expr(expr)
    }

    /// Expressions of other systems, and whatever a new sqlparser may add.
    fn unknown_expr(&self, expr: &Expr) -> Audited {
        let what = match expr {
            Expr::JsonAccess { .. } => "a path with a colon",
            Expr::InUnnest { .. } => "IN UNNEST",
            Expr::RLike { .. } => "RLIKE",
            Expr::Convert { .. } => "CONVERT",
            Expr::Prefixed { .. } => "a constant with a character set",
            Expr::Struct { .. } => "STRUCT",
            Expr::Named { .. } => "an expression with a name",
            Expr::Dictionary(_) | Expr::Map(_) => "a map constant",
            Expr::MatchAgainst { .. } => "MATCH … AGAINST",
            Expr::Wildcard(_) | Expr::QualifiedWildcard(_, _) => "* in an expression",
            Expr::OuterJoin(_) => "(+)",
            Expr::Prior(_) => "PRIOR",
            Expr::Lambda(_) => "a lambda function",
            Expr::MemberOf(_) => "MEMBER OF",
            _ => "this expression",
        };
        refuse(what, "")
    }

    fn subscript(&self, subscript: &Subscript) -> Audited {
        match subscript {
            Subscript::Index { index } => self.expr(index),
            Subscript::Slice { lower_bound, upper_bound, stride } => {
                refuse_if(stride.is_some(), "a stride in an array slice", "")?;
                self.exprs(lower_bound)?;
                self.exprs(upper_bound)
            }
        }
    }

    fn value(&self, value: &Value, span: Span) -> Audited {
        match value {
            Value::Number(_, _)
            | Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::NationalStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null => Ok(()),
            Value::Placeholder(name) => {
                let number = name
                    .strip_prefix('$')
                    .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
                if number {
                    return Ok(());
                }
                let message = format!("syntax error at or near \"{name}\"");
                let error = Error::new(ErrorKind::Syntax, message).with_hint("Parameters are $1, $2, ….");
                Err(Refusal { error, span: Some(span), near: Some(name.clone()) })
            }
            Value::SingleQuotedByteStringLiteral(_) | Value::HexStringLiteral(_) => {
                refuse("a bit string", "Write a bytea as '\\x0a0b'.")
            }
            _ => refuse("this form of constant", "Write it in single quotes."),
        }
    }

    fn function(&self, function: &Function) -> Audited {
        let Function {
            name,
            uses_odbc_syntax,
            parameters,
            args,
            filter,
            null_treatment: _,
            over,
            within_group,
        } = function;
        self.name(name)?;
        refuse_if(*uses_odbc_syntax, "ODBC's {fn …} syntax", "")?;
        refuse_if(!matches!(parameters, FunctionArguments::None), "a function with parameters", "")?;
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => {
                // ARRAY(SELECT …); any other name would lose its argument in planning.
                let array = matches!(name.0.as_slice(), [ObjectNamePart::Identifier(ident)]
                    if ident.value.eq_ignore_ascii_case("array"));
                refuse_if(!array, "a query as the argument of a function", "Put it in parentheses.")?;
                self.query(query)?;
            }
            FunctionArguments::List(list) => self.function_args(list)?,
        }
        self.exprs(filter.as_deref())?;
        match over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec)?,
            Some(WindowType::NamedWindow(_)) | None => {}
        }
        self.order_by_list(within_group)
    }

    fn function_args(&self, list: &FunctionArgumentList) -> Audited {
        let FunctionArgumentList { duplicate_treatment, args, clauses } = list;
        match duplicate_treatment {
            Some(DuplicateTreatment::Distinct | DuplicateTreatment::All) | None => {}
        }
        args.iter().try_for_each(|arg| self.function_arg(arg))?;
        clauses.iter().try_for_each(|clause| match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(_) => Ok(()),
            FunctionArgumentClause::OrderBy(list) => self.order_by_list(list),
            FunctionArgumentClause::Limit(_) => refuse("LIMIT inside a function", ""),
            FunctionArgumentClause::OnOverflow(_) => refuse("ON OVERFLOW", ""),
            FunctionArgumentClause::Having(_) => refuse("HAVING inside a function", "Use FILTER."),
            FunctionArgumentClause::Separator(_) => refuse("SEPARATOR", "Use string_agg(value, separator)."),
            FunctionArgumentClause::JsonNullClause(_) => refuse("NULL ON NULL and ABSENT ON NULL", ""),
            FunctionArgumentClause::JsonReturningClause(_) => refuse("RETURNING inside a function", ""),
        })
    }

    fn function_arg(&self, arg: &FunctionArg) -> Audited {
        let (arg, operator) = match arg {
            FunctionArg::Unnamed(arg) => (arg, None),
            FunctionArg::Named { name: _, arg, operator } => (arg, Some(operator)),
            FunctionArg::ExprNamed { .. } => return refuse("an expression as an argument's name", ""),
        };
        match operator {
            Some(FunctionArgOperator::RightArrow | FunctionArgOperator::Assignment) | None => {}
            Some(FunctionArgOperator::Equals | FunctionArgOperator::Colon | FunctionArgOperator::Value) => {
                return refuse("this form of a named argument", "Write name => value.");
            }
        }
        match arg {
            FunctionArgExpr::Expr(expr) => self.expr(expr),
            FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::QualifiedWildcard(name) => self.name(name),
            FunctionArgExpr::WildcardWithOptions(options) => self.wildcard(options),
        }
    }

    fn window(&self, spec: &WindowSpec) -> Audited {
        let WindowSpec { window_name, partition_by, order_by, window_frame } = spec;
        refuse_if(window_name.is_some(), "a window that extends another", "Write the window out.")?;
        self.exprs(partition_by)?;
        self.order_by_list(order_by)?;
        if let Some(WindowFrame { units: _, start_bound, end_bound }) = window_frame {
            for bound in std::iter::once(start_bound).chain(end_bound) {
                match bound {
                    WindowFrameBound::CurrentRow => {}
                    WindowFrameBound::Preceding(e) | WindowFrameBound::Following(e) => {
                        self.exprs(e.as_deref())?;
                    }
                }
            }
        }
        Ok(())
    }

    // ---- DML ----

    fn assignments(&self, assignments: &[Assignment]) -> Audited {
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
    refuse_if(
        on.is_some(),
        "ON CONFLICT",
        "An INSERT of an existing key is an error (23505); UPDATE or DELETE the row first.",
    )?;
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
    refuse_if(from.is_some(), "UPDATE … FROM", "Use subqueries in SET and WHERE.")?;
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
    refuse_if(using.is_some(), "DELETE … USING", "Use EXISTS in WHERE.")?;
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
