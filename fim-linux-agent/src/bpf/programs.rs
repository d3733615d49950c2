//! The catalogue: which program goes on which kernel function, given that function's signature.

use fim_common::record::Hook;

use super::btf::{Btf, Prototype};

/// The helper that gives the current task as a pointer whose type the verifier knows.
pub(super) const TASK_BTF: &str = "bpf_get_current_task_btf";

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// At the entry of a function.
    Entry,
    /// At its exit.
    Exit,
    /// At a tracepoint, by BTF.
    Tracepoint,
}

/// One program to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it counts under.
    pub hook: Hook,
    /// How.
    pub attach: Attach,
    /// The kernel function or tracepoint.
    pub target: String,
    /// The program in the object; `Err` says why there is none that fits.
    pub program: Result<String, String>,
    /// What is lost without it, for people.
    pub loss: &'static str,
}

/// How the name of a program follows from the signature.
#[derive(Clone, Copy)]
enum Name {
    Fixed(&'static str),
    /// `<prefix>_d<position of the parameter>`, for entry programs.
    Position(&'static str, &'static str),
    /// `<prefix>_d<position>_<r or p><number of parameters>`: the result lies behind the last.
    Result(&'static str, &'static str),
    /// By the meaning of the argument behind the inode.
    TimeUpdate,
    /// By what the first target found is.
    Open,
}

struct Entry {
    hook: Hook,
    attach: Attach,
    /// The first that the kernel has is taken.
    targets: &'static [&'static str],
    name: Name,
    loss: &'static str,
    /// Older kernels do without: absence is no finding.
    optional: bool,
}

const fn entry(
    hook: Hook,
    attach: Attach,
    targets: &'static [&'static str],
    name: Name,
    loss: &'static str,
) -> Entry {
    Entry { hook, attach, targets, name, loss, optional: false }
}

const fn optional(mut entry: Entry) -> Entry {
    entry.optional = true;
    entry
}

use Attach::{Entry as At, Exit, Tracepoint};

