//! Registry keys that are open, in all processes: by the table of handles.
//!
//! `NtQuerySystemInformation` lists each handle with the address of its object, which is what ETW
//! names a key by. `SystemExtendedHandleInformation` and its layout are not documented; they are
//! those of `SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX` in the headers of System Informer (phnt).

use std::collections::HashMap;
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle};

use windows_sys::Wdk::System::Registry::{KeyNameInformation, NtQueryKey};
use windows_sys::Wdk::System::SystemInformation::{
    NtQuerySystemInformation, SYSTEM_INFORMATION_CLASS,
};
use windows_sys::Win32::Foundation::{
    DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE, LUID, STATUS_INFO_LENGTH_MISMATCH,
};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, SE_PRIVILEGE_ENABLED,
    TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES, TOKEN_QUERY,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcessToken, PROCESS_DUP_HANDLE,
};

use crate::registry::Key;
use crate::{process, text};

const SYSTEM_EXTENDED_HANDLE_INFORMATION: SYSTEM_INFORMATION_CLASS = 64;
/// Words of an entry: object; process; handle; access and two short numbers, the second of which
/// is the type; attributes.
const ENTRY: usize = 5;
/// Bytes of the table at most: 40 for a handle, of which a large server has millions.
const TABLE_MAX: usize = 512 << 20;
/// Keys that are named at most.
pub const KEYS_MAX: usize = 262_144;

/// An open key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenKey {
    /// The address of the object, as ETW has it.
    pub object: u64,
    /// The process that has it open.
    pub pid: u32,
    /// Its name, `\REGISTRY\MACHINE\…`.
    pub name: String,
}

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenKeys {
    /// Those with a name.
    pub keys: Vec<OpenKey>,
    /// Handles of keys whose process lets nobody in, or whose key has no name any more.
    pub nameless: u64,
}

