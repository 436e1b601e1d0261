//! Loading `destination.toml`: everything that is wrong with it at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::connector::call::answer::{RuleSpec, Rules};
use crate::connector::call::compile::Scope;
use crate::connector::call::template::{Position, Template};
use crate::connector::call::{Call, Filling, RequestSpec};
use crate::connector::folder::Folder;
use crate::connector::jq::{Filter, Limits};
use crate::connector::manifest::duration;
use crate::connector::problem::Problem;
use crate::connector::setting::toml_problem;
use crate::connector::ticket::back;
use crate::connector::ticket::{
    CallSpec, Calls, CheckSpec, CreateWay, DESTINATION_FILE, FilesWay, ROOTS, Repeatable, TAKE_VARS, TicketCall, TicketCheck,
    TicketManifest, TicketSystem,
};
use crate::connector::token::TokenPlan;
use crate::logic::ticket::Caps;

/// Looks for one send at most: each is a call of its own.
const LOOKS_MAX: usize = 8;

impl TicketSystem {
    /// Loads the ticket system of a folder; `None` if the folder is none.
    ///
    /// # Errors
    /// The problems of its file.
    pub fn load(folder: &Folder, limits: Limits) -> Option<Result<Self, Vec<Problem>>> {
        let text = folder.text(DESTINATION_FILE)?;
        Some(load(folder, text, limits))
    }

    /// Where a person sees a ticket.
    pub fn ticket_url(&self, context: &Value) -> Option<String> {
        let secrets = BTreeMap::new();
        let with = Filling { context, secrets: &secrets, token: None, files: &[] };
        self.url.as_ref()?.fill(&with, Position::Path).ok()
    }

    /// The settings of a destination, with defaults.
    ///
    /// # Errors
    /// All that is wrong with them: name of the setting (empty for one that is missing), what, advice.
    pub fn settings(&self, written: &Map<String, Value>) -> Result<Map<String, Value>, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let mut all = Map::new();
        for (name, setting) in &self.manifest.settings {
            let value = match written.get(name) {
                Some(value) => setting.kind.read(value).or_else(|| {
                    problems.push((name.clone(), format!("setting `{name}` must be {}", setting.kind.wanted())));
                    None
                }),
                None if setting.required => {
                    problems.push((name.clone(), format!("setting `{name}` is missing: {}", setting.help)));
                    None
                }
                None => setting.default.as_ref().and_then(|default| setting.kind.read(default)),
            };
            all.insert(name.clone(), value.unwrap_or(Value::Null));
        }
        for name in written.keys().filter(|name| !self.manifest.settings.contains_key(*name)) {
            problems.push((name.clone(), format!("`{}` has no setting `{name}`", self.manifest.name)));
        }
        if problems.is_empty() { Ok(all) } else { Err(problems) }
    }
}

struct Loader<'a> {
    scope: Scope<'a>,
    rules: &'a [RuleSpec],
    problems: Vec<Problem>,
}

fn load(folder: &Folder, text: &str, limits: Limits) -> Result<TicketSystem, Vec<Problem>> {
    let file = folder.place(DESTINATION_FILE);
    let manifest: TicketManifest = toml::from_str(text).map_err(|error| vec![toml_problem(&file, text, &error)])?;
    let scope = Scope {
        file: &file,
        settings: &manifest.settings,
        secrets: &manifest.secrets,
        auth: &manifest.auth,
        hosts: &manifest.hosts,
        limits,
    };
    let mut loader = Loader { scope, rules: &manifest.rules, problems: Vec::new() };
    if manifest.name != folder.name {
        loader.wrong(format!("`name` is `{}`, the folder is `{}`", manifest.name, folder.name));
    }
    let tokens = loader.tokens(&manifest);
    let caps = loader.caps(&manifest);
    let calls = loader.calls(&manifest);
    let checks = manifest.checks.iter().enumerate().filter_map(|(number, check)| loader.check(number, check)).collect();
    let url = manifest.ticket.url.as_ref().and_then(|url| match Template::parse(url) {
        Ok(template) => Some(template),
        Err(message) => {
            loader.wrong(format!("[ticket] url: {message}"));
            None
        }
    });
    let back = manifest.back.as_ref().map(|spec| back::load(folder, &manifest, spec, limits));
    let back = back.and_then(|made| loader.kept(made)).map(Arc::new);
    let problems = loader.problems;
    match (calls, problems.is_empty()) {
        (Some(calls), true) => Ok(TicketSystem { calls, tokens, checks, caps, url, back, manifest }),
        _ => Err(problems),
    }
}

