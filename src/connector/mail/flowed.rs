//! `format=flowed` (RFC 3676): lines that were broken by the sender's program are joined again, so that a text has the lines its
//! author wrote. Linear time.

/// Joins soft-broken lines. `delsp`: the space at a soft break is no part of the text (RFC 3676 §4.2).
pub fn join(text: &str, delsp: bool) -> String {
    let mut out = String::with_capacity(text.len());
    // The depth of quoting of the line that goes on; `None` at the start of a paragraph.
    let mut open: Option<usize> = None;
    for line in text.split('\n') {
        let depth = line.bytes().take_while(|byte| *byte == b'>').count();
        let content = line.get(depth..).unwrap_or_default();
        // §4.4: a space was put before lines that would be taken for something else.
        let content = content.strip_prefix(' ').unwrap_or(content);
        // §4.5: a change of depth ends a paragraph, however its last line ends; so does the line before a signature.
        let signature = content == "-- ";
        if open.is_some_and(|before| before != depth || signature) {
            end_line(&mut out);
            open = None;
        }
        if open.is_none() && depth > 0 {
            out.extend(std::iter::repeat_n('>', depth));
            out.push(' ');
        }
        let soft = content.ends_with(' ') && !signature;
        out.push_str(if soft && delsp { content.get(..content.len() - 1).unwrap_or_default() } else { content });
        if soft {
            open = Some(depth);
        } else {
            out.push('\n');
            open = None;
        }
    }
    // `split` gives one line more than there are line ends.
    if open.is_none() {
        out.pop();
    }
    out
}

fn end_line(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_breaks_are_joined_and_hard_ones_stay() {
        assert_eq!(join("One long \nline.\nNext.\n", false), "One long line.\nNext.\n");
        assert_eq!(join("長い \n行", true), "長い行");
        assert_eq!(join(" From here\n >no quote", false), "From here\n>no quote");
        assert_eq!(join("a\n-- \nAna", false), "a\n-- \nAna");
        assert_eq!(join("soft \n-- \nAna", false), "soft\n-- \nAna");
    }

    #[test]
    fn quotes_keep_their_depth() {
        assert_eq!(join(">> a \n>> b\n> c \nanswer", false), ">> a b\n> c\nanswer");
    }
}
