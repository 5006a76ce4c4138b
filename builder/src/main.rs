//! The program `bootwright`.

fn main() -> std::process::ExitCode {
    bootwright::cli::run()
}
