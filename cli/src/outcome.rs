//! How a command ends: one line on standard error, and an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use hotcell::{CallError, Class, Error};

/// A failure of the command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) class: Class,
    pub(crate) message: String,
}

impl Outcome {
    pub(crate) fn internal(message: String) -> Outcome {
        Outcome { class: Class::Internal, message }
    }

    pub(crate) fn invalid(message: String) -> Outcome {
        Outcome { class: Class::Invalid, message }
    }

    /// Prints the message; returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        print_error(&self.message);
        ExitCode::from(self.class.exit_code())
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Outcome {
        Outcome { class: error.class(), message: error.to_string() }
    }
}

impl From<CallError> for Outcome {
    fn from(error: CallError) -> Outcome {
        Outcome { class: error.class(), message: error.to_string() }
    }
}

/// Prints an error; messages that point into a file bring their own heading.
pub(crate) fn print_error(message: &str) {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1;31merror:\x1b[0m {message}");
    } else {
        eprintln!("error: {message}");
    }
}

/// The name of a class in `--json`.
pub(crate) fn name(class: Class) -> &'static str {
    match class {
        Class::Plugin => "plugin-error",
        Class::Invalid => "invalid",
        Class::Refused => "refused",
        Class::Crashed => "crashed",
        Class::Deadline => "deadline",
        Class::Resource => "resource-limit",
        Class::Protocol => "protocol-violation",
        Class::Unavailable => "sandbox-unavailable",
        Class::Internal => "internal",
        Class::Interrupted => "interrupted",
    }
}
