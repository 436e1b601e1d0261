//! The manifest: `connector.toml`, typed and checked.
//!
//! What stands in it is carried out or refused: a key that this version does not know is an error, never silently ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::connector::call::auth::AuthSpec;
use crate::connector::enrich::EnrichSpec;
use crate::connector::handshake::Handshake;
use crate::connector::media::RecipeSpec;
use crate::connector::own::WhoamiSpec;
use crate::connector::poll::spec::{LimitsSpec, PollSpec};
use crate::connector::problem::Problem;
use crate::connector::setting::toml_problem;
use crate::connector::stream::StreamSpec;
use crate::connector::subscribe::SubscribeSpec;
use crate::model::raw::Via;

/// Longest wait for parts of a message: what follows in its conversation waits too.
const COALESCE_WINDOW_MAX: Duration = Duration::from_secs(300);

/// What a `connector.toml` says.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the connector, equal to its folder's.
    pub name: String,
    /// What kind of platform it is for, to find it among others.
    #[serde(default)]
    pub family: Option<Family>,
    /// Name for people.
    pub title: String,
    /// One sentence: what it is for.
    pub about: String,
    /// How its payloads can come, the default first. Unset: every way that it describes.
    #[serde(default)]
    pub mode: Vec<Via>,
    /// What a conversation is.
    #[serde(default)]
    pub unit: Unit,
    /// Namespace of its keys; the name if missing.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Scheme of its addresses; the name if missing.
    #[serde(default)]
    pub scheme: Option<String>,
    /// `message.kind` where the map says nothing.
    #[serde(default = "text_kind")]
    pub message_kind: String,
    /// The platform vouches for its senders' addresses.
    #[serde(default)]
    pub verified_senders: bool,
    /// Items without a key of their own: the same sender and content within this time is a repetition. Name of a setting of type
    /// duration.
    #[serde(default)]
    pub repeat_window: Option<String>,
    /// The channel file brings the map.
    #[serde(default)]
    pub own_map: bool,
    /// Codes the map may give to what it ignores: code → what it means.
    #[serde(default)]
    pub codes: BTreeMap<String, String>,
    /// The only hosts its credentials may go to.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// What the channel file may set.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
    /// Secrets by name, with help text.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// How its requests prove who asks, by name.
    #[serde(default)]
    pub auth: BTreeMap<String, AuthSpec>,
    /// How the platform is asked who we are there.
    #[serde(default)]
    pub whoami: Option<WhoamiSpec>,
    /// How parts of a message that come apart are put together.
    #[serde(default)]
    pub coalesce: Option<Coalesce>,
    /// How the platform is asked for the names of senders.
    #[serde(default)]
    pub enrich: Option<EnrichSpec>,
    /// Recipes by which files are fetched, by name; `default` where the map names none.
    #[serde(default)]
    pub media: BTreeMap<String, RecipeSpec>,
    /// How requests are taken.
    #[serde(default)]
    pub webhook: Option<Webhook>,
    /// How the platform is told to call the hook.
    #[serde(default)]
    pub subscribe: Option<SubscribeSpec>,
    /// What is asked for, by name.
    #[serde(default)]
    pub poll: BTreeMap<String, PollSpec>,
    /// How much may be asked of an account.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// How a stream is listened to.
    #[serde(default)]
    pub stream: Option<StreamSpec>,
    /// It is the way back from a ticket system: made of a `destination.toml`.
    #[serde(skip)]
    #[schemars(skip)]
    pub is_back: bool,
}

fn text_kind() -> String {
    "text".to_owned()
}

/// A kind of platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Chat of teams and rooms.
    TeamChat,
    /// Messengers of persons.
    Messenger,
    /// SMS and phone calls.
    Telephony,
    /// Social media.
    Social,
    /// Reviews and ratings.
    Reviews,
    /// Communities and feeds.
    Community,
    /// Forms, help desks, surveys.
    Forms,
    /// Mail.
    Mail,
}

/// What a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A root opens it, replies join; direct messages without a thread: by sender.
    Thread,
    /// One for each sender (or chat), until it falls silent.
    #[default]
    Sender,
    /// Every item is its own.
    Item,
}

/// A declared setting.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: SettingType,
    /// Its default; none: it may be missing.
    #[serde(default)]
    pub default: Option<serde_json::Value>,
    /// It must be set.
    #[serde(default)]
    pub required: bool,
    /// The modes that need it; all if empty.
    #[serde(default, rename = "for")]
    pub modes: Vec<Via>,
    /// One sentence for the admin.
    pub help: String,
}

/// Type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingType {
    /// Text.
    Text,
    /// An absolute http(s) URL.
    Url,
    /// A whole number.
    Integer,
    /// true or false.
    Bool,
    /// `30s`, `5m`, `2h`, `1d`; becomes milliseconds.
    Duration,
    /// A list of texts.
    List,
    /// A table of texts by name.
    Table,
}

