//! Embeds the eBPF object that `cargo xtask build` made.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=FIM_EBPF_OBJECT");
    // Read at run time: a build directory may be shared by several checkouts.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let object = std::env::var_os("FIM_EBPF_OBJECT")
        .map_or_else(|| Path::new(&manifest).join("../target/fim-ebpf.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    if !object.exists() {
        println!(
            "cargo::error=no eBPF object at {}: run `cargo xtask build`, which makes it (the BPF \
             target needs a toolchain of its own)",
            object.display()
        );
        return;
    }
    println!("cargo::rustc-env=FIM_EBPF_OBJECT={}", object.display());
}
