//! `fim man`: the manual pages, from the command line's own description. For packages.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::exit;

/// Files, environment and exit codes, which the command line does not know.
const FILES: &str = r#".SH FILES
.TP
\fI/etc/fim/fim.toml\fR
The configuration. Without it the recommended policy applies.
.TP
\fI/var/lib/fim\fR
Baseline, journal, and the key that signs the journal.
.SH SIGNALS
.TP
SIGHUP
fim run reads its configuration again.
.TP
SIGINT, SIGTERM
fim run tells what is under way, and ends.
.SH EXIT STATUS
.TP
0
Done.
.TP
1
It failed; for \fBfim check\fR: something differs; for \fBfim verify\fR: the journal is not whole.
.TP
64
Bad usage or configuration.
.TP
65
The baseline is damaged.
.TP
66
There is no baseline.
.TP
69
No backend works here.
.TP
74
\fBfim check\fR: something could not be read.
.TP
77
Not allowed.
"#;

/// Writes one page for the command and one for each of its subcommands that people see.
///
/// # Errors
/// When a file cannot be written.
pub fn man(command: &clap::Command, directory: &Path) -> Result<u8> {
    fs::create_dir_all(directory)
        .with_context(|| format!("{} cannot be made", directory.display()))?;
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    pages(&command, directory)?;
    Ok(exit::OK)
}

fn pages(command: &clap::Command, directory: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let page = clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .manual("fim")
        .source(format!("fim {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    if name == "fim" {
        text.extend_from_slice(FILES.as_bytes());
    }
    let path = directory.join(format!("{name}.1"));
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages(inner, directory)?;
    }
    Ok(())
}