/// A declared secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// One sentence for the admin.
    pub help: String,
    /// The channel may do without it.
    #[serde(default)]
    pub optional: bool,
    /// The modes that need it; all if empty.
    #[serde(default, rename = "for")]
    pub modes: Vec<Via>,
}

/// How requests are taken.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Methods that carry payloads.
    #[serde(default = "post")]
    pub methods: Vec<String>,
    /// Paths below the hook that the platform calls, beside the hook itself; all others are unknown.
    #[serde(default)]
    pub paths: Vec<SubPath>,
    /// What the body is; several: chosen by its content type.
    pub decode: OneOrMore<Decode>,
    /// JSON in a field of the decoded body.
    #[serde(default)]
    pub then: Option<Then>,
    /// How a sealed body is opened.
    #[serde(default)]
    pub decrypt: Option<Decrypt>,
    /// The drafts say which account of the platform they are for, so several channels may share one hook.
    #[serde(default)]
    pub tells_account: bool,
    /// How it is verified; several: the first whose secret is set.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMore<serde_json::Map<String, serde_json::Value>>>")]
    pub verify: Option<OneOrMore<toml::Table>>,
    /// Requests that are answered at once.
    #[serde(default)]
    pub handshake: Vec<Handshake>,
    /// Answers.
    #[serde(default)]
    pub respond: Respond,
    /// Largest body, less than the main file's, bytes.
    #[serde(default)]
    pub body_bytes_max: Option<usize>,
    /// Name of the setting (a list) with the origins that browsers may come from.
    #[serde(default)]
    pub origins: Option<String>,
    /// Browsers may call it from other origins (of the list).
    #[serde(default)]
    pub cors: bool,
}

fn post() -> Vec<String> {
    vec!["POST".to_owned()]
}

/// A path below a hook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubPath {
    /// The path behind the hook's own; `{name}` stands for one part of it.
    pub at: String,
    /// Methods it takes; those of the hook if missing.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What is answered to proven requests at once; they are forgotten. Missing: they carry payloads.
    #[serde(default)]
    pub answer: Option<Answer>,
}

/// One, or a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMore<T> {
    /// One.
    One(T),
    /// A list.
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    /// All of them.
    pub fn all(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(all) => all,
        }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// JSON.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`.
    Multipart,
    /// XML, also RSS and Atom.
    Xml,
    /// Lines of text, as they are.
    Text,
}

/// A body that is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decrypt {
    /// WeChat's safe mode: an XML envelope with an `Encrypt` element. A body without one is read as it is.
    WechatAes {
        /// The secret with the `EncodingAESKey`.
        secret: String,
    },
}

/// How parts of a message that come apart are put together. The map names what they have in common: `part_of`, and `part`, `parts`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coalesce {
    /// The first part waits so long for the others, such as `"2s"`; all of them known and there, it does not wait.
    pub window: String,
    /// What stands between the texts of parts.
    #[serde(default)]
    pub glue: String,
}

/// JSON inside a field.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Then {
    /// The field whose text is JSON, as `/name` (RFC 6901). Where it is missing the body stays as it is.
    pub path: String,
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// Durable.
    #[serde(default)]
    pub accepted: Answer,
    /// Durable and ignored; as accepted if missing.
    #[serde(default)]
    pub ignored: Option<Answer>,
    /// The signature is wrong.
    #[serde(default)]
    pub refused: Option<Answer>,
    /// Come again later.
    #[serde(default)]
    pub overload: Option<Answer>,
    /// Name of the setting (a URL) where browsers are sent after a form.
    #[serde(default)]
    pub browser: Option<String>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Content type; none if there is no body.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Body. In those of [webhook.respond] `{setting:NAME}` is a setting of the channel, written as the content type wants.
    #[serde(default)]
    pub body: String,
}

impl Default for Answer {
    fn default() -> Self {
        Self { status: 200, content_type: None, body: String::new() }
    }
}

