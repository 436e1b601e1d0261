//! Ids: time-sortable, 128 bits, written as a prefix and 26 Crockford base32 digits.
//!
//! The layout is 48 bits of Unix milliseconds and 80 bits of randomness, so ids sort by time of birth. They are
//! made by [`crate::logic::ids::IdMaker`], which stays monotone when the clock steps back.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Base32 digits of one id without its prefix.
pub const ID_DIGITS: usize = 26;

/// A text that is no id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected `{prefix}` and 26 base32 digits")]
pub struct IdError {
    /// The prefix that was expected, such as `msg_`.
    pub prefix: &'static str,
}

fn encode(value: u128, prefix: &str, out: &mut impl fmt::Write) -> fmt::Result {
    out.write_str(prefix)?;
    for place in (0..ID_DIGITS).rev() {
        let digit = ((value >> (place * 5)) & 31) as usize;
        let byte = DIGITS.get(digit).copied().unwrap_or(b'0');
        out.write_char(char::from(byte))?;
    }
    Ok(())
}

fn decode(text: &str, prefix: &'static str) -> Result<u128, IdError> {
    let wrong = IdError { prefix };
    let digits = text.strip_prefix(prefix).ok_or_else(|| wrong.clone())?;
    // 26 digits carry 130 bits: the first may not exceed 7, or two texts would name one id.
    if digits.len() != ID_DIGITS || digits.as_bytes().first().is_none_or(|first| *first > b'7') {
        return Err(wrong);
    }
    let mut value: u128 = 0;
    for byte in digits.bytes() {
        let digit = DIGITS.iter().position(|known| *known == byte).ok_or_else(|| wrong.clone())?;
        value = (value << 5) | digit as u128;
    }
    Ok(value)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// The prefix of the written form.
            pub const PREFIX: &'static str = $prefix;

            /// The 16 bytes a store keeps, big-endian so that they sort by time.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The id behind the 16 bytes of [`Self::to_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// Unix milliseconds at which the id was made.
            pub fn made_at_ms(self) -> i64 {
                (self.0 >> 80) as i64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0, $prefix, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0, $prefix, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                decode(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "[0-7][0-9A-HJKMNP-TV-Z]{25}$"),
                })
            }
        }
    };
}

id!(
    /// An event; also the `webhook-id` of its deliveries.
    EventId, "evt_"
);
id!(
    /// A message: one thing one party said.
    MessageId, "msg_"
);
id!(
    /// A conversation: messages that belong together, in order.
    ConversationId, "cnv_"
);
id!(
    /// A contact: a person or account behind addresses.
    ContactId, "cnt_"
);
id!(
    /// An attachment of a message.
    AttachmentId, "att_"
);
id!(
    /// A raw: the exact bytes a platform handed over.
    RawId, "raw_"
);
