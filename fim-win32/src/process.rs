//! Running processes: what they are, who they belong to, with which rights they run.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use windows_sys::Wdk::System::Threading::{
    NtQueryInformationProcess, ProcessBasicInformation, ProcessCommandLineInformation,
};
use windows_sys::Win32::Foundation::{FILETIME, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Security::{
    GetTokenInformation, TOKEN_INFORMATION_CLASS, TokenElevation, TokenElevationType,
    TokenIntegrityLevel, TokenSessionId,
};
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_ACCESS_RIGHTS, PROCESS_NAME_WIN32,
    PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_VM_READ,
    QueryFullProcessImageNameW,
};

use crate::security;
use crate::text::narrow;

/// Bytes of the longest command line: 32,767 units, and the structure in front of it.
const COMMAND_LINE_MAX: usize = 65_534 + 16;

/// A process. What the system does not tell us is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The id of whoever it was started by, or for; that one may be gone, and the id another's.
    pub parent: Option<u32>,
    /// When it began, in ticks of 100 ns since 1601-01-01 UTC.
    pub created: Option<u64>,
    /// The path of its executable.
    pub executable: Option<String>,
    /// With what it was called.
    pub command_line: Option<String>,
    /// Whose it is, `S-1-5-…`.
    pub user: Option<String>,
    /// Terminal services session.
    pub session: Option<u32>,
    /// With elevated rights.
    pub elevated: Option<bool>,
    /// `TOKEN_ELEVATION_TYPE`: 1 default, 2 full, 3 limited.
    pub elevation_type: Option<u32>,
    /// The integrity level's number: `0x2000` is medium.
    pub integrity: Option<u32>,
}

impl Process {
    /// Looks at a process that runs.
    ///
    /// # Errors
    /// What the system says where it lets nobody look at it at all: there is none (87), it is
    /// protected (5).
    pub fn look(pid: u32) -> io::Result<Self> {
        let process = open(pid, PROCESS_QUERY_LIMITED_INFORMATION)?;
        let mut found = Self { pid, ..Self::default() };
        found.created = created(&process);
        found.parent = basic(&process).map(|basic| basic[5] as u32);
        found.executable = executable(&process);
        found.command_line = command_line(&process).or_else(|| {
            open(pid, PROCESS_QUERY_INFORMATION | PROCESS_VM_READ)
                .ok()
                .as_ref()
                .and_then(peb_command_line)
        });
        if let Ok(token) = security::open_token(process.as_raw_handle()) {
            found.user = security::token_user(&token).ok();
            found.session = number(&token, TokenSessionId);
            found.elevated = number(&token, TokenElevation).map(|elevated| elevated != 0);
            found.elevation_type = number(&token, TokenElevationType);
            found.integrity = integrity(&token);
        }
        Ok(found)
    }
}

/// The ids of all processes, with the names of their executables.
///
/// # Errors
/// What the system says.
pub fn all() -> io::Result<Vec<(u32, String)>> {
    // SAFETY: it takes numbers.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now and is nobody else's.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    let mut entry = PROCESSENTRY32W {
        dwSize: size_of::<PROCESSENTRY32W>() as u32,
        ..PROCESSENTRY32W::default()
    };
    let mut found = Vec::new();
    // SAFETY: the handle is open, the structure ours and as large as it says.
    let mut more = unsafe { Process32FirstW(snapshot.as_raw_handle(), &mut entry) };
    while more != 0 {
        found.push((entry.th32ProcessID, narrow(&entry.szExeFile).to_string_lossy().into_owned()));
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.as_raw_handle(), &mut entry) };
    }
    Ok(found)
}

pub(crate) fn open(pid: u32, rights: PROCESS_ACCESS_RIGHTS) -> io::Result<OwnedHandle> {
    // SAFETY: it takes numbers.
    let handle = unsafe { OpenProcess(rights, 0, pid) };
    match handle.is_null() {
        true => Err(io::Error::last_os_error()),
        // SAFETY: it was opened just now and is nobody else's.
        false => Ok(unsafe { OwnedHandle::from_raw_handle(handle) }),
    }
}

fn created(process: &OwnedHandle) -> Option<u64> {
    const NONE: FILETIME = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
    let (mut created, mut ended, mut kernel, mut user) = (NONE, NONE, NONE, NONE);
    // SAFETY: the handle is open, and the four are ours to be written.
    let done = unsafe {
        GetProcessTimes(process.as_raw_handle(), &mut created, &mut ended, &mut kernel, &mut user)
    };
    let ticks = u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime);
    (done != 0 && ticks != 0).then_some(ticks)
}

/// `PROCESS_BASIC_INFORMATION` as words: status, PEB, affinity, priority, id, parent's id.
fn basic(process: &OwnedHandle) -> Option<[usize; 6]> {
    let mut words = [0_usize; 6];
    let mut length = 0;
    // SAFETY: the handle is open, the buffer is as large as is said.
    let status = unsafe {
        NtQueryInformationProcess(
            process.as_raw_handle(),
            ProcessBasicInformation,
            words.as_mut_ptr().cast(),
            size_of_val(&words) as u32,
            &mut length,
        )
    };
    (status >= 0).then_some(words)
}

