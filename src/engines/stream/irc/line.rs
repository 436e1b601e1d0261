//! Lines of IRC (RFC 1459 §2.3.1, IRCv3 message tags).

/// A line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    tags: &'a str,
    /// The nick of who sent it, or a server's name.
    pub from: &'a str,
    /// The command, or three digits.
    pub command: &'a str,
    /// Its parameters, the last with its spaces.
    pub params: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// Takes a line apart; `None` if it has no command.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (tags, rest) = match text.strip_prefix('@') {
            Some(tagged) => tagged.split_once(' ')?,
            None => ("", text),
        };
        let rest = rest.trim_start();
        let (source, rest) = match rest.strip_prefix(':') {
            Some(sourced) => sourced.split_once(' ')?,
            None => ("", rest),
        };
        let (head, last) = match rest.split_once(" :") {
            Some((head, last)) => (head, Some(last)),
            None => (rest, None),
        };
        let mut words = head.split_ascii_whitespace();
        let command = words.next()?;
        let params = words.chain(last).collect();
        Some(Self { tags, from: source.split('!').next().unwrap_or_default(), command, params })
    }

    /// The value of a tag, as it is written.
    pub fn tag(&self, name: &str) -> Option<&'a str> {
        let pairs = self.tags.split(';').map(|tag| tag.split_once('=').unwrap_or((tag, "")));
        pairs.into_iter().find(|(known, value)| *known == name && !value.is_empty()).map(|(_, value)| value)
    }

    /// A parameter; empty if it is missing.
    pub fn param(&self, at: usize) -> &'a str {
        self.params.get(at).copied().unwrap_or_default()
    }
}

/// A name as names are compared: `rfc1459`, which all other casemappings are a part of.
pub fn folded(name: &str) -> String {
    let fold = |char: char| match char {
        '[' => '{',
        ']' => '}',
        '\\' => '|',
        '^' => '~',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

/// Whether something can stand in a line as a parameter of its own: nothing of the admin's breaks out of its line.
pub fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(':') && !text.chars().any(|char| char.is_whitespace() || char.is_control() || char == ',')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = Line::parse("@time=2026-01-01T00:00:00.000Z;msgid=a :zoe!z@host PRIVMSG #help :where is: it").unwrap();
        assert_eq!((line.from, line.command, line.params.as_slice()), ("zoe", "PRIVMSG", &["#help", "where is: it"][..]));
        assert_eq!((line.tag("msgid"), line.tag("time"), line.tag("none")), (Some("a"), Some("2026-01-01T00:00:00.000Z"), None));
        assert_eq!(Line::parse("PING :x").unwrap().params, ["x"]);
        assert_eq!(Line::parse(":server 001 me :hi").unwrap().param(0), "me");
        for broken in ["", "@a", ":x", "@a :b", "   "] {
            assert_eq!(Line::parse(broken), None, "{broken:?}");
        }
        assert_eq!(folded("Zoe[x]"), "zoe{x}");
        assert!(is_word("#help") && !is_word("a\r\nQUIT") && !is_word("a b") && !is_word(""));
    }
}
