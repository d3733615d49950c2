use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::event::Action;
use crate::policy::Policy;

/// A host where /bin and /sbin are links.
fn host(path: &Path) -> PathBuf {
    for (link, target) in [("/bin", "/usr/bin"), ("/sbin", "/usr/sbin")] {
        if let Ok(rest) = path.strip_prefix(link) {
            return Path::new(target).join(rest).components().collect();
        }
    }
    path.into()
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_unstable();
    items
}

fn recommended_on(platform: Platform) -> impl Iterator<Item = &'static BuiltIn> {
    BuiltIn::of(Set::Recommended, platform)
}

#[test]
fn the_recommended_files_for_linux_are_those_of_the_list() {
    let there = recommended_on(Platform::Linux).flat_map(|rule| rule.paths).copied();
    let asked = [
        "/bin",
        "/bin/login",
        "/bin/passwd",
        "/boot",
        "/etc/*.conf",
        "/etc/cron.daily",
        "/etc/cron.hourly",
        "/etc/cron.monthly",
        "/etc/cron.weekly",
        "/etc/crontab",
        "/etc/init.d",
        "/opt/bin",
        "/opt/sbin",
        "/sbin",
        "/usr/bin",
        "/usr/local/bin",
        "/usr/local/sbin",
        "/usr/sbin",
    ];
    assert_eq!(sorted(there), asked);
}

