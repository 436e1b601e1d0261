//! Compiling a call: everything that can be wrong with it is found at load.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::connector::call::auth::{Auth, AuthSpec};
use crate::connector::call::template::Template;
use crate::connector::call::{Body, Call, JsonTemplate, Message, PartBody, PartSpec, RequestSpec, WITHIN};
use crate::connector::jq::{Filter, Limits};
use crate::connector::manifest::{Secret, Setting, SettingType, duration};
use crate::connector::problem::{Problem, did_you_mean};

/// What a call may name: of the manifest it stands in.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// File of the manifest, for problems.
    pub file: &'a str,
    /// Its settings.
    pub settings: &'a BTreeMap<String, Setting>,
    /// Its secrets.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// Its `[auth.NAME]` tables.
    pub auth: &'a BTreeMap<String, AuthSpec>,
    /// The hosts its credentials may go to.
    pub hosts: &'a [String],
    /// Budget of its jq.
    pub limits: Limits,
}

impl Call {
    /// Checks and compiles a request that stands at `place` (such as `poll.history.request`). `roots` are what the context will
    /// hold beside `settings`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: &RequestSpec, place: &str, roots: &[&str], scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let mut compiler = Compiler::new(place, roots, scope);
        let call = compiler.call(spec);
        match call {
            Some(call) if compiler.problems.is_empty() => Ok(call),
            _ => Err(compiler.problems),
        }
    }
}

impl Message {
    /// Checks and compiles a message that stands at `place`; `roots` as for a call.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: &Value, place: &str, roots: &[&str], scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let mut compiler = Compiler::new(place, roots, scope);
        let message = Self(compiler.json(spec));
        if compiler.problems.is_empty() { Ok(message) } else { Err(compiler.problems) }
    }
}

/// Checks what stands at one place, and gathers what is wrong with it.
pub(crate) struct Compiler<'a> {
    place: &'a str,
    roots: &'a [&'a str],
    scope: &'a Scope<'a>,
    /// It shows secrets though it names no `auth`, so it may only go where a credential may.
    proven: bool,
    /// `{token}` is known here.
    token: bool,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Compiler<'a> {
    fn new(place: &'a str, roots: &'a [&'a str], scope: &'a Scope<'a>) -> Self {
        Self { place, roots, scope, proven: false, token: false, problems: Vec::new() }
    }

    /// For what gets a token.
    pub(crate) fn for_tokens(place: &'a str, scope: &'a Scope<'a>) -> Self {
        Self { proven: true, token: true, ..Self::new(place, &["account"], scope) }
    }
}

