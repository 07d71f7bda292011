//! (to be written)

/// A scalar expression over the columns of a batch.
#[derive(Debug, Clone)]
pub struct ScalarExpr;
