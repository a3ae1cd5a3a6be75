#!/bin/bash
# Runs in a fresh machine that systemd has booted, as root: the five commands of README to the
# letter, and then what an operator does. The first thing that is not as it must be ends it.
#
# In /home/op are herenow.deb and the five commands, one a line, in commands.
set -euo pipefail

units="herenow.service herenow.socket"
config=/etc/herenow/herenow.toml
commands=/home/op/commands

say() {
    printf '\n== %s\n' "$1"
}

fail() {
    printf 'error: %s\n' "$1"
    journalctl --unit herenow.service --unit herenow.socket --no-pager --lines 20 || true
    exit 1
}

# Runs a command until it succeeds, or fails after a minute with what was waited for.
await() {
    local what=$1 until=$((SECONDS + 60))
    shift
    while ! "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || fail "$what"
        sleep 0.2
    done
}

status() {
    curl --silent --output /dev/null --max-time 10 --write-out '%{http_code}' "http://127.0.0.1:4000$1"
}

is() {
    [ "$(systemctl show --property "$1" --value herenow.service)" = "$2" ]
}

# Every file that is not the log of what packages did, or theirs who installed it.
files() {
    find / -xdev \( -path /home -o -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /dev \
        -o -path /var/cache -o -path /var/log -o -path /var/tmp -o -path /var/lib/apt -o -path /var/lib/dpkg \
        -o -path /var/lib/systemd -o -path /root -o -path '/etc/*-' -o -path '/etc/.pwd.lock' \) -prune -o -print | sort
}

as_op() {
    cd /home/op && runuser --user op -- bash "$@"
}

await "the machine is not up" systemctl is-system-running
files >/home/op/before

say "the five commands, as a user who may use sudo"
# What is started in the background ends when its output was looked at.
cat >/home/op/five.sh <<EOF
set -e
$(sed -n '1,3p' $commands)
$(sed -n '4p' $commands | sed 's/ &$//') >watched 2>&1 &
for n in \$(seq 100); do grep -q ada watched && break; sleep 0.1; done
cat watched
$(sed -n '5p' $commands)
kill %1
EOF
as_op -v five.sh 2>&1 | tee /home/op/printed || fail "one of the five commands failed"
grep -q '"topic":"room:lobby","n_presences":1' /home/op/printed || fail "the API does not show who joined"

say "the pages of an operator"
[ "$(status /)" = 200 ] || fail "there is no dashboard"
[ "$(status /healthz)" = 200 ] || fail "/healthz"
[ "$(status /readyz)" = 200 ] || fail "/readyz"
[ "$(status /api/topics)" = 401 ] || fail "the API wants no key"

say "what only root and the service can read"
for file in jwt.secret api.keys; do
    [ "$(stat --format '%U:%G %a' /etc/herenow/$file)" = "root:herenow 640" ] || fail "$file"
    ! runuser --user op -- cat /etc/herenow/$file 2>/dev/null || fail "$file can be read by anybody"
done

say "units, manual, configuration"
systemd-analyze verify --man=no $units || fail "systemd finds fault with the units"
systemd-analyze security --threshold=20 herenow.service | tail -n 1
herenow config check --config $config
[ "$(gzip -cd /usr/share/man/man1/herenow-serve.1.gz | grep -c '^\.SH')" -gt 2 ] || fail "no manual"

say "systemctl reload: the process stays"
pid=$(systemctl show --property MainPID --value herenow.service)
systemctl reload herenow
is MainPID "$pid" || fail "reloading started another process"
is ActiveState active || fail "it is not active after a reload"
await "the reload did not reach it" sh -c 'journalctl --unit herenow.service --since=-1min | grep -q SIGHUP'

say "systemctl restart: nobody is refused"
touch /home/op/asking
ask() {
    local asked=0 answer
    while [ -e /home/op/asking ]; do
        asked=$((asked + 1))
        answer=$(status /healthz) || true
        [ "$answer" = 200 ] || echo "refused: $answer"
    done
    echo "$asked asked"
}
for n in 1 2 3 4; do ask >"/home/op/asked.$n" & done
for _ in 1 2 3 4 5; do systemctl restart herenow; done
rm /home/op/asking
wait
cat /home/op/asked.*
! grep -q refused /home/op/asked.* || fail "a restart refused somebody"

say "systemctl stop: the next who connects starts it again, unless the socket is stopped too"
systemctl stop herenow.service
is ActiveState inactive || fail "it is not stopped"
is Result success || fail "it did not end well"
[ "$(status /healthz)" = 200 ] || fail "the socket did not start it"
is ActiveState active || fail "the socket did not start it"
systemctl stop $units
[ "$(status /healthz)" = 000 ] || fail "something listens still"
systemctl start herenow.service
[ "$(status /healthz)" = 200 ] || fail "it does not start again"

say "a crash: it is started again"
systemctl kill --signal SIGKILL herenow.service
await "it was not started again" is NRestarts 1
await "it is not active again" is ActiveState active
[ "$(status /healthz)" = 200 ] || fail "it does not answer after a crash"

say "a fault that takes longer to mend than systemd has patience for by default"
sed -i 's/secret_file = .*/secret_file = "\/nowhere"/' $config
! herenow config check --config $config || fail "config check finds nothing wrong"
! systemctl restart herenow.service || fail "it starts with a secret that is nowhere"
await "it is not tried again" sh -c '[ $(systemctl show --property NRestarts --value herenow.service) -ge 7 ]'
sed -i 's/secret_file = .*/secret_file = "\/etc\/herenow\/jwt.secret"/' $config
await "it does not come back by itself" is ActiveState active
[ "$(status /healthz)" = 200 ] || fail "it does not answer after the fault"

say "an upgrade keeps configuration and secrets, and restarts"
echo '# Ours.' >>$config
sums=$(sha256sum /etc/herenow/*)
pid=$(systemctl show --property MainPID --value herenow.service)
dpkg --install /home/op/herenow.deb
[ "$(sha256sum /etc/herenow/*)" = "$sums" ] || fail "the upgrade changed /etc/herenow"
is ActiveState active || fail "it does not run after the upgrade"
! is MainPID "$pid" || fail "the upgrade did not restart it"

say "removing keeps /etc/herenow, and leaves no unit"
apt-get remove --yes herenow
[ "$(sha256sum /etc/herenow/*)" = "$sums" ] || fail "removing changed /etc/herenow"
systemctl list-units --all --no-legend 'herenow*' | tee /home/op/units
[ ! -s /home/op/units ] || fail "a unit is left"
[ "$(status /healthz)" = 000 ] || fail "something listens still"

say "installed again, and purged: nothing is left"
apt-get install --yes /home/op/herenow.deb
[ "$(sha256sum /etc/herenow/*)" = "$sums" ] || fail "installing again changed /etc/herenow"
systemctl enable --now herenow
sed -i 's/secret_file = .*/secret_file = "\/nowhere"/' $config
! systemctl restart herenow.service || fail "it starts with a secret that is nowhere"
apt-get purge --yes herenow
files >/home/op/after
diff /home/op/before /home/op/after || fail "these files are left, or gone"
! getent passwd herenow || fail "the user is left"
! getent group herenow || fail "the group is left"
systemctl --failed --no-legend | tee /home/op/failed
[ ! -s /home/op/failed ] || fail "a unit has failed"

say "all of it was as it must be"
