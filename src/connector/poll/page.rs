//! A page: what one answer holds for one list: its things, which of them are new, and how the next page is asked for.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::connector::call::answer::Judged;
use crate::connector::jq::{Filter, Input, JqError};
use crate::connector::poll::Poll;
use crate::connector::poll::spec::PageSpec;
use crate::model::time::Time;

/// What one answer holds.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// What is new of it, as it goes to the map; none if nothing is.
    pub body: Option<Bytes>,
    /// Prints of what is new and is known from now on, in its order.
    pub ids: Vec<u64>,
    /// The place after it; null if it says none.
    pub cursor: Value,
    /// Things in it.
    pub count: u64,
    /// Things in it that are new.
    pub fresh: u64,
    /// Something in it is known, or lies before the cursor.
    pub known: bool,
    /// Id of its last thing.
    pub last: Value,
}

/// Where the next page is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// There is none.
    None,
    /// `{page}` is this.
    Page(Value),
    /// At this address.
    Address(String),
}

/// What an id is remembered by.
pub(super) fn print(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().take(8).fold(0, |print, byte| print << 8 | u64::from(*byte))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn one(filter: &Filter, item: &Value) -> Result<Value, JqError> {
    Ok(filter.run_of(Input::Value(item), &[])?.into_iter().next().unwrap_or(Value::Null))
}

/// Whether one place lies beyond another: numbers (also written as text, such as `1700000000.000200`) by size, texts by letters.
pub(super) fn beyond(one: &Value, other: &Value) -> bool {
    match (text(one), text(other)) {
        (Some(one), Some(other)) => compare(&one, &other) == Ordering::Greater,
        (Some(_), None) => true,
        _ => false,
    }
}

fn compare(one: &str, other: &str) -> Ordering {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !number(one) || !number(other) {
        return one.cmp(other);
    }
    let split = |text: &str| {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let whole = whole.trim_start_matches('0').to_owned();
        (whole.len(), whole, part.trim_end_matches('0').to_owned())
    };
    split(one).cmp(&split(other))
}

/// The cursor less what is looked back.
pub(super) fn looked_back(cursor: &Value, lookback: u64) -> Value {
    if lookback == 0 {
        return cursor.clone();
    }
    let less = |number: i64| Value::from(number.saturating_sub(i64::try_from(lookback).unwrap_or(i64::MAX)).max(0));
    match cursor {
        Value::Number(number) => number.as_i64().map_or_else(|| cursor.clone(), less),
        Value::String(text) => text.parse().map_or_else(|_| cursor.clone(), |number| Value::from(less(number).to_string())),
        other => other.clone(),
    }
}

impl Poll {
    /// Reads an answer of the moment `now`. `floor`: what does not lie beyond it is not new; `seen`: nor is what is in it.
    pub(super) fn page(&self, judged: &Judged, raw: &Bytes, floor: &Value, seen: &VecDeque<u64>, now: Time) -> Result<Page, String> {
        let failed = |error: JqError| format!("its jq fails on an answer: {error}");
        let mut page = Page::default();
        if let Some(from) = &self.from {
            page.cursor = judged.take(from).map_err(failed)?;
        }
        let Some(pointer) = &self.spec.items else {
            (page.body, page.count, page.fresh) = (Some(raw.clone()), 1, 1);
            return Ok(page);
        };
        let Some(items) = judged.body.pointer(pointer).and_then(Value::as_array) else {
            let nothing = self.none.as_ref().map(|none| judged.take(none));
            return match nothing.transpose() {
                // Pages after it are asked for as the answer says; there are none.
                Ok(Some(Value::Bool(true))) => Ok(page),
                _ => Err(format!("an answer holds no list at `{pointer}`")),
            };
        };
        let mut keep = Vec::with_capacity(items.len());
        for item in items {
            let skipped = self.skip.as_ref().map(|skip| skip.truthy_of(Input::Value(item), &[])).transpose().map_err(failed)?;
            if skipped == Some(true) {
                keep.push(false);
                continue;
            }
            let id = self.id.as_ref().map(|id| one(id, item)).transpose().map_err(failed)?.unwrap_or(Value::Null);
            let place = self.each.as_ref().map(|each| one(each, item)).transpose().map_err(failed)?.unwrap_or(Value::Null);
            let print = text(&id).map(|id| print(&id));
            let before = !floor.is_null() && !place.is_null() && !beyond(&place, floor);
            let known = before || print.is_some_and(|print| seen.contains(&print) || page.ids.contains(&print));
            page.known |= known;
            keep.push(!known);
            if !known {
                if self.settled(item, now).map_err(failed)? {
                    page.ids.extend(print);
                }
                page.fresh += 1;
            }
            if self.each.is_some() && beyond(&place, &page.cursor) {
                page.cursor = place;
            }
            page.last = id;
        }
        page.count = items.len() as u64;
        page.body = match page.fresh {
            0 => None,
            all if all == page.count => Some(raw.clone()),
            _ => Some(without(&judged.body, pointer, &keep)),
        };
        Ok(page)
    }

    /// Whether an item looks different after its next change.
    fn settled(&self, item: &Value, now: Time) -> Result<bool, JqError> {
        let Some((at, after)) = &self.settle else { return Ok(true) };
        let changed = one(at, item)?.as_str().and_then(Time::parse);
        Ok(changed.is_none_or(|changed| changed.plus(*after) <= now))
    }

    /// Where the page behind this one is. `before`: things of the pages before it.
    pub(super) fn next(&self, judged: &Judged, page: &Page, asked: &Value, before: u64) -> Result<Next, String> {
        let Some(spec) = &self.spec.page else { return Ok(Next::None) };
        let said = self.next.as_ref().map(|next| judged.take(next)).transpose();
        let said = said.map_err(|error| format!("its jq fails on an answer: {error}"))?.unwrap_or(Value::Null);
        let listed = self.spec.items.is_some();
        let more = said != Value::Bool(false) && (page.count > 0 || !listed);
        Ok(match spec {
            PageSpec::Cursor { .. } => text(&said).map_or(Next::None, |_| Next::Page(said.clone())),
            PageSpec::NextUrl { .. } => text(&said).map_or(Next::None, Next::Address),
            PageSpec::LinkHeader { rel } => link(judged.headers.get("link").and_then(Value::as_str), rel),
            PageSpec::PageNumber { start, .. } if more => Next::Page(Value::from(asked.as_u64().unwrap_or(*start).saturating_add(1))),
            PageSpec::Offset { .. } if more => Next::Page(Value::from(before.saturating_add(page.count))),
            PageSpec::BeforeId {} if page.count > 0 && !page.last.is_null() => Next::Page(page.last.clone()),
            _ => Next::None,
        })
    }

    /// `{page}` of the first page.
    pub(super) fn first_page(&self) -> Value {
        match &self.spec.page {
            Some(PageSpec::PageNumber { start, .. }) => Value::from(*start),
            Some(PageSpec::Offset { .. }) => Value::from(0),
            _ => Value::Null,
        }
    }
}

/// The body without the items that are not kept.
fn without(body: &Value, pointer: &str, keep: &[bool]) -> Bytes {
    let mut body = body.clone();
    if let Some(Value::Array(items)) = body.pointer_mut(pointer) {
        let mut keep = keep.iter().copied();
        items.retain(|_| keep.next().unwrap_or(true));
    }
    Bytes::from(body.to_string())
}

/// The address of a relation in a `Link` header (RFC 8288 §3).
fn link(header: Option<&str>, rel: &str) -> Next {
    for link in header.unwrap_or_default().split(",<").flat_map(|part| part.split(", <")) {
        let Some((address, parameters)) = link.trim().trim_start_matches('<').split_once('>') else { continue };
        let named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
        let fits = |(name, value): (&str, &str)| name.trim() == "rel" && value.trim().trim_matches('"').split(' ').any(|word| word == rel);
        if named.into_iter().any(fits) {
            return Next::Address(address.to_owned());
        }
    }
    Next::None
}
