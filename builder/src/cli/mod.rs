//! The command line: one file per command.

mod build;
mod check;
mod init;
mod lab;
mod output;
mod plan;
mod reference;
mod routes;
mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use build::BuildOptions;

use crate::progress::interrupt;

/// Bad input or usage: what a person wrote has to change.
const EXIT_BAD_INPUT: u8 = 2;
/// Everything else that went wrong.
const EXIT_FAILURE: u8 = 1;

/// What the exit codes mean, for the end of the help.
const EXIT_CODES: &str = "Exit codes:
  0    done
  1    it failed: the network, the disk, a tool, the environment, an input that is not there
  2    what a person wrote has to change: the cluster file, a profile, the command line
  130  ended with Ctrl-C";

/// Composes bootable Kubernetes node images from one cluster file.
#[derive(Debug, Parser)]
#[command(name = "bootwright", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Say more: every file fetched, every decision taken.
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(BuildOptions),
    Init(init::InitOptions),
    Check(check::CheckOptions),
    Plan(plan::PlanOptions),
    Routes(routes::RoutesOptions),
    Validate(validate::ValidateOptions),
    Reference(reference::ReferenceOptions),
    Lab(lab::LabArguments),
}

/// Why a command failed, with the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    report: Option<miette::Report>,
    /// What is printed after it, as it is: commands to be pasted must not be wrapped.
    last_words: String,
    code: u8,
}

impl Failure {
    /// What a person wrote has to change: exit code 2.
    pub fn input(report: impl Into<miette::Report>) -> Self {
        Failure { report: Some(report.into()), last_words: String::new(), code: EXIT_BAD_INPUT }
    }

    /// Anything else: exit code 1.
    pub fn other(report: impl Into<miette::Report>) -> Self {
        Failure { report: Some(report.into()), last_words: String::new(), code: EXIT_FAILURE }
    }

    /// The person pressed Ctrl-C.
    pub fn interrupted(error: interrupt::Interrupted) -> Self {
        Failure {
            report: Some(miette::Report::msg(error)),
            last_words: String::new(),
            code: interrupt::EXIT_CODE,
        }
    }

    /// Exit code 2 when everything has been said already.
    pub fn silent_input() -> Self {
        Failure { report: None, last_words: String::new(), code: EXIT_BAD_INPUT }
    }

    /// Exit code 1 when everything has been said already.
    pub fn silent() -> Self {
        Failure { report: None, last_words: String::new(), code: EXIT_FAILURE }
    }

    /// The same, with lines that are printed last.
    pub fn with_last_words(self, last_words: String) -> Self {
        Failure { last_words, ..self }
    }
}

impl<E: miette::Diagnostic + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::other(error)
    }
}

/// Parses the arguments, runs the command, prints the error.
pub fn run() -> ExitCode {
    // Every error's words contain those of what it came from, so that a chain below would say them twice;
    // and lines broken in the middle of an address or a path cannot be copied. The first hook stays: a second
    // is nothing to speak of.
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(miette::MietteHandlerOpts::new().without_cause_chain().wrap_lines(false).build())
    }));
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    if let Err(error) = interrupt::install() {
        eprintln!("warning: Ctrl-C will not clean up: {error}");
    }
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(report) = failure.report {
                eprintln!("{report:?}");
            }
            eprint!("{}", failure.last_words);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Build(options) => build::run(&options, arguments.verbose),
        Command::Init(options) => init::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Plan(options) => plan::run(&options),
        Command::Routes(options) => routes::run(&options),
        Command::Validate(options) => validate::run(&options),
        Command::Reference(options) => {
            reference::run(&options);
            Ok(())
        }
        Command::Lab(arguments) => lab::run(&arguments),
    }
}
