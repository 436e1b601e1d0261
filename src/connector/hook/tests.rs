//! Hooks: filled below.
