//! Look-ups: asks the DNS for what mails need, within one bound for all of them.
//!
//! What must stay true: no mail waits longer than the bound, whatever the DNS does; what is not answered in time is *unknown*, which
//! is a result like any other. A resolver that answers nothing at all is left alone for a while, so that a dead one costs one bound
//! per pause and not one per batch. How many questions run at once, and how many silent names are remembered, is bounded (I6).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;

use crate::model::dns::{Answers, TxtAnswer};
use crate::ports::clock::Clock;
use crate::ports::dns::Dns;

/// Questions at once.
const AT_ONCE: usize = 32;
/// A name that was not answered is not asked for again for this long.
const NAME_PAUSE: Duration = Duration::from_secs(60);
/// The same for all names, when none of several was answered.
const PAUSE: Duration = Duration::from_secs(30);
/// Unanswered names that are remembered.
const NAMES_KEPT_MAX: usize = 10_000;

/// Asks within a bound.
pub struct Lookups {
    dns: Arc<dyn Dns>,
    clock: Arc<dyn Clock>,
    bound: Duration,
    silence: Mutex<Silence>,
}

/// What was not answered, until when it is not asked for.
#[derive(Default)]
struct Silence {
    names: HashMap<String, Duration>,
    all_until: Duration,
}

impl Lookups {
    /// Over a resolver; one round of questions takes `bound` at most.
    pub fn new(dns: Arc<dyn Dns>, clock: Arc<dyn Clock>, bound: Duration) -> Self {
        Self { dns, clock, bound, silence: Mutex::default() }
    }

    /// Asks for all names. What is not answered within the bound is unknown.
    pub async fn ask(&self, names: BTreeSet<String>) -> Answers {
        let wanted = self.without_silent(&names);
        let mut txt: BTreeMap<String, TxtAnswer> = BTreeMap::new();
        let asked = wanted.len();
        let dns = &self.dns;
        let ask = |name: String| async move {
            let answer = dns.txt(&name).await;
            (name, answer)
        };
        let mut answers = futures_util::stream::iter(wanted.clone()).map(ask).buffer_unordered(AT_ONCE);
        let mut over = self.clock.sleep(self.bound);
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some((name, answer)) => {
                        txt.insert(name, answer);
                    }
                    None => break,
                },
                () = &mut over => break,
            }
        }
        let answered = txt.values().filter(|answer| **answer != TxtAnswer::Unknown).count();
        self.remember(wanted, &txt, asked > 0 && answered == 0);
        for name in names {
            txt.entry(name).or_insert(TxtAnswer::Unknown);
        }
        Answers { at: self.clock.now(), txt }
    }

    fn without_silent(&self, names: &BTreeSet<String>) -> Vec<String> {
        let now = self.clock.monotonic();
        let silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        if now < silence.all_until {
            return Vec::new();
        }
        names.iter().filter(|name| silence.names.get(*name).is_none_or(|until| now >= *until)).cloned().collect()
    }

    fn remember(&self, asked: Vec<String>, txt: &BTreeMap<String, TxtAnswer>, dead: bool) {
        let now = self.clock.monotonic();
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        if dead {
            tracing::warn!(pause_s = PAUSE.as_secs(), "no answer of the DNS, senders are not checked meanwhile");
            silence.all_until = now + PAUSE;
            return;
        }
        if silence.names.len() >= NAMES_KEPT_MAX {
            silence.names.retain(|_, until| now < *until);
        }
        for name in asked {
            match txt.get(&name) {
                None | Some(TxtAnswer::Unknown) if silence.names.len() < NAMES_KEPT_MAX => {
                    silence.names.insert(name, now + NAME_PAUSE);
                }
                None | Some(TxtAnswer::Unknown) => {}
                Some(_) => {
                    silence.names.remove(&name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::time::Time;
    use crate::ports::BoxFuture;

    /// The machine's time and what a test adds to it.
    struct Hand {
        start: std::time::Instant,
        added_s: AtomicUsize,
    }

    impl Clock for Hand {
        fn now(&self) -> Time {
            Time(0)
        }
        fn monotonic(&self) -> Duration {
            self.start.elapsed() + Duration::from_secs(self.added_s.load(Ordering::Relaxed) as u64)
        }
        fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
            Box::pin(tokio::time::sleep(span))
        }
    }

    const BOUND: Duration = Duration::from_millis(80);

    /// Answers names that begin with `good`, hangs on those with `slow`, knows nothing of the rest.
    struct Some3(AtomicUsize);

    impl Dns for Some3 {
        fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, TxtAnswer> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                if name.starts_with("slow") {
                    std::future::pending::<()>().await;
                }
                if name.starts_with("good") { TxtAnswer::Nothing } else { TxtAnswer::Unknown }
            })
        }
    }

    fn lookups() -> (Lookups, Arc<Some3>, Arc<Hand>) {
        let dns = Arc::new(Some3(AtomicUsize::new(0)));
        let clock = Arc::new(Hand { start: std::time::Instant::now(), added_s: AtomicUsize::new(0) });
        (Lookups::new(dns.clone(), clock.clone(), BOUND), dns, clock)
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_name_that_hangs_costs_the_bound_once_and_is_unknown() {
        let (lookups, dns, clock) = lookups();
        let answers = lookups.ask(names(&["good.example", "slow.example"])).await;
        assert!(clock.monotonic() >= BOUND);
        assert_eq!((answers.txt("good.example"), answers.txt("slow.example")), (&TxtAnswer::Nothing, &TxtAnswer::Unknown));
        let before = dns.0.load(Ordering::Relaxed);
        let answers = lookups.ask(names(&["good.example", "slow.example"])).await;
        assert_eq!(answers.txt("slow.example"), &TxtAnswer::Unknown);
        assert_eq!(dns.0.load(Ordering::Relaxed), before + 1, "not asked again so soon");
    }

    #[tokio::test]
    async fn a_dead_resolver_is_left_alone_for_a_while() {
        let (lookups, dns, clock) = lookups();
        let _ = lookups.ask(names(&["slow1.example", "slow2.example"])).await;
        assert_eq!(lookups.ask(names(&["good.example"])).await.txt("good.example"), &TxtAnswer::Unknown);
        assert_eq!(dns.0.load(Ordering::Relaxed), 2);
        clock.added_s.store(PAUSE.as_secs() as usize, Ordering::Relaxed);
        assert_eq!(lookups.ask(names(&["good.example"])).await.txt("good.example"), &TxtAnswer::Nothing);
    }

    #[tokio::test]
    async fn ten_thousand_names_that_hang_are_over_after_the_bound() {
        let (lookups, dns, clock) = lookups();
        let many: BTreeSet<String> = (0..10_000).map(|n| format!("slow{n}.example")).collect();
        assert_eq!(lookups.ask(many).await.txt.len(), 10_000);
        assert_eq!(dns.0.load(Ordering::Relaxed), AT_ONCE);
        assert!(clock.monotonic() < BOUND * 20);
    }
}
