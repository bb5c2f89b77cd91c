//! The program `framepress`. Everything it does is in the library; see `framepress::internals::cli`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    framepress::internals::cli::main()
}
