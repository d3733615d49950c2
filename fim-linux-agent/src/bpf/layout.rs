//! Which kernel fields the programs read, and where the running kernel has them.

use super::btf::Btf;

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
    needed OFF_DENTRY_SB dentry "d_sb";
    needed OFF_DENTRY_ALIAS dentry "d_u.d_alias" | "d_alias";
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
        let mut globals = Vec::with_capacity(FIELDS.len() + 1);
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
        if fatal.is_empty() { Ok(Self { globals, missing }) } else { Err(fatal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
