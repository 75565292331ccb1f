//! The program `ringmain-bench`. All of it is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringmain_bench::main()
}
