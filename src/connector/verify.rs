//! Verify: is a request from the platform? Over the raw bytes, before anything of them is used.
//!
//! Kinds are Rust, written once; a manifest chooses one and gives parameters. All comparisons take constant time, a missing
//! part refuses, and a refusal says nothing about why. `hash`, `ed25519`, `ecdsa`, `jwt` and `sns` come as further variants of [`Kind`].

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sha2::Digest;
use subtle::ConstantTimeEq;

use crate::connector::jq;
use crate::connector::manifest::duration;
use crate::model::time::Time;

/// Unix milliseconds from here on (see the rule for `auto`): 10^12 is 2001 in ms and the year 33658 in s.
const MS_FROM: i64 = 1_000_000_000_000;
/// Signatures tried of one header; platforms send one, or two while a secret rotates.
const SIGNATURES_MAX: usize = 8;

/// How requests are verified.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A keyed hash over a text put together from the request.
    Hmac(HmacCheck),
    /// Something in the request is equal to a secret.
    Static(StaticCheck),
}

/// A keyed hash over a text put together from the request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacCheck {
    /// Hash.
    pub algorithm: Algorithm,
    /// Name of the secret.
    pub secret: String,
    /// How the secret is written.
    #[serde(default)]
    pub key: KeyForm,
    /// What is signed.
    #[serde(default = "body_only")]
    pub signed: Template,
    /// Where the signature is.
    pub signature: Signature,
    /// The signed time.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
}

fn body_only() -> Template {
    Template(vec![Part::Body])
}

/// Hash of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// MD5; some platforms have no other.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How a secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyForm {
    /// Its bytes are the key.
    #[default]
    Text,
    /// Hex.
    Hex,
    /// base64.
    Base64,
    /// `whsec_` and base64 (Standard Webhooks).
    Whsec,
}

/// Where a part of the request is. Exactly one must be named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// A header.
    #[serde(default)]
    pub header: Option<String>,
    /// A field of an urlencoded body.
    #[serde(default)]
    pub form: Option<String>,
    /// A place in a JSON body (RFC 6901).
    #[serde(default)]
    pub json: Option<String>,
    /// A parameter of the query.
    #[serde(default)]
    pub query: Option<String>,
    /// Basic credentials: `user:password` as one text.
    #[serde(default)]
    pub basic: bool,
}

/// Where the signature is and how it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// A header.
    #[serde(default)]
    pub header: Option<String>,
    /// A field of an urlencoded body.
    #[serde(default)]
    pub form: Option<String>,
    /// A place in a JSON body.
    #[serde(default)]
    pub json: Option<String>,
    /// A parameter of the query.
    #[serde(default)]
    pub query: Option<String>,
    /// Text before it.
    #[serde(default)]
    pub prefix: String,
    /// How its bytes are written.
    #[serde(default)]
    pub encoding: Encoding,
    /// Several signatures, with this between; any may match.
    #[serde(default)]
    pub split: Option<String>,
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hex, either case.
    #[default]
    Hex,
    /// base64, with or without padding.
    Base64,
    /// base64 for URLs.
    Base64url,
}

/// The signed time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// A header.
    #[serde(default)]
    pub header: Option<String>,
    /// A field of an urlencoded body.
    #[serde(default)]
    pub form: Option<String>,
    /// A place in a JSON body.
    #[serde(default)]
    pub json: Option<String>,
    /// Its unit.
    #[serde(default)]
    pub unit: TimeUnit,
    /// How far it may be off: `5m`, or `none`.
    pub tolerance: Tolerance,
}

/// Unit of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    S,
    /// Milliseconds.
    Ms,
    /// Milliseconds from 10^12 on.
    Auto,
}

/// How far a time may be off, ms; `None`: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Tolerance(pub Option<i64>);

impl TryFrom<String> for Tolerance {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let length = duration(&text).ok_or("expected a duration such as `5m`, or `none`")?;
        Ok(Self(i64::try_from(length.as_millis()).ok()))
    }
}

