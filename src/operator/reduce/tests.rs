//! Tests of Reduce against its naive definition.
