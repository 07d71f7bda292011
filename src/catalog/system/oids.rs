//! Oids of what belongs to an object without being one: its row type, primary key, constraints, defaults.
//!
//! They are computed from the object's own oid, so they are the same after every restart and never stored. Each
//! kind has a range of its own below 2³¹, as some clients read oids as signed numbers.
//!
//! Boundary: numbers only.

const SPAN: u32 = 0x1000_0000;
const TYPE: u32 = SPAN;
const ARRAY_TYPE: u32 = 2 * SPAN;
const KEY_INDEX: u32 = 3 * SPAN;
const KEY: u32 = 4 * SPAN;
const RULE: u32 = 5 * SPAN;
const CHECK: u32 = 6 * SPAN;
const DEFAULT: u32 = 7 * SPAN;

/// Row type of a relation.
pub fn row_type(object: u32) -> u32 {
    TYPE + object % SPAN
}
/// Array type of a relation's row type.
pub fn row_array_type(object: u32) -> u32 {
    ARRAY_TYPE + object % SPAN
}
/// The index of a primary key.
pub fn key_index(object: u32) -> u32 {
    KEY_INDEX + object % SPAN
}
/// The constraint of a primary key.
pub fn key_constraint(object: u32) -> u32 {
    KEY + object % SPAN
}
/// The rule that makes a view.
pub fn rule(object: u32) -> u32 {
    RULE + object % SPAN
}
/// A check constraint, by its number.
pub fn check(object: u32, number: usize) -> u32 {
    CHECK + (object.wrapping_mul(64) + number as u32) % SPAN
}
/// The default of a column.
pub fn default(object: u32, column: usize) -> u32 {
    DEFAULT + (object.wrapping_mul(2048) + column as u32) % SPAN
}

fn within(oid: u32, base: u32) -> Option<u32> {
    oid.checked_sub(base).filter(|o| *o < SPAN)
}
/// The relation whose row type this is.
pub fn object_of_type(oid: u32) -> Option<u32> {
    within(oid, TYPE)
}
/// The relation whose row type's array type this is.
pub fn object_of_array_type(oid: u32) -> Option<u32> {
    within(oid, ARRAY_TYPE)
}
/// The table whose primary key's index this is.
pub fn object_of_key_index(oid: u32) -> Option<u32> {
    within(oid, KEY_INDEX)
}
/// The table whose primary key this is.
pub fn object_of_key_constraint(oid: u32) -> Option<u32> {
    within(oid, KEY)
}
/// The view whose rule this is.
pub fn object_of_rule(oid: u32) -> Option<u32> {
    within(oid, RULE)
}
/// Whether the oid is one of a check constraint.
pub fn is_check(oid: u32) -> bool {
    within(oid, CHECK).is_some()
}
