//! Read: a parsed file against the table of keys. Finds unknown keys, fills in defaults, and goes on after every mistake.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::Url;

use crate::config::keys::{Default, Key, Kind};
use crate::config::settings::{Fingerprint, SecretPlace};
use crate::config::source::Source;
use crate::config::units::Rate;
use crate::config::value::{Value, read_value};
use crate::connector::problem::{Problem, did_you_mean};

/// A file being read, and what was found wrong with it.
pub struct Reading<'a> {
    /// The file as it is shown.
    pub file: String,
    /// Its text.
    pub text: &'a str,
    /// Where its relative paths start.
    pub folder: PathBuf,
    /// Files and environment.
    pub source: &'a dyn Source,
    /// What is wrong, warnings too.
    pub problems: Vec<Problem>,
    /// The named table being read: suggestions call its secrets after it.
    pub owner: String,
    /// How many of the problems are secrets that are not set.
    pub unset_secrets: usize,
    /// Places that hold something secret: never shown (I7).
    pub masks: Vec<Range<usize>>,
    /// Everything that was read beside the file: secrets, maps, certificates.
    pub beside: Sha256,
}

impl<'a> Reading<'a> {
    /// Starts to read `text`, the content of `file`.
    pub fn new(file: &Path, text: &'a str, source: &'a dyn Source) -> Self {
        Self {
            file: file.display().to_string(),
            text,
            folder: file.parent().unwrap_or(Path::new("")).to_path_buf(),
            source,
            problems: Vec::new(),
            owner: String::new(),
            unset_secrets: 0,
            masks: Vec::new(),
            beside: Sha256::new(),
        }
    }

    /// Notes a problem at a place of the text.
    pub fn wrong(&mut self, span: Range<usize>, message: impl Into<String>, suggestion: Option<String>) {
        let mut problem = Problem::at(&self.file, self.text, span, message);
        problem.suggestion = suggestion;
        self.problems.push(problem);
    }

    /// Notes something that works but deserves a look.
    pub fn warn(&mut self, span: Range<usize>, message: impl Into<String>, suggestion: &str) {
        self.problems.push(Problem::at(&self.file, self.text, span, message).suggest(suggestion).warning());
    }

    /// A path as written, from the folder of the file.
    pub fn path(&self, written: &str) -> PathBuf {
        self.folder.join(written)
    }

    /// Parses the text and reads it as a section with `keys`. `None`: it is no TOML; the problems say where.
    pub fn document(&mut self, keys: &'static [Key]) -> Option<Section> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        // What follows the first error is often only its echo.
        if let Some(error) = errors.first() {
            let span = error.span().unwrap_or(0..0);
            self.wrong(span, error.message().lines().next().unwrap_or("this is not TOML").to_owned(), None);
            self.hide_secret_line();
            return None;
        }
        Some(self.section(String::new(), 0..0, root.get_ref(), keys))
    }

    /// A file that does not parse has no places to mask, so of a line that looks like a secret only the name is shown.
    fn hide_secret_line(&mut self) {
        if let Some(problem) = self.problems.last_mut() {
            let lower = problem.source.to_lowercase();
            if ["secret", "password", "token", "key", "auth"].iter().any(|word| lower.contains(word)) {
                let value = problem.source.find('=').map_or(0, |place| place + 1);
                let (name, value) = problem.source.split_at(value);
                let hidden: String = value.chars().map(|letter| if letter == ' ' { ' ' } else { '*' }).collect();
                problem.source = format!("{name}{hidden}");
            }
        }
    }

    /// Reads one table. `title` is how it is called in messages: `[imap]`, or nothing for the top of the file.
    pub fn section(&mut self, title: String, span: Range<usize>, table: &DeTable<'_>, keys: &'static [Key]) -> Section {
        let mut section = Section { title, span, values: BTreeMap::new() };
        for (name, value) in table.iter() {
            match keys.iter().find(|key| key.name == name.get_ref().as_ref()) {
                Some(key) => {
                    let read = read_value(self, &section.title, key, name.span(), value);
                    section
                        .values
                        .insert(key.name, Entry { key_span: name.span(), span: value.span(), written: true, wrong: false, value: read });
                }
                None => self.unknown_key(&section.title, name, value, keys),
            }
        }
        for key in keys {
            self.fill_in(&mut section, key);
        }
        section
    }

