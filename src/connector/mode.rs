//! Modes: the ways that a channel's messages come by.

use schemars::JsonSchema;
use serde::Deserialize;

/// A way that payloads come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// HTTP requests to a hook.
    Webhook,
    /// Pages that we ask for.
    Poll,
    /// Frames of a stream.
    Stream,
    /// A mailbox.
    Imap,
}

impl Mode {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Stream => "stream",
            Self::Imap => "imap",
        }
    }

    /// The mode of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Webhook, Self::Poll, Self::Stream, Self::Imap].into_iter().find(|mode| mode.as_str() == word)
    }

    /// Whether what these modes need (all, if empty) is needed by one of those that are chosen.
    pub fn needed(by: &[Self], chosen: &[Self]) -> bool {
        by.is_empty() || by.iter().any(|mode| chosen.contains(mode))
    }
}
