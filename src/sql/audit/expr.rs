//! The audit of expressions.

use sqlparser::ast::{
    AccessExpr, CaseWhen, CeilFloorKind, DateTimeField, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause, FunctionArgumentList, FunctionArguments,
    Interval, ObjectNamePart, Subscript, TypedString, Value, WindowFrame, WindowFrameBound, WindowSpec,
    WindowType,
};
use sqlparser::tokenizer::Span;

use super::{Audited, Auditor, Refusal, STACK_MARGIN, STACK_STEP, refuse, refuse_if};
use crate::error::{Error, ErrorKind};

impl Auditor {
    pub(super) fn expr(&self, expr: &Expr) -> Audited {
        match expr {
            Expr::Identifier(ident) => self.alias(ident),
            Expr::Value(value) => self.value(&value.value, value.span),
            Expr::BinaryOp { .. } => self.binary(expr),
            // An unoptimised frame takes kilobytes, and prefix operators nest as deep as the guard allows.
            _ => stacker::maybe_grow(STACK_MARGIN, STACK_STEP, || self.compound(expr)),
        }
    }

    pub(super) fn compound(&self, expr: &Expr) -> Audited {
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
    pub(super) fn binary(&self, expr: &Expr) -> Audited {
        let mut expr = expr;
        while let Expr::BinaryOp { left, op: _, right } = expr {
            self.expr(right)?;
            expr = left;
        }
        self.expr(expr)
    }

    /// Expressions of other systems, and whatever a new sqlparser may add.
    pub(super) fn unknown_expr(&self, expr: &Expr) -> Audited {
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

    pub(super) fn subscript(&self, subscript: &Subscript) -> Audited {
        match subscript {
            Subscript::Index { index } => self.expr(index),
            Subscript::Slice { lower_bound, upper_bound, stride } => {
                refuse_if(stride.is_some(), "a stride in an array slice", "")?;
                self.exprs(lower_bound)?;
                self.exprs(upper_bound)
            }
        }
    }

    pub(super) fn value(&self, value: &Value, span: Span) -> Audited {
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

    pub(super) fn function(&self, function: &Function) -> Audited {
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

    pub(super) fn function_args(&self, list: &FunctionArgumentList) -> Audited {
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

    pub(super) fn function_arg(&self, arg: &FunctionArg) -> Audited {
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

    pub(super) fn window(&self, spec: &WindowSpec) -> Audited {
        let WindowSpec { window_name, partition_by, order_by, window_frame } = spec;
        let _ = window_name;
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
}
