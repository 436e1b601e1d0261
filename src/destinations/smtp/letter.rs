//! The letter: an entry as a mail (RFC 5322). A pure function of the frozen event, boundaries included (I5).
//!
//! The letter that opens a conversation has the conversation's id as its Message-ID; the others name it in In-Reply-To and
//! References, so that receivers which thread by headers find the first.

use bytes::Bytes;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MessageBuilder, MultiPart, SinglePart};
use lettre::{Address, Message};
use serde_json::Value;

use crate::connector::ticket::compose::Entry;
use crate::connector::ticket::smtp::SmtpSettings;
use crate::model::id::EventId;
use crate::model::time::Time;

/// A file of a letter.
pub(super) struct LetterFile {
    pub name: String,
    pub media_type: String,
    /// `None`: it is no longer kept, or no longer fits.
    pub bytes: Option<Bytes>,
}

/// What a letter is made of.
pub(super) struct Letter<'a> {
    pub entry: &'a Entry,
    pub event: &'a Value,
    pub id: EventId,
    /// The body is HTML.
    pub html: bool,
    pub files: Vec<LetterFile>,
    pub domain: &'a str,
    pub given: &'a SmtpSettings,
}

impl Letter<'_> {
    /// The bytes, as they go over the wire.
    ///
    /// # Errors
    /// One line, without content.
    pub fn write(&self) -> Result<Vec<u8>, String> {
        let builder = self.heads(Message::builder())?;
        let (plain, body) = (self.words("/entry/plain"), self.words("/entry/body"));
        let text = |content: &str, kind: ContentType| SinglePart::builder().header(kind).body(content.to_owned());
        let files: Vec<SinglePart> = self.files.iter().filter_map(file).collect();
        let lost: String =
            self.files.iter().filter(|file| file.bytes.is_none()).map(|file| format!("\nFile {}: not kept\n", file.name)).collect();
        let boundary = |part: &str| format!("{part}-{}", self.id.to_string().to_ascii_lowercase());
        let message = if self.html {
            let both = MultiPart::alternative()
                .boundary(boundary("alternative"))
                .singlepart(text(&format!("{plain}{lost}"), ContentType::TEXT_PLAIN))
                .singlepart(text(&body, ContentType::TEXT_HTML));
            match files.is_empty() {
                true => builder.multipart(both),
                false => builder.multipart(
                    files.into_iter().fold(MultiPart::mixed().boundary(boundary("mixed")).multipart(both), MultiPart::singlepart),
                ),
            }
        } else {
            let only = text(&format!("{body}{lost}"), ContentType::TEXT_PLAIN);
            match files.is_empty() {
                true => builder.singlepart(only),
                false => builder.multipart(
                    files.into_iter().fold(MultiPart::mixed().boundary(boundary("mixed")).singlepart(only), MultiPart::singlepart),
                ),
            }
        };
        message.map(|message| message.formatted()).map_err(|error| error.to_string())
    }

    fn words(&self, path: &str) -> String {
        self.entry.context.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn heads(&self, builder: MessageBuilder) -> Result<MessageBuilder, String> {
        let given = self.given;
        let gateway: Address = given.from.parse().map_err(|_| "`from` is no mail address".to_owned())?;
        let customer: Option<Address> = self.words("/requester/mail").parse().ok();
        let name = self.words("/requester/label");
        let root = format!("<{}@{}>", self.entry.conversation.to_string().to_ascii_lowercase(), self.domain);
        let at = Time::parse(&self.words("/entry/at")).or_else(|| Time::parse(self.event.get("timestamp")?.as_str()?));
        let millis = u64::try_from(at.unwrap_or(Time(0)).0).unwrap_or(0);
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis);
        let to: Address = given.to.parse().map_err(|_| "`to` is no mail address".to_owned())?;
        let mut builder = builder.date(date).to(Mailbox::new(None, to)).subject(self.words("/entry/subject"));
        builder = match customer.clone().filter(|_| given.as_customer) {
            Some(customer) => builder.from(Mailbox::new(Some(name), customer)).sender(Mailbox::new(None, gateway)),
            None => builder.from(Mailbox::new(Some(self.words("/entry/author")), gateway)),
        };
        // An answer by mail reaches only who has a mailbox: the addresses we make for others have none.
        let reachable = self.entry.context.pointer("/requester/email").is_some_and(Value::is_string);
        if let Some(customer) = customer.filter(|_| reachable && !given.as_customer) {
            builder = builder.reply_to(Mailbox::new(None, customer));
        }
        builder = if self.entry.opened && self.words("/entry/kind") == "message" {
            builder.message_id(Some(root))
        } else {
            let own = format!("<{}@{}>", self.entry.external.to_ascii_lowercase(), self.domain);
            builder.message_id(Some(own)).in_reply_to(root.clone()).references(root)
        };
        let own = |name: &'static str, value: String| HeaderValue::new(HeaderName::new_from_ascii_str(name), value);
        builder = builder
            .raw_header(own("X-Omnigate-Conversation", self.entry.conversation.to_string()))
            .raw_header(own("X-Omnigate-Message", self.entry.external.clone()));
        // What no person wrote must not be answered by a machine (RFC 3834 §2).
        if self.event.pointer("/data/message/automated").is_some_and(Value::is_string) {
            builder = builder.raw_header(own("Auto-Submitted", "auto-generated".to_owned()));
        }
        Ok(builder)
    }
}

fn file(file: &LetterFile) -> Option<SinglePart> {
    let kind = ContentType::parse(&file.media_type).or_else(|_| ContentType::parse("application/octet-stream")).ok()?;
    Some(Attachment::new(file.name.clone()).body(file.bytes.as_ref()?.to_vec(), kind))
}
