//! Secrets: `{ env = "…" }` or `{ file = "…" }`, never the secret itself in the file.

use std::ops::Range;

use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::read::Reading;
use crate::config::settings::SecretPlace;
use crate::connector::problem::did_you_mean;

/// Where a secret that the gateway makes by itself is kept.
pub fn read_place(reading: &mut Reading<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<SecretPlace> {
    match value.get_ref() {
        DeValue::Table(table) => place(reading, name, table, value.span()),
        _ => inline(reading, name, value),
    }
}

/// One secret, or a list of them; resolved.
pub fn read_secrets(reading: &mut Reading<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Vec<SecretString>> {
    match value.get_ref() {
        DeValue::Array(list) => {
            if list.is_empty() {
                reading.wrong(value.span(), format!("`{name}` must name at least one secret"), None);
                return None;
            }
            let secrets: Vec<Option<SecretString>> = list.iter().map(|entry| read_secret(reading, name, entry)).collect();
            secrets.into_iter().collect()
        }
        _ => read_secret(reading, name, value).map(|secret| vec![secret]),
    }
}

/// A header field: a text, or a secret.
pub fn read_header(
    reading: &mut Reading<'_>,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Option<(String, SecretString)> {
    let field = name.get_ref().to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if field.is_empty() || !field.bytes().all(token) {
        reading.wrong(name.span(), format!("`{field}` is not a header name"), None);
        return None;
    }
    if field.starts_with("webhook-")
        || field.starts_with("omnigate-")
        || matches!(field.as_str(), "content-length" | "content-type" | "host")
    {
        reading.wrong(name.span(), format!("the header `{field}` is set by the gateway"), None);
        return None;
    }
    let secret = match value.get_ref() {
        DeValue::String(_) if matches!(field.as_str(), "authorization" | "cookie" | "x-api-key") => return inline(reading, &field, value),
        DeValue::String(text) => SecretString::from(text.to_string()),
        _ => read_secret(reading, &field, value)?,
    };
    let visible = secrecy::ExposeSecret::expose_secret(&secret).bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    if !visible {
        reading.wrong(value.span(), format!("the value of the header `{field}` holds control characters"), None);
        return None;
    }
    Some((field, secret))
}

fn read_secret(reading: &mut Reading<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<SecretString> {
    let DeValue::Table(table) = value.get_ref() else {
        return inline(reading, name, value);
    };
    let place = place(reading, name, table, value.span())?;
    let found = match &place {
        SecretPlace::Env(variable) => {
            reading.source.env(variable).ok_or_else(|| format!("the environment variable {variable} of `{name}` is not set"))
        }
        SecretPlace::File(path) => {
            let shown = path.display();
            if reading.source.open_to_others(path) {
                let advice = format!("chmod 600 {shown}");
                reading.warn(value.span(), format!("the file of `{name}` can be read by others than its owner"), &advice);
            }
            match reading.source.read(path).map(String::from_utf8) {
                Ok(Ok(text)) => Ok(text.strip_suffix('\n').map(|cut| cut.strip_suffix('\r').unwrap_or(cut)).unwrap_or(&text).to_owned()),
                Ok(Err(_)) => Err(format!("the file {shown} of `{name}` is not UTF-8")),
                Err(error) => Err(format!("the file {shown} of `{name}` cannot be read: {}", error_text(&error))),
            }
        }
    };
    match found {
        Ok(text) if text.is_empty() => unset(reading, value.span(), format!("the secret `{name}` is empty")),
        Ok(text) => Some(SecretString::from(text)),
        Err(why) => unset(reading, value.span(), why),
    }
}

fn unset<T>(reading: &mut Reading<'_>, span: Range<usize>, message: String) -> Option<T> {
    reading.unset_secrets += 1;
    reading.wrong(span, message, None);
    None
}

fn place(reading: &mut Reading<'_>, name: &str, table: &DeTable<'_>, span: Range<usize>) -> Option<SecretPlace> {
    let entries: Vec<_> = table.iter().collect();
    let [(word, value)] = entries.as_slice() else {
        reading.masks.push(span.clone());
        reading.wrong(span, format!("`{name}` must be either {{ env = \"…\" }} or {{ file = \"…\" }}"), None);
        return None;
    };
    match (word.get_ref().as_ref(), value.get_ref()) {
        ("env", DeValue::String(variable)) if !variable.is_empty() => Some(SecretPlace::Env(variable.to_string())),
        ("file", DeValue::String(path)) if !path.is_empty() => Some(SecretPlace::File(reading.path(path))),
        (given, _) => {
            reading.masks.push(value.span());
            let near = did_you_mean(given, ["env", "file"]).filter(|near| *near != given).map(|near| format!("did you mean `{near}`?"));
            reading.wrong(word.span(), format!("`{name}` must be {{ env = \"…\" }} or {{ file = \"…\" }}"), near);
            None
        }
    }
}

/// A secret that stands in the file itself is refused: files are copied, committed and mailed.
fn inline<T>(reading: &mut Reading<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
    reading.masks.push(value.span());
    let full = if reading.owner.is_empty() { name.to_owned() } else { format!("{}_{name}", reading.owner) };
    let variable: String =
        full.to_ascii_uppercase().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    let advice =
        format!("write {{ env = \"{variable}\" }} or {{ file = \"{}.secret\" }}", full.trim_end_matches("_secret").replace('_', "-"));
    reading.wrong(value.span(), format!("the secret `{name}` must not stand in this file"), Some(advice));
    None
}

/// The reason of a failed read, without the number of the operating system.
pub fn error_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
