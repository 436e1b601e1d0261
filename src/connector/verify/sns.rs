//! `sns`: a message of Amazon SNS, signed by a certificate that it names itself. The address of the certificate is judged before
//! anything is fetched, and only topics of the channel count: anybody can have a topic.

use ring::signature::{RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::Value;

use crate::connector::jq;
use crate::connector::verify::keys::{Found, Key};
use crate::connector::verify::place::Presented;
use crate::connector::verify::signature::{Encoding, decode};
use crate::connector::verify::{Proof, With};

/// Signed by Amazon SNS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnsCheck {
    /// The topics (ARN) that may send here.
    pub topics: Vec<String>,
}

impl SnsCheck {
    /// Whether it can prove anything: topics are set.
    pub fn stands_alone(&self) -> bool {
        self.topics.iter().any(|topic| !topic.is_empty())
    }

    /// Whether a message is signed, and of one of the topics.
    pub fn proves(&self, request: &Presented<'_>, with: With<'_>) -> Proof {
        self.check(request, with).unwrap_or(Proof::No)
    }

    fn check(&self, request: &Presented<'_>, with: With<'_>) -> Option<Proof> {
        let message = jq::parse_json(request.body, 16).ok()?;
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        if !self.topics.iter().any(|topic| !topic.is_empty() && Some(topic.as_str()) == text("TopicArn")) {
            return None;
        }
        let url = text("SigningCertURL").or(text("SigningCertUrl"))?;
        // A topic is signed for by its own region: arn:aws:sns:<region>:<account>:<name>.
        let region = text("TopicArn").and_then(|topic| topic.split(':').nth(3)).unwrap_or_default();
        if !url.starts_with(&format!("https://sns.{region}.amazonaws.com"))
            || !is_amazons(url, |path| path.starts_with("/SimpleNotificationService-") && path.ends_with(".pem"))
        {
            return None;
        }
        // The names in the order of the alphabet, those of the kind of message.
        let names: &[&str] = match text("Type")? {
            "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
            _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
        };
        let lines = names.iter().filter_map(|name| text(name).map(|value| format!("{name}\n{value}\n")));
        let signed: String = lines.collect();
        let algorithm: &dyn VerificationAlgorithm = match text("SignatureVersion")? {
            "1" => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            "2" => &RSA_PKCS1_2048_8192_SHA256,
            _ => return None,
        };
        let signature = decode(Encoding::Base64, text("Signature")?)?;
        match with.keys.find(url, None, with.now) {
            Found::NotYet => Some(Proof::NoKey),
            Found::Key(named) if named.good.is_some_and(|(from, until)| with.now < from || with.now > until) => None,
            Found::Key(named) => match &named.key {
                Key::Pkcs1(key) => Some(Some(UnparsedPublicKey::new(algorithm, key).verify(signed.as_bytes(), &signature).is_ok()).into()),
                _ => None,
            },
            Found::None => None,
        }
    }
}

/// Whether an address is one of SNS itself: `https://sns.<region>.amazonaws.com/…`, no port, no credentials.
pub fn is_amazons(text: &str, path: impl Fn(&str) -> bool) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    let region = |host: &str| {
        let rest = host.strip_prefix("sns.")?;
        let name = rest.strip_suffix(".amazonaws.com").or_else(|| rest.strip_suffix(".amazonaws.com.cn"))?;
        (name.len() >= 3 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')).then_some(())
    };
    url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && url.host_str().and_then(region).is_some()
        && path(url.path())
        && !text.contains(['\\', '\n', '\t'])
}
