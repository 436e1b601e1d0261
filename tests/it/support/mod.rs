//! Fakes and starters of real servers.

pub mod bad_desk_link;
pub mod bad_link;
pub mod bluesky;
pub mod chat_servers;
pub mod contract;
pub mod courier;
pub mod cyrus;
pub mod daemon;
pub mod desk_bench;
pub mod desk_fakes;
pub mod desks;
pub mod dice;
pub mod dns;
pub mod dovecot;
pub mod http1;
pub mod identity;
pub mod imap_client;
pub mod imap_script;
pub mod items;
#[allow(dead_code)] // each module of the binary uses its part
pub mod mailgen;
pub mod mails;
pub mod media_server;
pub mod owed;
pub mod own_chat;
pub mod platform;
pub mod pulling;
pub mod pushing;
pub mod receiver;
pub mod refusing;
pub mod servers;
pub mod subscriptions;
pub mod ticketing;
pub mod token_api;
pub mod virtual_time;
pub mod whatsapp;
