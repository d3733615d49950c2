//! The built-in rules for Windows.

use super::{BuiltIn, Platform, RegistryItem, Set};

/// The files and registry keys of Microsoft Defender for Cloud's list for Windows. It spells one key
/// `Windows\NT`, which is taken along with the key that is meant.
pub(super) const RECOMMENDED: &[BuiltIn] = &[
    BuiltIn {
        set: Set::Recommended,
        platform: Platform::Windows,
        name: "startup-files",
        category: "boot",
        severity: 75,
        why: "these decide what the system starts with, on old and new versions",
        paths: &[
            r"C:\config.sys",
            r"C:\autoexec.bat",
            r"C:\boot.ini",
            r"C:\Windows\system.ini",
            r"C:\Windows\win.ini",
        ],
        registry: &[],
        techniques: &["T1542", "T1547"],
    },
    BuiltIn {
        set: Set::Recommended,
        platform: Platform::Windows,
        name: "system-programs",
        category: "programs",
        severity: 85,
        why: "a changed shell, logon or registry program does something else for everybody",
        paths: &[
            r"C:\Windows\regedit.exe",
            r"C:\Windows\System32\userinit.exe",
            r"C:\Windows\explorer.exe",
        ],
        registry: &[],
        techniques: &["T1554", "T1036.005"],
    },
    BuiltIn {
        set: Set::Recommended,
        platform: Platform::Windows,
        name: "cryptography-providers",
        category: "authentication",
        severity: 80,
        why: "a provider entered here verifies signatures, or says that it does",
        paths: &[],
        registry: &[
            RegistryItem { key: r"HKLM\SOFTWARE\Microsoft\Cryptography\OID\*", values: &[] },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Cryptography\OID\*",
                values: &[],
            },
        ],
        techniques: &["T1553.003"],
    },
    BuiltIn {
        set: Set::Recommended,
        platform: Platform::Windows,
        name: "appinit-dlls",
        category: "hijack",
        severity: 85,
        why: "a library named here is loaded into every program with a window",
        paths: &[],
        registry: &[
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Windows",
                values: &["loadappinit_dlls", "appinit_dlls", "iconservicelib"],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows NT\CurrentVersion\Windows",
                values: &["loadappinit_dlls", "appinit_dlls"],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\NT\CurrentVersion\Windows",
                values: &["loadappinit_dlls", "appinit_dlls"],
            },
        ],
        techniques: &["T1546.010"],
    },
    BuiltIn {
        set: Set::Recommended,
        platform: Platform::Windows,
        name: "startup-folders",
        category: "persistence",
        severity: 75,
        why: "what lies in the folder named here runs with every logon",
        paths: &[],
        registry: &[
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\Shell Folders",
                values: &["common startup", "startup"],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders",
                values: &["common startup", "startup"],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Explorer\Shell Folders",
                values: &["common startup", "startup"],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders",
                values: &["common startup", "startup"],
            },
        ],
        techniques: &["T1547.001"],
    },
    BuiltIn {
        set: Set::Recommended,
        platform: Platform::Windows,
        name: "run-keys",
        category: "persistence",
        severity: 75,
        why: "a program entered here runs with every logon",
        paths: &[],
        registry: &[
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\RunOnce",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\RunServicesOnce",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Run",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\RunOnce",
                values: &[],
            },
        ],
        techniques: &["T1547.001"],
    },
    BuiltIn {
        set: Set::Recommended,
        platform: Platform::Windows,
        name: "lsa-secrets",
        category: "authentication",
        severity: 85,
        why: "the system's own passwords and keys",
        paths: &[],
        registry: &[RegistryItem { key: r"HKLM\SECURITY\POLICY\SECRETS", values: &[] }],
        techniques: &["T1003.004"],
    },
];

