//! Tests of Join against its naive definition.
