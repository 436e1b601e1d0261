//! Where quoted history and signatures begin in the HTML of mail clients: by the classes and ids that they put around them.

use crate::connector::html::text::convert;
use crate::connector::html::tokens::Attribute;

/// Text of an HTML body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HtmlText {
    /// The text; quoted blocks have `> ` before their lines.
    pub text: String,
    /// Where a whole older mail begins: all behind it is history.
    pub history_at: Option<usize>,
    /// Where a quoted block begins; an answer may stand behind it.
    pub quote_at: Option<usize>,
    /// Where the signature begins.
    pub signature_at: Option<usize>,
}

/// The text of an HTML body and its marks, in linear time.
pub fn to_text(html: &str) -> HtmlText {
    let (text, found) = convert(html, &[begins_history, begins_quote, begins_signature]);
    let at = |mark: usize| found.get(mark).copied().flatten();
    HtmlText { history_at: at(0), quote_at: at(1), signature_at: at(2), text }
}

fn has_class(value: &str, known: &[&str]) -> bool {
    value.split_ascii_whitespace().any(|class| known.contains(&class))
}

/// Marks that programs put before an older mail which follows whole.
fn begins_history(name: &str, attributes: &[Attribute]) -> bool {
    attributes.iter().any(|Attribute { name: attribute, value }| match attribute.as_str() {
        // Outlook on the web, mobile and for the Mac; Zimbra
        "id" => matches!(
            *value,
            "divRplyFwdMsg"
                | "x_divRplyFwdMsg"
                | "appendonsend"
                | "OLK_SRC_BODY_SECTION"
                | "mail-editor-reference-message-container"
                | "ms-outlook-mobile-body-separator-line"
                | "ms-outlook-mobile-reference-message"
                | "zwchr"
        ),
        "data-marker" => value.starts_with("__DIVIDER__") || value.starts_with("__HEADERS__"),
        "style" => name == "div" && is_outlook_line(value) || name == "hr" && value.contains("width:98%"),
        _ => false,
    })
}

/// Outlook for Windows: the line above From, in the colour of its year.
fn is_outlook_line(style: &str) -> bool {
    let style: String = style.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    style.contains("border-top:solid#") && style.contains("1.0pt") && style.contains("padding:3.0pt")
}

/// Marks that programs put around quoted blocks.
fn begins_quote(name: &str, attributes: &[Attribute]) -> bool {
    attributes.iter().any(|Attribute { name: attribute, value }| match attribute.as_str() {
        // Gmail, Yahoo, Thunderbird, Proton, Zoho, Tuta, Yandex, Front, Freshdesk
        "class" => {
            has_class(
                value,
                &[
                    "gmail_quote",
                    "gmail_quote_container",
                    "gmail_extra",
                    "yahoo_quoted",
                    "yahoo-quoted-begin",
                    "moz-cite-prefix",
                    "moz-forward-container",
                    "protonmail_quote",
                    "zmail_extra",
                    "tutanota_quote",
                    "front-blockquote",
                    "freshdesk_quote",
                ],
            ) || value.ends_with("wmi-quote")
        }
        "id" => value.starts_with("yahoo_quoted"),
        // GMX and web.de, Spark
        "name" => matches!(*value, "quote" | "messageReplySection"),
        // Apple Mail, Thunderbird
        "type" => name == "blockquote" && value.eq_ignore_ascii_case("cite"),
        _ => false,
    })
}

fn begins_signature(_: &str, attributes: &[Attribute]) -> bool {
    attributes.iter().any(|Attribute { name: attribute, value }| match attribute.as_str() {
        "class" => has_class(value, &["gmail_signature", "gmail_signature_prefix", "moz-signature", "protonmail_signature_block"]),
        "id" => matches!(
            *value,
            "Signature"
                | "signature"
                | "x_Signature"
                | "ms-outlook-mobile-signature"
                | "AppleMailSignature"
                | "lineBreakAtBeginningOfSignature"
                | "composer_signature"
        ),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_mail_clients_are_found() {
        let gmail = to_text("<div>New</div><div class=\"gmail_quote\">On Monday X wrote:<blockquote>old</blockquote></div>");
        assert_eq!(gmail.quote_at, Some("New\n".len()));
        let outlook = to_text("<p>New</p><div style='border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt'><b>From:</b> x</div>");
        assert_eq!(outlook.history_at, Some("New\n\n".len()));
    }
}
