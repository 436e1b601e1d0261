//! Follow: what is asked of each new thing of a page, where the list only names it. Pure, one question after the other, page by page where
//! the answers have pages; what was said becomes the thing's member `follow`.

use bytes::Bytes;
use serde_json::Value;
use url::Url;

use crate::connector::call::answer::{Judged, Meaning};
use crate::connector::poll::{Follow, Poll, context};
use crate::model::time::Time;
use crate::ports::feed::Payload;
use crate::ports::http::{HttpBody, HttpRequest};

/// Pages of what is said of one thing.
pub const PAGES_MAX: usize = 50;

/// The things of one page, being asked.
pub struct Asking<'a> {
    poll: &'a Poll,
    follow: &'a Follow,
    page: Value,
    /// Where the list was before this look.
    before: Value,
    /// Place of the thing that is asked; those before it were.
    at: usize,
    /// What was said of it so far, and what the next page is asked for by.
    pages: Vec<Value>,
    again: Value,
    /// Where the question leads, and what was said there last.
    address: Option<Url>,
    last: Option<(Url, Value)>,
}

/// What an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Taken.
    Whole,
    /// Taken, and there are more pages than are read.
    Cut,
}

/// Why an answer says nothing.
#[derive(Debug)]
pub enum Unsaid {
    /// It is neither what was asked for nor that it is gone.
    Refused(Box<Judged>),
    /// The jq that looks for the next page failed.
    Broken(String),
}

impl<'a> Asking<'a> {
    /// The things of a payload.
    ///
    /// # Errors
    /// The list is no JSON.
    pub fn of(poll: &'a Poll, follow: &'a Follow, before: &Value, payload: &Payload) -> Result<Self, String> {
        let page = serde_json::from_slice(&payload.body).map_err(|_| "the list is no JSON".to_owned())?;
        Ok(Self { poll, follow, page, before: before.clone(), at: 0, pages: Vec::new(), again: Value::Null, address: None, last: None })
    }

    fn item(&mut self) -> Option<&mut Value> {
        let items = self.poll.spec.items.as_deref().and_then(|pointer| self.page.pointer_mut(pointer)).and_then(Value::as_array_mut)?;
        items.get_mut(self.at)
    }

    /// The thing that is asked next; the same one until all its pages are there.
    ///
    /// # Errors
    /// The jq that chooses failed.
    pub fn thing(&mut self) -> Result<Option<Value>, String> {
        let follow = self.follow;
        while let Some(item) = self.item() {
            if follow.asks(item).map_err(|error| error.to_string())? {
                return Ok(Some(item.clone()));
            }
            self.at += 1;
        }
        Ok(None)
    }

    /// What fills the question about a thing.
    pub fn context(&self, item: Value, settings: &Value, session: &Value, now: Time) -> Value {
        let mut context = context(settings, &Value::Null, &self.before, &Value::Null, session, now);
        if let Some(context) = context.as_object_mut() {
            context.insert("item".to_owned(), item);
            context.insert("again".to_owned(), self.again.clone());
        }
        context
    }

    /// Whether the answer to this question was just given about the thing before: things of a page have it in common.
    pub fn is_told(&mut self, request: &HttpRequest) -> bool {
        if !matches!(request.body, HttpBody::None) {
            return false;
        }
        let address = request.url.clone();
        let known = self.last.as_ref().filter(|(known, _)| *known == address).map(|(_, said)| said.clone());
        let Some(said) = known else {
            self.address = Some(address);
            return false;
        };
        self.through(said);
        true
    }

    /// Takes the answer about the thing that [`Self::thing`] gave.
    ///
    /// # Errors
    /// [`Unsaid`].
    pub fn said(&mut self, judged: Judged) -> Result<Said, Unsaid> {
        match judged.meaning {
            Meaning::Ok => {}
            Meaning::Missing | Meaning::Ignore => return Ok(self.through(Value::Null)),
            _ => return Err(Unsaid::Refused(Box::new(judged))),
        }
        let address = self.address.take();
        if !self.follow.has_pages() {
            self.last = address.map(|address| (address, judged.body.clone()));
            return Ok(self.through(judged.body));
        }
        let again = self.follow.again(&judged, &self.before, &self.again).map_err(|error| Unsaid::Broken(error.to_string()))?;
        self.pages.push(judged.body);
        let more = !again.is_null();
        if more && self.pages.len() < PAGES_MAX {
            self.again = again;
            return Ok(Said::Whole);
        }
        let pages = std::mem::take(&mut self.pages);
        self.through(Value::Array(pages));
        Ok(if more { Said::Cut } else { Said::Whole })
    }

    fn through(&mut self, said: Value) -> Said {
        if let Some(item) = self.item().and_then(Value::as_object_mut) {
            item.insert("follow".to_owned(), said);
        }
        (self.pages, self.again) = (Vec::new(), Value::Null);
        self.at += 1;
        Said::Whole
    }

    /// The page with all that was said.
    pub fn body(&self) -> Bytes {
        Bytes::from(self.page.to_string())
    }
}
