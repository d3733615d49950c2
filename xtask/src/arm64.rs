//! Whether the agent compiles for arm64.

use std::process::Command;

use anyhow::Result;

use crate::{
    cross::Target,
    workspace::{Workspace, run},
};

const TARGET: Target =
    Target { triple: "aarch64-unknown-linux-gnu", cc: "aarch64-linux-gnu-gcc", folder: "arm64" };

/// Whether C can be compiled.
pub(crate) fn has_c() -> bool {
    TARGET.has_c("crt1.o")
}

/// Type-checks the agent and what it is made of, with the BPF object of this machine: BPF is the
/// same on both. Without Kafka: librdkafka wants OpenSSL's headers for arm64, which Debian has for a
/// machine of that kind only.
pub(crate) fn check(ws: &Workspace) -> Result<()> {
    run(&mut command(ws))
}

/// What [`check`] runs.
pub(crate) fn command(ws: &Workspace) -> Command {
    let mut cargo = TARGET.cargo(ws, "check");
    cargo
        .args(["--package", "fim-linux-agent", "--no-default-features"])
        // Kernels for arm64 have pages of 4, 16 or 64 KiB; the allocator has to know the largest.
        .env("JEMALLOC_SYS_WITH_LG_PAGE", "16")
        .env("FIM_EBPF_OBJECT", ws.ebpf_object());
    cargo
}
