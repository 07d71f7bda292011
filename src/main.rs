//! The command `freshet`.

fn main() {}
