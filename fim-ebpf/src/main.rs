//! The kernel side of fim.
//!
//! Monitoring only, by construction: fentry and fexit programs cannot change what a function
//! returns. A program is named after what it takes down and, where the kernel function's
//! arguments have moved over time, after their places: `unlink_d2_r4` finds the dentry in argument
//! 2 and the result behind argument 3. The loader attaches the one that fits the running kernel's
//! BTF. (Selecting the argument inside one program does not verify: LLVM merges the two loads into
//! one with a computed offset into the context.)
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the attribute macros make functions without the documentation")]
#![allow(unreachable_pub, reason = "a program is found by its symbol")]
#![feature(asm_experimental_arch)]

mod atomic;
mod attributes;
mod count;
mod draft;
mod inside;
mod maps;
mod mem;
mod mounts;
mod names;
mod offsets;
mod open;
mod process;
mod record;
mod scope;
mod task;

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit},
    programs::{BtfTracePointContext, FEntryContext, FExitContext},
};
use fim_common::record::{Hook, Op};
use mem::{Memory as _, Typed};

/// The licence that the kernel is told: some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

type Pointer = *const u8;

macro_rules! programs {
    ($(#[$attach:ident] $name:ident($ctx:ident: $context:ty) $body:block)*) => {
        $(
            #[$attach]
            pub fn $name($ctx: $context) -> i32 {
                // SAFETY: each argument is read with the type that the kernel's BTF gives it; the
                // verifier refuses the program otherwise.
                #[allow(unused_unsafe, reason = "one body shape for all programs")]
                unsafe { $body }
                0
            }
        )*
    };
}

programs! {
    #[fexit] file_open_path(ctx: FExitContext) {
        open::path_opened(ctx.arg(0), ctx.arg(1), ctx.arg(3));
    }
    // Where path_openat() is not there as a function: failed attempts are not seen.
    #[fexit] file_open_file(ctx: FExitContext) {
        if ctx.arg::<i32>(1) == 0 {
            open::opened(ctx.arg(0));
        }
    }
    #[fentry] file_release(ctx: FEntryContext) {
        open::released(ctx.arg(0));
    }

    // S_MTIME | S_CTIME, include/linux/fs.h.
    #[fentry] time_update_f1(ctx: FEntryContext) {
        if ctx.arg::<u32>(1) & 6 != 0 {
            open::time_updated(ctx.arg(0));
        }
    }
    #[fentry] time_update_f2(ctx: FEntryContext) {
        if ctx.arg::<u32>(2) & 6 != 0 {
            open::time_updated(ctx.arg(0));
        }
    }
    // 7.x: enum fs_update_time, of which 0 is the access time.
    #[fentry] time_update_t1(ctx: FEntryContext) {
        if ctx.arg::<u32>(1) != 0 {
            open::time_updated(ctx.arg(0));
        }
    }
    // MAP_SHARED 1; MAP_SHARED_VALIDATE 3 has the bit too.
    #[fexit] mmap(ctx: FExitContext) {
        let file: Pointer = ctx.arg(0);
        if ctx.arg::<u64>(2) & 1 != 0 && ctx.arg::<i32>(3) == 0 && !file.is_null() {
            open::mapped(file);
        }
    }

    #[fexit] create_d1_r4(ctx: FExitContext) {
        names::created(Hook::Create, Op::Create, ctx.arg(1), ctx.arg(4), core::ptr::null());
    }
    #[fexit] create_d2_r5(ctx: FExitContext) {
        names::created(Hook::Create, Op::Create, ctx.arg(2), ctx.arg(5), core::ptr::null());
    }
    #[fexit] mkdir_d1_r3(ctx: FExitContext) {
        names::created(Hook::Mkdir, Op::Mkdir, ctx.arg(1), ctx.arg(3), core::ptr::null());
    }
    #[fexit] mkdir_d2_r4(ctx: FExitContext) {
        names::created(Hook::Mkdir, Op::Mkdir, ctx.arg(2), ctx.arg(4), core::ptr::null());
    }
    // 6.15 and newer return the dentry or an error pointer: a failed one leaves no inode.
    #[fexit] mkdir_d2_p4(ctx: FExitContext) {
        names::created(Hook::Mkdir, Op::Mkdir, ctx.arg(2), error(ctx.arg(4)), core::ptr::null());
    }
    #[fexit] mkdir_d2_p5(ctx: FExitContext) {
        names::created(Hook::Mkdir, Op::Mkdir, ctx.arg(2), error(ctx.arg(5)), core::ptr::null());
    }
    #[fexit] mknod_d1_r4(ctx: FExitContext) {
        names::created(Hook::Mknod, Op::Mknod, ctx.arg(1), ctx.arg(4), core::ptr::null());
    }
    #[fexit] mknod_d2_r5(ctx: FExitContext) {
        names::created(Hook::Mknod, Op::Mknod, ctx.arg(2), ctx.arg(5), core::ptr::null());
    }
    #[fexit] mknod_d2_r6(ctx: FExitContext) {
        names::created(Hook::Mknod, Op::Mknod, ctx.arg(2), ctx.arg(6), core::ptr::null());
    }
    #[fexit] symlink_d1_r3(ctx: FExitContext) {
        names::created(Hook::Symlink, Op::Symlink, ctx.arg(1), ctx.arg(3), ctx.arg(2));
    }
    #[fexit] symlink_d2_r4(ctx: FExitContext) {
        names::created(Hook::Symlink, Op::Symlink, ctx.arg(2), ctx.arg(4), ctx.arg(3));
    }
    #[fexit] symlink_d2_r5(ctx: FExitContext) {
        names::created(Hook::Symlink, Op::Symlink, ctx.arg(2), ctx.arg(5), ctx.arg(3));
    }
    #[fexit] link_d2_r4(ctx: FExitContext) {
        names::linked(ctx.arg(0), ctx.arg(2), ctx.arg(4));
    }
    #[fexit] link_d3_r5(ctx: FExitContext) {
        names::linked(ctx.arg(0), ctx.arg(3), ctx.arg(5));
    }

    #[fentry] unlink_enter_d1(ctx: FEntryContext) { names::enter(Hook::Unlink, ctx.arg(1)); }
    #[fentry] unlink_enter_d2(ctx: FEntryContext) { names::enter(Hook::Unlink, ctx.arg(2)); }
    #[fexit] unlink_d1_r3(ctx: FExitContext) {
        names::removed(Hook::Unlink, Op::Unlink, ctx.arg(1), ctx.arg(3));
    }
    #[fexit] unlink_d2_r4(ctx: FExitContext) {
        names::removed(Hook::Unlink, Op::Unlink, ctx.arg(2), ctx.arg(4));
    }
    #[fentry] rmdir_enter_d1(ctx: FEntryContext) { names::enter(Hook::Rmdir, ctx.arg(1)); }
    #[fentry] rmdir_enter_d2(ctx: FEntryContext) { names::enter(Hook::Rmdir, ctx.arg(2)); }
    #[fentry] rmdir_deleted(ctx: FEntryContext) { names::directory_deleted(ctx.arg(0)); }
    #[fexit] rmdir_d2_r3(ctx: FExitContext) {
        names::removed(Hook::Rmdir, Op::Rmdir, ctx.arg(2), ctx.arg(3));
    }
    #[fexit] rmdir_d2_r4(ctx: FExitContext) {
        names::removed(Hook::Rmdir, Op::Rmdir, ctx.arg(2), ctx.arg(4));
    }
    #[fentry] rename_enter(ctx: FEntryContext) { names::rename_enter(ctx.arg(0)); }
    #[fexit] rename_r1(ctx: FExitContext) { names::rename_exit(ctx.arg(0), ctx.arg(1)); }

    #[fentry] setattr_enter_d0(ctx: FEntryContext) { names::enter(Hook::SetAttr, ctx.arg(0)); }
    #[fentry] setattr_enter_d1(ctx: FEntryContext) { names::enter(Hook::SetAttr, ctx.arg(1)); }
    #[fexit] setattr_d0_r3(ctx: FExitContext) {
        attributes::attributes_set(ctx.arg(0), ctx.arg(1), ctx.arg(3));
    }
    #[fexit] setattr_d1_r4(ctx: FExitContext) {
        attributes::attributes_set(ctx.arg(1), ctx.arg(2), ctx.arg(4));
    }

    #[fexit] setxattr_d0_r5(ctx: FExitContext) {
        attributes::changed(Hook::SetXattr, Op::SetXattr, ctx.arg(0), ctx.arg(1), ctx.arg(5));
    }
    #[fexit] setxattr_d1_r6(ctx: FExitContext) {
        attributes::changed(Hook::SetXattr, Op::SetXattr, ctx.arg(1), ctx.arg(2), ctx.arg(6));
    }
    #[fexit] removexattr_d0_r3(ctx: FExitContext) {
        attributes::changed(Hook::RemoveXattr, Op::RemoveXattr, ctx.arg(0), ctx.arg(1), ctx.arg(3));
    }
    #[fexit] removexattr_d1_r4(ctx: FExitContext) {
        attributes::changed(Hook::RemoveXattr, Op::RemoveXattr, ctx.arg(1), ctx.arg(2), ctx.arg(4));
    }
    #[fexit] set_acl_d1_r4(ctx: FExitContext) {
        attributes::changed(Hook::SetAcl, Op::SetXattr, ctx.arg(1), ctx.arg(2), ctx.arg(4));
    }
    #[fexit] remove_acl_d1_r3(ctx: FExitContext) {
        attributes::changed(Hook::RemoveAcl, Op::RemoveXattr, ctx.arg(1), ctx.arg(2), ctx.arg(3));
    }

    #[fexit] setxattr_refused_d0_r5(ctx: FExitContext) {
        attributes::refused(Hook::SetXattrRefused, Op::SetXattr, ctx.arg(0), ctx.arg(1), ctx.arg(5));
    }
    #[fexit] setxattr_refused_d1_r6(ctx: FExitContext) {
        attributes::refused(Hook::SetXattrRefused, Op::SetXattr, ctx.arg(1), ctx.arg(2), ctx.arg(6));
    }
    #[fexit] truncate_refused(ctx: FExitContext) {
        let path: Pointer = ctx.arg(0);
        let dentry: Pointer = Typed::read(path, offsets::path_dentry());
        attributes::refused(Hook::TruncateRefused, Op::Truncate, dentry, core::ptr::null(), ctx.arg(2));
    }
    #[fexit] set_flags_d1_r3(ctx: FExitContext) {
        attributes::changed(Hook::SetFlags, Op::SetFlags, ctx.arg(1), core::ptr::null(), ctx.arg(3));
    }
    #[fentry] set_flags_enter(ctx: FEntryContext) {
        attributes::ioctl_begins(ctx.arg(0), ctx.arg(1));
    }
    #[fentry] set_flags_done(ctx: FEntryContext) { attributes::write_dropped(ctx.arg(0)); }

    #[fentry] mount(ctx: FEntryContext) { mounts::mounting(Hook::Mount, ctx.arg(1)); }
    #[fentry] move_mount(ctx: FEntryContext) { mounts::mounting(Hook::MoveMount, ctx.arg(1)); }
    #[fentry] umount(ctx: FEntryContext) { mounts::unmounting(ctx.arg(0)); }

    #[btf_tracepoint] exec(_ctx: BtfTracePointContext) { task::executed(); }
    #[btf_tracepoint] fork(ctx: BtfTracePointContext) { task::forked(ctx.arg(1)); }
    #[btf_tracepoint] exit(ctx: BtfTracePointContext) { task::exited(ctx.arg(0)); }
}

/// PTR_ERR_OR_ZERO(), include/linux/err.h: the last 4095 addresses are errors.
#[inline(always)]
fn error(pointer: u64) -> i32 {
    if pointer >= u64::MAX - 4094 { maps::scalar(pointer) as i32 } else { 0 }
}
