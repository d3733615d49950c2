//! What this machine and this process are.

use windows_sys::Win32::System::SystemInformation::{
    ComputerNamePhysicalDnsHostname, GetComputerNameExW, GetTickCount64,
};

use crate::text::narrow;

/// The computer's name in DNS.
pub fn computer_name() -> Option<String> {
    let mut name = [0_u16; 256];
    let mut length = name.len() as u32;
    // SAFETY: the buffer is as long as is said.
    let done = unsafe {
        GetComputerNameExW(ComputerNamePhysicalDnsHostname, name.as_mut_ptr(), &mut length)
    };
    (done != 0).then(|| narrow(&name).to_string_lossy().into_owned())
}

/// How long the system has been running.
pub fn uptime() -> std::time::Duration {
    // SAFETY: it takes nothing.
    std::time::Duration::from_millis(unsafe { GetTickCount64() })
}
