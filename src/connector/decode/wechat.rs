//! WeChat's safe mode: the message is AES-256-CBC under a key of the account, inside an XML envelope whose signature covers it.
//!
//! Plain text: 16 random bytes, the length (four bytes, big endian), the message, the id of the account it is for; filled up to a
//! multiple of 32 by bytes that say how many they are.

use aes::Aes256;
use aes::cipher::{BlockDecrypt, KeyInit};

use crate::connector::decode::xml;
use crate::connector::verify::{Encoding, decode};

const BLOCK: usize = 16;
const RANDOM: usize = 16;

/// The message in an envelope, if it is for `account` (any, if that is not known). `key` is the 43 letters of `EncodingAESKey`.
pub fn open(body: &[u8], key: &str, account: Option<&str>) -> Option<Vec<u8>> {
    let sealed = decode(Encoding::Base64, xml::child_text(body, "Encrypt")?.trim())?;
    let key = decode(Encoding::Base64, key.trim()).filter(|key| key.len() == 32)?;
    if sealed.is_empty() || !sealed.len().is_multiple_of(BLOCK) {
        return None;
    }
    let cipher = Aes256::new_from_slice(&key).ok()?;
    let mut plain = Vec::with_capacity(sealed.len());
    let mut before = key.get(..BLOCK)?;
    for block in sealed.chunks_exact(BLOCK) {
        let mut opened = aes::Block::clone_from_slice(block);
        cipher.decrypt_block(&mut opened);
        plain.extend(opened.iter().zip(before).map(|(byte, mask)| byte ^ mask));
        before = block;
    }
    let filled = usize::from(*plain.last()?);
    if !(1..=32).contains(&filled) {
        return None;
    }
    plain.truncate(plain.len().checked_sub(filled)?);
    let (length, rest) = plain.get(RANDOM..)?.split_at_checked(4)?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    let (message, owner) = rest.split_at_checked(length)?;
    account.is_none_or(|account| owner == account.as_bytes()).then(|| message.to_vec())
}
