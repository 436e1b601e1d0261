//! Where quoted history and signatures begin in the HTML of mail clients: by the classes and ids that they put around them.

use crate::connector::html::text::convert;
use crate::connector::html::tokens::Attribute;

/// Text of an HTML body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HtmlText {
    /// The text; quoted blocks have `> ` before their lines.
    pub text: String,
    /// Where the quoted history begins by the marks of a mail client.
    pub quote_at: Option<usize>,
    /// Where the signature begins by the marks of a mail client.
    pub signature_at: Option<usize>,
}

/// The text of an HTML body and its marks, in linear time.
pub fn to_text(html: &str) -> HtmlText {
    let (text, found) = convert(html, &[begins_quote, begins_signature]);
    let at = |mark: usize| found.get(mark).copied().flatten();
    HtmlText { quote_at: at(0), signature_at: at(1), text }
}

/// Marks that mail clients put around quoted history.
fn begins_quote(name: &str, attributes: &[Attribute]) -> bool {
    attributes.iter().any(|Attribute { name: attribute, value }| match attribute.as_str() {
        // Gmail, Yahoo, Thunderbird, Proton, Zoho
        "class" => value.split_ascii_whitespace().any(|class| {
            matches!(
                class,
                "gmail_quote"
                    | "gmail_quote_container"
                    | "gmail_extra"
                    | "yahoo_quoted"
                    | "moz-cite-prefix"
                    | "protonmail_quote"
                    | "zmail_extra"
            )
        }),
        // Outlook on the web, mobile and for the Mac, Yahoo
        "id" => {
            matches!(
                *value,
                "divRplyFwdMsg"
                    | "appendonsend"
                    | "OLK_SRC_BODY_SECTION"
                    | "mail-editor-reference-message-container"
                    | "ms-outlook-mobile-body-separator-line"
            ) || value.starts_with("yahoo_quoted")
        }
        // Apple Mail, Thunderbird
        "type" => name == "blockquote" && value.eq_ignore_ascii_case("cite"),
        // Outlook for Windows: the line above From:
        "style" => name == "div" && is_outlook_line(value),
        _ => false,
    })
}

fn is_outlook_line(style: &str) -> bool {
    style.contains("border-top:solid #B5C4DF 1.0pt") || style.contains("border-top:solid #E1E1E1 1.0pt")
}

fn begins_signature(_: &str, attributes: &[Attribute]) -> bool {
    attributes.iter().any(|Attribute { name: attribute, value }| match attribute.as_str() {
        "class" => {
            value.split_ascii_whitespace().any(|class| matches!(class, "gmail_signature" | "moz-signature" | "protonmail_signature_block"))
        }
        "id" => matches!(
            *value,
            "Signature" | "signature" | "ms-outlook-mobile-signature" | "AppleMailSignature" | "lineBreakAtBeginningOfSignature"
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
        assert_eq!(outlook.quote_at, Some("New\n\n".len()));
    }
}
