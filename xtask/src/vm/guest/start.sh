#!/bin/sh
# Ports: ttyS0 is the kernel's console (and the shell where there is no command), ttyS1 the
# command's output, ttyS2 tells the host how it ended; /dev/vda takes the files that go back.
export PATH=/usr/local/bin:/usr/bin:/usr/sbin HOME=/root USER=root TERM=linux LANG=C.UTF-8

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o mode=755,nosuid devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev shm /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 run /run
mount -t tmpfs -o nosuid,nodev tmp /tmp
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf -o mode=700 bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/mounts /etc/mtab
hostname -F /etc/hostname
ip link set lo up

while read -r module; do
    insmod "$module" || echo "fim-vm: cannot load $module" >/dev/ttyS2
done </etc/fim-vm/modules

# Another process 1 takes over.
if [ -x /etc/fim-vm/handover ]; then
    exec /etc/fim-vm/handover
fi

cd /root || exit
if [ -x /etc/fim-vm/command ]; then
    # Raw: the host gets the bytes that were written, without carriage returns.
    stty -F /dev/ttyS1 raw -echo
    stty -F /dev/ttyS2 raw -echo
    setsid /etc/fim-vm/command </dev/null >/dev/ttyS1 2>&1
    code=$?
    # stty waits for the port to drain; a process that was left behind may still hold it open.
    stty -F /dev/ttyS1 raw -echo
    if [ -e /etc/fim-vm/send-out ]; then
        if tar -C /out -cf /dev/vda .; then
            sync
        else
            echo "fim-vm: /out could not be sent" >/dev/ttyS2
        fi
    fi
    echo "fim-vm: exit $code" >/dev/ttyS2
    stty -F /dev/ttyS2 raw -echo
else
    echo "Kernel $(uname -r). The shell's end, or poweroff -f, ends the machine."
    setsid cttyhack sh -l </dev/ttyS0 >/dev/ttyS0 2>&1
fi
poweroff -f
