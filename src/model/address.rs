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

/// `scheme:value`. The scheme is lower case; the value too where the platform is case-blind (mail), and the domain of a mail address is in
/// the form of the DNS, whatever script it was written in (RFC 5890 §2.3.2.1): `bücher.example` and `xn--bcher-kva.example` are one.
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
        let value = if scheme == "email" { mail(value) } else { value.to_owned() };
        // Lower case and another script may take more room; what is written must be read again.
        let whole = format!("{scheme}:{value}");
        if whole.len() > ADDRESS_BYTES_MAX { Err(AddressError) } else { Ok(Self(whole)) }
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

/// The local part of a mail address is case-sensitive by RFC 5321 §2.4, and nowhere in practice.
fn mail(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((local, domain)) => format!("{}@{}", local.to_lowercase(), mail_domain(domain)),
        None => value.to_lowercase(),
    }
}

/// A domain as two of them are compared: lower case, labels of other scripts in the form of the DNS. What is no domain name stays what it is.
pub fn mail_domain(domain: &str) -> String {
    if !domain.is_ascii()
        && let Ok(url::Host::Domain(domain)) = url::Host::parse(domain)
    {
        return domain;
    }
    domain.to_lowercase()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internationalised_domain_is_one_address_in_every_spelling() {
        for spelling in [
            "Ana@BÜCHER.example",
            "ana@b\u{fc}cher.example",
            "ana@bu\u{308}cher.example",
            "ana@XN--BCHER-KVA.example",
            "ana@bücher。example",
        ] {
            let address = Address::parse(&format!("email:{spelling}"));
            assert_eq!(address.as_ref().map(Address::value), Ok("ana@xn--bcher-kva.example"), "{spelling}");
        }
        // The local part is whatever its server says (RFC 6532 §3.2); what is no domain name is kept.
        for (spelling, value) in [("Jürgen@example.org", "jürgen@example.org"), ("x@[Ü]", "x@[ü]"), ("x@ü b", "x@ü b"), ("Ü", "ü")]
        {
            assert_eq!(Address::parse(&format!("email:{spelling}")).as_ref().map(Address::value), Ok(value), "{spelling}");
        }
        assert_eq!(Address::parse("slack:U01@Ü").as_ref().map(Address::value), Ok("U01@Ü"));
    }

    #[test]
    fn every_address_that_is_written_is_read_again() {
        for letter in ["ü", "İ", "ß", "中", "ẞ", "a"] {
            for count in (1..ADDRESS_BYTES_MAX).step_by(17) {
                for text in [format!("email:{}@example.org", letter.repeat(count)), format!("email:x@{}.example", letter.repeat(count))] {
                    if let Ok(address) = Address::parse(&text) {
                        assert_eq!(Address::parse(address.as_str()), Ok(address));
                    }
                }
            }
        }
    }
}