#[test]
fn the_recommended_items_for_windows_are_those_of_the_list() {
    let there = recommended_on(Platform::Windows).flat_map(|rule| rule.paths).copied();
    let files = [
        r"C:\Windows\System32\userinit.exe",
        r"C:\Windows\explorer.exe",
        r"C:\Windows\regedit.exe",
        r"C:\Windows\system.ini",
        r"C:\Windows\win.ini",
        r"C:\autoexec.bat",
        r"C:\boot.ini",
        r"C:\config.sys",
    ];
    assert_eq!(sorted(there), files);

    let appinit = "appinit_dlls loadappinit_dlls";
    let folders = "common startup,startup";
    let asked = [
        (r"SOFTWARE\Microsoft\Cryptography\OID\*", ""),
        (r"SOFTWARE\WOW6432Node\Microsoft\Cryptography\OID\*", ""),
        (
            r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Windows",
            "appinit_dlls iconservicelib loadappinit_dlls",
        ),
        (r"SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\Shell Folders", folders),
        (r"SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders", folders),
        (r"SOFTWARE\Microsoft\Windows\CurrentVersion\Run", ""),
        (r"SOFTWARE\Microsoft\Windows\CurrentVersion\RunOnce", ""),
        (r"SOFTWARE\Microsoft\Windows\CurrentVersion\RunServicesOnce", ""),
        (r"SOFTWARE\WOW6432Node\Microsoft\Windows NT\CurrentVersion\Windows", appinit),
        // As published.
        (r"SOFTWARE\WOW6432Node\Microsoft\Windows\NT\CurrentVersion\Windows", appinit),
        (r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Explorer\Shell Folders", folders),
        (
            r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders",
            folders,
        ),
        (r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Run", ""),
        (r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\RunOnce", ""),
        (r"SECURITY\POLICY\SECRETS", ""),
    ];
    let asked = asked.map(|(key, values)| {
        let separator = if values.contains(',') { "," } else { " " };
        let values = values.split(separator).filter(|value| !value.is_empty());
        (format!(r"HKLM\{key}"), sorted(values))
    });
    let there = recommended_on(Platform::Windows)
        .flat_map(|rule| rule.registry)
        .map(|item| (item.key.to_owned(), sorted(item.values.iter().copied())));
    assert_eq!(sorted(there), sorted(asked));
}

#[test]
fn registry_rules_decide_for_either_spelling() {
    let rules = BuiltIn::of(Set::Recommended, Platform::Windows).map(BuiltIn::rule).collect();
    let policy = Policy::new(rules);
    for (key, value, want) in [
        (
            r"HKEY_LOCAL_MACHINE\Software\WOW6432Node\Microsoft\Windows NT\CurrentVersion\Windows",
            Some("AppInit_DLLs"),
            Some("appinit-dlls"),
        ),
        (
            r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\NT\CurrentVersion\Windows",
            Some("AppInit_DLLs"),
            Some("appinit-dlls"),
        ),
        (r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Windows", Some("Spooler"), None),
        (r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run", Some("x"), Some("run-keys")),
        (r"HKLM\Security\Policy\Secrets\x", None, Some("lsa-secrets")),
    ] {
        let found = policy.registry(key, value, Action::Updated);
        assert_eq!(found.map(|(rule, _)| rule.name.as_str()), want, "{key} {value:?}");
    }
}

#[test]
fn every_built_in_rule_is_whole() {
    for platform in Platform::ALL {
        let mut names = HashSet::new();
        for rule in Set::ALL.into_iter().flat_map(|set| BuiltIn::of(set, platform)) {
            let name = rule.name;
            assert!(names.insert(name), "{name} is there twice");
            assert!(!rule.paths.is_empty() || !rule.registry.is_empty(), "{name} has no objects");
            assert!(!rule.techniques.is_empty(), "{name} names no technique");
            assert!(!rule.why.is_empty() && rule.severity <= 100, "{name}");
            for tag in ["pci_dss_10.3.4", "pci_dss_11.5.2", "iso_27001_A.8.9", "iso_27001_A.8.16"] {
                assert!(rule.standards().contains(&tag), "{name} lacks {tag}");
            }
            assert!(rule.standards().contains(&"nist_800_53_SI.7"));
            assert!(rule.standards().iter().any(|tag| tag.starts_with("cis_")));
            let parsed = rule.rule();
            assert_eq!(parsed.registry.len(), rule.registry.len(), "each key of {name} parses");
            if platform == Platform::Linux {
                for path in rule.paths {
                    assert!(Pattern::parse(path).is_ok(), "{path} of {name} parses");
                }
            } else {
                assert!(rule.paths.iter().all(|path| path.starts_with(r"C:\")), "{name}");
            }
        }
    }
}

#[test]
fn the_page_names_every_built_in_rule() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    let page = std::fs::read_to_string(page).unwrap();
    for rule in BUILT_IN.into_iter().flatten() {
        let row = format!("| `{}` | {} |", rule.name, rule.severity);
        assert!(page.contains(&row), "docs/policy.md has no {row}");
    }
}

#[cfg(not(windows))]
#[test]
fn the_recommended_rules_decide() {
    let policy = Policy::new(recommended()).resolved(&host);
    for (path, want) in [
        ("/usr/bin/passwd", Some("authentication-programs")),
        ("/usr/bin/login", Some("authentication-programs")),
        ("/usr/bin/ls", Some("system-programs")),
        ("/bin", Some("system-programs")),
        ("/etc/hosts", None),
        ("/etc/resolv.conf", Some("system-configuration")),
        ("/etc/cron.daily/x", Some("scheduled-jobs")),
        ("/opt/bin/x/y", Some("local-programs")),
    ] {
        assert_eq!(policy.covers(Path::new(path)).map(|rule| rule.name.as_str()), want, "{path}");
    }
    let policy = Policy::new(rules_of(&Set::ALL, Platform::Linux)).resolved(&host);
    for (path, want) in [
        ("/root/.ssh/authorized_keys", "authorized-keys"),
        ("/home/ann/.ssh/authorized_keys2", "authorized-keys"),
        ("/etc/sudoers.d/x", "sudo"),
        ("/etc/pam.d/sshd", "pam"),
        ("/etc/ld.so.preload", "dynamic-linker"),
        ("/etc/systemd/system/x.timer", "systemd-units"),
        ("/var/spool/cron/crontabs/root", "cron-and-at"),
        ("/home/ann/.bashrc", "shell-profiles"),
        ("/usr/lib/modules/6.1/x.ko", "kernel-modules"),
        ("/etc/docker/daemon.json", "container-runtime"),
        ("/etc/kubernetes/manifests/x.yaml", "container-runtime"),
        ("/usr/lib/python3/dist-packages/x.pth", "python-startup"),
        ("/etc/apt/apt.conf.d/99x", "package-hooks"),
    ] {
        let found = policy.covers(Path::new(path)).map(|rule| rule.name.as_str());
        assert_eq!(found, Some(want), "{path}");
    }
}
