//! How a command ends: exit codes and what is said on standard error.

use std::fmt::Display;

/// An end other than success.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: u8,
    /// For standard error; may be empty when all was said.
    pub message: String,
}

/// What every command returns.
pub type Result<T = ()> = std::result::Result<T, Outcome>;

/// Something failed.
pub const FAILURE: u8 = 1;
/// The command line or an input file is wrong.
pub const USAGE: u8 = 2;
/// A setting, a file or a tool is missing or wrong.
pub const CONFIGURATION: u8 = 3;
/// A part of the cell cannot be reached.
pub const UNREACHABLE: u8 = 4;
/// Refused: by a limit, a stop, the breaker, the exchange.
pub const REFUSED: u8 = 5;
/// Verification found something.
pub const VERIFICATION: u8 = 6;
/// A check found problems.
pub const PROBLEMS: u8 = 7;
/// The audit trail ends inside a line.
pub const TORN_TAIL: u8 = 8;
/// The audit trail is shorter than a checkpoint says that it was.
pub const BEHIND_ANCHORS: u8 = 9;
/// There is no audit trail, or it cannot be read.
pub const CANNOT_TELL: u8 = 10;

/// Ends with a code and a message.
pub fn end(code: u8, message: impl Display) -> Outcome {
    Outcome { code, message: message.to_string() }
}

/// Gives an error an exit code.
pub trait WithCode<T> {
    /// The value, or the error's text with this code.
    fn code(self, code: u8) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithCode<T> for std::result::Result<T, E> {
    fn code(self, code: u8) -> Result<T> {
        self.map_err(|error| end(code, format!("{:#}", error.into())))
    }
}
