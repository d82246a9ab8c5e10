//! The `querygate` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    querygate::cli::main()
}
