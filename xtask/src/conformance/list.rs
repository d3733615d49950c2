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
        text: "Told of another process or besides, when several are made at a time; with fanotify \
               not told. The first varies from run to run.",
    },
    Reason {
        section: "Names outside the watched trees",
        text: "Not told, or without the name that was used.",
    },
    Reason { section: "Whiteouts", text: "The device that is left behind is not told." },
    Reason {
        section: "Devices of btrfs",
        text: "The device is another one than stat(2) shows, and content has no hash.",
    },
    Reason { section: "ACLs of xfs", text: "An ACL is told as an extended attribute as well." },
    Reason { section: "rmdir on 5.10", text: "The watched function is not called." },
    Reason {
        section: "Preallocation on tmpfs",
        text: "The modification time stays, so nothing tells of it.",
    },
    Reason {
        section: "Slow writers on 7.x",
        text: "Where writing takes long, the last hash is missing. Varies from run to run.",
    },
    Reason {
        section: "Renames that cross",
        text: "One half may be told as a rename over the other. Varies from run to run.",
    },
    Reason {
        section: "Unnamed files",
        text: "The content may be told once more. Varies from run to run.",
    },
    Reason {
        section: "File systems without handles",
        text: "fanotify cannot watch it on this kernel; the log says so at the start.",
    },
    Reason {
        section: "Directories marked one by one",
        text: "fanotify knows the watched side only.",
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
    Known { grade, backends: "bpf", ops, file_systems, kernels, why, varies: false }
}

/// Cells of the other one.
const fn fanotify(
    grade: Grade,
    why: &'static str,
    ops: &'static str,
    file_systems: &'static str,
    kernels: &'static str,
) -> Known {
    Known { grade, backends: "fanotify", ops, file_systems, kernels, why, varies: false }
}

/// Cells of both: what a file system lacks it lacks for all.
const fn lacks(ops: &'static str, file_systems: &'static str, kernels: &'static str) -> Known {
    let why = "No such operation";
    Known { grade: NotApplicable, backends: "*", ops, file_systems, kernels, why, varies: false }
}

/// Cells that may be exact as well.
const fn varying(known: Known) -> Known {
    Known { varies: true, ..known }
}

const FLAGS: &str = "setflags_* fssetxattr_*";
const MOUNTS: &str = "mount_* umount change_below_*";
/// What writes to a file that is open.
const CONTENT: &str = "write append pwrite writev pwritev2 mmap_* io_uring_* splice sendfile \
                       copy_file_range fallocate_*";
/// What is told with the state of a file that is still there, or with its content.
const STATE: &str = "* !mknod_* !mkdir !symlink !open_for_writing_only !read !fideduperange \
                     !unlink* !rmdir* !rename_out !link_out !tree_moved_out !mount_* !umount \
                     !change_below_mount !denied_* !immutable_* !read_only_*";
/// What is to be told: the rest is right when nothing comes.
const TOLD: &str = "* !open_for_writing_only !read !fideduperange !denied_* !immutable_* \
                    !rmdir_not_empty !read_only_*";

/// The first entry that fits a cell counts.
pub(crate) static LIST: &[Known] = &[
    lacks("ficlone ficlonerange fideduperange", "tmpfs ext4 overlayfs", "*"),
    lacks("fallocate_zero_range fallocate_collapse_range fallocate_insert_range", "tmpfs", "*"),
    lacks("fallocate_collapse_range fallocate_insert_range", "btrfs", "*"),
    lacks("setxattr_user", "tmpfs", "5.10 6.1"),
    lacks("setflags_* fssetxattr_* immutable_*", "tmpfs", "5.10"),
    lacks("o_tmpfile_linkat", "overlayfs", "5.10 6.1"),
    lacks("rename_whiteout", "overlayfs", "*"),
    bpf(Missed, "Flags of inodes", FLAGS, "ext4 xfs btrfs", "5.10"),
    bpf(Missed, "Flags of inodes", "setflags_directory", "overlayfs", "5.10"),
    bpf(Missed, "rmdir on 5.10", "rmdir rmdir_not_empty", "*", "5.10"),
    bpf(Missed, "Preallocation on tmpfs", "fallocate_extend", "tmpfs", "5.10"),
    bpf(Partial, "Devices of btrfs", STATE, "btrfs", "*"),
    bpf(Partial, "ACLs of xfs", "acl_*", "xfs", "*"),
    bpf(
        Partial,
        "Names outside the watched trees",
        "link_in_write_outside",
        "tmpfs ext4",
        "5.10 6.1 6.12 6.18",
    ),
    varying(bpf(Partial, "Slow writers on 7.x", CONTENT, "*", "7.x")),
    bpf(Partial, "Whiteouts", "rename_whiteout", "*", "*"),
    varying(bpf(Partial, "Mounts", MOUNTS, "*", "*")),
    fanotify(Missed, "File systems without handles", TOLD, "tmpfs overlayfs", "5.10"),
    fanotify(Missed, "File systems without handles", "change_below_mount", "*", "5.10"),
    fanotify(Partial, "Mounts", "change_below_mount", "*", "*"),
    fanotify(Missed, "File systems without handles", TOLD, "overlayfs", "6.1"),
    fanotify(
        Missed,
        "Directories marked one by one",
        "rename_out link link_in link_in_write_outside tree_moved_out change_below_bind_mount",
        "overlayfs",
        "*",
    ),
    fanotify(
        Partial,
        "Directories marked one by one",
        "rename_in rename_in_over tree_moved_in",
        "overlayfs",
        "*",
    ),
    fanotify(Missed, "Flags of inodes", FLAGS, "*", "5.10 6.1 6.12 6.18"),
    fanotify(
        Missed,
        "Names outside the watched trees",
        "link_out link_out_* write_by_name_outside chmod_by_name_outside",
        "*",
        "*",
    ),
    fanotify(Partial, "Names outside the watched trees", "link_in_write_outside", "*", "*"),
    fanotify(Partial, "Whiteouts", "rename_whiteout", "*", "*"),
    fanotify(Partial, "ACLs of xfs", "acl_*", "xfs", "*"),
    fanotify(Missed, "Mounts", "mount_* umount", "*", "*"),
    fanotify(Partial, "Mounts", "change_below_bind_mount", "*", "*"),
    varying(fanotify(Partial, "Renames that cross", "rename_exchange", "*", "*")),
    varying(fanotify(Partial, "Unnamed files", "o_tmpfile_linkat", "*", "*")),
];