impl Manifest {
    /// Reads `text`, the content of `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let manifest: Self = toml::from_str(text).map_err(|error| vec![toml_problem(file, text, &error)])?;
        let problems = manifest.check(file);
        if problems.is_empty() { Ok(manifest) } else { Err(problems) }
    }

    /// What is wrong with it.
    pub(crate) fn check(&self, file: &str) -> Vec<Problem> {
        let manifest = self;
        let mut problems = Vec::new();
        let mut wrong = |message: String| problems.push(Problem::whole(file, message));
        manifest.check_modes(&mut wrong);
        for (name, setting) in &manifest.settings {
            if setting.help.trim().is_empty() {
                wrong(format!("setting `{name}` has no help text"));
            }
            if let Some(default) = &setting.default
                && setting.kind.read(default).is_none()
            {
                wrong(format!("the default of setting `{name}` is not {}", setting.kind.wanted()));
            }
        }
        for (name, secret) in &manifest.secrets {
            if secret.help.trim().is_empty() {
                wrong(format!("secret `{name}` has no help text"));
            }
        }
        for code in manifest.codes.keys() {
            if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
                wrong(format!("code `{code}` is not snake case"));
            }
        }
        if let Some(window) = manifest.coalesce.as_ref().map(|coalesce| &coalesce.window)
            && duration(window).is_none_or(|window| window > COALESCE_WINDOW_MAX)
        {
            wrong(format!("[coalesce] window: `{window}` is not a duration of at most 5m, such as \"2s\""));
        }
        for (what, name) in manifest.setting_names() {
            if !manifest.settings.contains_key(name) {
                wrong(format!("{what} names the setting `{name}`, which is not declared"));
            }
        }
        problems
    }

    /// What `mode` names is described, and what is described is named.
    fn check_modes(&self, wrong: &mut impl FnMut(String)) {
        if self.modes().is_empty() {
            wrong("needs [webhook], [poll.NAME] or [stream]".to_owned());
        }
        for mode in &self.mode {
            if *mode != Via::Imap && !self.described().contains(mode) {
                wrong(format!("`mode` names {}, which nothing describes", mode.as_str()));
            }
        }
        for mode in self.described().into_iter().filter(|mode| !self.modes().contains(mode)) {
            wrong(format!("`mode` does not name {}, which is described", mode.as_str()));
        }
    }

    /// The ways that its tables describe.
    fn described(&self) -> Vec<Via> {
        let polls = (!self.poll.is_empty()).then_some(Via::Poll);
        let streams = self.stream.as_ref().map(|_| Via::Stream);
        self.webhook.iter().map(|_| Via::Webhook).chain(polls).chain(streams).collect()
    }

    /// How its payloads can come, the default first.
    pub fn modes(&self) -> Vec<Via> {
        if self.mode.is_empty() { self.described() } else { self.mode.clone() }
    }

    /// It reads mailboxes.
    pub fn is_mail(&self) -> bool {
        self.mode == [Via::Imap]
    }

    fn setting_names(&self) -> Vec<(&'static str, &str)> {
        let webhook = self.webhook.as_ref();
        let named = [
            ("repeat_window", self.repeat_window.as_deref()),
            ("webhook.origins", webhook.and_then(|webhook| webhook.origins.as_deref())),
            ("webhook.respond.browser", webhook.and_then(|webhook| webhook.respond.browser.as_deref())),
        ];
        named.into_iter().filter_map(|(what, name)| Some((what, name?))).collect()
    }

    /// Namespace of its keys.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(&self.name)
    }

    /// Scheme of its addresses.
    pub fn scheme(&self) -> &str {
        self.scheme.as_deref().unwrap_or(&self.name)
    }
}

/// `300ms`, `30s`, `5m`, `2h`, `1d`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u64 = text.get(..digits)?.parse().ok()?;
    let ms = match text.get(digits..)?.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(count.checked_mul(ms)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let problems = Manifest::parse("connector.toml", text).err().unwrap_or_default();
        let shown = crate::connector::problem::render(&problems);
        assert!(shown.contains(expected), "{shown}");
    }

    const HEAD: &str = "name = \"x\"\ntitle = \"X\"\nabout = \"For tests.\"\n";

    #[test]
    fn unknown_keys_are_refused_with_one_suggestion() {
        refused(&format!("{HEAD}uint = \"thread\"\n[webhook]\ndecode = \"json\"\n"), "connector.toml:4:1: unknown key `uint`");
        refused(&format!("{HEAD}uint = \"thread\"\n[webhook]\ndecode = \"json\"\n"), "did you mean `unit`?");
        refused(
            &format!("{HEAD}[webhook]\ndecode = \"json\"\n[correlate.call]\nby = \"x\"\n"),
            "`correlate` is not carried out by this version",
        );
    }

    #[test]
    fn settings_need_help_and_a_fitting_default() {
        refused(
            &format!("{HEAD}[webhook]\ndecode = \"json\"\n[settings.a]\ntype = \"duration\"\ndefault = \"soon\"\nhelp = \"\"\n"),
            "is not a duration",
        );
        refused(&format!("{HEAD}[webhook]\ndecode = \"json\"\n[settings.a]\ntype = \"text\"\nhelp = \" \"\n"), "has no help text");
        refused(HEAD, "needs [webhook], [poll.NAME] or [stream]");
        refused(
            &format!("mode = [\"poll\", \"webhook\"]\n{HEAD}[webhook]\ndecode = \"json\"\n"),
            "`mode` names poll, which nothing describes",
        );
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("5"), None);
        assert_eq!(duration("99999999999999999999d"), None);
    }
}
