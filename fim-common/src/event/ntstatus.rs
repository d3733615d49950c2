//! Names of the NTSTATUS values with which operations on files and keys fail.

/// The name of a status (`STATUS_ACCESS_DENIED`); its digits (`0xC0000123`) where it is not known
/// here.
pub(super) fn name(status: u32) -> String {
    // ntstatus.h.
    const NAMES: [(u32, &str); 33] = [
        (0x8000_0005, "STATUS_BUFFER_OVERFLOW"),
        (0xC000_0001, "STATUS_UNSUCCESSFUL"),
        (0xC000_0008, "STATUS_INVALID_HANDLE"),
        (0xC000_000D, "STATUS_INVALID_PARAMETER"),
        (0xC000_000F, "STATUS_NO_SUCH_FILE"),
        (0xC000_0010, "STATUS_INVALID_DEVICE_REQUEST"),
        (0xC000_0011, "STATUS_END_OF_FILE"),
        (0xC000_0022, "STATUS_ACCESS_DENIED"),
        (0xC000_0033, "STATUS_OBJECT_NAME_INVALID"),
        (0xC000_0034, "STATUS_OBJECT_NAME_NOT_FOUND"),
        (0xC000_0035, "STATUS_OBJECT_NAME_COLLISION"),
        (0xC000_003A, "STATUS_OBJECT_PATH_NOT_FOUND"),
        (0xC000_0043, "STATUS_SHARING_VIOLATION"),
        (0xC000_0044, "STATUS_QUOTA_EXCEEDED"),
        (0xC000_0054, "STATUS_FILE_LOCK_CONFLICT"),
        (0xC000_0056, "STATUS_DELETE_PENDING"),
        (0xC000_0061, "STATUS_PRIVILEGE_NOT_HELD"),
        (0xC000_007F, "STATUS_DISK_FULL"),
        (0xC000_0098, "STATUS_FILE_INVALID"),
        (0xC000_009A, "STATUS_INSUFFICIENT_RESOURCES"),
        (0xC000_00A2, "STATUS_MEDIA_WRITE_PROTECTED"),
        (0xC000_00BA, "STATUS_FILE_IS_A_DIRECTORY"),
        (0xC000_00BB, "STATUS_NOT_SUPPORTED"),
        (0xC000_00D4, "STATUS_NOT_SAME_DEVICE"),
        (0xC000_0101, "STATUS_DIRECTORY_NOT_EMPTY"),
        (0xC000_0103, "STATUS_NOT_A_DIRECTORY"),
        (0xC000_0120, "STATUS_CANCELLED"),
        (0xC000_0121, "STATUS_CANNOT_DELETE"),
        (0xC000_0123, "STATUS_FILE_DELETED"),
        (0xC000_017C, "STATUS_KEY_DELETED"),
        (0xC000_0185, "STATUS_IO_DEVICE_ERROR"),
        (0xC000_0188, "STATUS_LOG_FILE_FULL"),
        (0xC000_0265, "STATUS_TOO_MANY_LINKS"),
    ];
    let name = NAMES.iter().find(|(number, _)| *number == status).map(|(_, name)| *name);
    name.map_or_else(|| format!("0x{status:08X}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use crate::event::errno_name;

    #[test]
    fn a_status_is_no_errno() {
        assert_eq!(errno_name(0xC000_0022_u32 as i32), "STATUS_ACCESS_DENIED");
        assert_eq!(errno_name(0xC0FF_EE00_u32 as i32), "0xC0FFEE00");
        assert_eq!(errno_name(13), "EACCES");
    }
}
