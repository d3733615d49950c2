//! Security descriptors and security identifiers (SIDs).

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, HANDLE};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, ConvertSidToStringSidW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, ConvertStringSidToSidW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT, SE_OBJECT_TYPE,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GROUP_SECURITY_INFORMATION, GetTokenInformation, LookupAccountSidW,
    OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SID_NAME_USE, SetFileSecurityW,
    TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use crate::text::{Local, from_pointer, narrow, wide};

/// Owner, group and DACL; the SACL needs a privilege that agents do not have.
const PARTS: u32 =
    OWNER_SECURITY_INFORMATION | GROUP_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;

/// Owner, group and DACL of an open file or directory in SDDL. The handle needs `READ_CONTROL`.
///
/// # Errors
/// What the system says.
pub fn of_file(file: &File) -> io::Result<String> {
    of_handle(file.as_raw_handle(), SE_FILE_OBJECT)
}

/// The same for a handle of another kind, which is to be valid: otherwise an error comes back.
pub(crate) fn of_handle(handle: HANDLE, kind: SE_OBJECT_TYPE) -> io::Result<String> {
    let mut descriptor: PSECURITY_DESCRIPTOR = std::ptr::null_mut();
    // SAFETY: the parts within the descriptor are not asked for, and the descriptor is ours to
    // free. A handle that is none is refused.
    let code = unsafe {
        GetSecurityInfo(
            handle,
            kind,
            PARTS,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &mut descriptor,
        )
    };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code.cast_signed()));
    }
    let descriptor = Local(descriptor);
    sddl(&descriptor)
}

fn sddl(descriptor: &Local) -> io::Result<String> {
    let mut text = std::ptr::null_mut();
    // SAFETY: the descriptor is a whole one, the text is ours to free.
    let done = unsafe {
        ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor.0,
            SDDL_REVISION_1,
            PARTS,
            &mut text,
            std::ptr::null_mut(),
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let owned = Local(text.cast());
    // SAFETY: the function that made it ends it with a NUL.
    let text = unsafe { from_pointer(owned.0.cast()) };
    Ok(text.unwrap_or_default().to_string_lossy().into_owned())
}

/// Sets the DACL of a file or directory to that of `sddl`; what is below inherits it from then on.
///
/// # Errors
/// What the system says, of the text too.
pub fn set_dacl(path: &Path, text: &str) -> io::Result<()> {
    let (path, text) = (wide(path.as_os_str())?, wide(OsString::from(text).as_os_str())?);
    let mut descriptor: PSECURITY_DESCRIPTOR = std::ptr::null_mut();
    // SAFETY: the text ends with a NUL; the descriptor is ours to free.
    let parsed = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &mut descriptor,
            std::ptr::null_mut(),
        )
    };
    if parsed == 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = Local(descriptor);
    // SAFETY: the path ends with a NUL, the descriptor is a whole one.
    let done = unsafe { SetFileSecurityW(path.as_ptr(), DACL_SECURITY_INFORMATION, descriptor.0) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whose this process is, as `S-1-5-…`.
///
/// # Errors
/// What the system says.
pub fn own_sid() -> io::Result<String> {
    // SAFETY: the pseudo handle is always valid.
    let process = unsafe { GetCurrentProcess() };
    token_user(&open_token(process)?)
}

/// The token of a process, which is to be opened with the right to query it.
pub(crate) fn open_token(process: HANDLE) -> io::Result<OwnedHandle> {
    let mut token: HANDLE = std::ptr::null_mut();
    // SAFETY: the token is ours to close; a handle that is none is refused.
    if unsafe { OpenProcessToken(process, TOKEN_QUERY, &mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now and is nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// The user of a token.
pub(crate) fn token_user(token: &OwnedHandle) -> io::Result<String> {
    // A SID has 68 bytes at most; aligned as the structure in front of it.
    let mut buffer = [0_u64; 32];
    let mut length = 0;
    // SAFETY: the buffer is as long as is said.
    let done = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            buffer.as_mut_ptr().cast(),
            size_of_val(&buffer) as u32,
            &mut length,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the function has put the structure there, and its SID behind it.
    let user = unsafe { &*buffer.as_ptr().cast::<TOKEN_USER>() };
    text_of(user.User.Sid)
}

fn text_of(sid: PSID) -> io::Result<String> {
    let mut text = std::ptr::null_mut();
    // SAFETY: callers have a SID of the system's; the text is ours to free.
    if unsafe { ConvertSidToStringSidW(sid, &mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let owned = Local(text.cast());
    // SAFETY: the function that made it ends it with a NUL.
    let text = unsafe { from_pointer(owned.0.cast()) };
    Ok(text.unwrap_or_default().to_string_lossy().into_owned())
}

/// An account's name and where it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The computer or domain.
    pub domain: String,
    /// The name in it.
    pub name: String,
}

/// The account that a SID in text (`S-1-5-18`) stands for. May ask a domain controller, which
/// takes as long as the network does.
///
/// # Errors
/// What the system says: `ERROR_NONE_MAPPED` for a SID that nobody knows.
pub fn account(sid: &str) -> io::Result<Account> {
    let text = wide(OsString::from(sid).as_os_str())?;
    let mut parsed: PSID = std::ptr::null_mut();
    // SAFETY: the text ends with a NUL; the SID is ours to free.
    if unsafe { ConvertStringSidToSidW(text.as_ptr(), &mut parsed) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let parsed = Local(parsed);
    let (mut name, mut domain) = (vec![0_u16; 64], vec![0_u16; 64]);
    loop {
        let (mut names, mut domains) = (name.len() as u32, domain.len() as u32);
        let mut kind: SID_NAME_USE = 0;
        // SAFETY: the SID is whole, the buffers are as long as is said.
        let done = unsafe {
            LookupAccountSidW(
                std::ptr::null(),
                parsed.0,
                name.as_mut_ptr(),
                &mut names,
                domain.as_mut_ptr(),
                &mut domains,
                &mut kind,
            )
        };
        if done != 0 {
            let text = |wide: &[u16]| narrow(wide).to_string_lossy().into_owned();
            return Ok(Account { domain: text(&domain), name: text(&name) });
        }
        let error = io::Error::last_os_error();
        let small = error.raw_os_error() == Some(ERROR_INSUFFICIENT_BUFFER.cast_signed());
        let grows = names as usize > name.len() || domains as usize > domain.len();
        if !(small && grows) {
            return Err(error);
        }
        name.resize((names as usize).max(name.len()), 0);
        domain.resize((domains as usize).max(domain.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_names() {
        assert_eq!(account("S-1-5-18").unwrap().name.to_uppercase(), "SYSTEM");
        let own = own_sid().unwrap();
        assert!(own.starts_with("S-1-5-21-"), "{own}");
        assert!(!account(&own).unwrap().name.is_empty());
        assert!(account("S-1-5-21-1-2-3-4").is_err());
        assert!(account("nobody").is_err());
    }

    #[test]
    fn a_file_tells_owner_and_dacl() {
        let path = std::env::temp_dir().join(format!("fim-win32-acl-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let text = of_file(&File::open(&path).unwrap()).unwrap();
        assert!(text.starts_with("O:") && text.contains("D:"), "{text}");
        set_dacl(&path, "D:P(A;;FA;;;BA)(A;;FA;;;SY)").unwrap();
        assert!(set_dacl(&path, "no descriptor").is_err());
        std::fs::remove_file(&path).ok();
    }
}
