//! What the gateway adds to jq: times, texts of the platforms, addresses, digests, `ignored`.
//!
//! Each is documented in `connectors/lib/omnigate.jq`, where most stand as plain jq for use at a desk.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha1::Digest;

use crate::connector::html;
use crate::connector::jq::natives::{Plain, arg, plain, text_of};
use crate::connector::jq::ops::Error;
use crate::connector::jq::share::Text;
use crate::connector::jq::val::Val;
use crate::connector::text;
use crate::model::time::Time;

type Made = Result<Val, Error>;

/// Unix milliseconds from here on; smaller numbers are seconds. 10^12 is 2001 in ms and the year 33658 in s.
const MS_FROM: f64 = 1e12;

/// The functions.
pub static NATIVES: [Plain; 24] = [
    plain!("time_s", 0, |value, _| time(value, 1000.0)),
    plain!("time_ms", 0, |value, _| time(value, 1.0)),
    plain!("time_us", 0, |value, _| time(value, 0.001)),
    plain!("time_auto", 0, |value, _| time_auto(value)),
    plain!("time_iso", 0, |value, _| time_text(value, |text| Time::parse(text).map(|time| time.0))),
    plain!("time_rfc2822", 0, |value, _| time_text(value, text::rfc2822_ms)),
    plain!("html_text", 0, |value, _| text_map(value, html::to_text)),
    plain!("md_text", 0, |value, _| text_map(value, text::markdown)),
    plain!("slack_text", 0, |value, _| text_map(value, text::slack)),
    plain!("telegram_text", 1, |value, all| telegram(value, arg(all, 0))),
    plain!("strip_mention", 1, |value, all| strip_mention(value, arg(all, 0))),
    plain!("utf16_slice", 2, |value, all| slice(value, arg(all, 0), arg(all, 1), text::utf16_slice)),
    plain!("utf8_slice", 2, |value, all| slice(value, arg(all, 0), arg(all, 1), text::utf8_slice)),
    plain!("digits", 0, |value, _| optional(value, |text| Some(text.chars().filter(char::is_ascii_digit).collect()))),
    plain!("phone_e164", 0, |value, _| optional(value, |text| text::phone_e164(text, None))),
    plain!("phone_e164", 1, |value, all| optional(value, |text| text::phone_e164(text, arg(all, 0).as_str()))),
    plain!("email_addr", 0, |value, _| optional(value, text::email_address)),
    plain!("sha256", 0, |value, _| text_map(value, |text| text::hex(&sha2::Sha256::digest(text.as_bytes())))),
    plain!("hmac_sha256", 1, |value, all| hmac_sha256(value, arg(all, 0))),
    plain!("base64", 0, |value, _| text_map(value, |text| STANDARD.encode(text))),
    plain!("base64d", 0, |value, _| base64d(value)),
    plain!("hex", 0, |value, _| text_map(value, |text| text::hex(text.as_bytes()))),
    plain!("uuid5", 1, |value, all| uuid5(value, arg(all, 0))),
    plain!("ignored", 1, |_, all| Ok(ignored(arg(all, 0)))),
];

fn text_map(value: &Val, f: impl Fn(&str) -> String) -> Made {
    match value {
        Val::Null => Ok(Val::Null),
        other => Ok(Val::text(f(text_of(other)?))),
    }
}

fn optional(value: &Val, f: impl Fn(&str) -> Option<String>) -> Made {
    match value {
        Val::Null => Ok(Val::Null),
        Val::Int(number) => Ok(f(&number.to_string()).map_or(Val::Null, Val::text)),
        other => Ok(f(text_of(other)?).map_or(Val::Null, Val::text)),
    }
}

/// A number, or text of one; the decimals of Slack's `ts` are cut, not rounded.
fn numeric(value: &Val) -> Result<Option<f64>, Error> {
    match value {
        Val::Null => Ok(None),
        Val::Str(_) => Ok(text_of(value)?.trim().parse::<f64>().ok().filter(|number| number.is_finite())),
        other => other.number().map(Some).ok_or_else(|| Error::str(format_args!("{other} is not a time"))),
    }
}

