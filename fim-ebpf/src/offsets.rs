//! Offsets of kernel fields, in bytes. rustc emits no CO-RE relocations, so user space reads them
//! from the running kernel's BTF and patches them into these globals before the programs are
//! verified; the verifier then knows them as constants and removes the branches that do not apply.

/// What an offset is when the running kernel has no such field.
pub(crate) const ABSENT: u32 = u32::MAX;

macro_rules! offsets {
    ($($name:ident $static:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            static $static: u32 = ABSENT;

            #[inline(always)]
            pub(crate) fn $name() -> u32 {
                // SAFETY: a static of this program; volatile because user space changes it
                // between compilation and load.
                unsafe { core::ptr::read_volatile(&raw const $static) }
            }
        )*
    };
}

offsets! {
    file_dentry OFF_FILE_DENTRY;
    file_inode OFF_FILE_INODE;
    file_mode OFF_FILE_MODE;
    file_flags OFF_FILE_FLAGS;
    dentry_parent OFF_DENTRY_PARENT;
    dentry_name OFF_DENTRY_NAME;
    dentry_name_len OFF_DENTRY_NAME_LEN;
    dentry_inode OFF_DENTRY_INODE;
    dentry_alias OFF_DENTRY_ALIAS;
    dentry_flags OFF_DENTRY_FLAGS;
    inode_ino OFF_INODE_INO;
    inode_sb OFF_INODE_SB;
    inode_mode OFF_INODE_MODE;
    inode_uid OFF_INODE_UID;
    inode_gid OFF_INODE_GID;
    inode_size OFF_INODE_SIZE;
    inode_nlink OFF_INODE_NLINK;
    inode_generation OFF_INODE_GENERATION;
    inode_mtime_sec OFF_INODE_MTIME_SEC;
    inode_mtime_nsec OFF_INODE_MTIME_NSEC;
    inode_aliases OFF_INODE_ALIASES;
    sb_dev OFF_SB_DEV;
    task_tgid OFF_TASK_TGID;
    task_pid OFF_TASK_PID;
    task_leader OFF_TASK_LEADER;
    task_start OFF_TASK_START;
    task_exec_id OFF_TASK_EXEC_ID;
    task_cred OFF_TASK_CRED;
    task_loginuid OFF_TASK_LOGINUID;
    task_sessionid OFF_TASK_SESSIONID;
    task_parent OFF_TASK_PARENT;
    task_mm OFF_TASK_MM;
    task_fs OFF_TASK_FS;
    task_nsproxy OFF_TASK_NSPROXY;
    task_signal OFF_TASK_SIGNAL;
    task_comm OFF_TASK_COMM;
    task_cgroups OFF_TASK_CGROUPS;
    css_set_default OFF_CSS_SET_DEFAULT;
    css_set_first OFF_CSS_SET_FIRST;
    css_cgroup OFF_CSS_CGROUP;
    cgroup_node OFF_CGROUP_NODE;
    kernfs_name OFF_KERNFS_NAME;
    kernfs_parent OFF_KERNFS_PARENT;
    task_flags OFF_TASK_FLAGS;
    task_thread_pid OFF_TASK_THREAD_PID;
    cred_uid OFF_CRED_UID;
    cred_gid OFF_CRED_GID;
    cred_euid OFF_CRED_EUID;
    cred_egid OFF_CRED_EGID;
    cred_fsuid OFF_CRED_FSUID;
    cred_user_ns OFF_CRED_USER_NS;
    mm_exe_file OFF_MM_EXE_FILE;
    mm_arg_start OFF_MM_ARG_START;
    mm_arg_end OFF_MM_ARG_END;
    file_mnt OFF_FILE_MNT;
    fs_pwd_mnt OFF_FS_PWD_MNT;
    fs_pwd_dentry OFF_FS_PWD_DENTRY;
    nsproxy_mnt_ns OFF_NSPROXY_MNT_NS;
    mnt_ns_inum OFF_MNT_NS_INUM;
    pid_ns_inum OFF_PID_NS_INUM;
    user_ns_inum OFF_USER_NS_INUM;
    pid_level OFF_PID_LEVEL;
    pid_numbers OFF_PID_NUMBERS;
    upid_nr OFF_UPID_NR;
    upid_ns OFF_UPID_NS;
    upid_size OFF_UPID_SIZE;
    signal_tty OFF_SIGNAL_TTY;
    signal_live OFF_SIGNAL_LIVE;
    tty_index OFF_TTY_INDEX;
    tty_driver OFF_TTY_DRIVER;
    tty_driver_major OFF_TTY_DRIVER_MAJOR;
    tty_driver_minor_start OFF_TTY_DRIVER_MINOR_START;
    mount_mnt OFF_MOUNT_MNT;
    mount_mountpoint OFF_MOUNT_MOUNTPOINT;
    mount_parent OFF_MOUNT_PARENT;
    vfsmount_root OFF_VFSMOUNT_ROOT;
    path_mnt OFF_PATH_MNT;
    path_dentry OFF_PATH_DENTRY;
    nameidata_inode OFF_NAMEIDATA_INODE;
    nameidata_name OFF_NAMEIDATA_NAME;
    nameidata_last_name OFF_NAMEIDATA_LAST_NAME;
    nameidata_last_len OFF_NAMEIDATA_LAST_LEN;
    filename_name OFF_FILENAME_NAME;
    open_flag OFF_OPEN_FLAG;
    iattr_valid OFF_IATTR_VALID;
    rename_old_dentry OFF_RENAME_OLD_DENTRY;
    rename_new_dentry OFF_RENAME_NEW_DENTRY;
    rename_flags OFF_RENAME_FLAGS;
}

/// 1: there is `bpf_get_current_task_btf` (5.11).
#[unsafe(no_mangle)]
static HAS_TASK_BTF: u32 = 0;

#[inline(always)]
pub(crate) fn has_task_btf() -> bool {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const HAS_TASK_BTF) != 0 }
}
