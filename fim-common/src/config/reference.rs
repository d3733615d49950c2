//! The reference page, made of the declarations of the file's tables.

use std::fmt::Write as _;

use super::raw::{SECTIONS, Section};

const HEAD: &str = "\
# Configuration

<!-- Generated from fim-common/src/config/raw.rs by config::reference_markdown. Do not edit:
     FIM_UPDATE_DOCS=1 cargo test -p fim-common config:: writes it anew. -->

`fim` reads `/etc/fim/fim.toml`, or the file that `--config` names. Without a file the recommended
policy applies with the defaults below; a file that is named and missing is an error. An unknown key
is an error too. `fim policy check` says what is wrong with a file, by line and column;
`fim policy show` prints all that is in force.

A **size** is a number of bytes, or a text with a binary unit: `1048576`, `\"64KiB\"`, `\"8MiB\"`,
`\"1GiB\"`.

```toml
backend = \"auto\"
recommended = true            # the recommended rules, after those below

[events]
alert_severity = \"high\"

[[rule]]
name = \"web root\"
paths = [\"/srv/www\", \"/etc/nginx/**/*.conf\"]
exclude = [\"/srv/www/cache\", \"/srv/www/**/*.log\"]
operations = [\"created\", \"updated\", \"moved\", \"deleted\"]
severity = 80
category = \"web\"
tags = [\"pci_dss_11.5.2\", \"team_web\"]
techniques = [\"T1505.003\"]
max_hash_size = \"1GiB\"
```
";

/// `docs/configuration.md`: every key with its values, default and cost.
pub fn reference_markdown() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        // Writing to a String does not fail.
        let _ = write_section(&mut page, &section);
    }
    page
}

fn write_section(page: &mut String, section: &Section) -> std::fmt::Result {
    let title = if section.title.starts_with('[') {
        format!("`{}`", section.title)
    } else {
        section.title.to_owned()
    };
    writeln!(page, "\n## {title}\n\n{}", paragraph(section.doc))?;
    for field in section.fields {
        writeln!(page, "\n### `{}`\n\n{}\n", field.key, paragraph(field.doc))?;
        writeln!(page, "- Values: {}", field.values)?;
        if !field.default.is_empty() {
            writeln!(page, "- Default: `{}`", field.default)?;
        }
        writeln!(page, "- Cost: {}", field.cost)?;
    }
    Ok(())
}

fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}
