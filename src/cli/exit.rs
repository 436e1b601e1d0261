//! Exit codes: what a script can rely on. Documented in `--help` and `docs/cli.md`.

use std::fmt;
use std::process::ExitCode;

use crate::config::problems::Problems;

/// Why a command did not do what was asked. Each variant is an exit code.
#[derive(Debug)]
pub enum Failure {
    /// 1: it failed.
    Failed(String),
    /// 2: the command line is wrong (clap uses the same code).
    Usage(String),
    /// 3: the configuration has mistakes.
    Config(Problems),
    /// 4: no daemon answers, and there is no store to read instead.
    Unreachable(String),
    /// 5: there is no such thing.
    Missing(String),
    /// 6: refused: it cannot be done as asked, or was not confirmed.
    Refused(String),
}

/// The codes and their meaning, for help and documentation.
pub const CODES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "failed"),
    (2, "the command line is wrong"),
    (3, "the configuration has mistakes"),
    (4, "no daemon answers"),
    (5, "there is no such thing"),
    (6, "refused: it cannot be done as asked, or was not confirmed"),
];

impl Failure {
    /// Its exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Missing(_) => 5,
            Self::Refused(_) => 6,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::Unreachable(text) | Self::Missing(text) | Self::Refused(text) => {
                write!(f, "omnigate: {text}")
            }
            Self::Config(problems) => {
                let count = problems.0.len();
                write!(f, "{problems}\n\nomnigate: {count} problem{} in the configuration", if count == 1 { "" } else { "s" })
            }
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
