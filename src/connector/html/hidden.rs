//! Elements that nobody sees: preheaders of newsletters, copies for other screens, marks of programs.
//!
//! Nothing is nested by the tokens, so a hidden element is believed only when its end is found: what looks hidden to the end of the
//! text is shown. Whatever is in doubt is shown, because words must not be lost.

use crate::connector::html::tokens::Attribute;

/// Deepest nesting inside of a hidden element that is followed; deeper, it is shown.
const DEPTH_MAX: usize = 256;

/// Elements without an end.
const VOID: [&str; 13] = ["br", "hr", "img", "wbr", "col", "input", "meta", "link", "area", "base", "embed", "source", "track"];

/// Elements whose end ends whatever was left open inside of them.
const CONTAINERS: [&str; 12] = ["td", "th", "tr", "tbody", "table", "div", "center", "section", "li", "ul", "body", "html"];

/// Whether a hidden element has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum After {
    /// It goes on.
    Inside,
    /// With this token, which belongs to it.
    Ended,
    /// Before this token.
    EndedBefore,
    /// It cannot be followed: take it as shown.
    Lost,
}

/// The way through a hidden element.
pub struct Region {
    open: Vec<String>,
}

impl Region {
    /// Begins at an element; `None` if it has no content.
    pub fn begin(name: &str) -> Option<Self> {
        (!is_void(name)).then(|| Self { open: vec![name.to_owned()] })
    }

    /// An element begins.
    pub fn start(&mut self, name: &str) -> After {
        // A paragraph ends at the next one, and so on: the mark-up says it only once.
        let ends_itself = matches!(name, "p" | "li" | "td" | "th" | "tr" | "dt" | "dd" | "option");
        if ends_itself && self.open.last().is_some_and(|last| last == name) {
            if self.open.len() == 1 {
                return After::EndedBefore;
            }
            return After::Inside;
        }
        if is_void(name) {
            return After::Inside;
        }
        if self.open.len() >= DEPTH_MAX {
            return After::Lost;
        }
        self.open.push(name.to_owned());
        After::Inside
    }

    /// An element ends.
    pub fn end(&mut self, name: &str) -> After {
        match self.open.iter().rposition(|open| open == name) {
            Some(0) => After::Ended,
            Some(at) => {
                self.open.truncate(at);
                After::Inside
            }
            None if CONTAINERS.contains(&name) => After::EndedBefore,
            None => After::Inside,
        }
    }
}

/// An element without an end.
pub fn is_void(name: &str) -> bool {
    VOID.contains(&name)
}

/// Whether the attributes of an element hide it.
pub fn hides(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|one| one.name == "hidden" || one.name == "style" && is_hiding(one.value))
}

/// Whether a style hides an element. Letters of no size alone do not: whole tables are built so, and their cells have letters again.
/// `mso-hide` alone does not either: it hides from Outlook only.
fn is_hiding(style: &str) -> bool {
    let style: String = style.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let (mut no_height, mut tiny, mut clipped, mut clear, mut from_outlook) = (false, false, false, false, false);
    for (property, value) in style.split(';').filter_map(|one| one.split_once(':')) {
        let value = value.trim_end_matches("!important");
        match property {
            "display" if value == "none" => return true,
            "visibility" if value == "hidden" => return true,
            "max-height" | "height" | "max-width" | "width" => no_height |= is_nothing(value),
            "font-size" => tiny = is_nothing(value) || value == "1px",
            "overflow" => clipped = value == "hidden",
            "opacity" => clear = is_nothing(value),
            "mso-hide" => from_outlook = value == "all",
            _ => {}
        }
    }
    no_height && (clipped || tiny || clear) || tiny && (clear || from_outlook)
}

/// `0`, `0px`, `0.0em`.
fn is_nothing(value: &str) -> bool {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    !digits.is_empty() && digits.chars().all(|c| matches!(c, '0' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_that_hide() {
        for style in [
            "display:none",
            "color:#fff; DISPLAY : None !important; mso-hide:all",
            "visibility: hidden",
            "max-height:0; overflow:hidden",
            "max-height:0px;font-size:0px",
            "font-size:1px;line-height:1px;opacity:0",
            "font-size:0;mso-hide:all",
        ] {
            assert!(is_hiding(style), "{style}");
        }
    }

    #[test]
    fn styles_that_do_not() {
        for style in [
            "font-size:0px;padding:10px",
            "mso-hide:all",
            "display:block",
            "width:0",
            "max-height:10px;overflow:hidden",
            "border:0;overflow:hidden",
            "font-size:10px;opacity:0.5",
            "display",
            "",
        ] {
            assert!(!is_hiding(style), "{style}");
        }
    }
}
