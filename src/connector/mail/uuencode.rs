//! Files inside of a text, as mailers sent them before MIME, and some still do: `begin 644 name`, lines of data, `end`.
//!
//! One pass. What is not such a block through and through stays text.

use std::ops::Range;

/// Most files that are looked for in one text.
const FILES_MAX: usize = 50;
/// Longest line of data (45 bytes are 61 characters), with room for a check mark behind it.
const LINE_BYTES_MAX: usize = 90;

/// A file inside of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enclosed {
    /// From `begin` to the line break behind `end`, in the text.
    pub block: Range<usize>,
    /// Its name, as it stands.
    pub name: Vec<u8>,
}

/// The files inside of a text, in order.
pub fn find(text: &[u8]) -> Vec<Enclosed> {
    let mut found = Vec::new();
    let mut from = 0;
    while found.len() < FILES_MAX {
        let Some(at) = memchr::memmem::find(text.get(from..).unwrap_or_default(), b"begin ").map(|at| at + from) else { break };
        let begins_line = at == 0 || text.get(at - 1) == Some(&b'\n');
        // A line of data has no small letters, so the next `begin` ends the search for this one's end: one pass.
        match block(text, at).filter(|_| begins_line) {
            Some(enclosed) => {
                from = enclosed.block.end;
                found.push(enclosed);
            }
            None => from = at + b"begin ".len(),
        }
    }
    found
}

/// The text without the blocks of these files.
pub fn without<'t>(text: &'t [u8], files: &[Enclosed]) -> Vec<&'t [u8]> {
    let ends = files.iter().map(|file| file.block.start).chain([text.len()]);
    let starts = std::iter::once(0).chain(files.iter().map(|file| file.block.end));
    starts.zip(ends).filter_map(|(start, end)| text.get(start..end)).collect()
}

fn block(text: &[u8], start: usize) -> Option<Enclosed> {
    let mut lines = text.get(start..)?.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next()?;
    let mut words = first.splitn(3, |byte| *byte == b' ').skip(1);
    let mode = words.next()?;
    let name = words.next()?.trim_ascii();
    if !(3..=4).contains(&mode.len()) || !mode.iter().all(|byte| matches!(byte, b'0'..=b'7')) || name.is_empty() {
        return None;
    }
    let (mut end, mut data) = (start + first.len(), 0);
    for line in lines {
        end += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii_end() == b"end" {
            return (data > 0).then(|| Enclosed { block: start..end, name: name.to_vec() });
        }
        data += data_bytes(line)?;
    }
    None
}

/// How many bytes a line stands for; `None` if it is none of data. Spaces at its end are often lost on the way.
fn data_bytes(line: &[u8]) -> Option<usize> {
    let Some((length, digits)) = line.split_first() else { return Some(0) };
    let is_digit = |byte: &u8| matches!(byte, b' '..=b'`');
    let bytes = usize::from(length.wrapping_sub(b' ') & 0x3f);
    let most = bytes.div_ceil(3) * 4 + 2;
    (is_digit(length) && line.len() <= LINE_BYTES_MAX && digits.len() <= most && digits.iter().all(is_digit)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, names: &[&str], rest: &str) {
        let found = find(text.as_bytes());
        let told: Vec<_> = found.iter().map(|file| String::from_utf8_lossy(&file.name).into_owned()).collect();
        assert_eq!(told, names);
        assert_eq!(String::from_utf8_lossy(&without(text.as_bytes(), &found).concat()), rest);
    }

    #[test]
    fn blocks_are_found_and_the_text_around_them_stays() {
        check("See:\r\nbegin 644 my file.txt\r\n%2&%L;&\\\r\n`\r\nend\r\nBye\r\n", &["my file.txt"], "See:\r\nBye\r\n");
        check("begin 0644 a\n#86)C\n\nend\nbegin 600 b\n#86)C\n`\nend", &["a", "b"], "");
    }

    #[test]
    fn what_only_looks_like_one_is_text() {
        for text in [
            "To begin 644 a\n#86)C\n`\nend\n",
            "begin 644 a\n#86)C\n",
            "begin 644 a\nplain words\nend\n",
            "begin 999 a\n#86)C\n`\nend\n",
            "begin 644 \n#86)C\n`\nend\n",
            "begin 644 a\nend\n",
        ] {
            check(text, &[], text);
        }
    }
}
