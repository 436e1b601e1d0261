//! Addresses: `scheme:value`, such as `email:ana@example.org` or `tel:+4915112345678`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest address kept, bytes. Longer than any platform's ids; RFC 5321 §4.5.3.1 allows 254 for mail.
pub const ADDRESS_BYTES_MAX: usize = 512;

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address: expected `scheme:value`, scheme of a-z 0-9 -, at most 512 bytes, no control characters")]
pub struct AddressError;

/// `scheme:value`. The scheme is lower case; the value too where the platform is case-blind (mail).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Address(String);

impl Address {
    /// Checks the form and lower-cases what is case-blind.
    ///
    /// # Errors
    /// [`AddressError`] if the form is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, value) = text.split_once(':').ok_or(AddressError)?;
        let scheme_ok = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let value = value.trim();
        if !scheme_ok || value.is_empty() || text.len() > ADDRESS_BYTES_MAX || value.chars().any(char::is_control) {
            return Err(AddressError);
        }
        // The local part of a mail address is case-sensitive by RFC 5321 §2.4, and nowhere in practice.
        let value = if scheme == "email" { value.to_lowercase() } else { value.to_owned() };
        Ok(Self(format!("{scheme}:{value}")))
    }

    /// The whole text, `scheme:value`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first colon.
    pub fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// The part behind the first colon.
    pub fn value(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, value)| value)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}
