//! The shape of syntax trees before planning: long chains balanced, minus signs where PostgreSQL reads them.
//!
//! The parser makes a list of a chain `a AND b AND c …`; everything that walks the tree, DataFusion's planner and
//! optimizer above all, takes time quadratic in its depth. AND, OR and UNION are associative, so a chain may as well
//! be a balanced tree; operands keep their order.
//!
//! Boundary: syntax only, and nothing that changes a result.

use sqlparser::ast::{
    BinaryOperator, Expr, SetExpr, SetOperator, SetQuantifier, UnaryOperator, Value, Values,
};

/// Shorter chains are left as they are.
const SHORT: usize = 12;

/// Balances a chain of AND or of OR that begins at this expression.
pub fn balance_connectives(expr: &mut Expr) {
    let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr else { return };
    let op = op.clone();
    let mut length = 0;
    let mut at = &*expr;
    while let Expr::BinaryOp { left, op: o, .. } = at
        && *o == op
    {
        length += 1;
        at = left;
    }
    if length < SHORT {
        return;
    }
    let mut terms = Vec::with_capacity(length + 1);
    let mut rest = std::mem::replace(expr, Expr::Value(Value::Null.with_empty_span()));
    loop {
        match rest {
            Expr::BinaryOp { left, op: o, right } if o == op => {
                terms.push(*right);
                rest = *left;
            }
            first => {
                terms.push(first);
                break;
            }
        }
    }
    terms.reverse();
    let join = |l, r| Expr::BinaryOp { left: Box::new(l), op: op.clone(), right: Box::new(r) };
    if let Some(balanced) = halve(terms, &join) {
        *expr = balanced;
    }
}

/// Balances a chain of UNION ALL or of UNION.
pub fn balance_unions(body: &mut SetExpr) {
    let kind = |e: &SetExpr| match e {
        SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, .. } => match set_quantifier {
            SetQuantifier::All => Some(SetQuantifier::All),
            SetQuantifier::None | SetQuantifier::Distinct => Some(SetQuantifier::None),
            _ => None,
        },
        _ => None,
    };
    let Some(quantifier) = kind(body) else { return };
    let mut length = 0;
    let mut at = &*body;
    while kind(at) == Some(quantifier)
        && let SetExpr::SetOperation { left, .. } = at
    {
        length += 1;
        at = left;
    }
    if length < SHORT {
        return;
    }
    let nothing = SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: vec![] });
    let mut terms = Vec::with_capacity(length + 1);
    let mut rest = std::mem::replace(body, nothing);
    loop {
        let same = kind(&rest) == Some(quantifier);
        match rest {
            SetExpr::SetOperation { left, right, .. } if same => {
                terms.push(*right);
                rest = *left;
            }
            first => {
                terms.push(first);
                break;
            }
        }
    }
    terms.reverse();
    let join = |l, r| SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: quantifier,
        left: Box::new(l),
        right: Box::new(r),
    };
    if let Some(balanced) = halve(terms, &join) {
        *body = balanced;
    }
}

/// The terms joined pairwise, in their order.
fn halve<T>(mut terms: Vec<T>, join: &impl Fn(T, T) -> T) -> Option<T> {
    while terms.len() > 1 {
        let mut next = Vec::with_capacity(terms.len().div_ceil(2));
        let mut all = terms.into_iter();
        while let Some(left) = all.next() {
            next.push(match all.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        terms = next;
    }
    terms.pop()
}

/// `-2 ^ 2`: PostgreSQL's sign binds tighter than `^`, the parser's does not.
pub fn tighten_sign(expr: &mut Expr) {
    let Expr::UnaryOp { op: sign @ (UnaryOperator::Minus | UnaryOperator::Plus), expr: operand } = expr
    else {
        return;
    };
    if !matches!(operand.as_ref(), Expr::BinaryOp { op: BinaryOperator::PGExp, .. }) {
        return;
    }
    let sign = *sign;
    let mut power = std::mem::replace(operand.as_mut(), Expr::Value(Value::Null.with_empty_span()));
    let mut first = &mut power;
    while let Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } = first {
        first = left;
    }
    let base = std::mem::replace(first, Expr::Value(Value::Null.with_empty_span()));
    *first = Expr::UnaryOp { op: sign, expr: Box::new(base) };
    *expr = power;
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    fn expr(sql: &str) -> Expr {
        Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap()
    }

    fn depth(e: &Expr) -> usize {
        match e {
            Expr::BinaryOp { left, right, .. } => 1 + depth(left).max(depth(right)),
            _ => 0,
        }
    }

    #[test]
    fn a_chain_becomes_a_tree_with_its_terms_in_order() {
        let text = (0..100).map(|i| format!("c{i}")).collect::<Vec<_>>().join(" AND ");
        let mut e = expr(&text);
        balance_connectives(&mut e);
        assert_eq!((e.to_string(), depth(&e)), (text, 7));
    }

    #[test]
    fn a_sign_binds_tighter_than_a_power() {
        for (sql, base) in [("-2 ^ 2 ^ 3", "-2"), ("-a ^ 2", "-a")] {
            let mut e = expr(sql);
            tighten_sign(&mut e);
            let mut first = &e;
            while let Expr::BinaryOp { left, .. } = first {
                first = left;
            }
            assert_eq!(first.to_string(), base);
        }
    }
}
