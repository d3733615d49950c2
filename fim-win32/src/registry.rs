//! Keys and values of the registry, as 64-bit programs see them.

use std::ffi::OsStr;
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::sync::Arc;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_MORE_DATA, ERROR_NO_MORE_ITEMS, HANDLE, WAIT_OBJECT_0, WIN32_ERROR,
};
use windows_sys::Win32::Security::Authorization::SE_REGISTRY_KEY;
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_CLASSES_ROOT, HKEY_CURRENT_CONFIG, HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE,
    HKEY_USERS, KEY_NOTIFY, KEY_READ, KEY_WOW64_64KEY, REG_NOTIFY_CHANGE_LAST_SET,
    REG_NOTIFY_CHANGE_NAME, REG_NOTIFY_CHANGE_SECURITY, RegCloseKey, RegEnumKeyExW, RegEnumValueW,
    RegNotifyChangeKeyValue, RegOpenKeyExW, RegQueryInfoKeyW,
};
use windows_sys::Win32::System::Threading::{CreateEventW, SetEvent, WaitForMultipleObjects};

use crate::security;
use crate::text::{narrow, wide};

/// Units of the longest name of a key, and of a value, with a NUL.
const KEY_NAME: usize = 256;
const VALUE_NAME: usize = 16_384;

/// An open key.
#[derive(Debug)]
pub struct Key(HKEY);

// SAFETY: a key's handle may be used by any thread.
unsafe impl Send for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: it was opened by `open` and is closed once.
        unsafe { RegCloseKey(self.0) };
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name; empty: the key's default value.
    pub name: String,
    /// `REG_SZ` is 1, and so on.
    pub kind: u32,
    /// Its content.
    pub data: Vec<u8>,
}

/// What a function of the registry says.
pub(crate) fn result(code: WIN32_ERROR) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.cast_signed())),
    }
}

/// The root key of a path, and the rest of it.
pub(crate) fn parent(path: &str) -> io::Result<(HKEY, &str)> {
    let (root, rest) = path.split_once('\\').unwrap_or((path, ""));
    let root = match root.to_ascii_uppercase().as_str() {
        "HKLM" => HKEY_LOCAL_MACHINE,
        "HKU" => HKEY_USERS,
        "HKCU" => HKEY_CURRENT_USER,
        "HKCR" => HKEY_CLASSES_ROOT,
        "HKCC" => HKEY_CURRENT_CONFIG,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such root key")),
    };
    Ok((root, rest))
}

impl Key {
    /// One that was opened, and is nobody else's.
    pub(crate) fn owned(key: HKEY) -> Self {
        Self(key)
    }

    /// Its handle, as long as it is borrowed.
    pub(crate) fn raw(&self) -> HKEY {
        self.0
    }

    /// Opens `HKLM\SOFTWARE\…` for reading.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown root key; otherwise what the system says, `NotFound` among it.
    pub fn open(path: &str) -> io::Result<Self> {
        let (root, rest) = parent(path)?;
        let name = wide(OsStr::new(rest))?;
        let mut key: HKEY = std::ptr::null_mut();
        let rights = KEY_READ | KEY_NOTIFY | KEY_WOW64_64KEY;
        // SAFETY: the name ends with a NUL, the key is ours to close.
        result(unsafe { RegOpenKeyExW(root, name.as_ptr(), 0, rights, &mut key) })?;
        Ok(Self(key))
    }

