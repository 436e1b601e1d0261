//! What we recognise as ours: reply addresses and Message-IDs that carry a MAC.
//!
//! `support+c.<conversation>.<mac>@…` and `<c.<conversation>.<mac>…@…>` name a conversation by one of its keys. The MAC says that
//! this gateway made them, so they place a mail without a further question. What only looks like it is forged: it is told, and
//! matches nothing.

use subtle::ConstantTimeEq;

use crate::logic::digest::Digester;
use crate::model::address::Address;
use crate::model::key::KeyDigest;

/// Base32 (RFC 4648 §6) in lower case: mail programs change the case of addresses.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Digits of a key of 16 bytes, and of a MAC of 10.
const KEY_DIGITS: usize = 26;
const MAC_DIGITS: usize = 16;

/// What a text that looks like ours turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Ours: the key of the conversation.
    Key(KeyDigest),
    /// It only looks like it.
    Forged,
}

/// The token of a conversation, by one of its keys.
pub fn token(key: KeyDigest, digester: &Digester) -> String {
    format!("c.{}.{}", encode(&key.0), encode(&digester.mail_mac(key)))
}

/// The address that answers are to go to: `support+c.….…@acme.example`. `None` for what is no mail address.
pub fn reply_address(mailbox: &Address, key: KeyDigest, digester: &Digester) -> Option<String> {
    let (local, domain) = mailbox.value().rsplit_once('@')?;
    let local = local.split('+').next().unwrap_or(local);
    Some(format!("{local}+{}@{domain}", token(key, digester)))
}

/// Reads the token in an address or a Message-ID; `None`: nothing in it looks like ours.
pub fn read(text: &str, digester: &Digester) -> Option<Own> {
    let local = text.split('@').next().unwrap_or_default();
    let start = if local.starts_with("c.") { 0 } else { local.find("+c.")? + 1 };
    let mut parts = local.get(start..)?.split('.').skip(1);
    let (key, mac) = (parts.next()?, parts.next()?);
    if key.len() != KEY_DIGITS || mac.len() < MAC_DIGITS {
        return None;
    }
    let mac = mac.get(..MAC_DIGITS)?;
    let (key, mac) = (decode(key)?, decode(mac)?);
    let key = KeyDigest(key.try_into().ok()?);
    let ours = digester.mail_mac(key);
    Some(if bool::from(ours.as_slice().ct_eq(&mac)) { Own::Key(key) } else { Own::Forged })
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut bits, mut count) = (0u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(digit(bits >> count));
        }
    }
    if count > 0 {
        text.push(digit(bits << (5 - count)));
    }
    text
}

fn digit(bits: u32) -> char {
    ALPHABET.get((bits & 31) as usize).map_or('a', |digit| char::from(*digit))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let value = ALPHABET.iter().position(|digit| *digit == byte.to_ascii_lowercase())?;
        bits = bits << 5 | value as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_is_known_by_its_mac_in_any_case() {
        let (digester, key) = (Digester::new(&[7; 32]), KeyDigest([5; 16]));
        let Ok(mailbox) = Address::parse("email:support@acme.example") else { return };
        let address = reply_address(&mailbox, key, &digester).unwrap_or_default();
        assert!(address.split('@').next().is_some_and(|local| local.len() <= 64), "{address}");
        assert_eq!(read(&address, &digester), Some(Own::Key(key)));
        assert_eq!(read(&address.to_uppercase().replace("+C.", "+c."), &digester), Some(Own::Key(key)));
        assert_eq!(read(&format!("{}.77@acme.example", token(key, &digester)), &digester), Some(Own::Key(key)));
        assert_eq!(read(&address, &Digester::new(&[8; 32])), Some(Own::Forged));
    }

    #[test]
    fn other_addresses_are_nothing_of_ours() {
        let digester = Digester::new(&[7; 32]);
        for other in ["support@acme.example", "c.d@acme.example", "a+c.x.y@acme.example", "", "c.", "+c.@"] {
            assert_eq!(read(other, &digester), None, "{other}");
        }
    }
}
