//! Pure verbs: identify, thread, admit, decide, publish. No I/O, no clock, no threads.

pub mod admit;
pub mod decide;
pub mod digest;
pub mod ids;
