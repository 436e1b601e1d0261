//! Handshakes: requests to a hook that are answered at once and forgotten, by which a platform learns that somebody is there and meant it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::connector::manifest::Answer;

/// A request that is answered at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Handshake {
    /// A verified JSON payload whose challenge is given back.
    JsonEcho {
        /// jq: whether it is one.
        when: String,
        /// jq: the challenge.
        from: String,
        /// The word that a payload must contain to be looked at; saves reading all others twice.
        hint: String,
    },
    /// A GET whose query carries a token of ours and a challenge.
    QueryEcho {
        /// Name of the parameter with our token.
        token: String,
        /// The secret it must be equal to.
        secret: String,
        /// Name of the parameter with the challenge.
        challenge: String,
        /// Parameters that must have these values.
        #[serde(default)]
        require: BTreeMap<String, String>,
        /// Parameters of the question whether the subscription shall end; it is agreed to only when we asked for that.
        #[serde(default)]
        leave: BTreeMap<String, String>,
        /// Name of the parameter with the seconds that the subscription is granted for.
        #[serde(default)]
        lease: Option<String>,
    },
    /// A GET with a challenge, proven by a hash over a secret and other parameters, sorted and joined (WeChat).
    HashedEcho {
        /// Name of the parameter with the challenge.
        challenge: String,
        /// Name of the parameter with the SHA-1, hex.
        signature: String,
        /// The secret in it.
        secret: String,
        /// The parameters in it.
        sorted: Vec<String>,
    },
    /// A GET with a challenge that is to be signed: `{"response_token": "sha256=…"}` (X).
    Crc {
        /// Name of the parameter with the challenge.
        param: String,
        /// The secret that signs it.
        secret: String,
    },
    /// A verified JSON payload that is answered at once and forgotten (Discord's ping).
    Ping {
        /// jq: whether it is one.
        when: String,
        /// The word that a payload must contain to be looked at.
        hint: String,
        /// The answer.
        answer: Answer,
    },
    /// A verified JSON payload that asks for a page to be visited (SNS). The page must be one of Amazon SNS.
    ConfirmGet {
        /// jq: whether it is one.
        when: String,
        /// jq: the page.
        from: String,
        /// The word that a payload must contain to be looked at.
        hint: String,
    },
    /// HEAD is answered 200: the platform looks whether somebody is there.
    HeadOk {},
}

impl Handshake {
    /// The secret it needs.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::QueryEcho { secret, .. } | Self::HashedEcho { secret, .. } | Self::Crc { secret, .. } => Some(secret),
            _ => None,
        }
    }
}