/// In the order of attachment: exits before entries, so that nothing an entry takes down waits
/// for an exit that is not there yet.
#[rustfmt::skip] // A table.
const CATALOGUE: &[Entry] = &[
    entry(Hook::Exec, Tracepoint, &["sched_process_exec"], Name::Fixed("exec"), "processes are described at their first operation only"),
    entry(Hook::Fork, Tracepoint, &["sched_process_fork"], Name::Fixed("fork"), "parents that have exited may be unknown"),
    entry(Hook::Exit, Tracepoint, &["sched_process_exit"], Name::Fixed("exit"), "the process table keeps ended processes longer"),
    entry(Hook::FileRelease, At, &["__fput"], Name::Fixed("file_release"), "the end of writing is found by polling"),
    entry(Hook::FileOpen, Exit, &["path_openat", "security_file_open"], Name::Open, "creations by open(2) and writers are not seen"),
    entry(Hook::TimeUpdate, At, &["inode_update_timestamps", "inode_update_time", "generic_update_time"], Name::TimeUpdate, "a change shows at close or by polling, not at the first write"),
    entry(Hook::Mmap, Exit, &["security_mmap_file"], Name::Fixed("mmap"), "a write through a mapping may be found late"),
    entry(Hook::Create, Exit, &["vfs_create"], Name::Result("create", "dentry"), "files made by mknod(2) are not seen"),
    entry(Hook::Mkdir, Exit, &["vfs_mkdir"], Name::Result("mkdir", "dentry"), "new directories are not seen"),
    entry(Hook::Mknod, Exit, &["vfs_mknod"], Name::Result("mknod", "dentry"), "new devices, FIFOs and sockets are not seen"),
    entry(Hook::Symlink, Exit, &["vfs_symlink"], Name::Result("symlink", "dentry"), "new symbolic links are not seen"),
    entry(Hook::Link, Exit, &["vfs_link"], Name::Result("link", "new_dentry"), "new hard links are not seen"),
    entry(Hook::Unlink, Exit, &["vfs_unlink"], Name::Result("unlink", "dentry"), "deletions are not seen"),
    entry(Hook::Unlink, At, &["vfs_unlink"], Name::Position("unlink_enter", "dentry"), "deletions are not seen"),
    entry(Hook::Rmdir, Exit, &["vfs_rmdir"], Name::Result("rmdir", "dentry"), "deletions of directories are not seen"),
    entry(Hook::Rmdir, At, &["vfs_rmdir"], Name::Position("rmdir_enter", "dentry"), "deletions of directories are not seen"),
    entry(Hook::Rename, Exit, &["vfs_rename"], Name::Fixed("rename_r1"), "renames are not seen"),
    entry(Hook::Rename, At, &["vfs_rename"], Name::Fixed("rename_enter"), "renames are not seen"),
    entry(Hook::SetAttr, Exit, &["notify_change"], Name::Result("setattr", "dentry"), "changes of mode, owner, times and size are not seen"),
    entry(Hook::SetAttr, At, &["notify_change"], Name::Position("setattr_enter", "dentry"), "changes of mode, owner, times and size are not seen"),
    entry(Hook::SetXattr, Exit, &["__vfs_setxattr_noperm"], Name::Result("setxattr", "dentry"), "set extended attributes are not seen"),
    entry(Hook::RemoveXattr, Exit, &["__vfs_removexattr_locked"], Name::Result("removexattr", "dentry"), "removed extended attributes are not seen"),
    entry(Hook::SetXattrRefused, Exit, &["vfs_setxattr"], Name::Result("setxattr_refused", "dentry"), "denied attempts to set extended attributes are not seen"),
    entry(Hook::TruncateRefused, Exit, &["vfs_truncate"], Name::Fixed("truncate_refused"), "denied attempts of truncate(2) are not seen"),
    entry(Hook::SetFlags, At, &["mnt_drop_write_file"], Name::Fixed("set_flags_done"), "the flags of chattr are not seen being set"),
    entry(Hook::SetFlags, At, &["security_file_ioctl"], Name::Fixed("set_flags_enter"), "the flags of chattr are not seen being set"),
    entry(Hook::SetFlags, Exit, &["vfs_fileattr_set"], Name::Result("set_flags", "dentry"), "the flags of chattr are not seen being set"),
    entry(Hook::Mount, At, &["security_sb_mount"], Name::Fixed("mount"), "who mounts something is not seen"),
    entry(Hook::MoveMount, At, &["security_move_mount"], Name::Fixed("move_mount"), "who moves a mount is not seen"),
    entry(Hook::Umount, At, &["security_sb_umount"], Name::Fixed("umount"), "who unmounts something is not seen"),
    // Before 6.2 ACLs are set as extended attributes.
    optional(entry(Hook::SetAcl, Exit, &["vfs_set_acl"], Name::Result("set_acl", "dentry"), "set ACLs are not seen")),
    optional(entry(Hook::RemoveAcl, Exit, &["vfs_remove_acl"], Name::Result("remove_acl", "dentry"), "removed ACLs are not seen")),
];

/// What stands for `vfs_rmdir` before 5.12, where the compiler put it into its caller: nothing that
/// is attached to it is ever called.
#[rustfmt::skip] // A table.
const INLINED_RMDIR: [Entry; 2] = [
    entry(Hook::Rmdir, At, &["d_delete"], Name::Fixed("rmdir_deleted"), "deletions of directories are not seen"),
    entry(Hook::Rmdir, At, &["security_inode_rmdir"], Name::Position("rmdir_enter", "dentry"), "deletions of directories are not seen"),
];

/// What to attach on a kernel with this type information.
pub fn plan(btf: &Btf) -> Vec<Plan> {
    let mut plans = Vec::with_capacity(CATALOGUE.len());
    let inlined = btf.function("vfs_rmdir").is_some_and(|prototype| prototype.params.len() == 2);
    // Since 5.13 one function sets them for all file systems.
    let sets_flags = btf.function("vfs_fileattr_set").is_some();
    for entry in CATALOGUE {
        if entry.hook == Hook::SetFlags && (entry.attach == Exit) != sets_flags {
            continue;
        }
        let entry = match (entry.hook, entry.attach) {
            (Hook::Rmdir, Exit) if inlined => &INLINED_RMDIR[0],
            (Hook::Rmdir, At) if inlined => &INLINED_RMDIR[1],
            _ => entry,
        };
        if entry.attach == Tracepoint {
            plans.push(entry.plan(entry.targets[0], name(entry.name, None)));
            continue;
        }
        let functions = entry.targets.iter().map(|&target| (target, btf.function(target)));
        let mut functions = functions.filter_map(|(target, found)| Some((target, found?)));
        let found = functions.find(|(target, prototype)| is_meant(target, prototype));
        match found {
            Some((target, prototype)) => {
                plans.push(entry.plan(target, name(entry.name, Some(&prototype))));
            }
            None if entry.optional => {}
            None => {
                let reason = "this kernel has no such function to attach to".to_owned();
                plans.push(entry.plan(entry.targets[0], Err(reason)));
            }
        }
    }
    plans
}

