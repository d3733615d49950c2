//! Extended attributes of one object, sorted into ACL, capabilities and the rest.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{fgetxattr, flistxattr, getxattr, listxattr};
use rustix::io::Errno;

use super::{acl, capability};

/// The kernel's own limits: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const MAXIMUM: usize = 65_536;
/// First attempt, on the stack: one SELinux label and one ACL fit many times over.
const USUAL: usize = 1_024;

/// Where to read them.
pub(super) enum Source<'a> {
    /// A descriptor that is open for reading.
    Descriptor(BorrowedFd<'a>),
    /// The magic link of an `O_PATH` descriptor, on which fgetxattr(2) fails with EBADF. It leads
    /// to the object itself, also when that is a symbolic link.
    Proc(String),
}

impl Source<'_> {
    pub(super) fn proc(fd: BorrowedFd<'_>) -> Self {
        Self::Proc(format!("/proc/self/fd/{}", fd.as_raw_fd()))
    }

    fn list(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Descriptor(fd) => flistxattr(fd, buffer),
            Self::Proc(path) => listxattr(path.as_str(), buffer),
        }
    }

    fn value(&self, name: &CStr, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Descriptor(fd) => fgetxattr(fd, name, buffer),
            Self::Proc(path) => getxattr(path.as_str(), name, buffer),
        }
    }
}

/// As in [`crate::state::ObjectState`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) acl: Option<Vec<String>>,
    pub(super) xattrs: Option<BTreeMap<String, String>>,
    pub(super) capabilities: Option<String>,
}

impl Attributes {
    fn none() -> Self {
        Self {
            acl: Some(Vec::new()),
            xattrs: Some(BTreeMap::new()),
            capabilities: Some(String::new()),
        }
    }

    /// Whether the object is known to have none at all.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::none()
    }
}

/// Reads all of them. One listxattr(2) is all it costs for an object without any: ACLs and
/// capabilities are in the list too.
pub(super) fn read(source: &Source<'_>) -> Attributes {
    let mut small = [0_u8; USUAL];
    let large;
    let names = match source.list(&mut small) {
        Ok(length) => &small[..length],
        Err(Errno::RANGE) => {
            let mut buffer = vec![0_u8; MAXIMUM];
            match source.list(&mut buffer) {
                Ok(length) => {
                    buffer.truncate(length);
                    large = buffer;
                    &large[..]
                }
                Err(_) => return Attributes::default(),
            }
        }
        Err(Errno::NOTSUP | Errno::NOSYS) => return Attributes::none(),
        // EACCES, or no /proc: not known.
        Err(_) => return Attributes::default(),
    };

    let mut attributes = Attributes::none();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // How xfs keeps an ACL (fs/xfs/libxfs/xfs_format.h), which it shows to root besides.
        if name.to_bytes().starts_with(b"trusted.SGI_ACL_") {
            continue;
        }
        match value(source, name) {
            Ok(value) => attributes.add(name, &value),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(_) => attributes.forget(name),
        }
    }
    if let Some(acl) = &mut attributes.acl {
        // The default ACL of a directory may be listed before its access ACL.
        acl.sort_by_key(|entry| entry.starts_with("default:"));
    }
    attributes
}

fn value(source: &Source<'_>, name: &CStr) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0_u8; USUAL];
    match source.value(name, &mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut buffer = vec![0_u8; MAXIMUM];
            let length = source.value(name, &mut buffer)?;
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(error) => Err(error),
    }
}

impl Attributes {
    fn add(&mut self, name: &CStr, value: &[u8]) {
        let entries = match name.to_bytes() {
            acl::ACCESS => acl::text(value, ""),
            acl::DEFAULT => acl::text(value, "default:"),
            capability::NAME => {
                if let Some(text) = capability::text(value) {
                    self.capabilities = Some(text);
                    return;
                }
                None
            }
            _ => None,
        };
        match entries {
            Some(entries) => {
                if let Some(acl) = &mut self.acl {
                    acl.extend(entries);
                }
            }
            // Also what should be an ACL or a capability and is in no format we know.
            None => {
                if let Some(xattrs) = &mut self.xattrs {
                    xattrs.insert(name.to_string_lossy().into_owned(), STANDARD.encode(value));
                }
            }
        }
    }

    /// An attribute that is there but cannot be read makes its kind unknown.
    fn forget(&mut self, name: &CStr) {
        match name.to_bytes() {
            acl::ACCESS | acl::DEFAULT => self.acl = None,
            capability::NAME => self.capabilities = None,
            _ => self.xattrs = None,
        }
    }
}
