//! How signatures and secrets are written.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::connector::verify::place::{Place, Presented};
use crate::connector::verify::template::Template;
use crate::connector::verify::time::Timestamp;
use crate::model::time::Time;

/// Signatures tried of one header; platforms send one, or two while a secret rotates.
const SIGNATURES_MAX: usize = 8;

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

impl Signature {
    /// Where it is.
    pub fn place(&self) -> Place {
        Place {
            header: self.header.clone(),
            form: self.form.clone(),
            json: self.json.clone(),
            query: self.query.clone(),
            ..Place::default()
        }
    }

    /// Whether it names one place, and the signed time, if there is one, is part of what is signed.
    ///
    /// # Errors
    /// What is wrong.
    pub fn fits(&self, signed: &Template, timestamp: Option<&Timestamp>) -> Result<(), String> {
        self.place().single()?;
        timestamp.map_or(Ok(()), |time| time.signed_in(signed))
    }

    /// What a request brings along to be checked, `lead` standing before each signature; `None`: a part is missing, or the signed time is off.
    pub fn evidence(&self, timestamp: Option<&Timestamp>, request: &Presented<'_>, now: Time, lead: &str) -> Option<Evidence> {
        let time = match timestamp {
            Some(rule) => Some(rule.of(request, now)?),
            None => None,
        };
        let signatures = self.decoded(&request.at(&self.place())?, lead);
        Some(Evidence { time, signatures })
    }

    /// The bytes of each signature that is there.
    fn decoded(&self, given: &str, lead: &str) -> Vec<Vec<u8>> {
        let one = |text: &str| {
            let text = text.trim().strip_prefix(lead)?.strip_prefix(&self.prefix)?;
            decode(self.encoding, text)
        };
        match &self.split {
            Some(between) => given.split(between.as_str()).take(SIGNATURES_MAX).filter_map(one).collect(),
            None => one(given).into_iter().collect(),
        }
    }
}

/// What a signed request brings along.
#[derive(Debug)]
pub struct Evidence {
    /// The signed time as it is written.
    pub time: Option<String>,
    /// The bytes of each signature.
    pub signatures: Vec<Vec<u8>>,
}

fn engine(encoding: Encoding) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(if encoding == Encoding::Base64url { &URL_SAFE } else { &STANDARD }, config)
}

/// The bytes of a text.
pub fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    if encoding != Encoding::Hex {
        return engine(encoding).decode(text).ok();
    }
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|two| two.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

impl KeyForm {
    /// The key that a secret is.
    pub fn bytes(self, secret: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(secret.as_bytes().to_vec()),
            Self::Hex => decode(Encoding::Hex, secret.trim()),
            Self::Base64 => decode(Encoding::Base64, secret.trim()),
            Self::Whsec => decode(Encoding::Base64, secret.trim().strip_prefix("whsec_").unwrap_or(secret.trim())),
        }
    }
}
