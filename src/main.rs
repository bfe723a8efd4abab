//! Parse, run, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    hamaster::cli::main()
}
