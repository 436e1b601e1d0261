//! The methods of a store that a fake does without: each refuses. Written once, so that a new method of the port is one line here.

use omnigate::ports::BoxFuture;
use omnigate::ports::store::StoreError;

/// Implements the named methods of `Store` as refusals, inside an `impl Store for …`.
macro_rules! refuses {
    ($($name:ident),+ $(,)?) => { $($crate::support::refusing::refused!($name);)+ };
}

/// One method.
macro_rules! refused {
    (backup) => {
        fn backup<'a>(
            &'a self,
            _: &'a std::path::Path,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<String>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (close) => {
        fn close(&self) -> omnigate::ports::BoxFuture<'_, Result<(), omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (commit) => {
        fn commit(
            &self,
            _: Vec<omnigate::ports::store::Write>,
        ) -> omnigate::ports::BoxFuture<
            '_,
            Result<Vec<Result<omnigate::ports::store::Written, omnigate::ports::store::StoreError>>, omnigate::ports::store::StoreError>,
        > {
            $crate::support::refusing::refusal()
        }
    };
    (count_deliveries) => {
        fn count_deliveries(
            &self,
            _: omnigate::model::view::DeliveryFilter,
        ) -> omnigate::ports::BoxFuture<'_, Result<u64, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (cursors) => {
        fn cursors<'a>(
            &'a self,
            _: &'a str,
        ) -> omnigate::ports::BoxFuture<'a, Result<std::collections::BTreeMap<String, String>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (deliveries) => {
        fn deliveries(
            &self,
            _: omnigate::model::view::DeliveryFilter,
        ) -> omnigate::ports::BoxFuture<'_, Result<Vec<omnigate::model::view::DeliveryView>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (erase) => {
        fn erase(
            &self,
            _: omnigate::model::id::ContactId,
        ) -> omnigate::ports::BoxFuture<'_, Result<Option<omnigate::model::view::Erased>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (event) => {
        fn event(
            &self,
            _: omnigate::model::id::EventId,
        ) -> omnigate::ports::BoxFuture<'_, Result<Option<omnigate::model::view::EventView>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (events_after) => {
        fn events_after(
            &self,
            _: omnigate::model::delivery::Position,
            _: usize,
        ) -> omnigate::ports::BoxFuture<
            '_,
            Result<Vec<(omnigate::model::delivery::Position, bytes::Bytes)>, omnigate::ports::store::StoreError>,
        > {
            $crate::support::refusing::refusal()
        }
    };
    (file) => {
        fn file(
            &self,
            _: omnigate::model::id::AttachmentId,
        ) -> omnigate::ports::BoxFuture<'_, Result<Option<omnigate::ports::store::FileView>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (interrupted) => {
        fn interrupted<'a>(
            &'a self,
            _: &'a str,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<omnigate::ports::store::ParseBatch>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (lane) => {
        fn lane<'a>(
            &'a self,
            _: &'a str,
            _: i64,
            _: usize,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<omnigate::model::delivery::Due>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (ledger) => {
        fn ledger(
            &self,
            _: omnigate::model::view::LedgerFilter,
        ) -> omnigate::ports::BoxFuture<'_, Result<Vec<omnigate::model::view::LedgerRow>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (media) => {
        fn media<'a>(
            &'a self,
            _: Option<&'a str>,
            _: usize,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<omnigate::ports::tx::MediaRow>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (memo) => {
        fn memo<'a>(&'a self, _: &'a str) -> omnigate::ports::BoxFuture<'a, Result<Option<String>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (message) => {
        fn message(
            &self,
            _: omnigate::model::id::MessageId,
        ) -> omnigate::ports::BoxFuture<'_, Result<Option<omnigate::model::view::MessageView>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (outgoing) => {
        fn outgoing<'a>(
            &'a self,
            _: &'a str,
            _: &'a [omnigate::model::delivery::Due],
        ) -> omnigate::ports::BoxFuture<
            'a,
            Result<
                Vec<(omnigate::model::delivery::Position, bool, omnigate::model::delivery::Outgoing)>,
                omnigate::ports::store::StoreError,
            >,
        > {
            $crate::support::refusing::refusal()
        }
    };
    (pending) => {
        fn pending(
            &self,
            _: usize,
        ) -> omnigate::ports::BoxFuture<'_, Result<Vec<(i64, omnigate::model::time::Time)>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (ping) => {
        fn ping(&self) -> omnigate::ports::BoxFuture<'_, Result<(), omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (quarantine) => {
        fn quarantine<'a>(
            &'a self,
            _: Option<&'a str>,
            _: Option<i64>,
            _: usize,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<omnigate::model::view::QuarantineRow>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (raw) => {
        fn raw(
            &self,
            _: omnigate::model::id::RawId,
        ) -> omnigate::ports::BoxFuture<'_, Result<Option<(omnigate::model::raw::Raw, Option<String>)>, omnigate::ports::store::StoreError>>
        {
            $crate::support::refusing::refusal()
        }
    };
    (retrying) => {
        fn retrying<'a>(
            &'a self,
            _: &'a str,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<omnigate::model::delivery::Due>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (source_rows) => {
        fn source_rows<'a>(
            &'a self,
            _: &'a (String, String, u64),
            _: (u64, u64),
            _: usize,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<(u64, omnigate::ports::store::SourceRow)>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (sources) => {
        fn sources<'a>(
            &'a self,
            _: &'a str,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<omnigate::ports::store::SourceState>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (stage) => {
        fn stage(
            &self,
            _: Vec<std::sync::Arc<omnigate::ports::store::RawRecord>>,
            _: Option<omnigate::ports::store::ParseBatch>,
        ) -> omnigate::ports::BoxFuture<'_, Result<(), omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (sweep) => {
        fn sweep<'a>(
            &'a self,
            _: &'a omnigate::ports::store::Retention,
            _: omnigate::model::time::Time,
        ) -> omnigate::ports::BoxFuture<'a, Result<omnigate::model::view::Swept, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (take_lease) => {
        fn take_lease<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
        ) -> omnigate::ports::BoxFuture<'a, Result<u64, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (ticket_entries) => {
        fn ticket_entries(
            &self,
            _: omnigate::model::id::EventId,
        ) -> omnigate::ports::BoxFuture<'_, Result<Vec<omnigate::model::ticket::TicketEntryRow>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (tickets) => {
        fn tickets(
            &self,
            _: omnigate::model::ticket::TicketFilter,
        ) -> omnigate::ports::BoxFuture<'_, Result<Vec<omnigate::model::ticket::TicketRow>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (tickets_of) => {
        fn tickets_of<'a>(
            &'a self,
            _: &'a str,
            _: omnigate::model::id::ConversationId,
            _: omnigate::model::id::EventId,
        ) -> omnigate::ports::BoxFuture<'a, Result<omnigate::model::ticket::TicketKnown, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (totals) => {
        fn totals(&self) -> omnigate::ports::BoxFuture<'_, Result<omnigate::model::view::Totals, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (unsettled) => {
        fn unsettled<'a>(
            &'a self,
            _: &'a (String, String, u64),
            _: usize,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<omnigate::ports::store::SourceRow>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
    (waiting) => {
        fn waiting<'a>(
            &'a self,
            _: &'a str,
            _: omnigate::model::delivery::Position,
            _: usize,
        ) -> omnigate::ports::BoxFuture<'a, Result<Vec<omnigate::model::delivery::Due>, omnigate::ports::store::StoreError>> {
            $crate::support::refusing::refusal()
        }
    };
}

pub(crate) use {refused, refuses};

/// What they answer.
pub fn refusal<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(std::future::ready(Err(StoreError::Unavailable { detail: "not in this fake".into() })))
}
