//! Every metric and log field has its name here, so that nothing is spelled twice.
//!
//! Metrics are `omnigate_<noun>_<unit>[_total]` in base units. A metric is one line of the table below: its kind, its labels (closed sets or
//! names from the configuration, never anything a stranger can choose) and its help text. `docs/metrics.md` is written from it.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Spread of durations, buckets in seconds.
    Seconds,
    /// Spread of counts.
    Counts,
    /// Only grows, also across restarts: kept in the store.
    StoredCounter,
    /// Goes up and down, kept in the store: one snapshot for all of them (I3).
    StoredGauge,
    /// A histogram of long spans whose counts come from the store's totals.
    StoredSpans,
}

impl Kind {
    /// The word of the exposition format's `# TYPE` line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter | Self::StoredCounter => "counter",
            Self::Gauge | Self::StoredGauge => "gauge",
            Self::Seconds | Self::Counts | Self::StoredSpans => "histogram",
        }
    }

    /// Whether the value comes from the store's totals.
    pub fn stored(self) -> bool {
        matches!(self, Self::StoredCounter | Self::StoredGauge | Self::StoredSpans)
    }
}

macro_rules! metrics {
    ($($name:ident = $kind:ident $text:literal [$($label:literal),*] $help:literal;)+) => {
        /// A metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $help] $name,)+
        }

        impl Metric {
            /// Every metric, in the order of the documentation and of a scrape.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// How it behaves.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)+ }
            }

            /// Names of its labels, at most two.
            pub fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($label),*],)+ }
            }

            /// One sentence.
            pub fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)+ }
            }
        }
    };
}

