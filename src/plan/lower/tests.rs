//! Lowering from logical plans to the text of plans.
