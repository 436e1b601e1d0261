//! Enrich: names and addresses of senders that a platform tells only when asked.
//!
//! What must stay true: admission never depends on it. A message waits a moment; whatever is known by then goes into it, what comes later
//! becomes `contact.updated`, and beyond the budget nobody is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::connector::ask::Asker;
use crate::connector::call::answer::Meaning;
use crate::connector::enrich::{Enrich, Known};
use crate::connector::kit::ChannelKit;
use crate::logic::digest::Digester;
use crate::model::address::Address;
use crate::model::event::Direction;
use crate::model::item::{Item, ItemBody, MessageItem};
use crate::model::key::KeyDigest;
use crate::pipeline::limits::{LimitRules, Limits, Pace, Rate};
use crate::pipeline::writer::WriterHandle;
use crate::ports::clock::Clock;
use crate::ports::http::Http;
use crate::ports::store::Write;

/// Senders remembered a channel.
const SENDERS_MAX: usize = 10_000;
/// After a failure a sender is not asked for this long.
const AGAIN: Duration = Duration::from_secs(600);
/// Longest name and address taken.
const LINE_CHARS_MAX: usize = 300;
/// Addresses of a sender taken.
const ALSO_MAX: usize = 10;
/// The message may still be on its way into the store when its sender is known.
const WRITE_TRIES: u32 = 5;
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// Asks for the senders of one channel.
pub struct Enricher {
    kit: Arc<ChannelKit>,
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
    writer: WriterHandle,
    digester: Digester,
    budget: Limits,
    senders: Mutex<HashMap<String, Remembered>>,
}

/// What is remembered of a sender, and until when.
struct Remembered {
    known: Option<Arc<Known>>,
    until: Duration,
}

/// Whether a sender is to be asked for.
enum Look {
    Known(Arc<Known>),
    Ask,
    Leave,
}

impl Enricher {
    /// For a channel whose connector has `[enrich]` and whose file has what it needs; `None` else.
    pub fn new(
        kit: Arc<ChannelKit>,
        http: Arc<dyn Http>,
        clock: Arc<dyn Clock>,
        writer: WriterHandle,
        digester: Digester,
    ) -> Option<Arc<Self>> {
        let enrich = kit.connector.enrich.as_ref().filter(|enrich| kit.can(&enrich.call))?;
        let (count, per) = enrich.rate;
        let rules = LimitRules { channel: Rate::new(f64::from(count), per, count), ..LimitRules::default() };
        let budget = Limits::new(&rules, clock.clone());
        Some(Arc::new(Self { kit, http, clock, writer, digester, budget, senders: Mutex::default() }))
    }

    /// Fills in what is known of the senders of these items, and asks for the others. Takes a moment at most.
    pub async fn fill(self: &Arc<Self>, items: &mut [Item]) {
        let Some(enrich) = &self.kit.connector.enrich else { return };
        let mut answers = Vec::new();
        for (place, item) in items.iter_mut().enumerate() {
            let Some(message) = self.nameless(item) else { continue };
            let Some(address) = message.from.as_ref().map(|from| from.address.clone()) else { continue };
            match self.look(address.as_str()) {
                Look::Known(known) => self.apply(message, &known),
                Look::Ask => answers.push((place, self.start(address))),
                Look::Leave => {}
            }
        }
        if answers.is_empty() {
            return;
        }
        let over = self.clock.sleep(enrich.wait);
        tokio::pin!(over);
        let mut late = false;
        for (place, mut answer) in answers {
            let told = if late {
                None
            } else {
                tokio::select! {
                    biased;
                    told = &mut answer => Some(told.ok().flatten()),
                    () = &mut over => {
                        late = true;
                        None
                    }
                }
            };
            // What others told while a slow one was waited for is taken. Who answers later sees that nobody waits, and tells the store.
            let known = told.unwrap_or_else(|| {
                answer.close();
                answer.try_recv().ok().flatten()
            });
            if let (Some(known), Some(item)) = (known, items.get_mut(place))
                && let Some(message) = self.nameless(item)
            {
                self.apply(message, &known);
            }
        }
    }

