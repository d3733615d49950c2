//! The built-in rules, in named sets for each platform. They are data, the same on every host, so
//! that `fim policy recommended` can show each with the reason.

use super::{Pattern, RegistryPattern, Rule};

mod linux;
mod windows;

#[cfg(test)]
mod delivered;
#[cfg(test)]
mod tests;

/// An operating system that rules are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Linux, Self::Windows];

    /// That of this host.
    pub fn here() -> Self {
        if cfg!(windows) { Self::Windows } else { Self::Linux }
    }

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
        }
    }
}

/// A set of built-in rules that the configuration can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// What Microsoft Defender for Cloud recommends to monitor, and PCI DSS means by critical
    /// files.
    Recommended,
    /// What attackers change today to stay, to rise, or to hide.
    AttackSurface,
}

impl Set {
    /// All of them, in the order in which their rules are defined.
    pub const ALL: [Self; 2] = [Self::Recommended, Self::AttackSurface];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recommended => "recommended",
            Self::AttackSurface => "attack-surface",
        }
    }

    /// The set with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.as_str() == name)
    }
}

/// A built-in rule, before its paths are parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The set that it belongs to.
    pub set: Set,
    /// The platform that it is for.
    pub platform: Platform,
    /// [`Rule::name`], unique in its platform.
    pub name: &'static str,
    /// [`Rule::category`].
    pub category: &'static str,
    /// [`Rule::severity`].
    pub severity: u8,
    /// What a change there can mean, for people.
    pub why: &'static str,
    /// [`Rule::paths`].
    pub paths: &'static [&'static str],
    /// [`Rule::registry`].
    pub registry: &'static [RegistryItem],
    /// [`Rule::techniques`].
    pub techniques: &'static [&'static str],
}

/// A registry key of a built-in rule, and the values of it that are meant (none: all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryItem {
    /// The key.
    pub key: &'static str,
    /// Its values.
    pub values: &'static [&'static str],
}

/// The standards that ask for each built-in rule, as tags: PCI DSS 4.0.1 10.3.4 (change detection on
/// audit logs) and 11.5.2 (on critical files), ISO/IEC 27001:2022 A.8.9 (configuration
/// management) and A.8.16 (monitoring activities), NIST SP 800-53 SI-7 (integrity of software,
/// firmware and information), CIS Controls v8 3.14 (logging of changes to sensitive data), HIPAA
/// 164.312(c)(1) (integrity), SOC 2 trust criterion CC6.8 (unauthorised software).
const STANDARDS: [&str; 8] = [
    "pci_dss_10.3.4",
    "pci_dss_11.5.2",
    "iso_27001_A.8.9",
    "iso_27001_A.8.16",
    "nist_800_53_SI.7",
    "cis_csc_v8_3.14",
    "hipaa_164.312.c.1",
    "tsc_CC6.8",
];

/// All built-in rules of all platforms, in the order of their definition.
pub const BUILT_IN: [&[BuiltIn]; 4] =
    [linux::RECOMMENDED, linux::ATTACK_SURFACE, windows::RECOMMENDED, windows::ATTACK_SURFACE];

impl BuiltIn {
    /// The standards that ask for it; its [`Rule::tags`].
    pub fn standards(&self) -> &'static [&'static str] {
        &STANDARDS
    }

    /// As a rule.
    pub fn rule(&self) -> Rule {
        // Each text is a valid pattern on its platform: a test holds that.
        let parse = match self.platform {
            Platform::Linux => Pattern::parse,
            Platform::Windows => Pattern::parse_windows,
        };
        let parsed = self.paths.iter().filter_map(|path| parse(path).ok()).flatten();
        let registry = self.registry.iter().filter_map(|item| item.pattern());
        Rule {
            category: Some(self.category.into()),
            severity: self.severity,
            tags: STANDARDS.map(String::from).to_vec(),
            techniques: self.techniques.iter().map(|id| String::from(*id)).collect(),
            registry: registry.collect(),
            ..Rule::new(self.name, parsed.collect())
        }
    }

    /// Those of a set on a platform.
    pub fn of(set: Set, platform: Platform) -> impl Iterator<Item = &'static Self> {
        let all = BUILT_IN.into_iter().flatten();
        all.filter(move |rule| rule.set == set && rule.platform == platform)
    }
}

impl RegistryItem {
    /// As a pattern.
    pub fn pattern(&self) -> Option<RegistryPattern> {
        let values: Vec<String> = self.values.iter().map(|&value| value.to_owned()).collect();
        let values = (!values.is_empty()).then_some(values.as_slice());
        RegistryPattern::parse(self.key, values).ok()
    }
}

/// The rules of these sets for an operating system.
pub fn rules_of(sets: &[Set], platform: Platform) -> Vec<Rule> {
    sets.iter().flat_map(|&set| BuiltIn::of(set, platform)).map(BuiltIn::rule).collect()
}

/// The recommended rules for this operating system.
pub fn recommended() -> Vec<Rule> {
    rules_of(&[Set::Recommended], Platform::here())
}