/// Whether the function is the one that the catalogue means by this name. In 7.x it is
/// `inode_update_time` that generic_update_time() sets the times by, itself put into its callers by the
/// compiler: nothing attached to it is called. Before, one of that name asked the file system first,
/// and was put into its callers in turn.
fn is_meant(target: &str, prototype: &Prototype) -> bool {
    target != "inode_update_time" || prototype.params.get(1).is_some_and(|name| name == "type")
}

impl Entry {
    fn plan(&self, target: &str, program: Result<String, String>) -> Plan {
        Plan {
            hook: self.hook,
            attach: self.attach,
            target: target.to_owned(),
            program,
            loss: self.loss,
        }
    }
}

fn name(rule: Name, prototype: Option<&Prototype>) -> Result<String, String> {
    let no_parameter = |wanted: &str, prototype: &Prototype| {
        format!("no parameter `{wanted}` among ({})", prototype.params.join(", "))
    };
    match (rule, prototype) {
        (Name::Fixed(name), _) => Ok(name.to_owned()),
        (_, None) => Err("no signature".to_owned()),
        (Name::Position(prefix, parameter), Some(prototype)) => {
            let position =
                prototype.position(parameter).ok_or_else(|| no_parameter(parameter, prototype))?;
            Ok(format!("{prefix}_d{position}"))
        }
        (Name::Result(prefix, parameter), Some(prototype)) => {
            let position =
                prototype.position(parameter).ok_or_else(|| no_parameter(parameter, prototype))?;
            let result = if prototype.returns_pointer { 'p' } else { 'r' };
            Ok(format!("{prefix}_d{position}_{result}{}", prototype.params.len()))
        }
        (Name::Open, Some(prototype)) => match prototype.params.first().map(String::as_str) {
            Some("nd") => Ok("file_open_path".to_owned()),
            Some("file") => Ok("file_open_file".to_owned()),
            _ => Err(format!("unknown signature ({})", prototype.params.join(", "))),
        },
        (Name::TimeUpdate, Some(prototype)) => match prototype.params.get(1).map(String::as_str) {
            Some("flags") => Ok("time_update_f1".to_owned()),
            Some("time") => Ok("time_update_f2".to_owned()),
            Some("type") => Ok("time_update_t1".to_owned()),
            _ => Err(format!("unknown signature ({})", prototype.params.join(", "))),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aya_obj::ProgramSection;

    use super::super::fixtures::{self, FIXTURES};
    use super::*;

    /// Target and program in the order of attachment, for 5.10, 6.1, 6.12, 6.18 and 7.x: by the
    /// parameters that these kernels' functions have. `""`: as on the kernel before; `-`: nothing
    /// is attached.
    #[rustfmt::skip]
    const PLANNED: &[[&str; 5]] = &[
        ["sched_process_exec exec", "", "", "", ""],
        ["sched_process_fork fork", "", "", "", ""],
        ["sched_process_exit exit", "", "", "", ""],
        ["__fput file_release", "", "", "", ""],
        ["path_openat file_open_path", "", "", "", ""],
        // (inode, time, flags), (inode, flags), (inode, type, flags).
        ["generic_update_time time_update_f2", "", "inode_update_timestamps time_update_f1", "", "inode_update_time time_update_t1"],
        ["security_mmap_file mmap", "", "", "", ""],
        // 7.x: (idmap, dentry, mode, di).
        ["vfs_create create_d1_r4", "vfs_create create_d2_r5", "", "", "vfs_create create_d1_r4"],
        // 6.15 and newer return the dentry.
        ["vfs_mkdir mkdir_d1_r3", "vfs_mkdir mkdir_d2_r4", "", "vfs_mkdir mkdir_d2_p4", "vfs_mkdir mkdir_d2_p5"],
        ["vfs_mknod mknod_d1_r4", "vfs_mknod mknod_d2_r5", "", "", "vfs_mknod mknod_d2_r6"],
        ["vfs_symlink symlink_d1_r3", "vfs_symlink symlink_d2_r4", "", "", "vfs_symlink symlink_d2_r5"],
        ["vfs_link link_d2_r4", "vfs_link link_d3_r5", "", "", ""],
        ["vfs_unlink unlink_d1_r3", "vfs_unlink unlink_d2_r4", "", "", ""],
        ["vfs_unlink unlink_enter_d1", "vfs_unlink unlink_enter_d2", "", "", ""],
        ["d_delete rmdir_deleted", "vfs_rmdir rmdir_d2_r3", "", "", "vfs_rmdir rmdir_d2_r4"],
        ["security_inode_rmdir rmdir_enter_d1", "vfs_rmdir rmdir_enter_d2", "", "", ""],
        ["vfs_rename rename_r1", "", "", "", ""],
        ["vfs_rename rename_enter", "", "", "", ""],
        ["notify_change setattr_d0_r3", "notify_change setattr_d1_r4", "", "", ""],
        ["notify_change setattr_enter_d0", "notify_change setattr_enter_d1", "", "", ""],
        ["__vfs_setxattr_noperm setxattr_d0_r5", "__vfs_setxattr_noperm setxattr_d1_r6", "", "", ""],
        ["__vfs_removexattr_locked removexattr_d0_r3", "__vfs_removexattr_locked removexattr_d1_r4", "", "", ""],
        ["vfs_setxattr setxattr_refused_d0_r5", "vfs_setxattr setxattr_refused_d1_r6", "", "", ""],
        ["vfs_truncate truncate_refused", "", "", "", ""],
        ["mnt_drop_write_file set_flags_done", "-", "", "", ""],
        ["security_file_ioctl set_flags_enter", "-", "", "", ""],
        ["-", "vfs_fileattr_set set_flags_d1_r3", "", "", ""],
        ["security_sb_mount mount", "", "", "", ""],
        ["security_move_mount move_mount", "", "", "", ""],
        ["security_sb_umount umount", "", "", "", ""],
        ["-", "", "vfs_set_acl set_acl_d1_r4", "", ""],
        ["-", "", "vfs_remove_acl remove_acl_d1_r3", "", ""],
    ];

    #[test]
    fn programs_of_each_kernel() {
        for (column, fixture) in FIXTURES.iter().enumerate() {
            let expected = PLANNED.iter().filter_map(|row| {
                row[..=column]
                    .iter()
                    .rev()
                    .find(|cell| !cell.is_empty())
                    .filter(|&&cell| cell != "-")
            });
            let planned: Vec<_> = plan(&fixture.btf())
                .into_iter()
                .map(|plan| format!("{} {}", plan.target, plan.program.unwrap()))
                .collect();
            assert_eq!(planned, expected.copied().collect::<Vec<_>>(), "{}", fixture.kernel);
        }
    }

    #[test]
    fn the_object_has_each_program_and_no_other() {
        let object = fixtures::object();
        let mut used = BTreeSet::new();
        for fixture in &FIXTURES {
            for plan in plan(&fixture.btf()) {
                let name = plan.program.unwrap();
                let program = object.programs.get(&name);
                let program =
                    program.unwrap_or_else(|| panic!("{}: no program {name}", fixture.kernel));
                let attach = match program.section {
                    ProgramSection::FEntry { .. } => At,
                    ProgramSection::FExit { .. } => Exit,
                    ProgramSection::BtfTracePoint => Tracepoint,
                    _ => panic!("{name} is of another type"),
                };
                assert_eq!(attach, plan.attach, "{name}");
                used.insert(name);
            }
        }
        // For a kernel whose compiler inlined path_openat().
        used.insert("file_open_file".to_owned());
        let all: BTreeSet<_> = object.programs.keys().cloned().collect();
        assert_eq!(all, used, "programs that no kernel needs");
    }

    #[test]
    fn an_unknown_signature_names_what_it_is() {
        let prototype = |params: &[&str], returns_pointer| Prototype {
            params: params.iter().map(|&param| param.to_owned()).collect(),
            returns_pointer,
        };
        let odd = prototype(&["a", "b"], false);
        let error = name(Name::Result("unlink", "dentry"), Some(&odd)).unwrap_err();
        assert_eq!(error, "no parameter `dentry` among (a, b)");
        let error = name(Name::TimeUpdate, Some(&odd)).unwrap_err();
        assert_eq!(error, "unknown signature (a, b)");
        let fitting = prototype(&["a", "dentry", "c"], true);
        let planned = name(Name::Result("mkdir", "dentry"), Some(&fitting));
        assert_eq!(planned.as_deref(), Ok("mkdir_d1_p3"));
        assert_eq!(name(Name::Position("x", "c"), Some(&fitting)).as_deref(), Ok("x_d2"));
    }
}
