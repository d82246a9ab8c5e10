//! The same as the `querygate` binary. Cargo builds a package's binaries before its tests, but not another package's.

fn main() -> std::process::ExitCode {
    querygate::cli::main()
}
