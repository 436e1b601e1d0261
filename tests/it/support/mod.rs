//! Fakes and starters of real servers.
