//! The one integration binary. Each module is a border of the gateway; `support` holds fakes and starters of real servers.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::type_complexity,
    missing_docs
)]

mod calls;
mod cli;
mod clients;
mod config_errors;
mod connector_docs;
mod connector_fuzz;
mod connector_shape;
mod connectors;
mod contract;
mod deliver;
mod desk_back;
mod desk_fakes;
mod desk_halts;
mod desk_hooks;
mod desk_polls;
mod docs;
mod enrich;
mod faults;
mod feed_loop;
mod gaps;
mod hooks;
mod imap_hazards;
mod imap_large;
mod imap_ledger;
mod imap_manners;
mod imap_moves;
mod imap_odd;
mod imap_quirks;
mod interplay;
mod irc_faults;
mod kill;
mod mail;
mod mail_corpus;
mod mail_foreign;
mod mail_fuzz;
mod mail_large;
mod mail_loops;
mod mail_memory;
mod matrix_faults;
mod media;
mod poll_faults;
mod polls;
mod published_keys;
mod pull_loop;
mod pull_time;
mod real_bluesky;
mod real_chat;
mod real_check;
mod real_courier;
mod real_cyrus;
mod real_desks;
mod real_desks_back;
mod real_imap;
mod real_large;
mod real_mail_kill;
mod real_mail_oracle;
mod real_mailgate;
mod real_move;
mod real_oauth;
mod real_reconcile;
mod real_sdks;
mod real_smtp;
mod real_tokens;
mod sender_check;
mod server;
mod sns_roads;
mod store;
mod strace;
mod stream_faults;
mod stream_gaps;
mod stream_refusals;
mod streams;
mod subscribe;
mod subscribe_faults;
mod support;
mod three_roads;
mod token_connectors;
mod token_hangs;
mod token_roads;
mod tokens;
mod tokens_described;
mod transcripts;
mod vector_folders;
mod whoami;
mod xmpp_faults;
