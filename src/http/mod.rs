//! HTTP out: the one client behind [`ports::http`](crate::ports::http) with its flows and websockets, connections of other protocols,
//! TLS as everything that calls out speaks it, and the guard over where a call may lead.
//!
//! What must stay true: everything is bounded, redirects are never followed, proxies of the environment are not used, and no error
//! text shows a path, a query or content (I7).

pub mod client;
pub mod dial;
pub mod egress;
pub mod flow;
pub mod socket;
pub mod tls;
