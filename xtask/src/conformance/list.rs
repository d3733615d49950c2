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
    Reason { section: "Flags of inodes", text: "Setting them is not seen." },
    Reason { section: "Mounts", text: "It is not told who did it." },
    Reason {
        section: "Names outside the watched trees",
        text: "Not told, or without the name that was used.",
    },
    Reason { section: "Whiteouts", text: "The device that is left behind is not told." },
    Reason { section: "rmdir on 5.10", text: "Only what succeeds is told." },
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
    bpf(Missed, "Flags of inodes", "setflags_directory", "overlayfs", "5.10"),
    bpf(Missed, "rmdir on 5.10", "rmdir_not_empty", "*", "5.10"),
    varying(bpf(Partial, "Slow writers on 7.x", "pwritev2", "ext4", "7.x")),
    fanotify(Partial, "Mounts", "mount_* umount change_below_*", "*", "*"),
    fanotify(Missed, "File systems without handles", TOLD, "tmpfs overlayfs", "5.10"),
    fanotify(Missed, "File systems without handles", TOLD, "overlayfs", "6.1"),
    fanotify(
        Missed,
        "Directories marked one by one",
        "rename_out link link_in link_in_write_outside tree_moved_out",
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
    varying(fanotify(Partial, "Renames that cross", "rename_exchange", "*", "*")),
    varying(fanotify(Partial, "Unnamed files", "o_tmpfile_linkat", "*", "*")),
];
