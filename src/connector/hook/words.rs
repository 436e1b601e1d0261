//! Words: what a hook answers, with the channel's own settings in it (`{setting:NAME}`), written as the answer's content type wants.

use serde_json::{Map, Value};

use crate::connector::manifest::{Answer, Respond};

const OPEN: &str = "{setting:";

/// The answers of a channel.
///
/// # Errors
/// A setting that is named and not declared.
pub(crate) fn filled(respond: &Respond, settings: &Map<String, Value>) -> Result<Respond, String> {
    let one = |answer: &Answer| -> Result<Answer, String> { Ok(Answer { body: fill(answer, settings)?, ..answer.clone() }) };
    Ok(Respond {
        accepted: one(&respond.accepted)?,
        ignored: respond.ignored.as_ref().map(one).transpose()?,
        refused: respond.refused.as_ref().map(one).transpose()?,
        overload: respond.overload.as_ref().map(one).transpose()?,
        browser: respond.browser.clone(),
    })
}

fn fill(answer: &Answer, settings: &Map<String, Value>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = answer.body.as_str();
    while let Some((lead, tail)) = rest.split_once(OPEN) {
        let (name, after) = tail.split_once('}').ok_or("a `{setting:` without its `}`")?;
        let value = settings.get(name).ok_or_else(|| format!("names the setting `{name}`, which is not declared"))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        out.push_str(lead);
        out.push_str(&escaped(&text, answer.content_type.as_deref().unwrap_or_default()));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// A text inside of quotes of JSON, or as text of XML and HTML; plain text as it is.
fn escaped(text: &str, content_type: &str) -> String {
    if content_type.contains("json") {
        let quoted = Value::from(text).to_string();
        return quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned();
    }
    if content_type.contains("xml") || content_type.contains("html") {
        return text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(content_type: &str, body: &str, expected: &str) {
        let answer = Answer { status: 200, content_type: Some(content_type.to_owned()), body: body.to_owned() };
        let settings = json!({"thanks": "\"Danke\" <b> & Gruß\n", "number": 7, "none": null});
        assert_eq!(fill(&answer, settings.as_object().unwrap()).unwrap(), expected);
    }

    #[test]
    fn settings_are_written_as_the_content_type_wants() {
        check("application/json", r#"{"text":"{setting:thanks}","n":{setting:number}}"#, r#"{"text":"\"Danke\" <b> & Gruß\n","n":7}"#);
        check("text/xml", "<Message>{setting:thanks}</Message>", "<Message>&quot;Danke&quot; &lt;b&gt; &amp; Gruß\n</Message>");
        check("text/plain", "{setting:thanks}{setting:none}", "\"Danke\" <b> & Gruß\n");
        let undeclared = Answer { status: 200, content_type: None, body: "{setting:x}".to_owned() };
        assert!(fill(&undeclared, &Map::new()).unwrap_err().contains("`x`"));
    }
}
