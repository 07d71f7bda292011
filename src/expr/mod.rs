//! Bound expressions: DataFusion's physical expressions, evaluated on whole batches, with PostgreSQL's errors.
//!
//! Boundary: knows batches, not relations. A row whose expression fails becomes a row of an error batch
//! ([`eval_error`]), deterministically, so that its retraction retracts the error.

pub mod aggregate;
mod checked;
pub mod eval_error;
pub mod exact;
pub mod scalar;
mod shift;
pub mod window;

pub use scalar::ScalarExpr;
