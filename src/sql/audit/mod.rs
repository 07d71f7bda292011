//! The audit of query and DML trees: every clause that was written is used, or refused by name.
//!
//! Boundary: DataFusion's SQL planner drops many clauses silently (`FOR UPDATE`, `TABLESAMPLE`, `FOR SYSTEM_TIME
//! AS OF`, …), so a tree is walked before anything plans it. The parser runs the audit on all it returns. Structs
//! are taken apart without `..`, so that a field added by a new sqlparser does not compile until somebody has
//! decided about it. What the planner refuses by itself may pass.

mod dml;
mod expr;

pub use dml::{delete, insert, update};

use sqlparser::ast::{
    Cte, Distinct, Expr, Fetch, FunctionArg, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator,
    LimitClause, LockClause, NamedWindowDefinition, NamedWindowExpr, NonBlock, ObjectName, ObjectNamePart,
    Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, TableAlias, TableAliasColumnDef,
    TableFactor, TableFunctionArgs, TableVersion, TableWithJoins, Values, WildcardAdditionalOptions, With,
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
    let auditor = Auditor { system };
    match query.locks.as_slice() {
        [] => auditor.query(query),
        locks => {
            auditor.locks(locks)?;
            auditor.query(&Query { locks: Vec::new(), ..query.clone() })
        }
    }
}

/// Audits WITH before a statement that writes rows.
pub fn with(with: &With) -> Result<(), Refusal> {
    PLAIN.with(with)
}

/// Audits the target or source of MERGE.
pub fn factor(factor: &TableFactor) -> Result<(), Refusal> {
    PLAIN.table_factor(factor)
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
    pub(super) fn exprs<'a>(&self, exprs: impl IntoIterator<Item = &'a Expr>) -> Audited {
        exprs.into_iter().try_for_each(|e| self.expr(e))
    }

    // ---- queries ----

    /// FOR UPDATE at the end of a whole query.
    fn locks(&self, locks: &[LockClause]) -> Audited {
        locks.iter().try_for_each(|lock| {
            let LockClause { lock_type: _, of, nonblock } = lock;
            // There is nothing to wait for: a conflict shows when the transaction commits.
            match nonblock {
                Some(NonBlock::SkipLocked) => refuse(
                    "SKIP LOCKED",
                    "Rows are not locked: a transaction that writes them too late fails with 40001.",
                )?,
                Some(NonBlock::Nowait) | None => {}
            }
            of.iter().try_for_each(|name| self.name(name))
        })
    }

    pub(super) fn query(&self, query: &Query) -> Audited {
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
            refuse_if(*percent, "FETCH … PERCENT", "")?;
            let limited = matches!(
                limit_clause,
                Some(LimitClause::LimitOffset { limit: Some(_), .. } | LimitClause::OffsetCommaLimit { .. })
            );
            if *with_ties && !limited {
                // The binder makes a condition on rank() of it.
                let plain = matches!(body.as_ref(), SetExpr::Select(s) if s.distinct.is_none());
                refuse_if(!plain, "WITH TIES after DISTINCT or UNION", "Put the query into a subquery.")?;
                return self.exprs(quantity);
            }
            // The parser has made a plain FETCH a LIMIT, unless there was one.
            let _ = quantity;
            return Err(Refusal::from(Error::new(ErrorKind::Syntax, "multiple LIMIT clauses not allowed")));
        }
        Ok(())
    }

    pub(super) fn with(&self, with: &With) -> Audited {
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

    pub(super) fn set_expr(&self, body: &SetExpr) -> Audited {
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

    pub(super) fn values(&self, values: &Values) -> Audited {
        let Values { explicit_row, value_keyword, rows } = values;
        refuse_if(*explicit_row, "VALUES ROW", "Leave ROW out.")?;
        refuse_if(*value_keyword, "VALUE", "Write VALUES.")?;
        rows.iter().try_for_each(|row| self.exprs(&row.content))
    }

    pub(super) fn limit(&self, limit: &LimitClause) -> Audited {
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

    pub(super) fn order_by(&self, order_by: &OrderBy) -> Audited {
        let OrderBy { kind, interpolate } = order_by;
        refuse_if(interpolate.is_some(), "INTERPOLATE", "")?;
        match kind {
            OrderByKind::All(_) => refuse("ORDER BY ALL", "Name the columns."),
            OrderByKind::Expressions(list) => self.order_by_list(list),
        }
    }

    pub(super) fn order_by_list(&self, list: &[OrderByExpr]) -> Audited {
        list.iter().try_for_each(|item| {
            let OrderByExpr { expr, options, with_fill } = item;
            let OrderByOptions { asc: _, nulls_first: _ } = options;
            refuse_if(with_fill.is_some(), "WITH FILL", "")?;
            self.expr(expr)
        })
    }

    pub(super) fn select(&self, select: &Select) -> Audited {
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

    pub(super) fn select_items(&self, items: &[SelectItem]) -> Audited {
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

    pub(super) fn wildcard(&self, options: &WildcardAdditionalOptions) -> Audited {
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
    pub(super) fn alias(&self, alias: &Ident) -> Audited {
        match alias.quote_style {
            None | Some('"') => Ok(()),
            Some(_) => syntax_error(alias),
        }
    }

    pub(super) fn name(&self, name: &ObjectName) -> Audited {
        let function = name.0.iter().any(|part| matches!(part, ObjectNamePart::Function(_)));
        refuse_if(function, "a function as a name", "")?;
        name.0.iter().filter_map(ObjectNamePart::as_ident).try_for_each(|ident| self.alias(ident))
    }

    // ---- FROM ----

    pub(super) fn table_with_joins(&self, table: &TableWithJoins) -> Audited {
        let TableWithJoins { relation, joins } = table;
        self.table_factor(relation)?;
        joins.iter().try_for_each(|join| self.join(join))
    }

    pub(super) fn join(&self, join: &Join) -> Audited {
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

    pub(super) fn table_alias(&self, alias: &TableAlias) -> Audited {
        let TableAlias { explicit: _, name, columns, at } = alias;
        refuse_if(at.is_some(), "AT in an alias", "")?;
        self.alias(name)?;
        columns.iter().try_for_each(|column| {
            let TableAliasColumnDef { name, data_type } = column;
            refuse_if(data_type.is_some(), "a column definition list", "Name the columns only.")?;
            self.alias(name)
        })
    }

    pub(super) fn table_aliases(&self, alias: &Option<TableAlias>) -> Audited {
        alias.iter().try_for_each(|alias| self.table_alias(alias))
    }

    pub(super) fn table_factor(&self, factor: &TableFactor) -> Audited {
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
                refuse_if(
                    *with_ordinality && window_tvf(factor).is_some() && !self.system,
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

    pub(super) fn table_function(&self, factor: &TableFactor, args: &[FunctionArg]) -> Audited {
        if let Some(Err(error)) = window_tvf(factor) {
            return Err(error.into());
        }
        args.iter().try_for_each(|arg| self.function_arg(arg))
    }

    pub(super) fn version(&self, version: &TableVersion) -> Audited {
        match version {
            TableVersion::ForSystemTimeAsOf(_) => Err(Refusal::from(table_version())),
            TableVersion::TimestampAsOf(_)
            | TableVersion::VersionAsOf(_)
            | TableVersion::Function(_)
            | TableVersion::Changes { .. } => refuse("reading another version of a table", ""),
        }
    }
}