/// Something in the request is equal to a secret.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticCheck {
    /// Name of the secret.
    pub secret: String,
    /// A header.
    #[serde(default)]
    pub header: Option<String>,
    /// A field of an urlencoded body.
    #[serde(default)]
    pub form: Option<String>,
    /// A place in a JSON body.
    #[serde(default)]
    pub json: Option<String>,
    /// A parameter of the query.
    #[serde(default)]
    pub query: Option<String>,
    /// Basic credentials: `user:password` as one text.
    #[serde(default)]
    pub basic: bool,
    /// Text before it, such as `Bearer `.
    #[serde(default)]
    pub prefix: String,
}

/// What is signed: literal text and parts of the request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Body,
    BodySha256,
    BodySha256Hex,
    Time,
    Url,
    UrlNoQuery,
    QuerySorted,
    FormSorted,
    Place(Place),
}

impl TryFrom<String> for Template {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some(open) = rest.find('{') {
            let (lead, tail) = rest.split_at(open);
            if !lead.is_empty() {
                parts.push(Part::Literal(lead.to_owned()));
            }
            let (token, after) = tail.get(1..).and_then(|tail| tail.split_once('}')).ok_or("a `{` without its `}`")?;
            parts.push(part(token)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

fn part(token: &str) -> Result<Part, String> {
    let named = |name: &str| Some(name.to_owned());
    Ok(match token.split_once(':').unwrap_or((token, "")) {
        ("body", "") => Part::Body,
        ("body.sha256", "") => Part::BodySha256,
        ("body.sha256hex", "") => Part::BodySha256Hex,
        ("ts", "") => Part::Time,
        ("url", "") => Part::Url,
        ("url.noquery", "") => Part::UrlNoQuery,
        ("query.sorted", "k=v&") => Part::QuerySorted,
        ("form.sorted", "kv") => Part::FormSorted,
        ("header", name) if !name.is_empty() => Part::Place(Place { header: named(name), ..Place::default() }),
        ("form", name) if !name.is_empty() => Part::Place(Place { form: named(name), ..Place::default() }),
        ("query", name) if !name.is_empty() => Part::Place(Place { query: named(name), ..Place::default() }),
        ("json", name) if name.starts_with('/') => Part::Place(Place { json: named(name), ..Place::default() }),
        _ => return Err(format!("unknown token `{{{token}}}` in `signed`")),
    })
}

/// A request as verification sees it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Headers, names in lower case.
    pub headers: &'a [(String, String)],
    /// The public URL, for schemes that sign it.
    pub url: &'a str,
    /// The raw bytes.
    pub body: &'a [u8],
}

impl Presented<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    fn json(&self, pointer: &str) -> Option<String> {
        match jq::parse_json(self.body, 128).ok()?.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn at(&self, place: &Place) -> Option<String> {
        let field =
            |text: &[u8], name: &str| url::form_urlencoded::parse(text).find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        if place.basic {
            let credentials = self.header("authorization")?.strip_prefix("Basic ")?;
            return String::from_utf8(engine(Encoding::Base64).decode(credentials.trim()).ok()?).ok();
        }
        match (&place.header, &place.form, &place.json, &place.query) {
            (Some(name), None, None, None) => self.header(name).map(str::to_owned),
            (None, Some(name), None, None) => field(self.body, name),
            (None, None, Some(pointer), None) => self.json(pointer),
            (None, None, None, Some(name)) => field(self.query().as_bytes(), name),
            _ => None,
        }
    }
}

impl Kind {
    /// Reads the parameters of a manifest.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(table: toml::Table) -> Result<Self, String> {
        let kind = match Self::deserialize(toml::Value::Table(table)) {
            Ok(kind) => kind,
            Err(error) => return Err(error.message().replace('\n', " ")),
        };
        let places = match &kind {
            Self::Hmac(check) => {
                let signature = &check.signature;
                let mut all = vec![count([&signature.header, &signature.form, &signature.json, &signature.query])];
                if let Some(time) = &check.timestamp {
                    all.push(count([&time.header, &time.form, &time.json, &None]));
                    if !check.signed.0.contains(&Part::Time) && !names(&check.signed, time) {
                        return Err("the timestamp is not part of `signed`: it would prove nothing".to_owned());
                    }
                }
                all
            }
            Self::Static(check) => vec![count([&check.header, &check.form, &check.json, &check.query]) + usize::from(check.basic)],
        };
        if places.iter().any(|named| *named != 1) {
            return Err("name exactly one of header, form, json, query".to_owned());
        }
        Ok(kind)
    }