impl Compiler<'_> {
    pub(crate) fn wrong(&mut self, message: impl std::fmt::Display) {
        self.problems.push(Problem::whole(self.scope.file, format!("[{}]: {message}", self.place)));
    }

    pub(crate) fn call(&mut self, spec: &RequestSpec) -> Option<Call> {
        self.token |= spec.auth.as_ref().and_then(|name| self.scope.auth.get(name)).is_some_and(|auth| auth.show().is_some());
        let named = [("GET", &spec.get), ("POST", &spec.post), ("PUT", &spec.put), ("PATCH", &spec.patch), ("DELETE", &spec.delete)];
        let named: Vec<(&'static str, &String)> = named.into_iter().filter_map(|(method, url)| Some((method, url.as_ref()?))).collect();
        let [(method, url)] = named.as_slice() else {
            self.wrong("name exactly one of get, post, put, patch, delete");
            return None;
        };
        let url = self.url(url, spec.auth.is_some() || self.proven);
        let query = self.table(&spec.query);
        let headers = self.table(&spec.headers).into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let auth = spec.auth.as_ref().and_then(|name| self.auth(name));
        let body = self.body(spec);
        let within = match spec.within.as_deref().map(|text| (text, duration(text))) {
            None => WITHIN,
            Some((_, Some(within))) => within,
            Some((text, None)) => {
                self.wrong(format!("within: `{text}` is not a duration such as \"30s\""));
                WITHIN
            }
        };
        let is_url = |(_, setting): &(&String, &Setting)| setting.kind == SettingType::Url;
        let url_settings = self.scope.settings.iter().filter(is_url).map(|(name, _)| name.clone()).collect();
        Some(Call { method, url: url?, query, headers, body, auth, within, hosts: self.scope.hosts.to_vec(), url_settings })
    }

    /// The address: it begins with a host of `hosts`, with a setting that is a URL, or is a token alone that came from outside.
    pub(crate) fn url(&mut self, text: &str, proven: bool) -> Option<Template> {
        let template = self.template(text)?;
        let setting = match template.first_path() {
            Some([root, name, ..]) if root == "settings" => Some(name.clone()),
            Some(_) => return Some(template),
            None => None,
        };
        if let Some(name) = setting {
            if self.scope.settings.get(&name).is_some_and(|setting| setting.kind != SettingType::Url) {
                self.wrong(format!("the address begins with the setting `{name}`, which is not of type url"));
            }
            return Some(template);
        }
        let lead = template.lead();
        let rest = lead.strip_prefix("https://").or_else(|| lead.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split_once('/')).map(|(host, _)| host.split(':').next().unwrap_or_default().to_owned());
        match host {
            None => {
                self.wrong("the address must begin with `https://HOST/` or with a setting of type url: nothing from outside forms its host")
            }
            Some(host) if proven && !self.scope.hosts.contains(&host) => {
                self.wrong(format!("`{host}` is not among `hosts`, the only hosts its credentials may go to"));
            }
            Some(_) => {}
        }
        Some(template)
    }

    pub(crate) fn template(&mut self, text: &str) -> Option<Template> {
        match Template::parse(text) {
            Err(message) => {
                self.wrong(message);
                None
            }
            Ok(template) => {
                self.tokens(&template);
                Some(template)
            }
        }
    }

    fn tokens(&mut self, template: &Template) {
        for name in template.secrets() {
            self.secret(name);
        }
        if template.names_token() && !self.token {
            self.wrong("`{token}` is known only where `auth` names one that gets a token");
        }
        for path in template.paths() {
            match path {
                [root, name, ..] if root == "settings" => {
                    if !self.scope.settings.contains_key(name) {
                        let near = did_you_mean(name, self.scope.settings.keys().map(String::as_str)).map(str::to_owned);
                        self.unknown(format!("names the setting `{name}`, which is not declared"), near);
                    }
                }
                [root, ..] if self.roots.contains(&root.as_str()) => {}
                _ => {
                    let root = path.first().map_or("", String::as_str);
                    let known = self.roots.iter().copied().chain(["settings", "secrets"]);
                    let near = did_you_mean(root, known).map(str::to_owned);
                    self.unknown(format!("`{{{}}}` is not known here", path.join(".")), near);
                }
            }
        }
    }

    fn unknown(&mut self, message: String, near: Option<String>) {
        self.wrong(message);
        if let (Some(near), Some(problem)) = (near, self.problems.pop()) {
            self.problems.push(problem.suggest(format!("did you mean `{near}`?")));
        }
    }

    pub(crate) fn secret(&mut self, name: &str) {
        if !self.scope.secrets.contains_key(name) {
            self.wrong(format!("names the secret `{name}`, which is not declared"));
        }
    }

    fn table(&mut self, table: &BTreeMap<String, String>) -> Vec<(String, Template)> {
        table.iter().filter_map(|(name, value)| Some((name.clone(), self.template(value)?))).collect()
    }

    fn auth(&mut self, name: &str) -> Option<Auth> {
        let Some(spec) = self.scope.auth.get(name) else {
            let near = did_you_mean(name, self.scope.auth.keys().map(String::as_str)).map(str::to_owned);
            self.unknown(format!("[auth.{name}] is missing"), near);
            return None;
        };
        match Auth::compile(name, spec) {
            Err(message) => {
                self.wrong(format!("[auth.{name}]: {message}"));
                None
            }
            Ok(auth) => {
                auth.templates().into_iter().for_each(|template| self.tokens(template));
                if let Some(secret) = auth.secret() {
                    self.secret(secret);
                }
                Some(auth)
            }
        }
    }

    fn body(&mut self, spec: &RequestSpec) -> Body {
        let given =
            [spec.json.is_some(), spec.jq.is_some(), !spec.form.is_empty(), !spec.multipart.is_empty(), spec.text.is_some(), spec.file];
        if given.iter().filter(|given| **given).count() > 1 {
            self.wrong("give one of json, jq, form, multipart, text, file");
        }
        if let Some(json) = &spec.json {
            return Body::Json(self.json(json));
        }
        if let Some(code) = &spec.jq {
            return self.filter(code).map_or(Body::None, Body::Jq);
        }
        if let Some(text) = &spec.text {
            return self.template(text).map_or(Body::None, Body::Text);
        }
        if !spec.form.is_empty() {
            return Body::Form(self.table(&spec.form));
        }
        if !spec.multipart.is_empty() {
            return Body::Multipart(spec.multipart.iter().filter_map(|part| self.part(part)).collect());
        }
        if spec.file { Body::File } else { Body::None }
    }

    fn part(&mut self, part: &PartSpec) -> Option<(Template, PartBody)> {
        let body = match (&part.value, &part.jq, part.files) {
            (Some(value), None, false) => PartBody::Text(self.template(value)?),
            (None, Some(code), false) => PartBody::Jq(self.filter(code)?),
            (None, None, true) => PartBody::Files,
            _ => {
                self.wrong(format!("the part `{}` needs one of value, jq, files", part.name));
                return None;
            }
        };
        Some((self.template(&part.name)?, body))
    }

    fn filter(&mut self, code: &str) -> Option<Box<Filter>> {
        match Filter::compile(self.scope.file, code, &[], self.scope.limits) {
            Ok(filter) => Some(Box::new(filter)),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.wrong(format!("in its jq: {}", problem.message)));
                None
            }
        }
    }

    fn json(&mut self, value: &Value) -> JsonTemplate {
        match value {
            Value::String(text) if text.contains(['{', '}']) => {
                self.template(text).map_or_else(|| JsonTemplate::Plain(Value::Null), JsonTemplate::Text)
            }
            Value::Array(items) => JsonTemplate::List(items.iter().map(|item| self.json(item)).collect()),
            Value::Object(map) => JsonTemplate::Object(map.iter().map(|(name, value)| (name.clone(), self.json(value))).collect()),
            other => JsonTemplate::Plain(other.clone()),
        }
    }
}
