//! The command line (the rest is being written).

use std::process::ExitCode;

use crate::app::demo::{DemoOptions, demo};
use crate::app::run::{RunOptions, run};

/// Runs the command of the arguments.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else { return ExitCode::FAILURE };
    let word = |at: usize| words.get(at).map(String::as_str);
    let ended = match (word(0), word(1), word(2)) {
        (Some("run"), Some("--config"), Some(file)) => {
            runtime.block_on(run(RunOptions { config: file.into(), strict: false })).map_err(|error| error.to_string())
        }
        (Some("demo"), _, _) => runtime.block_on(demo(DemoOptions { stay: false })).map_err(|error| error.to_string()),
        _ => Err("usage: omnigate run --config FILE | demo".to_owned()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
