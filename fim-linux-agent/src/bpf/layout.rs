//! Which kernel fields the programs read, and where the running kernel has them.

use super::btf::Btf;
use super::programs::TASK_BTF;

/// What an offset is when the kernel has no such field; the programs know it by the same name.
pub const ABSENT: u32 = u32::MAX;

/// A field: the global in the eBPF object, the struct, and the names it bore over time.
struct Field {
    global: &'static str,
    structure: &'static str,
    names: &'static [&'static str],
    /// Without it no program is of use; the others degrade what is known of an event.
    needed: bool,
}

macro_rules! fields {
    ($($need:ident $global:ident $structure:ident $($name:literal)|+;)*) => {
        &[$(Field {
            global: stringify!($global),
            structure: stringify!($structure),
            names: &[$($name),+],
            needed: fields!(@ $need),
        }),*]
    };
    (@ needed) => { true };
    (@ extra) => { false };
}

const FIELDS: &[Field] = fields! {
    needed OFF_FILE_DENTRY file "f_path.dentry";
    needed OFF_FILE_MNT file "f_path.mnt";
    needed OFF_FILE_INODE file "f_inode";
    needed OFF_FILE_MODE file "f_mode";
    needed OFF_FILE_FLAGS file "f_flags";
    needed OFF_DENTRY_PARENT dentry "d_parent";
    needed OFF_DENTRY_NAME dentry "d_name.name";
    needed OFF_DENTRY_NAME_LEN dentry "d_name.len";
    needed OFF_DENTRY_INODE dentry "d_inode";
    needed OFF_DENTRY_ALIAS dentry "d_u.d_alias" | "d_alias";
    needed OFF_DENTRY_FLAGS dentry "d_flags";
    needed OFF_INODE_INO inode "i_ino";
    needed OFF_INODE_SB inode "i_sb";
    needed OFF_INODE_MODE inode "i_mode";
    needed OFF_INODE_UID inode "i_uid";
    needed OFF_INODE_GID inode "i_gid";
    needed OFF_INODE_SIZE inode "i_size";
    needed OFF_INODE_NLINK inode "i_nlink";
    needed OFF_INODE_GENERATION inode "i_generation";
    // struct timespec64 until 6.6, then __i_mtime, then two fields (6.11).
    needed OFF_INODE_MTIME_SEC inode "i_mtime_sec" | "__i_mtime.tv_sec" | "i_mtime.tv_sec";
    needed OFF_INODE_MTIME_NSEC inode "i_mtime_nsec" | "__i_mtime.tv_nsec" | "i_mtime.tv_nsec";
    needed OFF_INODE_ALIASES inode "i_dentry.first";
    needed OFF_SB_DEV super_block "s_dev";
    needed OFF_TASK_TGID task_struct "tgid";
    needed OFF_TASK_PID task_struct "pid";
    needed OFF_TASK_LEADER task_struct "group_leader";
    needed OFF_TASK_START task_struct "start_boottime";
    needed OFF_TASK_EXEC_ID task_struct "self_exec_id";
    needed OFF_TASK_CRED task_struct "cred";
    // CONFIG_AUDIT.
    extra OFF_TASK_LOGINUID task_struct "loginuid";
    extra OFF_TASK_SESSIONID task_struct "sessionid";
    needed OFF_TASK_PARENT task_struct "real_parent";
    needed OFF_TASK_MM task_struct "mm";
    needed OFF_TASK_FS task_struct "fs";
    extra OFF_TASK_NSPROXY task_struct "nsproxy";
    needed OFF_TASK_SIGNAL task_struct "signal";
    needed OFF_TASK_COMM task_struct "comm";
    needed OFF_TASK_FLAGS task_struct "flags";
    // CONFIG_CGROUPS.
    extra OFF_TASK_CGROUPS task_struct "cgroups";
    extra OFF_CSS_SET_DEFAULT css_set "dfl_cgrp";
    extra OFF_CSS_SET_FIRST css_set "subsys";
    extra OFF_CSS_CGROUP cgroup_subsys_state "cgroup";
    extra OFF_CGROUP_NODE cgroup "kn";
    extra OFF_KERNFS_NAME kernfs_node "name";
    extra OFF_KERNFS_PARENT kernfs_node "__parent" | "parent";
    extra OFF_TASK_THREAD_PID task_struct "thread_pid";
    needed OFF_CRED_UID cred "uid";
    needed OFF_CRED_GID cred "gid";
    needed OFF_CRED_EUID cred "euid";
    needed OFF_CRED_EGID cred "egid";
    needed OFF_CRED_FSUID cred "fsuid";
    extra OFF_CRED_USER_NS cred "user_ns";
    needed OFF_MM_EXE_FILE mm_struct "exe_file";
    needed OFF_MM_ARG_START mm_struct "arg_start";
    needed OFF_MM_ARG_END mm_struct "arg_end";
    needed OFF_FS_PWD_MNT fs_struct "pwd.mnt";
    needed OFF_FS_PWD_DENTRY fs_struct "pwd.dentry";
    extra OFF_NSPROXY_MNT_NS nsproxy "mnt_ns";
    extra OFF_MNT_NS_INUM mnt_namespace "ns.inum";
    extra OFF_PID_NS_INUM pid_namespace "ns.inum";
    extra OFF_USER_NS_INUM user_namespace "ns.inum";
    extra OFF_PID_LEVEL pid "level";
    extra OFF_PID_NUMBERS pid "numbers";
    extra OFF_UPID_NR upid "nr";
    extra OFF_UPID_NS upid "ns";
    extra OFF_SIGNAL_TTY signal_struct "tty";
    needed OFF_SIGNAL_LIVE signal_struct "live";
    extra OFF_TTY_INDEX tty_struct "index";
    extra OFF_TTY_DRIVER tty_struct "driver";
    extra OFF_TTY_DRIVER_MAJOR tty_driver "major";
    extra OFF_TTY_DRIVER_MINOR_START tty_driver "minor_start";
    needed OFF_MOUNT_MNT mount "mnt";
    needed OFF_MOUNT_MOUNTPOINT mount "mnt_mountpoint";
    needed OFF_MOUNT_PARENT mount "mnt_parent";
    needed OFF_VFSMOUNT_ROOT vfsmount "mnt_root";
    needed OFF_PATH_MNT path "mnt";
    needed OFF_PATH_DENTRY path "dentry";
    // Only what says of a file that it could not be opened.
    extra OFF_NAMEIDATA_INODE nameidata "inode";
    extra OFF_NAMEIDATA_NAME nameidata "name";
    extra OFF_NAMEIDATA_LAST_NAME nameidata "last.name";
    extra OFF_NAMEIDATA_LAST_LEN nameidata "last.len";
    extra OFF_FILENAME_NAME filename "name";
    extra OFF_OPEN_FLAG open_flags "open_flag";
    needed OFF_IATTR_VALID iattr "ia_valid";
    needed OFF_RENAME_OLD_DENTRY renamedata "old_dentry";
    needed OFF_RENAME_NEW_DENTRY renamedata "new_dentry";
    needed OFF_RENAME_FLAGS renamedata "flags";
};

