//! Configuration: the files of an admin become [`Config`] and [`ChannelFile`]s, with every mistake named at its place.
//!
//! A broken main file refuses to start; a broken channel file fails that channel alone. Checking is pure: files and environment
//! are read through [`source::Source`] and nothing else is touched.

pub mod load;
pub mod problems;
pub mod settings;
pub mod source;
pub mod units;
