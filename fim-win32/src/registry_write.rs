//! Changing the registry: what the agent's test of itself does.

use std::ffi::OsStr;
use std::io;

use windows_sys::Win32::System::Registry::{
    KEY_ALL_ACCESS, KEY_WOW64_64KEY, RegCreateKeyExW, RegDeleteKeyExW, RegDeleteValueW,
    RegSetValueExW,
};

use crate::registry::{Key, parent, result};
use crate::text::wide;

impl Key {
    /// Makes a key (`HKCU\\Software\\…`) and those above it, or opens it, to write to it.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown root key; otherwise what the system says.
    pub fn create(path: &str) -> io::Result<Self> {
        let (root, rest) = parent(path)?;
        let name = wide(OsStr::new(rest))?;
        let mut key = std::ptr::null_mut();
        // SAFETY: the name ends with a NUL, the key is ours to close, what is not wanted may be null.
        result(unsafe {
            RegCreateKeyExW(
                root,
                name.as_ptr(),
                0,
                std::ptr::null(),
                0,
                KEY_ALL_ACCESS | KEY_WOW64_64KEY,
                std::ptr::null(),
                &mut key,
                std::ptr::null_mut(),
            )
        })?;
        Ok(Self::owned(key))
    }

    /// Sets a value; `REG_SZ` is kind 1, and its data UTF-16 with a NUL.
    ///
    /// # Errors
    /// What the system says, of a key that was opened for reading too.
    pub fn set(&self, name: &str, kind: u32, data: &[u8]) -> io::Result<()> {
        let name = wide(OsStr::new(name))?;
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        // SAFETY: the name ends with a NUL, the data are as long as is said.
        result(unsafe { RegSetValueExW(self.raw(), name.as_ptr(), 0, kind, data.as_ptr(), length) })
    }

    /// Deletes a value.
    ///
    /// # Errors
    /// What the system says.
    pub fn delete_value(&self, name: &str) -> io::Result<()> {
        let name = wide(OsStr::new(name))?;
        // SAFETY: the name ends with a NUL.
        result(unsafe { RegDeleteValueW(self.raw(), name.as_ptr()) })
    }

    /// Deletes a key that has none in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn delete(path: &str) -> io::Result<()> {
        let (root, rest) = parent(path)?;
        let name = wide(OsStr::new(rest))?;
        // SAFETY: the name ends with a NUL.
        result(unsafe { RegDeleteKeyExW(root, name.as_ptr(), KEY_WOW64_64KEY, 0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_value_come_and_go() {
        let path = r"HKCU\Software\fim-win32-write\below";
        let key = Key::create(path).unwrap();
        key.set("v", 3, &[1, 2, 3]).unwrap();
        assert_eq!(Key::open(path).unwrap().values().unwrap()[0].data, [1, 2, 3]);
        assert!(Key::open(path).unwrap().set("v", 3, &[]).is_err(), "opened for reading");
        key.delete_value("v").unwrap();
        assert!(key.delete_value("v").is_err());
        drop(key);
        Key::delete(path).unwrap();
        Key::delete(r"HKCU\Software\fim-win32-write").unwrap();
        assert_eq!(Key::open(path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
