//! Wire: from what the files say to what runs. Values in, parts out; nothing is started here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::app::tokens::{MAIL, Tokens};
use crate::config::channel_set;
use crate::config::connectors::Connectors;
use crate::config::load::Loaded;
use crate::config::settings::{ChannelFile, Config, OnExhausted as OnExhaustedFile, OverLimit};
use crate::connector::hook::Hook;
use crate::connector::kit::ChannelKit;
use crate::connector::load::Connector;
use crate::connector::mail::{MailContext, MailLimits};
use crate::connector::own::Own;
use crate::connector::problem::Problem;
use crate::connector::reader::Reader;
use crate::connector::subscribe::Grants;
use crate::engines::imap;
use crate::logic::digest::Digester;
use crate::model::codes::Code;
use crate::model::event::Channel;
use crate::model::item::ChannelFacts;
use crate::model::raw::Via;
use crate::pipeline::intake::HookEntry;
use crate::pipeline::limits::{LimitRules, Limits, Over, Rate};
use crate::ports::clock::Clock;
use crate::ports::token::Wallet;

/// A channel that cannot run, and why.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Its id.
    pub id: String,
    /// Its connector, if the file says so much.
    pub connector: String,
    /// Why.
    pub code: Code,
    /// Rendered problems.
    pub detail: String,
}

/// A mail channel that can run.
pub struct MailChannel {
    /// Its file.
    pub file: Arc<ChannelFile>,
    /// Makes sessions.
    pub settings: imap::ImapSettings,
    /// What its items say about it.
    pub facts: Arc<ChannelFacts>,
    /// Namespace of the mail's keys.
    pub namespace: String,
    /// The mailbox's own addresses: its login name, if it is one, and those of the channel file.
    pub mailboxes: Vec<crate::model::address::Address>,
    /// Who is believed in Authentication-Results.
    pub authserv_ids: Vec<String>,
    /// Received fields a mail may have.
    pub hops_max: usize,
    /// Answers of one sender about one matter.
    pub loop_rate: crate::config::units::Rate,
}

impl MailChannel {
    /// What every mail of the channel is read with, now and when it is read again.
    pub fn context(&self, digester: &Digester, config: &Config) -> MailContext {
        MailContext {
            digester: digester.clone(),
            channel: self.facts.clone(),
            namespace: self.namespace.clone(),
            account: crate::connector::mail::settings::account(&self.file.settings, &self.mailboxes, &self.file.id),
            signed_replies: crate::connector::mail::settings::signed_replies(&self.file.settings),
            agents: crate::connector::mail::settings::agents(&self.file.settings),
            mailboxes: self.mailboxes.clone(),
            authserv_ids: self.authserv_ids.clone(),
            vouched: None,
            verify_senders: crate::connector::mail::settings::verify_senders(&self.file.settings),
            historic: false,
            limits: MailLimits {
                attachments_max: config.attachments.count_max,
                attachment_bytes_max: config.attachments.bytes_max,
                hops_max: self.hops_max,
                ..MailLimits::default()
            },
        }
    }
}

/// A road of a channel that is asked for its messages, or listens.
pub struct FedChannel {
    /// Its file.
    pub file: Arc<ChannelFile>,
    /// `poll` or `stream`.
    pub mode: Via,
    /// Reads its payloads.
    pub reader: Arc<Reader>,
    /// Its limits.
    pub limits: Arc<Limits>,
    /// Its tokens.
    pub wallet: Wallet,
}

/// Everything the channel files amount to.
#[derive(Default)]
pub struct Channels {
    /// Hooks by name.
    pub hooks: HashMap<String, Arc<HookEntry>>,
    /// Channel ids of each hook.
    pub behind: BTreeMap<String, Vec<Arc<ChannelFile>>>,
    /// How the platforms of channels are called.
    pub kits: Vec<Arc<ChannelKit>>,
    /// Tokens of channels that have any.
    pub wallets: BTreeMap<String, Wallet>,
    /// Who waits to know who we are, by channel.
    pub owns: HashMap<String, Vec<Arc<Own>>>,
    /// What hooks are told about subscriptions, by channel.
    pub grants: HashMap<String, Arc<Grants>>,
    /// Mail channels.
    pub mail: Vec<MailChannel>,
    /// Polls and streams.
    pub feeds: Vec<FedChannel>,
    /// Channels that cannot run.
    pub failed: Vec<Failed>,
    /// Channels that are switched off.
    pub disabled: Vec<Arc<ChannelFile>>,
}

/// A channel and its connector, on the way to its hook, with the limits that its roads share.
type Sharing = (Arc<ChannelFile>, Arc<Connector>, Arc<Limits>);