    /// Name of the secret it needs.
    pub fn secret(&self) -> &str {
        match self {
            Self::Hmac(check) => &check.secret,
            Self::Static(check) => &check.secret,
        }
    }

    /// The header that carries a secret itself, which must not be kept (I7).
    pub fn secret_header(&self) -> Option<&str> {
        match self {
            Self::Static(check) if check.basic => Some("authorization"),
            Self::Static(check) => check.header.as_deref(),
            Self::Hmac(_) => None,
        }
    }

    /// The query parameter that carries a secret itself.
    pub fn secret_parameter(&self) -> Option<&str> {
        match self {
            Self::Static(check) => check.query.as_deref(),
            Self::Hmac(_) => None,
        }
    }

    /// Whether any of `secrets` proves the request. No secrets: never.
    pub fn proves(&self, request: &Presented<'_>, secrets: &[SecretString], now: Time) -> bool {
        match self {
            Self::Hmac(check) => check.proves(request, secrets, now).unwrap_or(false),
            Self::Static(check) => check.proves(request, secrets).unwrap_or(false),
        }
    }
}

fn count(places: [&Option<String>; 4]) -> usize {
    places.into_iter().flatten().count()
}

/// Whether a template names the place of the timestamp by itself.
fn names(template: &Template, time: &Timestamp) -> bool {
    let place = Place { header: time.header.clone(), form: time.form.clone(), json: time.json.clone(), ..Place::default() };
    template.0.contains(&Part::Place(place))
}

fn same(one: &[u8], other: &[u8]) -> bool {
    bool::from(one.ct_eq(other))
}

impl StaticCheck {
    fn proves(&self, request: &Presented<'_>, secrets: &[SecretString]) -> Option<bool> {
        let place = Place {
            header: self.header.clone(),
            form: self.form.clone(),
            json: self.json.clone(),
            query: self.query.clone(),
            basic: self.basic,
        };
        let given = request.at(&place)?;
        let given = given.strip_prefix(&self.prefix)?;
        // Hashes of both: their length is no secret, so comparing takes the same time whatever was given.
        let hash = sha2::Sha256::digest(given.as_bytes());
        let equal = |secret: &SecretString| {
            let secret = secret.expose_secret();
            !secret.is_empty() && same(&hash, &sha2::Sha256::digest(secret.as_bytes()))
        };
        Some(secrets.iter().fold(false, |found, secret| found | equal(secret)))
    }
}

impl HmacCheck {
    fn proves(&self, request: &Presented<'_>, secrets: &[SecretString], now: Time) -> Option<bool> {
        let time = self.timestamp.as_ref().map(|time| {
            let place = Place { header: time.header.clone(), form: time.form.clone(), json: time.json.clone(), ..Place::default() };
            request.at(&place)
        });
        let time = match time {
            Some(given) => Some(given?),
            None => None,
        };
        if let (Some(rule), Some(given)) = (&self.timestamp, &time)
            && !rule.fresh(given, now)?
        {
            return Some(false);
        }
        let place = Place {
            header: self.signature.header.clone(),
            form: self.signature.form.clone(),
            json: self.signature.json.clone(),
            query: self.signature.query.clone(),
            basic: false,
        };
        let given = request.at(&place)?;
        let signed = self.signed.fill(request, time.as_deref())?;
        let signatures = self.signature.decoded(&given);
        let mut proven = false;
        for secret in secrets {
            let Some(key) = self.key.bytes(secret.expose_secret()).filter(|key| !key.is_empty()) else { continue };
            let expected = self.algorithm.mac(&key, &signed);
            for signature in &signatures {
                proven |= same(&expected, signature);
            }
        }
        Some(proven)
    }
}

impl Timestamp {
    fn fresh(&self, given: &str, now: Time) -> Option<bool> {
        let number: i64 = given.trim().parse().ok()?;
        let seconds = match self.unit {
            TimeUnit::S => true,
            TimeUnit::Ms => false,
            TimeUnit::Auto => number.abs() < MS_FROM,
        };
        let at = if seconds { number.checked_mul(1000)? } else { number };
        Some(self.tolerance.0.is_none_or(|tolerance| now.0.abs_diff(at) <= tolerance.unsigned_abs()))
    }
}

impl Signature {
    /// The bytes of each signature that is there.
    fn decoded(&self, given: &str) -> Vec<Vec<u8>> {
        let one = |text: &str| {
            let text = text.trim().strip_prefix(&self.prefix)?;
            decode(self.encoding, text)
        };
        match &self.split {
            Some(between) => given.split(between.as_str()).take(SIGNATURES_MAX).filter_map(one).collect(),
            None => one(given).into_iter().collect(),
        }
    }
}

fn engine(encoding: Encoding) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(if encoding == Encoding::Base64url { &URL_SAFE } else { &STANDARD }, config)
}

fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    if encoding != Encoding::Hex {
        return engine(encoding).decode(text).ok();
    }
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|two| two.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

impl KeyForm {
    fn bytes(self, secret: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(secret.as_bytes().to_vec()),
            Self::Hex => decode(Encoding::Hex, secret.trim()),
            Self::Base64 => decode(Encoding::Base64, secret.trim()),
            Self::Whsec => decode(Encoding::Base64, secret.trim().strip_prefix("whsec_").unwrap_or(secret.trim())),
        }
    }
}

impl Algorithm {
    fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        // HMAC takes keys of any length (RFC 2104 §2), so none of these fails.
        macro_rules! mac {
            ($hash:ty) => {
                Hmac::<$hash>::new_from_slice(key).map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec()).unwrap_or_default()
            };
        }
        match self {
            Self::Md5 => mac!(md5::Md5),
            Self::Sha1 => mac!(sha1::Sha1),
            Self::Sha256 => mac!(sha2::Sha256),
            Self::Sha384 => mac!(sha2::Sha384),
            Self::Sha512 => mac!(sha2::Sha512),
        }
    }
}

impl Template {
    fn fill(&self, request: &Presented<'_>, time: Option<&str>) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(request.body.len() + 64);
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Body => out.extend_from_slice(request.body),
                Part::BodySha256 => out.extend_from_slice(&sha2::Sha256::digest(request.body)),
                Part::BodySha256Hex => out.extend_from_slice(crate::connector::text::hex(&sha2::Sha256::digest(request.body)).as_bytes()),
                Part::Time => out.extend_from_slice(time?.as_bytes()),
                Part::Url => out.extend_from_slice(request.url.as_bytes()),
                Part::UrlNoQuery => out.extend_from_slice(request.url.split('?').next()?.as_bytes()),
                Part::QuerySorted => out.extend_from_slice(sorted(request.query().as_bytes(), "=", "&").as_bytes()),
                Part::FormSorted => out.extend_from_slice(sorted(request.body, "", "").as_bytes()),
                Part::Place(place) => out.extend_from_slice(request.at(place)?.as_bytes()),
            }
        }
        Some(out)
    }
}

/// Decoded fields by name, distinct values sorted.
fn sorted(text: &[u8], join: &str, between: &str) -> String {
    let fields: std::collections::BTreeSet<_> = url::form_urlencoded::parse(text).collect();
    fields.iter().map(|(key, value)| format!("{key}{join}{value}")).collect::<Vec<_>>().join(between)
}