/// The layout of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Global in the eBPF object, and its value.
    pub globals: Vec<(&'static str, u32)>,
    /// Fields this kernel lacks whose absence only degrades what is known.
    pub missing: Vec<String>,
}

impl Layout {
    /// Reads the layout from type information.
    ///
    /// # Errors
    /// The fields without which nothing works.
    pub fn resolve(btf: &Btf) -> Result<Self, Vec<String>> {
        let mut globals = Vec::with_capacity(FIELDS.len() + 2);
        let (mut missing, mut fatal) = (Vec::new(), Vec::new());
        for field in FIELDS {
            let offset = field.names.iter().find_map(|name| btf.offset(field.structure, name));
            if offset.is_none() {
                let name = format!("{}.{}", field.structure, field.names[0]);
                if field.needed { fatal.push(name) } else { missing.push(name) }
            }
            globals.push((field.global, offset.unwrap_or(ABSENT)));
        }
        globals.push(("OFF_UPID_SIZE", btf.size("upid").unwrap_or(ABSENT)));
        globals.push(("HAS_TASK_BTF", u32::from(btf.function(TASK_BTF).is_some())));
        if fatal.is_empty() { Ok(Self { globals, missing }) } else { Err(fatal) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::fixtures::{self, FIXTURES};
    use super::*;

    /// What `bpftool btf dump` says of the whole BTF of each fixture's kernel: 5.10, 6.1, 6.12,
    /// 6.18, 7.x. A sum is that of a member and a member of it.
    #[rustfmt::skip]
    const OFFSETS: &[(&str, [u32; 5])] = &[
        ("OFF_FILE_DENTRY", [16 + 8, 16 + 8, 64 + 8, 64 + 8, 64 + 8]),
        ("OFF_FILE_MNT", [16, 16, 64, 64, 64]),
        ("OFF_FILE_INODE", [32, 32, 40, 32, 32]),
        ("OFF_FILE_MODE", [68, 68, 12, 4, 4]),
        ("OFF_FILE_FLAGS", [64, 64, 48, 40, 40]),
        ("OFF_DENTRY_PARENT", [24, 24, 24, 24, 24]),
        ("OFF_DENTRY_NAME", [32 + 8, 32 + 8, 32 + 8, 32 + 8, 32 + 8]),
        ("OFF_DENTRY_NAME_LEN", [32 + 4, 32 + 4, 32 + 4, 32 + 4, 32 + 4]),
        ("OFF_DENTRY_INODE", [48, 48, 48, 48, 48]),
        ("OFF_DENTRY_ALIAS", [176, 176, 176, 176, 176]),
        ("OFF_DENTRY_FLAGS", [0, 0, 0, 0, 0]),
        ("OFF_INODE_INO", [64, 64, 64, 64, 64]),
        ("OFF_INODE_SB", [40, 40, 40, 40, 40]),
        ("OFF_INODE_MODE", [0, 0, 0, 0, 0]),
        ("OFF_INODE_UID", [4, 4, 4, 4, 24]),
        ("OFF_INODE_GID", [8, 8, 8, 8, 28]),
        ("OFF_INODE_SIZE", [80, 80, 80, 80, 80]),
        ("OFF_INODE_NLINK", [72, 72, 72, 72, 72]),
        ("OFF_INODE_GENERATION", [560, 592, 124, 124, 124]),
        ("OFF_INODE_MTIME_SEC", [104, 104, 96, 96, 96]),
        ("OFF_INODE_MTIME_NSEC", [112, 112, 116, 116, 116]),
        ("OFF_INODE_ALIASES", [312, 312, 304, 304, 296]),
        ("OFF_SB_DEV", [16, 16, 16, 16, 16]),
        ("OFF_TASK_TGID", [2236, 2420, 2436, 2708, 2876]),
        ("OFF_TASK_PID", [2232, 2416, 2432, 2704, 2872]),
        ("OFF_TASK_LEADER", [2296, 2480, 2496, 2768, 2936]),
        ("OFF_TASK_START", [2544, 2784, 2784, 3056, 3224]),
        ("OFF_TASK_EXEC_ID", [2968, 3240, 3240, 3512, 3688]),
        ("OFF_TASK_CRED", [2720, 2960, 2960, 3232, 3392]),
        ("OFF_TASK_LOGINUID", [2936, 3176, 3176, 3448, 3624]),
        ("OFF_TASK_SESSIONID", [2940, 3180, 3180, 3452, 3628]),
        ("OFF_TASK_PARENT", [2248, 2432, 2448, 2720, 2888]),
        ("OFF_TASK_MM", [2056, 2272, 2304, 2576, 2744]),
        ("OFF_TASK_FS", [2800, 3040, 3040, 3312, 3480]),
        ("OFF_TASK_NSPROXY", [2824, 3064, 3064, 3336, 3512]),
        ("OFF_TASK_SIGNAL", [2832, 3072, 3072, 3344, 3520]),
        ("OFF_TASK_COMM", [2736, 2976, 2976, 3248, 3408]),
        ("OFF_TASK_FLAGS", [36, 44, 44, 44, 44]),
        ("OFF_TASK_CGROUPS", [3328, 3600, 3584, 3880, 4072]),
        ("OFF_CSS_SET_DEFAULT", [120, 128, 128, 128, 128]),
        ("OFF_CSS_SET_FIRST", [0, 0, 0, 0, 0]),
        ("OFF_CSS_CGROUP", [0, 0, 0, 0, 0]),
        ("OFF_CGROUP_NODE", [248, 248, 256, 256, 296]),
        ("OFF_KERNFS_NAME", [16, 16, 16, 16, 16]),
        ("OFF_KERNFS_PARENT", [8, 8, 8, 8, 8]),
        ("OFF_TASK_THREAD_PID", [2336, 2520, 2536, 2808, 2976]),
        ("OFF_CRED_UID", [8, 8, 8, 8, 8]),
        ("OFF_CRED_GID", [12, 12, 12, 12, 12]),
        ("OFF_CRED_EUID", [24, 24, 24, 24, 24]),
        ("OFF_CRED_EGID", [28, 28, 28, 28, 28]),
        ("OFF_CRED_FSUID", [32, 32, 32, 32, 32]),
        ("OFF_CRED_USER_NS", [136, 136, 144, 144, 144]),
        ("OFF_MM_EXE_FILE", [928, 944, 1168, 1280, 1536]),
        ("OFF_MM_ARG_START", [312, 312, 376, 480, 728]),
        ("OFF_MM_ARG_END", [320, 320, 384, 488, 736]),
        ("OFF_FS_PWD_MNT", [40, 40, 40, 40, 40]),
        ("OFF_FS_PWD_DENTRY", [40 + 8, 40 + 8, 40 + 8, 40 + 8, 40 + 8]),
        ("OFF_NSPROXY_MNT_NS", [24, 24, 24, 24, 24]),
        ("OFF_MNT_NS_INUM", [24, 16, 16, 24, 88]),
        ("OFF_PID_NS_INUM", [136, 128, 128, 136, 344]),
        ("OFF_USER_NS_INUM", [264, 256, 232, 240, 344]),
        ("OFF_PID_LEVEL", [4, 4, 4, 4, 4]),
        ("OFF_PID_NUMBERS", [96, 96, 112, 144, 128]),
        ("OFF_UPID_NR", [0, 0, 0, 0, 0]),
        ("OFF_UPID_NS", [8, 8, 8, 8, 8]),
        ("OFF_SIGNAL_TTY", [400, 416, 408, 416, 432]),
        ("OFF_SIGNAL_LIVE", [4, 4, 4, 4, 4]),
        ("OFF_TTY_INDEX", [32, 32, 4, 4, 4]),
        ("OFF_TTY_DRIVER", [16, 16, 16, 16, 16]),
        ("OFF_TTY_DRIVER_MAJOR", [44, 44, 44, 44, 44]),
        ("OFF_TTY_DRIVER_MINOR_START", [48, 48, 48, 48, 48]),
        ("OFF_MOUNT_MNT", [32, 32, 32, 32, 32]),
        ("OFF_MOUNT_MOUNTPOINT", [24, 24, 24, 24, 24]),
        ("OFF_MOUNT_PARENT", [16, 16, 16, 16, 16]),
        ("OFF_VFSMOUNT_ROOT", [0, 0, 0, 0, 0]),
        ("OFF_PATH_MNT", [0, 0, 0, 0, 0]),
        ("OFF_PATH_DENTRY", [8, 8, 8, 8, 8]),
        ("OFF_NAMEIDATA_INODE", [48, 48, 48, 48, 48]),
        ("OFF_NAMEIDATA_NAME", [192, 200, 200, 200, 200]),
        ("OFF_NAMEIDATA_LAST_NAME", [16 + 8, 16 + 8, 16 + 8, 16 + 8, 16 + 8]),
        ("OFF_NAMEIDATA_LAST_LEN", [16 + 4, 16 + 4, 16 + 4, 16 + 4, 16 + 4]),
        ("OFF_FILENAME_NAME", [0, 0, 0, 0, 0]),
        ("OFF_OPEN_FLAG", [0, 0, 0, 0, 0]),
        ("OFF_IATTR_VALID", [0, 0, 0, 0, 0]),
        ("OFF_RENAME_OLD_DENTRY", [8, 16, 16, 16, 16]),
        ("OFF_RENAME_NEW_DENTRY", [24, 40, 40, 32, 32]),
        ("OFF_RENAME_FLAGS", [40, 56, 56, 48, 48]),
        ("OFF_UPID_SIZE", [16, 16, 16, 16, 16]),
        ("HAS_TASK_BTF", [0, 1, 1, 1, 1]),
    ];

    #[test]
    fn offsets_of_each_kernel() {
        for (column, fixture) in FIXTURES.iter().enumerate() {
            let kernel = fixture.kernel;
            let layout = Layout::resolve(&fixture.btf()).unwrap();
            assert_eq!(layout.missing, Vec::<String>::new(), "{kernel}");
            let expected: Vec<_> =
                OFFSETS.iter().map(|(global, offsets)| (*global, offsets[column])).collect();
            for (found, expected) in layout.globals.iter().zip(&expected) {
                assert_eq!(found, expected, "{kernel}");
            }
            assert_eq!(layout.globals.len(), expected.len(), "{kernel}");
        }
    }

    #[test]
    fn the_object_has_each_global() {
        let layout = Layout::resolve(&FIXTURES[0].btf()).unwrap();
        let values: Vec<_> =
            layout.globals.iter().map(|&(global, value)| (global, value.to_ne_bytes())).collect();
        let globals: HashMap<_, _> =
            values.iter().map(|(global, value)| (*global, (&value[..], true))).collect();
        assert_eq!(globals.len(), FIELDS.len() + 2, "a global stands for two fields");
        // Fails for a global that is not there or of another size.
        fixtures::object().patch_map_data(globals).unwrap();
    }

    #[test]
    fn a_kernel_without_the_fields_is_refused() {
        let mut nothing = 0xeb9f_u16.to_ne_bytes().to_vec();
        nothing.extend([1, 0]);
        nothing.extend([24_u32, 0, 0, 0, 1].into_iter().flat_map(u32::to_ne_bytes));
        nothing.push(0);
        let lacks = Layout::resolve(&Btf::parse(nothing).unwrap()).unwrap_err();
        assert_eq!(lacks.len(), FIELDS.iter().filter(|field| field.needed).count());
        assert!(lacks.contains(&"file.f_path.dentry".to_owned()));
        assert!(!lacks.contains(&"task_struct.loginuid".to_owned()));
    }

    #[test]
    fn running_kernel_resolves() {
        let Ok(data) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            println!("skipped: this kernel has no BTF");
            return;
        };
        let layout = Layout::resolve(&Btf::parse(data).unwrap()).unwrap();
        assert_eq!(layout.missing, Vec::<String>::new());
        assert!(layout.globals.iter().all(|&(_, offset)| offset != ABSENT));
    }
}
