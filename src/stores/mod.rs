//! Stores: the durable state behind `ports::store` and the blobs behind `ports::blobs`.

pub mod folder;
pub mod sqlite;
