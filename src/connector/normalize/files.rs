//! Files of a draft: what came with it gets a place, what is still at the platform is ordered.

use base64::Engine as _;
use bytes::Bytes;
use sha2::Digest;

use super::{Source, Target, external_id};
use crate::connector::decode::file_base_name;
use crate::connector::draft::{Draft, DraftFile, Key};
use crate::connector::{media, text};
use crate::model::codes::Code;
use crate::model::event::{Attachment, AttachmentState};
use crate::model::id::AttachmentId;
use crate::model::item::{FetchOrder, FilePlace, ItemAttachment};
use crate::model::key::KeyDigest;
use crate::model::time::Time;

/// The files of a draft, those that came with it and those that are still at the platform.
pub(super) fn files(
    source: &Source<'_>,
    target: &Target,
    draft: &Draft,
    key: &Key,
    message: KeyDigest,
    blobs: &mut Vec<(String, Bytes)>,
) -> Vec<ItemAttachment> {
    let all = draft.attachments.iter().flatten().enumerate().take(source.files_max.saturating_mul(2));
    let one = |(index, file)| {
        let made = attachment(source, index, file, message, blobs);
        if made.place.is_some() { made } else { ordered(source, target, index, file, &external_id(draft, key), made) }
    };
    all.map(one).collect()
}

/// A file that is still at the platform is ordered, if there is a recipe for it.
fn ordered(
    source: &Source<'_>,
    target: &Target,
    index: usize,
    file: &DraftFile,
    message: &str,
    mut made: ItemAttachment,
) -> ItemAttachment {
    let recipe = file.recipe.as_deref().unwrap_or(media::DEFAULT);
    let (Some(expires_ms), true) = (target.media.recipes.get(recipe), file.id.is_some() || file.url.is_some()) else { return made };
    let known_too_large = file.bytes.is_some_and(|bytes| bytes > source.file_bytes_max as u64);
    if index >= source.files_max || known_too_large {
        let code = if known_too_large { Code::AttachmentTooLarge } else { Code::AttachmentCount };
        made.public.reason = Some(code.as_str().to_owned());
        return made;
    }
    if made.public.reason.as_deref() == Some(Code::MediaNotFetched.as_str()) {
        made.public.state = AttachmentState::Pending;
        made.public.reason = None;
        made.fetch = Some(FetchOrder {
            recipe: recipe.to_owned(),
            account: target.account.clone(),
            id: file.id.as_ref().map(|id| id.0.clone()),
            url: file.url.clone(),
            message: Some(message.to_owned()),
            until: source.received_at.plus_ms(*expires_ms),
        });
    }
    made
}

fn attachment(source: &Source<'_>, index: usize, file: &DraftFile, message: KeyDigest, blobs: &mut Vec<(String, Bytes)>) -> ItemAttachment {
    let upload = file.file.and_then(|index| source.files.get(index));
    let inline = file.content.as_deref().and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok()).map(Bytes::from);
    let bytes = upload.map(|upload| upload.bytes.clone()).or(inline);
    let claimed = file.media_type.as_deref().or(upload.map(|upload| upload.media_type.as_str()));
    let name = file.name.as_deref().or(upload.and_then(|upload| upload.name.as_deref())).and_then(file_base_name);
    let mut public = Attachment {
        id: attachment_id(source.received_at, message, index),
        name,
        media_type: media_type(claimed),
        bytes: bytes.as_ref().map(|bytes| bytes.len() as u64).or(file.bytes),
        sha256: None,
        inline: file.inline.unwrap_or(false),
        content_id: None,
        state: AttachmentState::Unavailable,
        reason: Some(Code::MediaNotFetched.as_str().to_owned()),
        url: None,
        content: None,
    };
    let Some(bytes) = bytes else { return ItemAttachment { public, place: None, fetch: None } };
    let refused = match () {
        () if index >= source.files_max => Some(Code::AttachmentCount),
        () if bytes.len() > source.file_bytes_max => Some(Code::AttachmentTooLarge),
        () => None,
    };
    if let Some(code) = refused {
        public.reason = Some(code.as_str().to_owned());
        return ItemAttachment { public, place: None, fetch: None };
    }
    // By the message's key: the same upload read again gets the same place.
    let key = format!("files/{}/{index}", message.hex());
    public.sha256 = Some(text::hex(&sha2::Sha256::digest(&bytes)));
    public.state = AttachmentState::Stored;
    public.reason = None;
    blobs.push((key.clone(), bytes));
    ItemAttachment { public, place: Some(FilePlace::Blob { key }), fetch: None }
}

/// An id that the same raw gives again: time and digest instead of time and randomness.
fn attachment_id(received_at: Time, message: KeyDigest, index: usize) -> AttachmentId {
    let time = (received_at.0.max(0) as u128) & ((1 << 48) - 1);
    let mut hash = sha2::Sha256::new();
    hash.update(message.0);
    hash.update((index as u64).to_be_bytes());
    let mut low = [0u8; 16];
    low.copy_from_slice(hash.finalize().get(..16).unwrap_or(&[0; 16]));
    AttachmentId(time << 80 | (u128::from_be_bytes(low) & ((1 << 80) - 1)))
}

/// A media type of RFC 2045 form, lower case, without parameters; else the one that says nothing.
pub fn media_type(claimed: Option<&str>) -> String {
    let essence = claimed.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let token = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte));
    let fits = essence.len() <= 127 && essence.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub));
    if fits { essence } else { "application/octet-stream".to_owned() }
}
