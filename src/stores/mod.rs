//! Stores: the durable state behind `ports::store` and the blobs behind `ports::blobs`.

pub mod folder;
pub mod sqlite;

/// Makes `folder` for this user alone: databases and blobs hold what customers wrote (I7). One that exists is left as it is.
fn make_private(folder: &std::path::Path) -> std::io::Result<()> {
    let mut maker = std::fs::DirBuilder::new();
    maker.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
    maker.create(folder)
}