    /// The names of the keys in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut name = vec![0_u16; KEY_NAME];
        for index in 0.. {
            let mut length = name.len() as u32;
            // SAFETY: the buffer is as long as is said; what is not wanted may be null.
            let code = unsafe {
                RegEnumKeyExW(
                    self.0,
                    index,
                    name.as_mut_ptr(),
                    &mut length,
                    std::ptr::null(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
            match code {
                ERROR_NO_MORE_ITEMS => break,
                code => result(code)?,
            }
            names.push(text(&name, length));
        }
        Ok(names)
    }

    /// All its values.
    ///
    /// # Errors
    /// What the system says.
    pub fn values(&self) -> io::Result<Vec<Value>> {
        let mut longest = 0_u32;
        // SAFETY: what is not wanted may be null.
        result(unsafe {
            RegQueryInfoKeyW(
                self.0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &mut longest,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        })?;
        let mut values = Vec::new();
        let mut name = vec![0_u16; VALUE_NAME];
        let mut data = vec![0_u8; longest as usize];
        let mut index = 0;
        loop {
            let (mut length, mut size) = (name.len() as u32, data.len() as u32);
            let mut kind = 0;
            // SAFETY: both buffers are as long as is said.
            let code = unsafe {
                RegEnumValueW(
                    self.0,
                    index,
                    name.as_mut_ptr(),
                    &mut length,
                    std::ptr::null(),
                    &mut kind,
                    data.as_mut_ptr(),
                    &mut size,
                )
            };
            match code {
                ERROR_NO_MORE_ITEMS => break,
                // It grew meanwhile.
                ERROR_MORE_DATA if (size as usize) > data.len() => {
                    data.resize(size as usize, 0);
                    continue;
                }
                code => result(code)?,
            }
            let content = data.get(..size as usize).unwrap_or_default().to_vec();
            values.push(Value { name: text(&name, length), kind, data: content });
            index += 1;
        }
        Ok(values)
    }

    /// Owner, group and DACL in SDDL.
    ///
    /// # Errors
    /// What the system says.
    pub fn security(&self) -> io::Result<String> {
        security::of_handle(self.0, SE_REGISTRY_KEY)
    }
}

fn text(name: &[u16], length: u32) -> String {
    narrow(name.get(..length as usize).unwrap_or_default()).to_string_lossy().into_owned()
}

/// Something to wait for.
#[derive(Clone, Debug)]
pub struct Signal(Arc<OwnedHandle>);

impl Signal {
    /// One that is not given yet. It stays given once it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        // SAFETY: neither attributes nor a name are given.
        let event = unsafe { CreateEventW(std::ptr::null(), 1, 0, std::ptr::null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was made just now and is nobody else's.
        Ok(Self(Arc::new(unsafe { OwnedHandle::from_raw_handle(event) })))
    }

    /// Gives it.
    pub fn give(&self) {
        // SAFETY: the event lives as long as `self`.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something changed.
    Changed,
    /// The signal was given.
    Signal,
    /// The time is over.
    Timeout,
}

/// One change of keys, waited for. To miss nothing: make one, then read the keys, then wait.
#[derive(Debug)]
pub struct Change {
    changed: Signal,
    // Closing them would give the signal: it goes first.
    _keys: Vec<Key>,
}

impl Change {
    /// Waits for a change of any of these keys, with what is below those that are said to be
    /// `deep`: names, values and security. Keys that are not there are left out. The calling
    /// thread has to live until the change.
    ///
    /// # Errors
    /// What the system says.
    pub fn of<'k>(keys: impl IntoIterator<Item = (&'k str, bool)>) -> io::Result<Self> {
        const WHAT: u32 =
            REG_NOTIFY_CHANGE_NAME | REG_NOTIFY_CHANGE_LAST_SET | REG_NOTIFY_CHANGE_SECURITY;
        let changed = Signal::new()?;
        let mut open = Vec::new();
        for (path, deep) in keys {
            let Ok(key) = Key::open(path) else { continue };
            let event = changed.0.as_raw_handle();
            // SAFETY: key and event are kept as long as the notification may come.
            let code = unsafe { RegNotifyChangeKeyValue(key.0, i32::from(deep), WHAT, event, 1) };
            result(code)?;
            open.push(key);
        }
        Ok(Self { changed, _keys: open })
    }

    /// Waits.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&self, signal: &Signal, timeout: Duration) -> io::Result<Woken> {
        let handles: [HANDLE; 2] = [signal.0.as_raw_handle(), self.changed.0.as_raw_handle()];
        let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX - 1);
        // SAFETY: both events live as long as they are borrowed.
        match unsafe { WaitForMultipleObjects(2, handles.as_ptr(), 0, timeout) } {
            WAIT_OBJECT_0 => Ok(Woken::Signal),
            1 => Ok(Woken::Changed),
            0x102 => Ok(Woken::Timeout),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = r"HKCU\Software\fim-win32-test";

    fn reg(arguments: &[&str]) {
        let done = std::process::Command::new("reg.exe").args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }

    #[test]
    fn keys_are_read_and_their_changes_noticed() {
        let _ = std::process::Command::new("reg.exe").args(["delete", PLACE, "/f"]).output();
        reg(&["add", &format!(r"{PLACE}\below"), "/f"]);
        reg(&["add", PLACE, "/v", "text", "/t", "REG_SZ", "/d", "x", "/f"]);
        reg(&["add", PLACE, "/v", "number", "/t", "REG_DWORD", "/d", "7", "/f"]);
        let key = Key::open(PLACE).unwrap();
        assert_eq!(key.names().unwrap(), ["below"]);
        let mut values = key.values().unwrap();
        values.sort_by(|a, b| a.name.cmp(&b.name));
        let number = Value { name: "number".to_owned(), kind: 4, data: vec![7, 0, 0, 0] };
        assert_eq!(
            values,
            [number, Value { name: "text".to_owned(), kind: 1, data: b"x\0\0\0".to_vec() }]
        );
        assert!(key.security().unwrap().starts_with("O:"));

        let change = Change::of([(PLACE, true)]).unwrap();
        let stop = Signal::new().unwrap();
        assert_eq!(change.wait(&stop, Duration::ZERO).unwrap(), Woken::Timeout);
        reg(&["add", &format!(r"{PLACE}\below"), "/v", "new", "/d", "y", "/f"]);
        assert_eq!(change.wait(&stop, Duration::from_secs(30)).unwrap(), Woken::Changed);
        let change = Change::of([(PLACE, true), (r"HKCU\Software\nothing-here", false)]).unwrap();
        stop.give();
        assert_eq!(change.wait(&stop, Duration::from_secs(30)).unwrap(), Woken::Signal);
        drop((change, key));
        reg(&["delete", PLACE, "/f"]);
        assert_eq!(Key::open(PLACE).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(Key::open("SOFTWARE").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
