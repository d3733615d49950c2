#!/usr/bin/busybox sh
# The kernel unpacks the archive into "rootfs", which is no ordinary mount: it cannot be unmounted,
# has no parent and no name in /proc/self/mountinfo. A real machine's / is a mounted filesystem, so
# move into a tmpfs before anything is tested.
export PATH=/usr/bin:/usr/sbin

fail() {
    echo "fim-vm: $1" >/dev/console
    poweroff -f
}

mount -t tmpfs -o mode=755,size=90% root /newroot || fail "cannot mount a tmpfs"
for entry in /*; do
    case $entry in
    /newroot | /init) ;;
    *) cp -a "$entry" /newroot/ || fail "cannot copy $entry (more memory?)" ;;
    esac
done
exec switch_root /newroot /etc/fim-vm/start