/// Builds all channels. One that fails, fails alone.
pub fn channels(loaded: &Loaded, connectors: &mut Connectors, digester: &Digester, clock: &Arc<dyn Clock>, tokens: &Tokens) -> Channels {
    let mut out = Channels::default();
    let mut groups: BTreeMap<String, Vec<Sharing>> = BTreeMap::new();
    for (id, channel) in &loaded.channels {
        let file = match channel {
            Err(failed) => {
                let detail = one_line(&failed.problems);
                out.failed.push(Failed {
                    id: id.clone(),
                    connector: failed.connector.clone().unwrap_or_default(),
                    code: failed.code,
                    detail,
                });
                continue;
            }
            Ok(file) => file.clone(),
        };
        if !file.enabled {
            out.disabled.push(file);
            continue;
        }
        let connector =
            connectors.of_channel(&file).unwrap_or_else(|| Err(vec![Problem::whole(&file.connector, "there is no such connector")]));
        match connector {
            Err(problems) => out.failed.push(failed(&file, &problems)),
            Ok(connector) if connector.manifest.is_mail() => match mail_channel(&file, tokens) {
                Ok(channel) => {
                    if let imap::Login::Token { source, .. } = &channel.settings.login {
                        out.wallets.insert(id.clone(), Wallet::new([(MAIL.to_owned(), source.clone())].into()));
                    }
                    out.mail.push(channel);
                }
                Err(detail) => {
                    out.failed.push(Failed { id: id.clone(), connector: file.connector.clone(), code: Code::ChannelConfig, detail });
                }
            },
            Ok(connector) => {
                let kit = ChannelKit::of(connector.clone(), &channel_set::spec(&file));
                let kit = ChannelKit { strict_egress: file.strict_egress, ..kit };
                let wallet = match tokens.wallet(&kit) {
                    Ok(wallet) => wallet,
                    Err(detail) => {
                        let detail = format!("{}: {detail}", file.file.display());
                        out.failed.push(Failed { id: id.clone(), connector: file.connector.clone(), code: Code::ChannelConfig, detail });
                        continue;
                    }
                };
                if wallet.sources().next().is_some() {
                    out.wallets.insert(id.clone(), wallet.clone());
                }
                out.kits.push(Arc::new(ChannelKit { wallet: wallet.clone(), ..kit }));
                let limits = Arc::new(Limits::new(&rules(&file), clock.clone()));
                let (hooks, asked): (Vec<Via>, Vec<Via>) =
                    channel_set::modes(&file, &connector.manifest).into_iter().partition(|mode| *mode == Via::Webhook);
                if !asked.is_empty() {
                    let spec = channel_set::spec(&file);
                    match Reader::build(connector.clone(), spec, &asked, digester.clone(), channel_set::limits(&loaded.config)) {
                        Err(problems) => {
                            out.failed.push(failed(&file, &problems));
                            continue;
                        }
                        Ok(reader) => {
                            let reader = Arc::new(reader);
                            out.owns.entry(file.id.clone()).or_default().push(reader.own().clone());
                            let fed = |mode| {
                                let (reader, limits, wallet) = (reader.clone(), limits.clone(), wallet.clone());
                                FedChannel { file: file.clone(), mode, reader, limits, wallet }
                            };
                            out.feeds.extend(asked.into_iter().map(fed));
                        }
                    }
                }
                if !hooks.is_empty() {
                    groups.entry(file.hook.clone()).or_default().push((file, connector, limits));
                }
            }
        }
    }
    for (name, group) in groups {
        build_hook(&name, group, &loaded.config, digester, &mut out);
    }
    out
}

/// Builds one hook; channels whose files are to blame are left out and the rest is tried again.
fn build_hook(name: &str, mut group: Vec<Sharing>, config: &Config, digester: &Digester, out: &mut Channels) {
    let limits = channel_set::limits(config);
    while let Some((_, connector, _)) = group.first().cloned() {
        let specs = group.iter().map(|(file, ..)| channel_set::spec(file)).collect();
        let problems = match Hook::build(name, connector.clone(), specs, digester.clone(), limits) {
            Ok(hook) => {
                for (file, ..) in &group {
                    out.owns.entry(file.id.clone()).or_default().push(hook.own().clone());
                    out.grants.insert(file.id.clone(), hook.grants().clone());
                }
                let accept_timeout = group.iter().map(|(file, ..)| file.accept_timeout).min().unwrap_or_default();
                let limits = group.iter().map(|(file, _, limits)| (file.id.clone(), limits.clone())).collect();
                let entry = HookEntry { hook, connector: connector.manifest.name.clone(), limits, accept_timeout };
                out.hooks.insert(name.to_owned(), Arc::new(entry));
                out.behind.insert(name.to_owned(), group.into_iter().map(|(file, ..)| file).collect());
                return;
            }
            Err(problems) => problems,
        };
        let blamed = |file: &ChannelFile| problems.iter().any(|problem| problem.file == file.file.display().to_string());
        let anyone = group.iter().any(|(file, ..)| blamed(file));
        let (bad, good): (Vec<_>, Vec<_>) = group.into_iter().partition(|(file, ..)| !anyone || blamed(file));
        out.failed.extend(bad.iter().map(|(file, ..)| failed(file, &problems)));
        group = good;
    }
}