    /// The message of an item whose sender's name nobody told.
    fn nameless<'i>(&self, item: &'i mut Item) -> Option<&'i mut MessageItem> {
        let ours = item.channel.public.id == self.kit.channel;
        let message = match &mut item.body {
            ItemBody::Message(message) if ours => message,
            _ => return None,
        };
        let nameless = message.from.as_ref().is_some_and(|from| from.name.is_none());
        (nameless && message.direction == Direction::Inbound).then_some(message)
    }

    fn look(&self, address: &str) -> Look {
        let now = self.clock.monotonic();
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remembered) = senders.get(address).filter(|remembered| remembered.until > now) {
            return remembered.known.as_ref().map_or(Look::Leave, |known| Look::Known(known.clone()));
        }
        if !matches!(self.budget.channel(), Pace::Go) {
            return Look::Leave;
        }
        if senders.len() >= SENDERS_MAX {
            senders.retain(|_, remembered| remembered.until > now);
            if senders.len() >= SENDERS_MAX {
                senders.clear();
            }
        }
        // While it is asked for nobody asks twice.
        senders.insert(address.to_owned(), Remembered { known: None, until: now + AGAIN });
        Look::Ask
    }

    fn start(self: &Arc<Self>, address: Address) -> oneshot::Receiver<Option<Arc<Known>>> {
        let (tell, answer) = oneshot::channel();
        let this = self.clone();
        tokio::spawn(async move {
            let known = this.ask(&address).await.map(Arc::new);
            if let Some(known) = &known {
                this.remember(address.as_str(), known.clone());
            }
            if let Err(Some(late)) = tell.send(known) {
                this.tell_later(&address, &late).await;
            }
        });
        answer
    }

    fn remember(&self, address: &str, known: Arc<Known>) {
        let cache = self.kit.connector.enrich.as_ref().map_or(AGAIN, |enrich| enrich.cache);
        let until = self.clock.monotonic() + cache;
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.insert(address.to_owned(), Remembered { known: Some(known), until });
    }

    async fn ask(&self, address: &Address) -> Option<Known> {
        let enrich: &Enrich = self.kit.connector.enrich.as_ref()?;
        let sender = json!({"id": address.value(), "address": address.as_str()});
        let context = json!({"settings": self.kit.settings, "account": self.kit.account, "sender": sender});
        let asker = Asker { http: &*self.http, wallet: &self.kit.wallet, clock: &*self.clock };
        let asked = asker.ask(&enrich.call, &enrich.rules, |token| self.kit.render(&enrich.call, &context, token));
        let judged = match asked.await {
            Ok(asked) => asked.judged,
            Err(error) => {
                tracing::debug!(messaging.destination.name = %self.kit.channel, detail = %error, "sender not asked for");
                return None;
            }
        };
        if judged.meaning != Meaning::Ok {
            tracing::debug!(messaging.destination.name = %self.kit.channel, http.status = judged.status, "sender not told");
            return None;
        }
        enrich.known(&judged)
    }

    fn apply(&self, message: &mut MessageItem, known: &Known) {
        if let Some(from) = &mut message.from {
            from.name = line(known.name.as_deref());
            from.handle = from.handle.take().or_else(|| line(known.handle.as_deref()));
            from.avatar_url = from.avatar_url.take().or_else(|| picture(known.avatar_url.as_deref()));
        }
        if let Some(contact) = &mut message.contact {
            contact.name = line(known.name.as_deref());
            contact.also.extend(self.also(known));
        }
    }

    fn also(&self, known: &Known) -> Vec<(Address, KeyDigest)> {
        let read = |text: &String| Address::parse(text).ok().map(|address| (address.clone(), self.digester.address(&address)));
        known.also.iter().take(ALSO_MAX).filter_map(read).collect()
    }

    /// The message went out without it: the contact learns it.
    async fn tell_later(&self, address: &Address, known: &Known) {
        let name = line(known.name.as_deref());
        for _ in 0..WRITE_TRIES {
            let write = Write::Contact { address: self.digester.address(address), name: name.clone(), also: self.also(known) };
            match self.writer.write(write).await {
                Ok(written) if written.count > 0 => return,
                Ok(_) => self.clock.sleep(WRITE_PAUSE).await,
                Err(error) => {
                    tracing::warn!(error = %error, "sender not told later");
                    self.clock.sleep(WRITE_PAUSE).await;
                }
            }
        }
    }
}

fn line(text: Option<&str>) -> Option<String> {
    let clean: String = text?.chars().filter(|letter| !letter.is_control()).take(LINE_CHARS_MAX).collect();
    let trimmed = clean.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// Only what a person can open.
fn picture(text: Option<&str>) -> Option<String> {
    let url = url::Url::parse(text?).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.as_str().len() <= 2048).then(|| url.to_string())
}