fn time(value: &Val, to_ms: f64) -> Made {
    Ok(numeric(value)?.map_or(Val::Null, |number| Val::Int((number * to_ms).floor() as i64)))
}

fn time_auto(value: &Val) -> Made {
    Ok(numeric(value)?.map_or(Val::Null, |number| Val::Int(if number.abs() >= MS_FROM { number } else { number * 1000.0 }.floor() as i64)))
}

fn time_text(value: &Val, f: impl Fn(&str) -> Option<i64>) -> Made {
    match value {
        Val::Null => Ok(Val::Null),
        other => Ok(f(text_of(other)?).map_or(Val::Null, Val::Int)),
    }
}

fn telegram(value: &Val, entities: &Val) -> Made {
    if matches!(value, Val::Null) {
        return Ok(Val::Null);
    }
    let mut links = Vec::new();
    if let Val::Arr(list) = entities {
        for entity in &list.items {
            let place = |name: &str| entity.member(name).and_then(Val::number).unwrap_or(0.0).max(0.0) as usize;
            if let Some(url) = entity.member("url").and_then(Val::as_str) {
                links.push((place("offset").saturating_add(place("length")), url));
            }
        }
    }
    Ok(Val::text(text::telegram(text_of(value)?, &links)))
}

fn strip_mention(value: &Val, ids: &Val) -> Made {
    let ids: Vec<&str> = match ids {
        Val::Arr(list) => list.items.iter().filter_map(Val::as_str).collect(),
        Val::Str(_) => ids.as_str().into_iter().collect(),
        _ => Vec::new(),
    };
    text_map(value, |text| text::strip_mention(text, &ids))
}

fn slice(value: &Val, start: &Val, end: &Val, cut: fn(&str, usize, usize) -> &str) -> Made {
    let bound = |value: &Val| value.number().unwrap_or(0.0).max(0.0) as usize;
    text_map(value, |text| cut(text, bound(start), bound(end)).to_owned())
}

fn hmac_sha256(value: &Val, key: &Val) -> Made {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(text_of(key)?.as_bytes()).map_err(|_| Error::str("the key has no length"))?;
    mac.update(text_of(value)?.as_bytes());
    Ok(Val::text(text::hex(&mac.finalize().into_bytes())))
}

fn base64d(value: &Val) -> Made {
    let text = text_of(value)?.trim_end_matches('=');
    let standard: String = text
        .chars()
        .map(|letter| {
            if letter == '+' {
                '-'
            } else if letter == '/' {
                '_'
            } else {
                letter
            }
        })
        .collect();
    let bytes = URL_SAFE_NO_PAD.decode(standard).map_err(|_| Error::str("the text is not base64"))?;
    Ok(Val::text(String::from_utf8_lossy(&bytes)))
}

/// RFC 9562 §5.5; the argument is the namespace, as a UUID.
fn uuid5(value: &Val, namespace: &Val) -> Made {
    let digits: String = text_of(namespace)?.chars().filter(char::is_ascii_hexdigit).collect();
    let space =
        u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).ok_or_else(|| Error::str("the namespace is not a UUID"))?;
    let mut hash = sha1::Sha1::new();
    hash.update(space.to_be_bytes());
    hash.update(text_of(value)?.as_bytes());
    let mut id = [0u8; 16];
    id.copy_from_slice(hash.finalize().get(..16).unwrap_or(&[0; 16]));
    let mut number = u128::from_be_bytes(id);
    number = number & !(0xf << 76) | (0x5 << 76);
    number = number & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(Val::text(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))))
}

fn ignored(code: &Val) -> Val {
    let member = |key: &'static str, value: Val| (Text::fixed(key), value);
    Val::object([member("kind", Val::Str(Text::fixed("ignore"))), member("code", code.clone())].into_iter().collect())
}
