//! Links the binary so that its relocations take little room.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A position-independent binary of this size has a megabyte of relocations, which the loader reads, and so keeps in memory, at every
    // start. Packed they are a fiftieth of it. Needs glibc 2.36 (2022); a linker that does not know the flag says so and goes on.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
        && std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu")
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