/// Allows this process, if it may, to look into others (`SeDebugPrivilege`).
///
/// # Errors
/// What the system says.
pub fn allow_debugging() -> io::Result<()> {
    let mut luid = LUID::default();
    let name = text::wide("SeDebugPrivilege".as_ref())?;
    // SAFETY: the name ends with a NUL, the number is ours.
    if unsafe { LookupPrivilegeValueW(std::ptr::null(), name.as_ptr(), &mut luid) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut token: HANDLE = std::ptr::null_mut();
    let rights = TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY;
    // SAFETY: the pseudo handle is always valid, the token is ours to close.
    if unsafe { OpenProcessToken(GetCurrentProcess(), rights, &mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now and is nobody else's.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let privileges = TOKEN_PRIVILEGES {
        PrivilegeCount: 1,
        Privileges: [LUID_AND_ATTRIBUTES { Luid: luid, Attributes: SE_PRIVILEGE_ENABLED }],
    };
    // SAFETY: the structure has the one entry that it says; the state before is not asked for.
    let done = unsafe {
        AdjustTokenPrivileges(
            token.as_raw_handle(),
            0,
            &privileges,
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    // It succeeds also where the token has no such privilege, and says so aside.
    match (done, io::Error::last_os_error()) {
        (0, error) => Err(error),
        (_, error) if error.raw_os_error() == Some(1300) => Err(error),
        _ => Ok(()),
    }
}

/// The table of all handles: words as the system gives them, entries from the third on.
fn table() -> io::Result<Vec<usize>> {
    let mut words = vec![0_usize; 1 << 17];
    loop {
        let mut length = 0;
        // SAFETY: the buffer is as large as is said.
        let status = unsafe {
            NtQuerySystemInformation(
                SYSTEM_EXTENDED_HANDLE_INFORMATION,
                words.as_mut_ptr().cast(),
                u32::try_from(size_of_val(&*words)).unwrap_or(u32::MAX),
                &mut length,
            )
        };
        if status == STATUS_INFO_LENGTH_MISMATCH && size_of_val(&*words) < TABLE_MAX {
            // There may be more by then.
            let wanted = (length as usize / size_of::<usize>()).max(words.len()) * 5 / 4;
            words.resize(wanted, 0);
            continue;
        }
        if status < 0 {
            return Err(io::Error::other(format!(
                "NtQuerySystemInformation: NTSTATUS 0x{:08x}",
                status.cast_unsigned()
            )));
        }
        return Ok(words);
    }
}

/// All keys that are open, as far as this process may look. Under Wine, which has no addresses,
/// `object` is 0.
///
/// # Errors
/// When there is no table of handles.
pub fn open_keys() -> io::Result<OpenKeys> {
    // A key of our own shows which type keys are.
    let own = Key::open(r"HKLM\SOFTWARE")?;
    let words = table()?;
    let count = words.first().copied().unwrap_or_default();
    let entries = words.get(2..).unwrap_or_default().chunks_exact(ENTRY).take(count);
    let us = std::process::id() as usize;
    let kind_of = |entry: &[usize]| (entry[3] >> 48) & 0xffff;
    let ours = own.raw() as usize;
    let kind = entries.clone().find(|entry| entry[1] == us && entry[2] == ours).map(kind_of);
    let kind = kind.ok_or_else(|| io::Error::other("our own handle is not in the table"))?;
    let mut found = OpenKeys::default();
    let mut processes: HashMap<usize, Option<OwnedHandle>> = HashMap::new();
    for entry in entries.filter(|entry| kind_of(entry) == kind) {
        let process = processes
            .entry(entry[1])
            .or_insert_with(|| process::open(entry[1] as u32, PROCESS_DUP_HANDLE).ok());
        let name = process.as_ref().and_then(|process| name_in(process, entry[2]));
        match name {
            Some(name) if found.keys.len() < KEYS_MAX => {
                found.keys.push(OpenKey { object: entry[0] as u64, pid: entry[1] as u32, name })
            }
            _ => found.nameless += 1,
        }
    }
    Ok(found)
}

/// The name of a key that another process has open.
fn name_in(process: &OwnedHandle, handle: usize) -> Option<String> {
    let mut copy: HANDLE = std::ptr::null_mut();
    // SAFETY: the process is open; a handle that it does not have is refused. The copy is ours.
    let done = unsafe {
        DuplicateHandle(
            process.as_raw_handle(),
            handle as RawHandle,
            GetCurrentProcess(),
            &mut copy,
            0,
            0,
            DUPLICATE_SAME_ACCESS,
        )
    };
    if done == 0 {
        return None;
    }
    // SAFETY: it was opened just now and is nobody else's.
    let copy = unsafe { OwnedHandle::from_raw_handle(copy) };
    // `KEY_NAME_INFORMATION`: bytes of the name, and the name. Names have 512 levels at most, but
    // those that are longer than some thousand units are rare enough to be left out.
    let mut buffer = vec![0_u32; 4096];
    let mut length = 0;
    // SAFETY: the handle is open, the buffer is as large as is said. What is no key is refused.
    let status = unsafe {
        NtQueryKey(
            copy.as_raw_handle(),
            KeyNameInformation,
            buffer.as_mut_ptr().cast(),
            size_of_val(&*buffer) as u32,
            &mut length,
        )
    };
    if status < 0 {
        return None;
    }
    let units = buffer[0] as usize / 2;
    // SAFETY: any bits are units, of which the buffer has twice as many as it has numbers.
    let all =
        unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u16>(), buffer.len() * 2) };
    Some(String::from_utf16_lossy(all.get(2..2 + units)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_keys_are_among_the_open_ones() {
        let _key = Key::open(r"HKLM\SOFTWARE\Microsoft").unwrap();
        let found = open_keys().unwrap();
        let ours: Vec<&str> = found
            .keys
            .iter()
            .filter(|key| key.pid == std::process::id())
            .map(|key| &*key.name)
            .collect();
        let wanted = r"\REGISTRY\MACHINE\SOFTWARE\MICROSOFT";
        assert!(ours.iter().any(|name| name.to_uppercase() == wanted), "{ours:?}");
        // Whether it is granted depends on who runs this.
        let _ = allow_debugging();
    }
}
