//! How the number of copies of a row depends on its copies in two multisets.
//!
//! Boundary: numbers only.

/// How many copies of a row are left of `a` copies on the first input and `b` on the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All, if there is one on the second input.
    IfThere,
    /// All, if there is none on the second input.
    IfNotThere,
    /// The smaller number.
    Least,
    /// What is more than on the second input.
    Excess,
}

impl Keep {
    /// The copies left of `[a, b]` copies.
    pub fn of(self, [a, b]: [i64; 2]) -> i64 {
        match self {
            Keep::IfThere => a * i64::from(b > 0),
            Keep::IfNotThere => a * i64::from(b <= 0),
            Keep::Least => a.min(b).max(0),
            Keep::Excess => a.saturating_sub(b.max(0)).max(0),
        }
    }
}
