//! Types of expressions: which type several have in common, and conversions to it.
//!
//! Boundary: decides conversions; [`super::cast`] does them.

use super::bind::Binder;
use super::scope::Typed;
use super::tree::Expr;
use crate::catalog::system::types::{self, INT2VECTOR, OIDVECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

/// Stands in a function's argument types for any type.
pub(super) const ANY: u32 = 0;
/// Any array.
pub(super) const ANY_ARRAY: u32 = 2277;
/// An element of the array that is the first argument.
pub(super) const ANY_ELEMENT: u32 = 2283;

/// Whether values of the type are texts.
pub(super) fn is_text(oid: u32) -> bool {
    matches!(oid, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR | oid::UNKNOWN)
        || !(is_number(oid)
            || is_time(oid)
            || matches!(oid, oid::BOOL | oid::BYTEA | types::RECORD)
            || types::element(oid).is_some())
}

/// Whether values of the type are whole numbers: integers, oids, and names shown for oids.
pub(super) fn is_integer(oid: u32) -> bool {
    matches!(oid, oid::INT2 | oid::INT4 | oid::INT8 | oid::OID | 28 | 29) || is_reg(oid)
}

/// Whether values of the type are oids that show as names.
pub(super) fn is_reg(oid: u32) -> bool {
    matches!(
        oid,
        oid::REGCLASS
            | oid::REGTYPE
            | oid::REGPROC
            | types::REGPROCEDURE
            | types::REGNAMESPACE
            | types::REGROLE
            | 2203
            | 2204
            | 3734
            | 3769
            | 4191
    )
}

pub(super) fn is_number(oid: u32) -> bool {
    is_integer(oid) || matches!(oid, oid::FLOAT4 | oid::FLOAT8 | oid::NUMERIC)
}

pub(super) fn is_time(oid: u32) -> bool {
    matches!(oid, oid::DATE | oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::INTERVAL)
}

fn number_rank(oid: u32) -> u8 {
    match oid {
        oid::INT2 => 0,
        oid::INT4 => 1,
        oid::INT8 => 2,
        oid::NUMERIC => 4,
        oid::FLOAT4 => 5,
        oid::FLOAT8 => 6,
        // oid, regclass, …
        _ => 3,
    }
}

/// The type that values of both types can be compared and mixed in.
pub(super) fn common(a: PgType, b: PgType) -> Option<PgType> {
    if a.oid == b.oid {
        return Some(if a.typmod == b.typmod { a } else { PgType::of(a.oid) });
    }
    let (x, y) = (a.oid, b.oid);
    if x == oid::UNKNOWN {
        return Some(PgType::of(y));
    }
    if y == oid::UNKNOWN {
        return Some(PgType::of(x));
    }
    if is_number(x) && is_number(y) {
        let (low, high) = if number_rank(x) <= number_rank(y) { (x, y) } else { (y, x) };
        return Some(PgType::of(if is_reg(high) || is_reg(low) && is_integer(high) {
            oid::OID
        } else {
            high
        }));
    }
    if is_time(x) && is_time(y) && x != oid::INTERVAL && y != oid::INTERVAL {
        let either = |t| x == t || y == t;
        return Some(PgType::of(if either(oid::TIMESTAMPTZ) { oid::TIMESTAMPTZ } else { oid::TIMESTAMP }));
    }
    match (types::element(x), types::element(y)) {
        (Some(e), Some(f)) => {
            return common(PgType::of(e), PgType::of(f)).map(|t| PgType::of(types::array_of(t.oid)));
        }
        (None, None) => {}
        _ => return None,
    }
    (is_text(x) && is_text(y)).then_some(PgType::TEXT)
}

impl Binder<'_> {
    /// The type that all expressions can take on; text if nothing is known of any.
    pub(super) fn common_type<'t>(
        &self,
        what: &str,
        all: impl IntoIterator<Item = &'t Typed>,
    ) -> Result<PgType> {
        let mut result = PgType::UNKNOWN;
        for typed in all {
            result = common(result, typed.ty).ok_or_else(|| {
                Error::new(
                    ErrorKind::DatatypeMismatch,
                    format!(
                        "{what} types {} and {} cannot be matched",
                        self.type_name(result),
                        self.type_name(typed.ty)
                    ),
                )
            })?;
        }
        Ok(if result.oid == oid::UNKNOWN { PgType::TEXT } else { result })
    }

    pub(super) fn type_name(&self, ty: PgType) -> String {
        types::format_type(self.context.catalog, ty.oid, ty.typmod).unwrap_or_else(|| "unknown".into())
    }

    /// All expressions converted to what they have in common.
    pub(super) fn unify(&self, what: &str, all: Vec<Typed>) -> Result<(Vec<Expr>, PgType)> {
        let ty = self.common_type(what, &all)?;
        let exprs = all.into_iter().map(|t| self.coerce(t, ty)).collect::<Result<_>>()?;
        Ok((exprs, ty))
    }

    /// The expression as a value of another type, where that is implied.
    pub(super) fn coerce(&self, typed: Typed, to: PgType) -> Result<Expr> {
        self.convert(typed, to, false)
    }

    /// The expression cast to a type.
    pub(super) fn convert(&self, typed: Typed, to: PgType, explicit: bool) -> Result<Expr> {
        if to.oid == ANY || typed.ty.oid == to.oid && (to.typmod < 0 || typed.ty == to) {
            return Ok(typed.expr);
        }
        if let Expr::Param(n) = typed.expr {
            let known = self.parameter_type(n);
            if known.is_none() {
                // A client would send names for these types, and its driver an oid: text takes both.
                let taken = if is_reg(to.oid) { PgType::TEXT } else { PgType::of(to.oid) };
                self.set_parameter_type(n, taken);
                if taken.oid == to.oid {
                    return Ok(typed.expr);
                }
                return Ok(self.cast_expr(typed.expr, taken, to, explicit));
            }
        }
        let from = typed.ty.oid;
        let array = |o: u32| types::element(o).is_some();
        let possible = from == oid::UNKNOWN
            || is_text(from)
            || is_text(to.oid)
                && (explicit || !matches!(from, oid::BOOL) && !is_number(from) && !array(from))
            || to.oid == oid::TEXT
            || is_number(from) && is_number(to.oid)
            || is_time(from) && is_time(to.oid)
            || array(from) && array(to.oid)
            || explicit && (from == oid::BOOL && is_number(to.oid) || is_number(from) && to.oid == oid::BOOL);
        if !possible {
            return Err(Error::new(
                ErrorKind::CannotCoerce,
                format!("cannot cast type {} to {}", self.type_name(typed.ty), self.type_name(to)),
            ));
        }
        let cast = self.cast_expr(typed.expr, typed.ty, to, explicit);
        // Literals take on their type at once, so that a wrong one is an error even where it is never used.
        if from == oid::UNKNOWN
            && let Expr::Cast { expr, .. } = &cast
            && let Expr::Const(value) = &**expr
        {
            return Ok(Expr::Const(super::cast::cast(self.context, value, PgType::UNKNOWN, to, explicit)?));
        }
        Ok(cast)
    }

    fn cast_expr(&self, expr: Expr, from: PgType, to: PgType, explicit: bool) -> Expr {
        // Values of these pairs are the same.
        let same = |oid: u32| match oid {
            oid::TEXT | oid::NAME | oid::VARCHAR | oid::UNKNOWN | oid::BPCHAR => 1,
            INT2VECTOR | OIDVECTOR => 2,
            _ => oid + 10,
        };
        if !explicit && same(from.oid) == same(to.oid) {
            return expr;
        }
        Expr::Cast { expr: Box::new(expr), from, to, explicit }
    }
}
