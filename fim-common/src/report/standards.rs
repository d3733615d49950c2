//! The requirements that file integrity monitoring answers, and where a report shows it.

/// A requirement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requirement {
    pub(super) standard: &'static str,
    pub(super) number: &'static str,
    /// What it asks, in short.
    pub(super) asks: &'static str,
    /// Where this report has it: anchors of sections with their names.
    pub(super) shown: &'static [(&'static str, &'static str)],
    /// How tags of rules begin that name the standard, and what they hold that names the
    /// requirement; of a tag only letters and digits count, in lower case.
    prefix: &'static str,
    within: &'static str,
}

const CHANGES: (&str, &str) = ("changes", "Changes");
const ALERTS: (&str, &str) = ("alerts", "Alerts in full");
const COVERAGE: (&str, &str) = ("coverage", "Coverage");
const INTEGRITY: (&str, &str) = ("integrity", "Integrity of the journal");
const POLICY: (&str, &str) = ("policy", "Policy in force");
const ATTEMPTS: (&str, &str) = ("attempts", "Denied and failed attempts");

pub(super) const REQUIREMENTS: [Requirement; 5] = [
    Requirement {
        standard: "PCI DSS 4.0.1",
        number: "10.3.4",
        asks: "Change detection on audit logs, so that existing log data cannot be changed without \
               an alert.",
        shown: &[INTEGRITY, ALERTS],
        prefix: "pci",
        within: "1034",
    },
    Requirement {
        standard: "PCI DSS 4.0.1",
        number: "11.5.2",
        asks: "A change-detection mechanism that alerts personnel to unauthorised modification of \
               critical files, and compares critical files at least weekly.",
        shown: &[CHANGES, ALERTS, COVERAGE, POLICY],
        prefix: "pci",
        within: "1152",
    },
    Requirement {
        standard: "ISO/IEC 27001:2022",
        number: "A.8.9",
        asks: "Configurations are established, monitored and reviewed.",
        shown: &[CHANGES, POLICY],
        prefix: "iso",
        within: "a89",
    },
    Requirement {
        standard: "ISO/IEC 27001:2022",
        number: "A.8.16",
        asks: "Systems are monitored for anomalous behaviour, and what is found is evaluated.",
        shown: &[ALERTS, ATTEMPTS, COVERAGE],
        prefix: "iso",
        within: "a816",
    },
    Requirement {
        standard: "NIST SP 800-53",
        number: "SI-7",
        asks: "Unauthorised changes to software, firmware and information are detected.",
        shown: &[CHANGES, ALERTS, INTEGRITY],
        prefix: "nist",
        within: "si7",
    },
];

impl Requirement {
    /// Whether a rule with this tag serves it.
    pub(super) fn is_named_by(&self, tag: &str) -> bool {
        let plain: String =
            tag.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        plain.starts_with(self.prefix) && plain.ends_with(self.within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_requirements() {
        let named = |tag: &str| -> Vec<&str> {
            REQUIREMENTS.iter().filter(|r| r.is_named_by(tag)).map(|r| r.number).collect()
        };
        assert_eq!(named("pci_dss_11.5.2"), ["11.5.2"]);
        assert_eq!(named("pci_dss_4.0.1_10.3.4"), ["10.3.4"]);
        assert_eq!(named("iso_27001_2022_A.8.9"), ["A.8.9"]);
        assert_eq!(named("iso_27001_A.8.16"), ["A.8.16"]);
        assert_eq!(named("nist_800_53_SI.7"), ["SI-7"]);
        assert!(named("tsc_CC6.8").is_empty());
    }
}
