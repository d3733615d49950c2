//! Files and volumes.

use std::fs::File;
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::{FILETIME, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_NAME_NORMALIZED, FileBasicInfo, FindFirstVolumeW,
    FindNextVolumeW, FindVolumeClose, GetDiskFreeSpaceExW, GetFileInformationByHandle,
    GetFileInformationByHandleEx, GetFinalPathNameByHandleW, GetLongPathNameW,
    GetVolumePathNamesForVolumeNameW, QueryDosDeviceW,
};

use crate::text::{narrow, wide};

/// What a file's handle tells of it. Times are 100 ns ticks since 1601-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Information {
    /// `FILE_ATTRIBUTE_*`.
    pub attributes: u32,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub created: u64,
    /// Last write of content.
    pub written: u64,
    /// Last change of content or metadata; `None` where the file system does not keep it (FAT).
    pub changed: Option<u64>,
    /// The volume's serial number.
    pub volume: u64,
    /// The file's number on its volume; of the 128 bits of ReFS the lower half.
    pub index: u64,
    /// Number of names.
    pub links: u32,
}

/// Asks the system about an open file or directory.
///
/// # Errors
/// What the system says.
pub fn information(file: &File) -> io::Result<Information> {
    let handle = file.as_raw_handle();
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open as long as `file` is borrowed, and the structure is ours.
    if unsafe { GetFileInformationByHandle(handle, &mut found) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut basic = FILE_BASIC_INFO::default();
    // SAFETY: as above; the size is that of the structure.
    let has_basic = unsafe {
        GetFileInformationByHandleEx(
            handle,
            FileBasicInfo,
            (&raw mut basic).cast(),
            size_of::<FILE_BASIC_INFO>() as u32,
        )
    } != 0;
    let changed = has_basic.then(|| basic.ChangeTime.cast_unsigned()).filter(|ticks| *ticks != 0);
    Ok(Information {
        attributes: found.dwFileAttributes,
        size: join(found.nFileSizeHigh, found.nFileSizeLow),
        created: ticks(found.ftCreationTime),
        written: ticks(found.ftLastWriteTime),
        changed,
        volume: u64::from(found.dwVolumeSerialNumber),
        index: join(found.nFileIndexHigh, found.nFileIndexLow),
        links: found.nNumberOfLinks,
    })
}

/// The path as the disk spells it, without links in it (`GetFinalPathNameByHandleW`).
///
/// # Errors
/// What the system says, `NotFound` among it.
pub fn spelled(path: &Path) -> io::Result<PathBuf> {
    const READ_ATTRIBUTES: u32 = 0x80;
    let file = std::fs::OpenOptions::new()
        .access_mode(READ_ATTRIBUTES)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)?;
    let mut name = vec![0_u16; 512];
    loop {
        // SAFETY: the handle is open, the buffer is as long as is said.
        let length = unsafe {
            GetFinalPathNameByHandleW(
                file.as_raw_handle(),
                name.as_mut_ptr(),
                name.len() as u32,
                FILE_NAME_NORMALIZED,
            )
        } as usize;
        if length == 0 {
            return Err(io::Error::last_os_error());
        }
        if length < name.len() {
            let whole = narrow(&name);
            return Ok(plain(&whole.to_string_lossy()).map_or(PathBuf::from(whole), PathBuf::from));
        }
        name.resize(length + 1, 0);
    }
}

/// Without the mark that a path is to be taken as it is.
fn plain(path: &str) -> Option<String> {
    match path.strip_prefix(r"\\?\UNC\") {
        Some(share) => Some(format!(r"\\{share}")),
        None => path.strip_prefix(r"\\?\").map(str::to_owned),
    }
}

/// Drives, and directories at which volumes are mounted, with the devices that they are:
/// (`C:`, `\\Device\\HarddiskVolume3`), (`D:\\mnt`, `\\Device\\HarddiskVolume5`).
pub fn devices() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for letter in 'A'..='Z' {
        let drive = format!("{letter}:");
        if let Some(device) = device_of(&drive) {
            found.push((drive, device));
        }
    }
    for (place, device) in mounted() {
        if !found.iter().any(|(_, known)| *known == device) {
            found.push((place, device));
        }
    }
    found
}

/// The device that an MS-DOS name stands for.
fn device_of(name: &str) -> Option<String> {
    let name = wide(std::ffi::OsStr::new(name)).ok()?;
    let mut device = [0_u16; 1024];
    // SAFETY: the name ends with a NUL, the buffer is as long as is said.
    let length =
        unsafe { QueryDosDeviceW(name.as_ptr(), device.as_mut_ptr(), device.len() as u32) };
    (length > 0).then(|| narrow(&device).to_string_lossy().into_owned())
}