metrics! {
    // The ledger (I3): received = published + duplicate + ignored + quarantined + pending.
    ItemsReceived = StoredCounter "omnigate_items_received_total" ["channel"] "Items ever received. Equals the sum of omnigate_items over its fates.";
    Items = StoredGauge "omnigate_items" ["channel", "fate"] "Items by what became of them: published, duplicate, ignored, quarantined, pending.";
    DeliveriesDue = StoredCounter "omnigate_deliveries_due_total" ["destination"] "Deliveries ever owed. Equals the sum of omnigate_deliveries over its states.";
    Deliveries = StoredGauge "omnigate_deliveries" ["destination", "state"] "Deliveries by state: waiting, delivered, dead, discarded, erased.";

    // Who waits for whom, by the times things were said. Of channels whose answers are heard of.
    ConversationsWaiting = StoredGauge "omnigate_conversations_waiting" ["channel"] "Conversations whose customer waits for an answer, of channels whose answers were ever heard of.";
    FirstResponse = StoredSpans "omnigate_first_response_seconds" ["channel"] "From the customer's first message to the first answer of an agent.";
    NextResponse = StoredSpans "omnigate_next_response_seconds" ["channel"] "From the customer's first message that waits to the next answer of an agent, after the first answer.";
    Resolution = StoredSpans "omnigate_resolution_seconds" ["channel"] "From the customer's first message to the ticket being resolved or closed; once more each time after it was opened again.";

    // Receiving.
    Requests = Counter "omnigate_requests_total" ["hook", "status"] "Requests to the public listener by hook (`unknown` where there is none, `files` for file downloads) and HTTP status answered.";
    RequestSeconds = Seconds "omnigate_request_seconds" [] "Time from a hook request's head to its answer.";
    Connections = Gauge "omnigate_connections" ["listener"] "Open connections by listener: public, private.";
    ConnectionsRefused = Counter "omnigate_connections_cut_total" ["listener", "reason"] "Connections cut: too slow, idle, broken, or too many.";
    Refused = Counter "omnigate_refused_total" ["hook", "code"] "Requests refused by the guard, by code.";
    RateLimited = Counter "omnigate_rate_limited_total" ["source", "scope"] "Times a rate limit made something wait or come again, by channel or destination and scope: channel, sender, destination.";
    NormalizeSeconds = Seconds "omnigate_normalize_seconds" ["connector"] "Time to decode and map one raw.";
    ReceivedToPublished = Seconds "omnigate_received_to_published_seconds" [] "From received to durable and published.";

    // Files that are fetched.
    MediaAttempts = Counter "omnigate_media_attempts_total" ["channel", "outcome"] "Attempts to fetch a file of a message, by outcome: stored, later, or the code for which it was given up.";
    MediaBytes = Counter "omnigate_media_bytes_total" ["channel"] "Bytes of files fetched and stored.";
    MediaSeconds = Seconds "omnigate_media_seconds" [] "Time of one attempt to fetch a file.";

    // The writer.
    QueueItems = Gauge "omnigate_queue_items" [] "Writes waiting in the writer's queue.";
    QueueBytes = Gauge "omnigate_queue_bytes" [] "Bytes of the writes waiting in the writer's queue.";
    CommitWrites = Counts "omnigate_commit_writes" [] "Writes in one commit.";
    CommitSeconds = Seconds "omnigate_commit_seconds" [] "Time of one commit, with its fsync.";
    CommitsFailed = Counter "omnigate_commits_failed_total" ["code"] "Commits that failed as a whole, by code.";

    // Delivering.
    Attempts = Counter "omnigate_attempts_total" ["destination", "outcome"] "Delivery attempts by outcome: delivered, or the code of the failure.";
    AttemptSeconds = Seconds "omnigate_attempt_seconds" ["destination"] "Time of one delivery attempt.";
    InFlight = Gauge "omnigate_deliveries_in_flight" ["destination"] "Delivery attempts that are being made.";
    PublishedToDelivered = Seconds "omnigate_published_to_delivered_seconds" ["destination"] "From published to delivered, of deliveries that were taken (replays left out).";
    DestinationMode = Gauge "omnigate_destination_mode" ["destination", "mode"] "1 for the mode the destination is in: active, paused, halted.";
    BreakerOpen = Gauge "omnigate_destination_breaker_open" ["destination"] "1 while the breaker spends no tries on the destination.";
    Lanes = Gauge "omnigate_destination_lanes" ["destination"] "Conversations with deliveries in memory.";

    // Channels.
    ChannelState = Gauge "omnigate_channel_state" ["channel", "state"] "1 for the state the channel is in: running, connecting, degraded, failed, disabled.";
    Reconnects = Counter "omnigate_channel_reconnects_total" ["channel", "code"] "Sessions of a pulled channel that ended and were opened again, by code.";
    Pulled = Counter "omnigate_pulled_total" ["channel"] "Things pulled from a source.";
    ConsentEnds = Gauge "omnigate_channel_consent_ends_timestamp_seconds" ["channel"] "When the consent (OAuth) of the channel ends and a person must log in again, Unix time; absent where nobody says.";
    SubscriptionEnds = Gauge "omnigate_channel_subscription_ends_timestamp_seconds" ["channel"] "When the platform stops calling the hook unless it is asked again, Unix time; absent where it has no end.";
    SubscribeCalls = Counter "omnigate_channel_subscribe_calls_total" ["channel", "code"] "Steps of a subscription (made, renewed, looked at, ended), by outcome: ok, or the code of the failure.";
    BudgetUsed = Gauge "omnigate_channel_budget_used_ratio" ["channel", "budget"] "How much of a day's budget at the platform is used, 0 to 1, by budget: requests, units, bytes.";
    LastReceived = Gauge "omnigate_channel_last_received_timestamp_seconds" ["channel"] "When the channel last heard from its platform, Unix time.";

    // Care.
    Swept = Counter "omnigate_swept_total" ["what"] "Rows and files removed by retention: raws, events, ledger, blobs.";
    DiskFree = Gauge "omnigate_store_free_bytes" [] "Free bytes on the medium of the store.";
    StoreWritable = Gauge "omnigate_store_writable" [] "1 if the store answered the last readiness check.";
    Ready = Gauge "omnigate_ready" [] "1 while the gateway takes messages.";

    // The process.
    ProcessResident = Gauge "process_resident_memory_bytes" [] "Resident memory.";
    ProcessCpu = Counter "process_cpu_seconds_total" [] "CPU time used, user and system.";
    ProcessFds = Gauge "process_open_fds" [] "Open file descriptors.";
    ProcessFdsMax = Gauge "process_max_fds" [] "Most file descriptors the process may open.";
    ProcessThreads = Gauge "process_threads" [] "Threads of the process.";
    ProcessStart = Gauge "process_start_time_seconds" [] "When the process started, Unix time.";
    Uptime = Gauge "omnigate_uptime_seconds" [] "Seconds since the gateway started.";
    Build = Gauge "omnigate_build_info" ["version"] "Always 1; the label says which build runs.";
}

/// Upper bounds of [`Kind::Seconds`] histograms: from one cheap request to a delivery that waited for its second retry.
pub const SECONDS_BUCKETS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// Upper bounds of [`Kind::Counts`] histograms.
pub const COUNTS_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Names of log fields: OpenTelemetry's messaging conventions where they have one, `omnigate.*` else.
pub mod fields {
    /// The connector.
    pub const SYSTEM: &str = "messaging.system";
    /// Channel or destination.
    pub const DESTINATION: &str = "messaging.destination.name";
    /// The event.
    pub const MESSAGE: &str = "messaging.message.id";
    /// The conversation.
    pub const CONVERSATION: &str = "messaging.message.conversation_id";
    /// A code of the closed list.
    pub const ERROR: &str = "error.type";
    /// Host and port of a server.
    pub const SERVER: &str = "server.address";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_lawful_name_and_a_sentence_of_help() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in Metric::ALL {
            let name = metric.name();
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("omnigate_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(metric.help().ends_with('.') && metric.help().len() > 10, "{name}");
            assert!(metric.labels().len() <= 2, "{name}");
            let counter = metric.kind().word() == "counter";
            assert_eq!(counter, name.ends_with("_total"), "{name}: counters and only counters end in _total");
        }
    }
}
