use super::*;

fn devices() -> Devices {
    let mut devices = Devices::default();
    assert!(devices.map("\\Device\\HarddiskVolume1", "E:"));
    assert!(devices.map("\\Device\\HarddiskVolume10", "F:\\"));
    assert!(devices.map("\\Device\\HarddiskVolume3", "C:"));
    assert!(devices.map("\\Device\\HarddiskVolume4", "C:\\mount"));
    devices
}

#[test]
fn devices_become_drives_at_the_end_of_a_component() {
    for (name, path) in [
        ("\\Device\\HarddiskVolume3\\Windows\\a.txt", Some("C:\\Windows\\a.txt")),
        ("\\device\\HARDDISKVOLUME3\\Windows", Some("C:\\Windows")),
        ("\\Device\\HarddiskVolume3", Some("C:\\")),
        ("\\Device\\HarddiskVolume3\\", Some("C:\\")),
        ("\\Device\\HarddiskVolume10\\x", Some("F:\\x")),
        ("\\Device\\HarddiskVolume1\\x", Some("E:\\x")),
        ("\\Device\\HarddiskVolume4\\x", Some("C:\\mount\\x")),
        ("\\Device\\HarddiskVolume4", Some("C:\\mount")),
        ("\\Device\\HarddiskVolume31\\x", None),
        ("\\Device\\HarddiskVolumeShadowCopy3\\x", None),
        ("\\??\\C:\\x", Some("C:\\x")),
        ("\\??\\UNC\\server\\share\\x", Some("\\\\server\\share\\x")),
        ("\\??\\Volume{1-2}\\x", Some("\\\\?\\Volume{1-2}\\x")),
        ("\\Device\\Mup\\server\\share\\x", Some("\\\\server\\share\\x")),
        (
            "\\Device\\Mup\\DfsClient\\;Z:000000000001a2b3\\server\\share\\x",
            Some("\\\\server\\share\\x"),
        ),
        ("\\Device\\Mup\\;LanmanRedirector\\;Z:0\\server\\share", Some("\\\\server\\share")),
        ("\\Device\\LanmanRedirector\\server\\share", Some("\\\\server\\share")),
        ("\\Device\\Mup\\DfsClient\\share", Some("\\\\DfsClient\\share")),
        ("\\Device\\Mup", None),
        ("\\Device\\Mup\\server", None),
        ("\\Device\\NamedPipe\\x", None),
        ("", None),
        ("\\Dévice\\x", None),
    ] {
        assert_eq!(devices().resolve(name).as_deref(), path, "{name}");
    }
}

#[test]
fn streams() {
    for (path, file, stream) in [
        ("C:\\a.txt", "C:\\a.txt", None),
        ("C:\\a.txt:zone", "C:\\a.txt", Some("zone")),
        ("C:\\a.txt:zone:$DATA", "C:\\a.txt", Some("zone")),
        ("C:\\a.txt::$DATA", "C:\\a.txt", None),
        ("C:", "C:", None),
        ("\\Device\\HarddiskVolume1\\d:s", "\\Device\\HarddiskVolume1\\d", Some("s")),
    ] {
        assert_eq!(split_stream(path), (file, stream), "{path}");
    }
}

#[test]
fn short_names_are_recognised() {
    assert!(may_be_short("C:\\Users\\RUNNER~1\\a.txt"));
    assert!(may_be_short("C:\\PROGRA~2.TXT"));
    for path in ["C:\\a~b\\c", "C:\\~1backup.html", "C:\\notes~", "C:\\verylongname~1"] {
        assert!(!may_be_short(path), "{path}");
    }
}

#[test]
fn registry_names() {
    for (name, path) in [
        ("\\REGISTRY\\MACHINE\\SOFTWARE\\X", "HKLM\\SOFTWARE\\X"),
        ("\\Registry\\Machine", "HKLM"),
        ("\\REGISTRY\\USER\\S-1-5-21-1\\Software", "HKU\\S-1-5-21-1\\Software"),
        ("\\REGISTRY\\USER\\S-1-5-21-1_Classes\\.txt", "HKU\\S-1-5-21-1_Classes\\.txt"),
        ("\\REGISTRY\\A\\{1}\\x", "\\REGISTRY\\A\\{1}\\x"),
        ("\\REGISTRY\\MACHINERY", "\\REGISTRY\\MACHINERY"),
        ("Software\\X", "Software\\X"),
    ] {
        assert_eq!(registry_path(name).path(), path, "{name}");
    }
    let of = |name| registry_path(name).aliases();
    assert_eq!(
        of("\\REGISTRY\\MACHINE\\SYSTEM\\ControlSet001\\Services"),
        ["HKLM\\SYSTEM\\CurrentControlSet\\Services"]
    );
    assert_eq!(
        of("\\REGISTRY\\MACHINE\\SYSTEM\\CurrentControlSet"),
        ["HKLM\\SYSTEM\\ControlSet001"]
    );
    assert!(of("\\REGISTRY\\MACHINE\\SYSTEM\\ControlSet0011").is_empty());
    assert_eq!(of("\\REGISTRY\\MACHINE\\SOFTWARE\\WOW6432Node\\X"), ["HKLM\\SOFTWARE\\X"]);
    // A rule about HKCU is about each user.
    assert_eq!(of("\\REGISTRY\\USER\\S-1-5-21-1-2-3-1000\\Run"), ["HKCU\\Run"]);
    assert_eq!(of("\\REGISTRY\\USER\\S-1-12-1-2-3-4-5"), ["HKCU"]);
    assert_eq!(
        of("\\REGISTRY\\USER\\S-1-5-21-1-2-3-1000_Classes\\.txt"),
        ["HKCU\\Software\\Classes\\.txt"]
    );
    assert!(of("\\REGISTRY\\USER\\S-1-5-18\\Run").is_empty());
}

#[cfg(not(windows))]
proptest::proptest! {
    #[test]
    fn no_name_is_too_odd(name: String) {
        devices().resolve(&name);
        registry_path(&name).aliases();
        split_stream(&name);
        may_be_short(&name);
        fold(&name);
    }
}
