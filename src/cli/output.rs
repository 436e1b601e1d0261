//! Output: tables for people, JSON for scripts. Results go to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::exit::Failure;

/// How results are written.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// `--json`.
    pub json: bool,
}

impl Output {
    /// Writes `value` as JSON if asked for, else what `people` writes.
    pub fn show<T: Serialize>(self, value: &T, people: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(error.to_string()))?
        } else {
            people(value)
        };
        print(&text)
    }

    /// Writes a list: one table, or one JSON array.
    pub fn list<T: Serialize>(self, rows: &[T], nothing: &str, head: &[&str], cells: impl Fn(&T) -> Vec<String>) -> Result<(), Failure> {
        self.show(&rows, |rows| if rows.is_empty() { nothing.to_owned() } else { table(head, rows.iter().map(cells)) })
    }
}

/// Writes one text and a line end to standard output. A reader that has gone away (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A remark for the person at the terminal.
pub fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Columns as wide as their widest cell, two blanks apart; the last one is not padded.
pub fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(|name| name.to_uppercase()).collect()];
    lines.extend(rows.map(|row| row.into_iter().map(printable).collect()));
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width.saturating_sub(cell.chars().count()) + 2));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Control characters in names from outside must not steer the terminal.
fn printable(cell: String) -> String {
    cell.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// A cell for something that may be missing.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Asks before something that cannot be taken back. Without a terminal only `--yes` confirms.
pub fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Refused(format!("{question} Say --yes to confirm")));
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes") {
        Ok(())
    } else {
        Err(Failure::Refused("not confirmed".to_owned()))
    }
}

/// A spinner on long work, if a person watches; it goes away when dropped.
pub struct Busy(indicatif::ProgressBar);

impl Busy {
    /// Shows that `what` is going on.
    pub fn with(what: &'static str) -> Self {
        // Hidden by itself where standard error is no terminal.
        let bar = indicatif::ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self(bar)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_aligned_and_cannot_steer_the_terminal() {
        let rows = [vec!["a\u{1b}[2J".to_owned(), "1".to_owned()], vec!["longer name".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["name", "n"], rows.into_iter()), "NAME         N\na [2J        1\nlonger name  22\n");
    }
}
