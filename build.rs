//! Packs the connectors into the binary, and links it so that its relocations take little room.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=connectors");
    pack_connectors()?;
    // A position-independent binary of this size has a megabyte of relocations, which the loader reads, and so keeps in memory, at every
    // start. Packed they are a fiftieth of it. Needs glibc 2.36 (2022); a linker that does not know the flag says so and goes on.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
        && std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu")
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}

/// Writes `connectors.pack`, with everything of one folder in one piece (a list of its files, then their bytes), and
/// `connectors.index`, which says where each piece is. A daemon so touches, and keeps in memory, only the pieces of the connectors
/// that it uses: most of the two megabytes are fixtures. `src/connector/folder.rs` reads them.
fn pack_connectors() -> io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is unset"))?);
    let (mut pack, mut index) = (Vec::new(), String::new());
    for folder in entries(Path::new("connectors"))?.into_iter().filter(|path| path.is_dir()) {
        let mut files = Vec::new();
        collect(&folder, "", &mut files)?;
        files.sort();
        let list: String = files.iter().map(|(name, bytes)| format!("{name}\t{}\n", bytes.len())).collect();
        index.push_str(&format!("{}\t{}\t{}", name_of(&folder)?, pack.len(), list.len()));
        for file in ["connector.toml", "destination.toml"].iter().filter(|known| files.iter().any(|(name, _)| name == *known)) {
            index.push_str(&format!("\t{file}"));
        }
        index.push('\n');
        pack.extend_from_slice(list.as_bytes());
        files.iter().for_each(|(_, bytes)| pack.extend_from_slice(bytes));
    }
    fs::write(out.join("connectors.pack"), pack)?;
    fs::write(out.join("connectors.index"), index)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for path in entries(folder)? {
        let name = format!("{prefix}{}", name_of(&path)?);
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else {
            files.push((name, fs::read(&path)?));
        }
    }
    Ok(())
}

/// What is in a folder and not hidden, sorted: the same sources make the same binary.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    all.retain(|path| name_of(path).is_ok_and(|name| !name.starts_with('.')));
    all.sort();
    Ok(all)
}

fn name_of(path: &Path) -> io::Result<&str> {
    path.file_name().and_then(|name| name.to_str()).ok_or_else(|| io::Error::other(format!("{} is no name", path.display())))
}
