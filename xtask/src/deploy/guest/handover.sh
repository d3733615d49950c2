#!/bin/sh
# Process 1: another root with systemd in it. What was mounted for this one goes with it.
set -e
# switch_root of busybox only leaves a root that has one.
: >/init
mkdir /newroot
mount -t tmpfs -o mode=755,size=80% root /newroot
tar -xf /opt/machine.tar -C /newroot
for mounted in /sys/kernel/tracing /sys/kernel/debug /sys/fs/bpf /sys/kernel/security /sys/fs/cgroup \
    /tmp /run /dev/shm /dev/pts; do
    umount "$mounted"
done
for kept in dev proc sys; do
    mount --move /$kept /newroot/$kept
done
for port in /dev/ttyS1 /dev/ttyS2; do
    stty -F /newroot$port raw -echo
done
exec switch_root /newroot /lib/systemd/systemd
