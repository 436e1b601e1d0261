//! A destination's own form of an event, a pure function of the frozen bytes (I5): what happens to attachments, and the
//! admin's jq body.
//!
//! `url` leaves the event as it was published. `none` empties its lists of attachments. `inline` adds `content` (base64) to
//! each stored file, in order, as long as all of them together stay within `inline_bytes_max`; a file that does not fit, or is gone, keeps
//! its URL. Everything else of the event stays byte for byte: only the objects on the way to the attachments are written anew.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::model::codes::Code;
use crate::model::id::AttachmentId;
use crate::ports::destination::{DeliverError, FileReader};
use crate::ports::expression::Form;

/// What happens to attachments.
#[derive(Clone, Default)]
pub enum Attachments {
    /// As published: metadata and signed URL.
    #[default]
    Url,
    /// Left out.
    None,
    /// Inside the event, base64.
    Inline {
        /// Decoded bytes of all files of one event together.
        bytes_max: u64,
        /// Where the files are.
        files: Arc<dyn FileReader>,
    },
}

/// The form of events for one destination.
#[derive(Clone, Default)]
pub struct Shape {
    /// What happens to attachments; done before `body` sees the event.
    pub attachments: Attachments,
    /// The admin's jq.
    pub body: Option<Arc<dyn Form>>,
}

impl Shape {
    /// The body to send for a frozen event.
    ///
    /// # Errors
    /// `Never` if the event or the admin's jq cannot give a body, `Later` if a file cannot be read just now.
    pub async fn render(&self, frozen: &Bytes) -> Result<Bytes, DeliverError> {
        let event = match &self.attachments {
            Attachments::Url => frozen.clone(),
            Attachments::None => edit(frozen, |_| Vec::new())?,
            Attachments::Inline { bytes_max, files } => {
                let wanted = list(frozen)?;
                let contents = read_all(&wanted, *bytes_max, files.as_ref()).await?;
                if contents.is_empty() { frozen.clone() } else { edit(frozen, |list| with_contents(list, &contents))? }
            }
        };
        let Some(body) = &self.body else { return Ok(event) };
        body.body(&event).map(Bytes::from).map_err(|detail| DeliverError::Never { code: Code::TemplateFailed, status: None, detail })
    }
}

fn unreadable() -> DeliverError {
    DeliverError::Never { code: Code::Invariant, status: None, detail: "the frozen event cannot be read".to_owned() }
}

/// An object whose fields keep their order and their bytes.
struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Where lists of attachments are: in the message of `message.created`, beside it in updates and edits.
const PATHS: [&[&str]; 2] = [&["data", "message", "attachments"], &["data", "attachments"]];

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn find(object: &Fields, path: &[&str]) -> Option<Vec<Fields>> {
    let (first, rest) = path.split_first()?;
    let value = object.get(first)?;
    if rest.is_empty() { parse(value) } else { find(&parse(value)?, rest) }
}

fn replace(object: &mut Fields, path: &[&str], list: &[Fields]) -> Option<()> {
    let (first, rest) = path.split_first()?;
    let value = if rest.is_empty() {
        serde_json::value::to_raw_value(list).ok()?
    } else {
        let mut inner: Fields = parse(object.get(first)?)?;
        replace(&mut inner, rest, list)?;
        serde_json::value::to_raw_value(&inner).ok()?
    };
    object.set(first, value);
    Some(())
}

/// The ids and sizes of the stored files of an event.
fn list(frozen: &[u8]) -> Result<Vec<(AttachmentId, u64)>, DeliverError> {
    let event: Fields = serde_json::from_slice(frozen).map_err(|_| unreadable())?;
    let lists = PATHS.iter().filter_map(|path| find(&event, path)).flatten();
    Ok(lists
        .filter(|attachment| attachment.text("state").as_deref() == Some("stored"))
        .filter_map(|attachment| {
            let id = attachment.text("id")?.parse().ok()?;
            Some((id, attachment.get("bytes").and_then(parse::<Option<u64>>).flatten().unwrap_or(0)))
        })
        .collect())
}

fn edit(frozen: &[u8], change: impl Fn(Vec<Fields>) -> Vec<Fields>) -> Result<Bytes, DeliverError> {
    let mut event: Fields = serde_json::from_slice(frozen).map_err(|_| unreadable())?;
    for path in PATHS {
        if let Some(list) = find(&event, path) {
            replace(&mut event, path, &change(list)).ok_or_else(unreadable)?;
        }
    }
    serde_json::to_vec(&event).map(Bytes::from).map_err(|_| unreadable())
}

async fn read_all(
    wanted: &[(AttachmentId, u64)],
    bytes_max: u64,
    files: &dyn FileReader,
) -> Result<Vec<(AttachmentId, Bytes)>, DeliverError> {
    let mut left = bytes_max;
    let mut contents = Vec::new();
    for (id, size) in wanted {
        if *size > left {
            continue;
        }
        let read = files.read(*id, left).await.map_err(|detail| DeliverError::Later {
            code: Code::StoreUnavailable,
            status: None,
            detail,
            after: None,
        })?;
        if let Some(bytes) = read.filter(|bytes| bytes.len() as u64 <= left) {
            left -= bytes.len() as u64;
            contents.push((*id, bytes));
        }
    }
    Ok(contents)
}

fn with_contents(mut list: Vec<Fields>, contents: &[(AttachmentId, Bytes)]) -> Vec<Fields> {
    for attachment in &mut list {
        let Some(id) = attachment.text("id").and_then(|id| id.parse::<AttachmentId>().ok()) else { continue };
        let Some((_, bytes)) = contents.iter().find(|(known, _)| *known == id) else { continue };
        if let Ok(value) = serde_json::value::to_raw_value(&STANDARD.encode(bytes)) {
            attachment.set("content", value);
        }
    }
    list
}

#[cfg(test)]
mod tests;
