//! Problem: something wrong in a file that an admin wrote, with the place and, where it helps, how to mend it.
//!
//! A problem carries its source line, so it renders the same wherever it ends up: terminal, log, API. Neither message nor
//! suggestion may hold a secret (I7).

use std::fmt;
use std::ops::Range;

/// Longest source line shown; a pasted certificate must not fill the screen.
const SHOWN_LINE_CHARS_MAX: usize = 160;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can be used; a person should look.
    Warning,
}

/// Something wrong at a place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// The file, as the admin would open it.
    pub file: String,
    /// Line from 1; 0: the file as a whole.
    pub line: usize,
    /// Column from 1, in characters.
    pub col: usize,
    /// Characters to underline.
    pub length: usize,
    /// The line itself; empty if there is none to show.
    pub source: String,
    /// What is wrong: lower case, no final period.
    pub message: String,
    /// How to mend it.
    pub suggestion: Option<String>,
}

impl Problem {
    /// A problem at the bytes `span` of `text`, the content of `file`.
    pub fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let start = floor_boundary(text, span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |place| place + 1);
        let line_text = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let end = floor_boundary(text, span.end).max(start).min(line_start + line_text.len());
        let length = text.get(start..end).map_or(0, |marked| marked.chars().count());
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            col: text.get(line_start..start).map_or(0, |lead| lead.chars().count()) + 1,
            length: length.max(1),
            source: line_text.chars().take(SHOWN_LINE_CHARS_MAX).collect(),
            message: message.into(),
            suggestion: None,
        }
    }

    /// A problem of a file as a whole (it is missing, unreadable, not UTF-8).
    pub fn whole(file: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            col: 0,
            length: 0,
            source: String::new(),
            message: message.into(),
            suggestion: None,
        }
    }

    /// With advice how to mend it.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// Only a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The order in which problems are shown.
    pub fn order(&self) -> (&str, usize, usize, &str) {
        (&self.file, self.line, self.col, &self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.col)?;
        }
        f.write_str(if self.severity == Severity::Warning { ": warning: " } else { ": " })?;
        f.write_str(&self.message)?;
        let suggestion = self.suggestion.as_deref().unwrap_or_default();
        if self.source.is_empty() {
            if !suggestion.is_empty() {
                write!(f, "\n   = {suggestion}")?;
            }
            return Ok(());
        }
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs are shown as one blank, so that the carets stand under what they mean.
        let source = self.source.replace('\t', " ");
        let room = source.chars().count().saturating_sub(self.col.saturating_sub(1)).max(1);
        let carets = "^".repeat(self.length.min(room));
        let lead = " ".repeat(self.col.saturating_sub(1).min(SHOWN_LINE_CHARS_MAX));
        write!(f, "\n{gutter} |\n{number} | {source}\n{gutter} | {lead}{carets}")?;
        if !suggestion.is_empty() {
            write!(f, " {suggestion}")?;
        }
        Ok(())
    }
}

/// All problems, sorted by position, with a blank line between.
pub fn render(problems: &[Problem]) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by(|one, other| one.order().cmp(&other.order()));
    let texts: Vec<String> = sorted.iter().map(ToString::to_string).collect();
    texts.join("\n\n")
}

/// The one of `known` that `given` was probably meant to be: few edits away, measured against its length.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (given.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(given, candidate), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(one: &str, other: &str) -> usize {
    let left: Vec<char> = one.chars().take(64).collect();
    let right: Vec<char> = other.chars().take(64).collect();
    let mut older: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, against) in right.iter().enumerate() {
            let at = |line: &[usize], place: usize| line.get(place).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&above, column) + usize::from(letter != against);
            let mut best = replaced.min(at(&above, column + 1) + 1).min(at(&current, column) + 1);
            let swapped = column > 0 && row > 0 && left.get(row - 1) == Some(against) && right.get(column - 1) == Some(letter);
            if swapped {
                best = best.min(at(&older, column - 1) + 1);
            }
            current.push(best);
        }
        older = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}

fn floor_boundary(text: &str, place: usize) -> usize {
    let mut place = place.min(text.len());
    while !text.is_char_boundary(place) {
        place -= 1;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_is_rendered_with_line_carets_and_suggestion() {
        let text = "[imap]\npol_interval = \"30s\"\n";
        let problem = Problem::at("c.toml", text, 7..19, "unknown key `pol_interval` in [imap]").suggest("did you mean `poll_interval`?");
        assert_eq!(
            problem.to_string(),
            "c.toml:2:1: unknown key `pol_interval` in [imap]\n  |\n2 | pol_interval = \"30s\"\n  | ^^^^^^^^^^^^ did you mean `poll_interval`?"
        );
    }

    #[test]
    fn suggestions_are_near_or_none() {
        assert_eq!(did_you_mean("pol_interval", ["poll_interval", "port"]), Some("poll_interval"));
        assert_eq!(did_you_mean("adn", ["and", "imap"]), Some("and"));
        assert_eq!(did_you_mean("colour", ["poll_interval", "port"]), None);
    }

    #[test]
    fn place_outside_the_text_does_not_panic() {
        let problem = Problem::at("c.toml", "ä", 1..99, "odd");
        assert_eq!((problem.line, problem.col), (1, 1));
    }
}