fn executable(process: &OwnedHandle) -> Option<String> {
    let mut name = vec![0_u16; 32_768];
    let mut length = name.len() as u32;
    let handle: HANDLE = process.as_raw_handle();
    // SAFETY: the handle is open, the buffer is as long as is said.
    let done = unsafe {
        QueryFullProcessImageNameW(handle, PROCESS_NAME_WIN32, name.as_mut_ptr(), &mut length)
    };
    (done != 0).then(|| narrow(&name).to_string_lossy().into_owned())
}

/// Windows 8.1 and newer tell it to whoever may ask for little.
fn command_line(process: &OwnedHandle) -> Option<String> {
    // Aligned as the `UNICODE_STRING` at its beginning.
    let mut buffer = vec![0_u64; COMMAND_LINE_MAX.div_ceil(8)];
    let bytes = buffer.len() * 8;
    let mut length = 0;
    // SAFETY: the handle is open, the buffer is as large as is said.
    let status = unsafe {
        NtQueryInformationProcess(
            process.as_raw_handle(),
            ProcessCommandLineInformation,
            buffer.as_mut_ptr().cast(),
            bytes as u32,
            &mut length,
        )
    };
    if status < 0 {
        return None;
    }
    // The text lies behind the structure, in the same buffer.
    let text = (buffer[0] & 0xffff) as usize / 2;
    // SAFETY: the buffer is that many units long, and any bits are units.
    let units = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u16>(), bytes / 2) };
    let text = units.get(8..8 + text)?;
    Some(String::from_utf16_lossy(text))
}

/// From the process's own memory (`PEB.ProcessParameters.CommandLine`), where it may be read.
fn peb_command_line(process: &OwnedHandle) -> Option<String> {
    const PARAMETERS: usize = 0x20;
    const COMMAND_LINE: usize = 0x70;
    let peb = basic(process)?[1];
    let mut word = [0_u64; 1];
    read(process, peb.checked_add(PARAMETERS)?, &mut word)?;
    let mut string = [0_u64; 2];
    read(process, usize::try_from(word[0]).ok()?.checked_add(COMMAND_LINE)?, &mut string)?;
    let mut text = vec![0_u16; (string[0] & 0xffff) as usize / 2];
    read(process, usize::try_from(string[1]).ok()?, &mut text)?;
    Some(String::from_utf16_lossy(&text))
}

/// Fills `to` with what lies at `at` in another process.
fn read<T: Copy>(process: &OwnedHandle, at: usize, to: &mut [T]) -> Option<()> {
    let mut count = 0;
    // SAFETY: the handle is open; the buffer holds numbers, for which any bits are good, and is as
    // large as is said. What is not there, or not to be read, is refused.
    let done = unsafe {
        ReadProcessMemory(
            process.as_raw_handle(),
            at as *const _,
            to.as_mut_ptr().cast(),
            size_of_val(to),
            &mut count,
        )
    };
    (done != 0 && count == size_of_val(to)).then_some(())
}

fn number(token: &OwnedHandle, class: TOKEN_INFORMATION_CLASS) -> Option<u32> {
    let (mut value, mut length) = (0_u32, 0);
    // SAFETY: the token is open, the number is ours and as large as is said.
    let done = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            class,
            (&raw mut value).cast(),
            size_of::<u32>() as u32,
            &mut length,
        )
    };
    (done != 0).then_some(value)
}

/// The last number of the label's SID (`S-1-16-8192`).
fn integrity(token: &OwnedHandle) -> Option<u32> {
    // `TOKEN_MANDATORY_LABEL` and the SID behind it, 68 bytes at most.
    let mut buffer = [0_u64; 16];
    let mut length = 0;
    // SAFETY: the token is open, the buffer is as large as is said.
    let done = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenIntegrityLevel,
            buffer.as_mut_ptr().cast(),
            size_of_val(&buffer) as u32,
            &mut length,
        )
    };
    if done == 0 {
        return None;
    }
    let begin = buffer.as_ptr() as usize;
    let at = usize::try_from(buffer[0]).ok()?.checked_sub(begin)?;
    // SAFETY: any bits are bytes.
    let bytes =
        unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), size_of_val(&buffer)) };
    let sid = bytes.get(at..)?;
    let count = usize::from(*sid.get(1)?);
    let last = sid.get(8 + 4 * count.checked_sub(1)?..)?.first_chunk()?;
    Some(u32::from_le_bytes(*last))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_tells_what_it_is() {
        let mut child = Command::new("cmd.exe")
            .args(["/c", "set /p fim_waits= & rem a word"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let found = Process::look(child.id()).unwrap();
        let listed = all().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let line = found.command_line.as_deref().unwrap();
        assert!(line.contains("fim_waits") && line.ends_with("a word\""), "{line}");
        let executable = found.executable.as_deref().unwrap().to_lowercase();
        assert!(executable.ends_with(r"\cmd.exe") && executable.starts_with("c:"), "{executable}");
        assert_eq!(found.user, Some(security::own_sid().unwrap()));
        assert_eq!(found.parent, Some(std::process::id()));
        assert!(found.created.unwrap() > 130_000_000_000_000_000);
        assert!(found.session.is_some() && found.elevated.is_some(), "{found:?}");
        assert!(found.integrity.is_some_and(|level| level >= 0x1000), "{found:?}");
        let name = listed.iter().find(|(pid, _)| *pid == child.id()).map(|(_, name)| &**name);
        assert!(name.is_some_and(|name| name.eq_ignore_ascii_case("cmd.exe")), "{listed:?}");
        assert!(Process::look(0x7fff_fff0).is_err());
    }
}