    /// The default where nothing, or nothing usable, is written.
    fn fill_in(&mut self, section: &mut Section, key: &'static Key) {
        if section.values.get(key.name).is_some_and(|entry| entry.value.is_some()) {
            return;
        }
        let written = section.values.contains_key(key.name);
        let value = match (key.default, key.kind) {
            (Default::Is(literal), _) => self.default_value(key, literal),
            (_, Kind::Table(keys)) if !keys.iter().any(|key| matches!(key.default, Default::Required(_))) => {
                Some(Value::Table(self.section(format!("[{}]", key.name), section.span.clone(), &DeTable::new(), keys)))
            }
            (Default::Required(example), _) if !written => {
                let place = if section.title.is_empty() { String::new() } else { format!(" in {}", section.title) };
                let add = Some(format!("add `{} = {example}`", key.name));
                self.wrong(section.span.clone(), format!("`{}` is missing{place}", key.name), add);
                None
            }
            _ => None,
        };
        let entry = section.values.entry(key.name);
        let entry = entry.or_insert_with(|| Entry {
            key_span: section.span.clone(),
            span: section.span.clone(),
            written: false,
            wrong: false,
            value: None,
        });
        entry.wrong = written;
        entry.value = value;
    }

    fn default_value(&mut self, key: &Key, literal: &'static str) -> Option<Value> {
        // Defaults are literals of the table of keys; a test reads them all, so no problem can come of them here.
        let parsed = DeValue::parse(literal).ok()?;
        read_value(self, "", key, 0..0, &parsed)
    }

    fn unknown_key(&mut self, title: &str, name: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>, keys: &[Key]) {
        let given = name.get_ref().as_ref();
        let place = if title.is_empty() { String::new() } else { format!(" in {title}") };
        let secret = ["secret", "password", "token", "key", "pass"].iter().any(|word| given.contains(word));
        if secret {
            self.masks.push(value.span());
        }
        let near = did_you_mean(given, keys.iter().map(|key| key.name)).map(|near| format!("did you mean `{near}`?"));
        let elsewhere = || {
            let owner = keys.iter().find(|key| matches!(key.kind, Kind::Table(inner) if inner.iter().any(|key| key.name == given)))?;
            Some(format!("`{given}` belongs to [{}]", owner.name))
        };
        let has_secrets = || (secret && title == "[imap]").then(|| format!("secrets stand in [secrets]: `{given} = {{ env = \"…\" }}`"));
        let suggestion = near.or_else(elsewhere).or_else(has_secrets);
        let kind = if value.get_ref().is_table() && title.is_empty() { "section" } else { "key" };
        let shown = if kind == "section" { format!("unknown section [{given}]") } else { format!("unknown key `{given}`{place}") };
        self.wrong(name.span(), shown, suggestion);
    }

    /// All problems, with everything secret masked in the lines they show.
    pub fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems;
        if !self.masks.is_empty() {
            let mut masked = String::with_capacity(self.text.len());
            for (place, letter) in self.text.char_indices() {
                let hidden = letter != '\n' && self.masks.iter().any(|mask| mask.contains(&place));
                masked.push(if hidden { '*' } else { letter });
            }
            let lines: Vec<&str> = masked.lines().collect();
            for problem in problems.iter_mut().filter(|problem| !problem.source.is_empty()) {
                problem.source = lines.get(problem.line.saturating_sub(1)).copied().unwrap_or_default().chars().take(160).collect();
            }
        }
        problems
    }
}

/// One table, read: a value for every key that has one.
#[derive(Debug)]
pub struct Section {
    /// How it is called in messages.
    pub title: String,
    /// Where it begins.
    pub span: Range<usize>,
    values: BTreeMap<&'static str, Entry>,
}