/// Volumes at directories or drives, with their devices.
fn mounted() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut volume = [0_u16; 64];
    // SAFETY: the buffer is as long as is said.
    let search = unsafe { FindFirstVolumeW(volume.as_mut_ptr(), volume.len() as u32) };
    if search == INVALID_HANDLE_VALUE {
        return found;
    }
    loop {
        found.extend(places_of(&volume));
        // SAFETY: the search is open, the buffer is as long as is said.
        if unsafe { FindNextVolumeW(search, volume.as_mut_ptr(), volume.len() as u32) } == 0 {
            break;
        }
    }
    // SAFETY: it was opened above and is closed once.
    unsafe { FindVolumeClose(search) };
    found
}

/// Where a volume (`\\\\?\\Volume{…}\\`, with a NUL) is found: the first place, and its device.
fn places_of(volume: &[u16]) -> Option<(String, String)> {
    let mut places = vec![0_u16; 4096];
    let mut length = 0;
    // SAFETY: the name ends with a NUL, the buffer is as long as is said.
    let done = unsafe {
        GetVolumePathNamesForVolumeNameW(
            volume.as_ptr(),
            places.as_mut_ptr(),
            places.len() as u32,
            &mut length,
        )
    };
    let place = narrow(&places).to_string_lossy().into_owned();
    if done == 0 || place.is_empty() {
        return None;
    }
    let name = narrow(volume).to_string_lossy().into_owned();
    let device = device_of(name.strip_prefix(r"\\?\")?.trim_end_matches('\\'))?;
    Some((place.trim_end_matches('\\').to_owned(), device))
}

/// The path with long names in place of short ones (`RUNNER~1`).
///
/// # Errors
/// What the system says, `NotFound` among it.
pub fn long_name(path: &str) -> io::Result<String> {
    let short = wide(std::ffi::OsStr::new(path))?;
    let mut long = vec![0_u16; 512];
    loop {
        // SAFETY: the name ends with a NUL, the buffer is as long as is said.
        let length =
            unsafe { GetLongPathNameW(short.as_ptr(), long.as_mut_ptr(), long.len() as u32) }
                as usize;
        match length {
            0 => return Err(io::Error::last_os_error()),
            length if length < long.len() => {
                return Ok(narrow(&long).to_string_lossy().into_owned());
            }
            length => long.resize(length + 1, 0),
        }
    }
}

/// Bytes that the calling user may still write to the volume of a directory.
///
/// # Errors
/// What the system says.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let name = wide(directory.as_os_str())?;
    let mut free = 0_u64;
    // SAFETY: the name ends with a NUL; the other two results may be null.
    let done = unsafe {
        GetDiskFreeSpaceExW(name.as_ptr(), &mut free, std::ptr::null_mut(), std::ptr::null_mut())
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(free) }
}

fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn ticks(time: FILETIME) -> u64 {
    join(time.dwHighDateTime, time.dwLowDateTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_are_one_file() {
        let path = std::env::temp_dir().join(format!("fim-win32-{}", std::process::id()));
        std::fs::write(&path, "twelve bytes").unwrap();
        let other = path.with_extension("second");
        std::fs::hard_link(&path, &other).unwrap();
        let one = information(&File::open(&path).unwrap()).unwrap();
        let two = information(&File::open(&other).unwrap()).unwrap();
        assert_eq!((one.volume, one.index, one.links), (two.volume, two.index, 2));
        assert_eq!(one.size, 12);
        assert!(one.written > 130_000_000_000_000_000, "{one:?}");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&other).unwrap();
    }

    #[test]
    fn a_path_is_spelled_as_on_disk() {
        let directory = std::env::temp_dir().join(format!("fim-Win32-Case-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let lower = directory.to_string_lossy().to_lowercase();
        let found = spelled(Path::new(&lower)).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        assert_eq!(found.file_name(), directory.file_name());
        assert!(spelled(Path::new(&lower)).is_err());
        assert_eq!(plain(r"\\?\UNC\srv\x").as_deref(), Some(r"\\srv\x"));
    }

    #[test]
    fn drives_are_devices() {
        let found = devices();
        let c = found.iter().find(|(drive, _)| drive == "C:");
        assert!(c.is_some_and(|(_, device)| device.starts_with(r"\Device\")), "{found:?}");
        let all = mounted();
        assert!(
            all.iter().any(|(place, device)| place == "C:" && Some(device) == c.map(|c| &c.1)),
            "{all:?}"
        );
    }

    #[test]
    fn names_become_long() {
        let there = std::env::temp_dir();
        let path = there.to_str().unwrap();
        assert!(long_name(path).is_ok_and(|long| long.len() >= path.trim_end_matches('\\').len()));
        assert!(long_name(r"Q:\nothing\there").is_err());
    }

    #[test]
    fn a_volume_has_room() {
        assert!(free_bytes(&std::env::temp_dir()).unwrap() > 0);
        assert!(free_bytes(Path::new(r"Q:\nothing\there")).is_err());
    }
}
