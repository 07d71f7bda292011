//! What is known of a node's output without running it.

/// Facts about the rows a node gives out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Sets of columns whose values no two rows share.
    pub unique_keys: Vec<Vec<usize>>,
    /// Rows are only ever inserted, each with weight +1.
    pub append_only: bool,
    /// (column, delay µs): no row with `column < watermark - delay` will come any more; a window start has its
    /// window's width as delay, a window end has none.
    pub watermarks: Vec<(usize, i64)>,
    /// State below and at this node that grows without bound, one sentence per operator (for the NOTICE).
    pub unbounded_state: Vec<String>,
}
