//! Configuration: the files of an admin become [`settings::Config`] and [`settings::ChannelFile`]s, with every mistake named at its place.
//!
//! A broken main file refuses to start; a broken channel file fails that channel alone. Checking is pure: files and environment
//! are read through [`source::Source`] and nothing else is touched.

pub mod channel_file;
pub mod channel_set;
pub mod connectors;
pub mod desk;
pub mod key;
pub mod keys;
pub mod load;
pub mod main_file;
pub mod oauth;
pub mod problems;
pub mod programs;
pub mod read;
pub mod reference;
pub mod secrets;
pub mod settings;
mod smtp;
pub mod source;
pub mod units;
pub mod value;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
