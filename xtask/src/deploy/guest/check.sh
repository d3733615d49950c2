# Looks at fim.service under the systemd that runs it. What is passed is printed, and looked for by
# the test that boots this. Each command is printed before it is run: the last one has failed.
set -eux
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

passed() {
    echo "passed $1"
}

# Asks again and again until a command succeeds.
until_ok() {
    for _ in $(seq 240); do
        if sh -c "$1" >/dev/null 2>&1; then
            return
        fi
        sleep 0.5
    done
    echo "not in time: $1"
    systemctl status fim --no-pager || true
    journalctl -u fim --no-pager | tail -n 50
    exit 1
}

told() {
    until_ok "fim events --json --action $1 | grep -q '$2'"
}

pid() {
    systemctl show fim --property MainPID --value
}

restarts() {
    systemctl show fim --property NRestarts --value
}

# Type=notify: systemd has heard READY, or this would not have been started yet.
test "$(systemctl is-active fim)" = active
test "$(systemctl show fim --property Type --value)" = notify
fim events --json --action agent_started | grep -q 'backend bpf'
passed "active and ready, with bpf"

echo x >/etc/by-a-person.conf
told created /etc/by-a-person.conf
passed "a change is told"

status=/proc/$(pid)/status
grep -q '^NoNewPrivs:.1' "$status"
grep -q '^Seccomp:.2' "$status"
grep -q '^CapEff:.000000c000280004' "$status"
test "$(stat -c %a /var/lib/fim)" = 700
# The canary changes modes, to see that it is told.
test -z "$(find /var/lib/fim -path /var/lib/fim/canary -prune -o -perm /077 -not -type l -print)"
passed "confined"

systemd-analyze security fim --no-pager --threshold=48 >/tmp/exposure
tail -n 1 /tmp/exposure
passed "exposure"

echo '# another' >>/etc/fim/fim.toml
systemctl reload fim
told config_changed fim.toml
passed "reloaded"

mkdir -p /etc/systemd/system/fim.service.d
printf '[Service]\nWatchdogSec=10\n' >/etc/systemd/system/fim.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart fim
before=$(restarts)
kill -STOP "$(pid)"
until_ok "test \"\$(systemctl show fim --property NRestarts --value)\" -gt $before"
until_ok "systemctl is-active fim"
journalctl -u fim --no-pager | grep -q 'Watchdog timeout'
told agent_killed agent_killed
passed "ended by the watchdog and started again"

before=$(restarts)
kill -KILL "$(pid)"
until_ok "test \"\$(systemctl show fim --property NRestarts --value)\" -gt $before"
until_ok "systemctl is-active fim"
passed "killed and started again"

systemctl stop fim
test "$(systemctl show fim --property Result --value)" = success
fim events --json | tail -n 1 | grep -q agent_stopped
fim verify
passed "stopped in order"

echo 'nonsense' >>/etc/fim/fim.toml
systemctl start fim && exit 1
test "$(systemctl show fim --property ExecMainStatus --value)" = 64
# One that is to be started again is "activating" from the moment that it ended.
test "$(systemctl is-active fim || true)" = failed
passed "a wrong configuration is not started again and again"

sed -i '/^nonsense$/d' /etc/fim/fim.toml
systemctl reset-failed fim
systemctl start fim
dpkg --purge fim
test ! -e /var/lib/fim
test "$(systemctl is-active fim || true)" = inactive
passed "purged while it ran"
