//! Programs in the configuration: every jq is compiled when the files are read, never first when a message comes.

use crate::config::read::{Reading, Section};
use crate::connector::jq::{Filter, Limits};
use crate::connector::problem::Problem;

/// Compiles the program under `key`, if there is one. It has no variables.
pub fn check(reading: &mut Reading<'_>, section: &Section, key: &str) {
    let Some(program) = section.text(key).filter(|_| section.written(key)) else { return };
    for problem in compile(&reading.file, &program) {
        // Places inside the program are not places of the file it stands in, so the whole value is marked.
        let place = if problem.line > 1 { format!(" (line {} of the program)", problem.line) } else { String::new() };
        reading.wrong(section.span(key), format!("`{key}`: {}{place}", problem.message), problem.suggestion);
    }
}

fn compile(file: &str, program: &str) -> Vec<Problem> {
    Filter::compile(file, program, &[], Limits::default()).err().unwrap_or_default()
}