#[derive(Debug)]
struct Entry {
    key_span: Range<usize>,
    span: Range<usize>,
    written: bool,
    /// What is written cannot be used; `value` is the default.
    wrong: bool,
    value: Option<Value>,
}

/// One accessor per kind. Where a value is missing because it was wrong, the problem is noted and the stand-in is never used.
macro_rules! take {
    ($(#[$doc:meta] $name:ident: $variant:ident -> $type:ty;)+) => {
        $(#[$doc]
        pub fn $name(&self, key: &str) -> Option<$type> {
            match self.value(key) {
                Some(Value::$variant(value)) => Some(value.clone()),
                _ => None,
            }
        })+
    };
}

impl Section {
    take! {
        /// A text, name, word or program.
        text: Text -> String;
        /// Yes or no.
        flag: Bool -> bool;
        /// A whole number.
        integer: Integer -> i64;
        /// A number.
        number: Number -> f64;
        /// A duration.
        duration: Duration -> Duration;
        /// A retention.
        keep: Keep -> Option<Duration>;
        /// A size.
        size: Size -> u64;
        /// A rate.
        rate: Rate -> Rate;
        /// A path.
        path: Path -> PathBuf;
        /// A URL.
        url: Url -> Url;
        /// An address to listen on.
        listen: Listen -> std::net::SocketAddr;
        /// Networks.
        networks: Networks -> Vec<crate::config::units::Network>;
        /// Texts.
        texts: Texts -> Vec<String>;
        /// Durations.
        durations: Durations -> Vec<Duration>;
        /// Place of a secret that the gateway makes.
        place: Place -> SecretPlace;
        /// Secrets.
        secrets: Secrets -> Vec<SecretString>;
        /// Texts by name.
        text_map: TextMap -> BTreeMap<String, String>;
        /// Header fields.
        headers: Headers -> Vec<(String, SecretString)>;
        /// Secrets by name.
        secret_map: SecretMap -> BTreeMap<String, Vec<SecretString>>;
        /// Unchecked values.
        free: Free -> serde_json::Map<String, serde_json::Value>;
    }

    /// A section that says nothing.
    pub fn empty() -> Self {
        Self { title: String::new(), span: 0..0, values: BTreeMap::new() }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)?.value.as_ref()
    }

    /// A table inside.
    pub fn table(&self, key: &str) -> Option<&Section> {
        match self.value(key) {
            Some(Value::Table(section)) => Some(section),
            _ => None,
        }
    }

    /// Named tables inside.
    pub fn tables(&self, key: &str) -> Vec<(&str, &Section)> {
        match self.value(key) {
            Some(Value::Tables(sections)) => sections.iter().map(|(name, section)| (name.as_str(), section)).collect(),
            _ => Vec::new(),
        }
    }

    /// Listed tables inside.
    pub fn list(&self, key: &str) -> &[Section] {
        match self.value(key) {
            Some(Value::List(sections)) => sections,
            _ => &[],
        }
    }

    /// Whether the file says it.
    pub fn written(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|entry| entry.written)
    }

    /// Whether what the file says of it cannot be used.
    pub fn wrong(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|entry| entry.wrong)
    }

    /// Where its value stands; the section's head if it is not written.
    pub fn span(&self, key: &str) -> Range<usize> {
        self.values.get(key).map_or(self.span.clone(), |entry| entry.span.clone())
    }

    /// Where its name stands.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.values.get(key).map_or(self.span.clone(), |entry| entry.key_span.clone())
    }

    /// Digest of what it says, layout and comments apart. Secrets and files read beside it are not in it.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut digest = Sha256::new();
        self.digest_into(&mut digest);
        digest.finalize().into()
    }

    /// Adds what it says to a digest.
    pub fn digest_into(&self, digest: &mut Sha256) {
        for (name, entry) in &self.values {
            if let Some(value) = &entry.value {
                digest.update((name.len() as u64).to_be_bytes());
                digest.update(name.as_bytes());
                value.digest_into(digest);
            }
        }
    }
}
