//! The list itself.

use crate::conformance::{
    cell::Grade::{self, Missed, NotApplicable, Partial},
    known::{Known, Reason},
};

/// In the order of `docs/limitations.md`.
pub(crate) static REASONS: &[Reason] = &[
    Reason {
        section: "No such operation",
        text: "The kernel or the file system does not have it.",
    },
    Reason { section: "Flags of inodes", text: "chattr is not seen." },
    Reason {
        section: "Mounts",
        text: "Mounts are not reported, and what is mounted later is not watched.",
    },
    Reason { section: "Attempts that fail", text: "Only what succeeds is told." },
    Reason {
        section: "Names outside the watched trees",
        text: "A name that is not watched does not lead to the one that is.",
    },
    Reason {
        section: "Trees that are moved",
        text: "What lies in the directory is not told, or found by comparison.",
    },
    Reason { section: "Whiteouts", text: "The device that is left behind is not told." },
    Reason {
        section: "Devices of btrfs",
        text: "The device is another one than stat(2) shows, and content has no hash.",
    },
    Reason {
        section: "Content on overlayfs",
        text: "The file of the upper layer is told as well, and content has no hash.",
    },
    Reason { section: "ACLs of xfs", text: "An ACL is told as an extended attribute as well." },
    Reason { section: "rmdir on 5.10", text: "The watched function is never called." },
    Reason {
        section: "Preallocation on tmpfs",
        text: "The modification time stays, so nothing tells of it.",
    },
];

/// Cells of one backend.
const fn bpf(
    grade: Grade,
    why: &'static str,
    ops: &'static str,
    file_systems: &'static str,
    kernels: &'static str,
) -> Known {
    Known { grade, backends: "bpf", ops, file_systems, kernels, why }
}

/// Cells of both: what a file system lacks it lacks for all.
const fn lacks(ops: &'static str, file_systems: &'static str, kernels: &'static str) -> Known {
    let why = "No such operation";
    Known { grade: NotApplicable, backends: "*", ops, file_systems, kernels, why }
}

/// What writes to a file that is open.
const CONTENT: &str = "write append pwrite writev pwritev2 mmap_* io_uring_* splice sendfile \
                       ftruncate open_o_trunc copy_file_range ficlone ficlonerange fallocate_* \
                       capability_stripped_by_write";
/// What is told with the state of a file that is still there.
const STATE: &str = "create create_write create_io_uring o_tmpfile_linkat truncate chmod fchmod \
                     chmod_directory chown utimensat setxattr_* removexattr acl_* capability_* \
                     rename rename_io_uring rename_into_a_directory rename_over rename_exchange \
                     rename_in rename_in_over link link_in tree_moved_within";

/// The first entry that fits a cell counts.
pub(crate) static LIST: &[Known] = &[
    lacks("ficlone ficlonerange fideduperange", "tmpfs ext4 overlayfs", "*"),
    lacks("fallocate_zero_range fallocate_collapse_range fallocate_insert_range", "tmpfs", "*"),
    lacks("fallocate_collapse_range fallocate_insert_range", "btrfs", "*"),
    lacks("setxattr_user", "tmpfs", "5.10 6.1"),
    lacks("setflags_* fssetxattr_* immutable_*", "tmpfs", "5.10"),
    lacks("o_tmpfile_linkat", "overlayfs", "5.10 6.1"),
    lacks("rename_whiteout", "overlayfs", "*"),
    bpf(Missed, "Flags of inodes", "setflags_* fssetxattr_*", "*", "*"),
    bpf(Missed, "Mounts", "mount_* umount change_below_*", "*", "*"),
    bpf(Missed, "Attempts that fail", "denied_* immutable_* rmdir_not_empty read_only_*", "*", "*"),
    bpf(
        Missed,
        "Names outside the watched trees",
        "link_out link_out_* write_by_name_outside chmod_by_name_outside",
        "*",
        "*",
    ),
    bpf(Partial, "Names outside the watched trees", "link_in_write_outside", "*", "*"),
    bpf(Partial, "Trees that are moved", "tree_moved_in tree_moved_out", "*", "*"),
    bpf(Partial, "Whiteouts", "rename_whiteout", "*", "*"),
    bpf(Partial, "ACLs of xfs", "acl_*", "xfs", "*"),
    bpf(Partial, "Devices of btrfs", CONTENT, "btrfs", "*"),
    bpf(Partial, "Devices of btrfs", STATE, "btrfs", "*"),
    bpf(Partial, "Content on overlayfs", CONTENT, "overlayfs", "5.10 6.1"),
    bpf(Partial, "Content on overlayfs", "tree_moved_within", "overlayfs", "5.10"),
    bpf(Missed, "rmdir on 5.10", "rmdir", "*", "5.10"),
    bpf(Missed, "Preallocation on tmpfs", "fallocate_extend", "tmpfs", "5.10"),
];
