//! Back: drafts of the way back from a ticket system: what somebody wrote in a ticket, and what state it is in.

use bytes::Bytes;

use super::{Made, Source, Target, content, needed};
use crate::connector::draft::{Draft, Key, Text};
use crate::model::codes::Code;
use crate::model::event::Direction;
use crate::model::item::ItemBody;
use crate::model::ticket::{TicketItem, TicketNews, TicketStatus};

/// Longest id of a ticket or an entry.
const ID_BYTES_MAX: usize = 200;

fn id(text: Option<&Text>) -> Option<String> {
    text.map(|text| text.0.trim().to_owned()).filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)
}

fn ticket_of(draft: &Draft) -> Result<String, String> {
    id(draft.ticket.as_ref()).ok_or_else(|| "what is told of a ticket needs its id as `ticket`".to_owned())
}

/// The key of something told of a ticket: entries of two tickets may have the same number.
fn within(ticket: &str, key: &Key) -> Key {
    Key(std::iter::once(ticket.to_owned()).chain(key.0.iter().cloned()).collect())
}

pub(super) fn entry(source: &Source<'_>, target: &Target, mut draft: Draft, blobs: &mut Vec<(String, Bytes)>) -> Made {
    let ticket = ticket_of(&draft)?;
    let key = needed(draft.key.as_ref(), "an entry")?.clone();
    draft.direction = Some(Direction::Outbound);
    let entry = draft.external_id.clone().or_else(|| Some(Text(key.joined())));
    let (entry, mark, ours) = (id(entry.as_ref()), id(draft.mark.as_ref()), id(draft.ours.as_ref()));
    let digest = source.key(target, "entry", &within(&ticket, &key), "");
    let message = content(source, target, draft, &key, digest, blobs)?;
    if message.text.is_none() && message.html.is_none() && message.attachments.is_empty() {
        return Ok((None, ItemBody::Ignored { code: Code::Empty.as_str().to_owned() }));
    }
    let at = message.sent_at;
    let news = TicketNews::Entry { entry, mark, message: Box::new(message) };
    Ok((Some(digest), ItemBody::Ticket(Box::new(TicketItem { ticket, ours, at, news }))))
}

pub(super) fn ticket(source: &Source<'_>, target: &Target, draft: &Draft) -> Made {
    let ticket = ticket_of(draft)?;
    let key = needed(draft.key.as_ref(), "a ticket")?;
    let state = draft.state.as_deref().unwrap_or_default();
    let news = match (TicketStatus::parse(state), id(draft.into.as_ref())) {
        (Some(status), _) => TicketNews::Status(status),
        (None, Some(into)) if state == "merged" => TicketNews::Merged(into),
        _ => return Err("the `state` of a ticket is open, pending, resolved, closed, or merged with `into`".to_owned()),
    };
    let digest = source.key(target, "ticket", &within(&ticket, key), state);
    let item = TicketItem { ticket, ours: id(draft.ours.as_ref()), at: source.moment(draft.sent_at), news };
    Ok((Some(digest), ItemBody::Ticket(Box::new(item))))
}