impl Loader<'_> {
    fn wrong(&mut self, message: impl Into<String>) {
        self.problems.push(Problem::whole(self.scope.file, message));
    }

    /// How its tokens are got. Nobody logs in for a destination, so they are those of which nothing is kept.
    fn tokens(&mut self, manifest: &TicketManifest) -> BTreeMap<String, Arc<TokenPlan>> {
        let mut tokens = BTreeMap::new();
        for (name, auth) in &manifest.auth {
            match self.kept(TokenPlan::compile(name, auth, &self.scope)).flatten() {
                Some(plan) if plan.keeps() => {
                    self.wrong(format!("[auth.{name}]: a ticket system gets its tokens by client_credentials or jwt_bearer"));
                }
                Some(plan) => drop(tokens.insert(name.clone(), Arc::new(plan))),
                None => {}
            }
        }
        tokens
    }

    /// What it can do; what does not go together is refused.
    fn caps(&mut self, manifest: &TicketManifest) -> Caps {
        let (ticket, calls) = (&manifest.ticket, &manifest.calls);
        let repeats = |which: Repeatable| ticket.repeatable.contains(&which);
        let mut looks_ms = Vec::new();
        for look in &ticket.look_after {
            match duration(look) {
                Some(span) => looks_ms.push(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
                None => self.wrong(format!("[ticket] look_after: `{look}` is not a duration such as \"30s\"")),
            }
        }
        if looks_ms.len() > LOOKS_MAX || !looks_ms.is_sorted() {
            self.wrong(format!("[ticket] look_after: at most {LOOKS_MAX} durations, the shortest first"));
        }
        let blind = !repeats(Repeatable::Create) || !repeats(Repeatable::Append);
        let mut need = |wrong: bool, message: &str| {
            if wrong {
                self.wrong(message);
            }
        };
        need(blind && ticket.look_after.is_empty(), "[ticket] look_after is missing: when to look for what was sent without an answer");
        need(
            !repeats(Repeatable::Create) && calls.find_tickets.is_none(),
            "[calls.find_tickets] is missing: a create without an answer must be looked for, or be repeatable",
        );
        need(
            !repeats(Repeatable::Append) && calls.find_entry.is_none(),
            "[calls.find_entry] is missing: an append without an answer must be looked for, or be repeatable",
        );
        need(
            ticket.verify && (calls.close_duplicate.is_none() || calls.find_tickets.is_none()),
            "[ticket] verify needs [calls.find_tickets] and [calls.close_duplicate]",
        );
        need(ticket.files == FilesWay::Upload && calls.upload.is_none(), "[calls.upload] is missing: files are handed over before");
        need(
            ticket.files == FilesWay::After && (calls.attach.is_none() || calls.find_file.is_none()),
            "[calls.attach] and [calls.find_file] are needed: files go after the entry, and one without an answer must be looked for",
        );
        need(ticket.base64 && ticket.files == FilesWay::Link, "[ticket] base64 needs files that go along: `files` says how");
        need(calls.make_requester.is_some() && calls.find_requester.is_none(), "[calls.make_requester] needs [calls.find_requester]");
        need(manifest.text.chars_max < 500, "[text] chars_max is less than 500");
        Caps {
            requester: calls.find_requester.is_some(),
            create_carries_first: ticket.create == CreateWay::WithEntry,
            create_repeatable: repeats(Repeatable::Create),
            append_repeatable: repeats(Repeatable::Append),
            looks_ms,
            verify: ticket.verify,
            shows: calls.show.is_some(),
            uploads: ticket.files == FilesWay::Upload,
            attaches: ticket.files == FilesWay::After,
        }
    }

    fn calls(&mut self, manifest: &TicketManifest) -> Option<Calls> {
        let calls = &manifest.calls;
        let mut maybe = |name: &str, spec: &Option<CallSpec>| spec.as_ref().and_then(|spec| self.call(&format!("calls.{name}"), spec));
        let (create, append) = (maybe("create", &Some(calls.create.clone())), maybe("append", &Some(calls.append.clone())));
        Some(Calls {
            find_requester: maybe("find_requester", &calls.find_requester),
            make_requester: maybe("make_requester", &calls.make_requester),
            find_tickets: maybe("find_tickets", &calls.find_tickets),
            show: maybe("show", &calls.show),
            find_joined: maybe("find_joined", &calls.find_joined),
            append_files: maybe("append_files", &calls.append_files),
            reopen: maybe("reopen", &calls.reopen),
            note: maybe("note", &calls.note),
            look: maybe("look", &calls.look),
            link: maybe("link", &calls.link),
            find_entry: maybe("find_entry", &calls.find_entry),
            upload: maybe("upload", &calls.upload),
            attach: maybe("attach", &calls.attach),
            find_file: maybe("find_file", &calls.find_file),
            note_duplicate: maybe("note_duplicate", &calls.note_duplicate),
            close_duplicate: maybe("close_duplicate", &calls.close_duplicate),
            create: create?,
            append: append?,
        })
    }

    fn call(&mut self, place: &str, spec: &CallSpec) -> Option<TicketCall> {
        let call = self.request(&format!("{place}.request"), &spec.request);
        let rules: Vec<RuleSpec> = spec.rules.iter().chain(self.rules).cloned().collect();
        let rules = Rules::compile(&rules, self.scope.file, place, self.scope.limits);
        let rules = self.kept(rules);
        let when = self.filter(place, spec.when.as_deref(), &[]);
        let take = self.filter(place, spec.take.as_deref(), &TAKE_VARS);
        Some(TicketCall { call: call?, rules: rules?, when: when?, take: take? })
    }

    fn check(&mut self, number: usize, check: &CheckSpec) -> Option<TicketCheck> {
        let place = format!("checks.{number}");
        let CheckSpec { what, when, request, take, advice, rules, make, make_when } = check.clone();
        let look = self.call(&place, &CallSpec { when, request, take, rules: rules.clone() });
        let make = make.map(|request| self.call(&format!("{place}.make"), &CallSpec { when: make_when, request, take: None, rules }));
        if make.as_ref().is_some_and(Option::is_none) {
            return None;
        }
        Some(TicketCheck { what, advice, look: look?, make: make.flatten() })
    }

    fn request(&mut self, place: &str, spec: &RequestSpec) -> Option<Call> {
        let call = Call::compile(spec, place, &ROOTS, &self.scope);
        self.kept(call)
    }

    fn kept<T>(&mut self, made: Result<T, Vec<Problem>>) -> Option<T> {
        made.map_err(|problems| self.problems.extend(problems)).ok()
    }

    /// A program, if there is one; none at all if it is wrong.
    fn filter(&mut self, place: &str, code: Option<&str>, vars: &[&str]) -> Option<Option<Filter>> {
        let Some(code) = code else { return Some(None) };
        match Filter::compile(self.scope.file, code, vars, self.scope.limits) {
            Ok(filter) => Some(Some(filter)),
            Err(problems) => {
                for problem in problems {
                    self.wrong(format!("[{place}] in its jq: {}", problem.message));
                }
                None
            }
        }
    }
}
