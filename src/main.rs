//! The program: chooses the allocator and the TLS provider, and hands over to the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One TLS stack with one provider for HTTP, SMTP and IMAP; installing it twice is the only way it fails.
    let _ = rustls::crypto::ring::default_provider().install_default();
    omnigate::cli::main()
}
