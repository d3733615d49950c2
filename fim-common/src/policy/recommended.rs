//! The recommended policy: what a Linux host is attacked through when its files are changed.
//!
//! The paths are those that PCI DSS 11.5.2 and the vendors of file integrity monitors name. They
//! are stated as data, so that `fim policy recommended` can show each with the reason.

use super::{Pattern, Rule};

/// A recommended rule, before its paths are parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecommendedRule {
    /// [`Rule::name`].
    pub name: &'static str,
    /// [`Rule::category`].
    pub category: &'static str,
    /// [`Rule::severity`].
    pub severity: u8,
    /// What a change there can mean, for people.
    pub why: &'static str,
    /// [`Rule::paths`].
    pub paths: &'static [&'static str],
    /// [`Rule::techniques`].
    pub techniques: &'static [&'static str],
}

/// The standards that ask for each recommended rule, as tags: PCI DSS 4.0 11.5.2 (change
/// detection on critical files), NIST SP 800-53 SI-7 (integrity of software and firmware), HIPAA
/// 164.312(c)(1) (integrity), SOC 2 trust criterion CC6.8 (unauthorised software).
const STANDARDS: [&str; 4] =
    ["pci_dss_11.5.2", "nist_800_53_SI.7", "hipaa_164.312.c.1", "tsc_CC6.8"];

/// The recommended rules for Linux.
pub const RECOMMENDED_RULES: &[RecommendedRule] = &[
    RecommendedRule {
        name: "authentication-programs",
        category: "authentication",
        severity: 90,
        why: "a changed login or passwd lets anybody in, or keeps the passwords",
        paths: &["/bin/login", "/bin/passwd"],
        techniques: &["T1554", "T1556"],
    },
    RecommendedRule {
        name: "boot",
        category: "boot",
        severity: 80,
        why: "a changed kernel, initramfs or boot loader runs before every defence",
        paths: &["/boot"],
        techniques: &["T1542", "T1014"],
    },
    RecommendedRule {
        name: "scheduled-jobs",
        category: "persistence",
        severity: 75,
        why: "a job placed here runs as root, again and again",
        paths: &[
            "/etc/crontab",
            "/etc/cron.hourly",
            "/etc/cron.daily",
            "/etc/cron.weekly",
            "/etc/cron.monthly",
        ],
        techniques: &["T1053.003"],
    },
    RecommendedRule {
        name: "init-scripts",
        category: "persistence",
        severity: 75,
        why: "a script placed here runs as root at every start",
        paths: &["/etc/init.d"],
        techniques: &["T1037.004"],
    },
    RecommendedRule {
        name: "system-programs",
        category: "programs",
        severity: 70,
        why: "a changed system program does something else for everybody who runs it",
        paths: &["/bin", "/sbin", "/usr/bin", "/usr/sbin"],
        techniques: &["T1554", "T1036.005", "T1548.001"],
    },
    RecommendedRule {
        name: "local-programs",
        category: "programs",
        severity: 70,
        why: "a program placed here can come before the system's own in PATH",
        paths: &["/usr/local/bin", "/usr/local/sbin", "/opt/bin", "/opt/sbin"],
        techniques: &["T1554", "T1574.007", "T1548.001"],
    },
    RecommendedRule {
        name: "system-configuration",
        category: "configuration",
        severity: 50,
        why: "changed settings can weaken the host's defences or redirect what it trusts",
        paths: &["/etc/*.conf"],
        techniques: &["T1562", "T1574.006"],
    },
];

impl RecommendedRule {
    /// The standards that ask for it; its [`Rule::tags`].
    pub fn standards(&self) -> &'static [&'static str] {
        &STANDARDS
    }

    /// As a rule.
    pub fn rule(&self) -> Rule {
        // Each text is a valid pattern: a test holds that.
        let parsed = self.paths.iter().filter_map(|path| Pattern::parse(path).ok()).flatten();
        Rule {
            category: Some(self.category.into()),
            severity: self.severity,
            tags: STANDARDS.map(String::from).to_vec(),
            techniques: self.techniques.iter().map(|id| String::from(*id)).collect(),
            ..Rule::new(self.name, parsed.collect())
        }
    }
}

/// The recommended rules for this operating system.
pub fn recommended() -> Vec<Rule> {
    RECOMMENDED_RULES.iter().map(RecommendedRule::rule).collect()
}