/// What attackers use today, beyond that list.
pub(super) const ATTACK_SURFACE: &[BuiltIn] = &[
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "services",
        category: "persistence",
        severity: 75,
        why: "a service or driver entered here runs as the system",
        paths: &[],
        registry: &[RegistryItem { key: r"HKLM\SYSTEM\CurrentControlSet\Services", values: &[] }],
        techniques: &["T1543.003"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "wmi-subscriptions",
        category: "persistence",
        severity: 75,
        why: "a subscription kept here runs a command when something happens",
        paths: &[r"C:\Windows\System32\wbem\Repository"],
        registry: &[
            RegistryItem { key: r"HKLM\SOFTWARE\Microsoft\Wbem\ESS", values: &[] },
            RegistryItem { key: r"HKLM\SOFTWARE\Microsoft\Wbem\CIMOM", values: &[] },
        ],
        techniques: &["T1546.003"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "lsa",
        category: "authentication",
        severity: 90,
        why: "a package entered here sees every password",
        paths: &[],
        registry: &[
            RegistryItem { key: r"HKLM\SYSTEM\CurrentControlSet\Control\Lsa", values: &[] },
            RegistryItem {
                key: r"HKLM\SYSTEM\CurrentControlSet\Control\SecurityProviders",
                values: &[],
            },
        ],
        techniques: &["T1547.002", "T1547.005", "T1556.002"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "winlogon",
        category: "persistence",
        severity: 85,
        why: "a program entered here runs with every logon",
        paths: &[],
        registry: &[
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows NT\CurrentVersion\Winlogon",
                values: &[],
            },
        ],
        techniques: &["T1547.004"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "image-file-execution-options",
        category: "hijack",
        severity: 85,
        why: "a debugger entered here runs in place of the program",
        paths: &[],
        registry: &[
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Image File Execution Options",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\WOW6432Node\Microsoft\Windows NT\CurrentVersion\Image File Execution Options",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\SilentProcessExit",
                values: &[],
            },
        ],
        techniques: &["T1546.012"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "session-manager",
        category: "hijack",
        severity: 85,
        why: "what is entered here is loaded or run before anybody logs on",
        paths: &[],
        registry: &[
            RegistryItem {
                key: r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager",
                values: &["bootexecute", "setupexecute", "pendingfilerenameoperations"],
            },
            RegistryItem {
                key: r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\AppCertDlls",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\KnownDLLs",
                values: &[],
            },
        ],
        techniques: &["T1546.009", "T1547", "T1574.001"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "scheduled-tasks",
        category: "persistence",
        severity: 75,
        why: "a task placed here runs on schedule, often as the system",
        paths: &[r"C:\Windows\System32\Tasks"],
        registry: &[RegistryItem {
            key: r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Schedule\TaskCache\Tree",
            values: &[],
        }],
        techniques: &["T1053.005"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "startup-directories",
        category: "persistence",
        severity: 75,
        why: "what is placed here runs with every logon",
        paths: &[
            r"C:\ProgramData\Microsoft\Windows\Start Menu\Programs\StartUp",
            r"C:\Users\*\AppData\Roaming\Microsoft\Windows\Start Menu\Programs\Startup\**",
        ],
        registry: &[
            RegistryItem {
                key: r"HKU\*\Software\Microsoft\Windows\CurrentVersion\Run",
                values: &[],
            },
            RegistryItem {
                key: r"HKU\*\Software\Microsoft\Windows\CurrentVersion\RunOnce",
                values: &[],
            },
        ],
        techniques: &["T1547.001"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "system-helpers",
        category: "persistence",
        severity: 75,
        why: "a library entered here is loaded by a program of the system",
        paths: &[],
        registry: &[
            RegistryItem {
                key: r"HKLM\SYSTEM\CurrentControlSet\Control\Print\Monitors",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SYSTEM\CurrentControlSet\Services\W32Time\TimeProviders",
                values: &[],
            },
            RegistryItem { key: r"HKLM\SOFTWARE\Microsoft\Netsh", values: &[] },
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\Browser Helper Objects",
                values: &[],
            },
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Active Setup\Installed Components",
                values: &[],
            },
        ],
        techniques: &["T1547.010", "T1547.003", "T1546.007", "T1547.014"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "powershell-profiles",
        category: "persistence",
        severity: 70,
        why: "a line added here runs with every PowerShell",
        paths: &[
            r"C:\Windows\System32\WindowsPowerShell\v1.0\profile.ps1",
            r"C:\Windows\System32\WindowsPowerShell\v1.0\Microsoft.PowerShell_profile.ps1",
        ],
        registry: &[],
        techniques: &["T1546.013"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "ssh-daemon",
        category: "authentication",
        severity: 85,
        why: "a key added here, or a weakened SSH daemon, lets in who should be kept out",
        paths: &[r"C:\ProgramData\ssh"],
        registry: &[],
        techniques: &["T1098.004"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "name-resolution",
        category: "hijack",
        severity: 70,
        why: "a line added here redirects connections",
        paths: &[r"C:\Windows\System32\drivers\etc"],
        registry: &[],
        techniques: &["T1565.001"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "defences",
        category: "defences",
        severity: 85,
        why: "an exclusion or a rule changed here takes away a limit",
        paths: &[],
        registry: &[
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\Windows Defender\Exclusions",
                values: &[],
            },
            RegistryItem { key: r"HKLM\SOFTWARE\Policies\Microsoft\Windows Defender", values: &[] },
            RegistryItem {
                key: r"HKLM\SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy",
                values: &[],
            },
            RegistryItem { key: r"HKLM\SYSTEM\CurrentControlSet\Services\EventLog", values: &[] },
        ],
        techniques: &["T1562.001", "T1562.004", "T1562.002"],
    },
    BuiltIn {
        set: Set::AttackSurface,
        platform: Platform::Windows,
        name: "trusted-certificates",
        category: "supply-chain",
        severity: 75,
        why: "an authority added here is believed by every program",
        paths: &[],
        registry: &[
            RegistryItem { key: r"HKLM\SOFTWARE\Microsoft\SystemCertificates\ROOT", values: &[] },
            RegistryItem {
                key: r"HKLM\SOFTWARE\Microsoft\EnterpriseCertificates\Root",
                values: &[],
            },
        ],
        techniques: &["T1553.004"],
    },
];