/// Answers of one sender about one matter, where mails come inside of webhooks: the default of `[imap] loop_rate`.
const MAIL_LOOPS: (u32, std::time::Duration) = (20, std::time::Duration::from_secs(3_600));

fn rules(file: &ChannelFile) -> LimitRules {
    let rate = |rate: crate::config::units::Rate, burst: Option<u32>| {
        Rate::new(f64::from(rate.count), rate.per, burst.unwrap_or(rate.count).max(1))
    };
    LimitRules {
        channel: file.limits.rate.and_then(|per_channel| rate(per_channel, file.limits.burst)),
        sender: file.limits.sender.and_then(|sender| {
            let over = match sender.over {
                OverLimit::Slow => Over::Slow,
                OverLimit::Hold => Over::Hold,
            };
            Some((rate(sender.rate, sender.burst)?, over))
        }),
        mail_loops: Some(MAIL_LOOPS),
    }
}

fn failed(file: &ChannelFile, problems: &[Problem]) -> Failed {
    Failed { id: file.id.clone(), connector: file.connector.clone(), code: Code::ChannelConfig, detail: one_line(problems) }
}

/// The first problem and how many more there are: what fits into a status line. `check` shows all.
fn one_line(problems: &[Problem]) -> String {
    let Some(first) = problems.first() else { return "cannot be used".to_owned() };
    let more = problems.len() - 1;
    let place = if first.line == 0 { first.file.clone() } else { format!("{}:{}", first.file, first.line) };
    if more == 0 { format!("{place}: {}", first.message) } else { format!("{place}: {} (and {more} more)", first.message) }
}

/// What events say about a channel.
pub fn facts(file: &ChannelFile) -> ChannelFacts {
    ChannelFacts {
        public: Channel { id: file.id.clone(), connector: file.connector.clone(), labels: file.labels.clone() },
        priority: file.priority,
        new_after_ms: i64::try_from(file.new_after.as_millis()).ok(),
        back: file.back,
    }
}

/// A mail channel from its file.
///
/// # Errors
/// One line: what is missing.
pub fn mail_channel(file: &Arc<ChannelFile>, tokens: &Tokens) -> Result<MailChannel, String> {
    let shown = file.file.display();
    let settings = file.imap.as_ref().ok_or_else(|| format!("{shown}: [imap] is missing"))?;
    let login = match &file.oauth {
        Some(oauth) => imap::Login::Token { source: tokens.source(file, oauth)?, sasl: settings.sasl },
        None => {
            let password = file.secrets.get("password").and_then(|values| values.first());
            imap::Login::Password(password.ok_or_else(|| format!("{shown}: [secrets] password is missing"))?.clone())
        }
    };
    let mailbox =
        crate::model::address::Address::parse(&format!("email:{}", settings.mailbox.user)).ok().filter(|a| a.value().contains('@'));
    Ok(MailChannel {
        facts: Arc::new(facts(file)),
        namespace: settings.namespace.clone(),
        mailboxes: mailbox.into_iter().chain(crate::connector::mail::settings::addresses(&file.settings)).collect(),
        authserv_ids: crate::connector::mail::settings::authserv_ids(&file.settings),
        hops_max: settings.hops_max,
        loop_rate: settings.loop_rate,
        settings: imap::ImapSettings { mailbox: settings.mailbox.clone(), login, timeouts: imap::Timeouts::default() },
        file: file.clone(),
    })
}

/// The schedule and policy of a destination.
pub fn policy(config: &Config, destination: &crate::config::settings::DestinationSettings) -> crate::logic::schedule::Policy {
    use crate::logic::schedule::{OnExhausted, Policy, Schedule};
    let steps = destination.schedule.clone().unwrap_or_else(|| config.delivery.schedule.clone());
    Policy {
        schedule: Schedule::new(steps, config.delivery.jitter),
        on_exhausted: match destination.on_exhausted {
            OnExhaustedFile::Skip => OnExhausted::Skip,
            OnExhaustedFile::Block => OnExhausted::Block,
        },
    }
}
