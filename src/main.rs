//! The program `freshet`: hands its arguments to [`freshet::cli`].

use std::process::ExitCode;

/// Many small, short-lived allocations on several threads: mimalloc takes about half the time of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    freshet::cli::main()
}
