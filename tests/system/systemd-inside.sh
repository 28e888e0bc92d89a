#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs as root in the container that test-systemd.sh boots; prints TAP.
set -u

. /weft-test/tap.sh

# Prints what the command says only if it fails.
quiet() { # COMMAND...
        local said status=0
        said=$("$@" 2>&1 </dev/null) || status=$?
        [ $status = 0 ] || echo "$*: exit status $status: $said"
}

until_true() { # COMMAND...
        local end=$((SECONDS + 20))
        until "$@" >/dev/null 2>&1; do
                if [ $SECONDS -ge $end ]; then
                        echo "after 20 s still not: $*"
                        systemctl status weftd --no-pager
                        journalctl -u weftd -n 30 --no-pager
                        return
                fi
                sleep 0.05
        done
}

database=/var/lib/weft/history.db
sql() { # STATEMENT
        if command -v sqlite3 >/dev/null; then
                sqlite3 -readonly "$database" "$1"
        else
                weftctl history sql "$1" --db "$database" --csv | tail -n +2
        fi
}
has_tasks() { [ -n "$(weftctl tasks list -w "$1" --json)" ]; }
main_pid() { systemctl show -P MainPID weftd; }
is_new_main() { [ "$(main_pid)" != "$1" ] && [ "$(main_pid)" != 0 ] && systemctl is-active --quiet weftd; }
errors() { journalctl --no-pager -q -p err -u weftd -u weftd.socket; }
count() { od -An -t u8 /var/lib/weft/count | tr -d ' '; }
counted() { [ "$(count)" -ge "$1" ]; }
finished="SELECT count(*) FROM tasks WHERE workload = 'burst' AND coro = 'burst_task' AND state = 'finished'"
twice="SELECT count(*) - count(DISTINCT run_id || ' ' || id) FROM tasks"

echo 1..23
result "systemctl start weftd" "$(quiet systemctl start weftd)"
result "weftd runs as a user of its own" \
        "$([ "$(ps -o user= -p "$(main_pid)")" = weft ] || ps -o user=,args= -p "$(main_pid)")"
result "weftctl tasks list shows the tasks of naps" "$(until_true has_tasks naps)"
stands() { weftctl tasks stack --all -w naps | grep -q '^    napper_coro in .*+0x'; }
result "weftctl tasks stack reads their stacks under the unit's restrictions" "$(until_true stands)"
result "weftctl set-debug on" "$(quiet weftctl set-debug on)"
recorded() { [ "$(sql "SELECT count(*) FROM tasks WHERE workload = 'naps'")" -gt 0 ]; }
result "a SELECT on the history finds finished tasks" "$(until_true recorded)"
result "the history is for the group weft" \
        "$([ "$(stat -c '%a %U %G' $database)" = "640 weft weft" ] || stat -c '%a %U %G %n' $database)"
useradd -M -G weft weft-reader; useradd -M weft-stranger
result "a member of the group may look" "$(quiet runuser -u weft-reader -- weftctl tasks list)"
result "somebody else may not, and exits with 4" \
        "$(runuser -u weft-stranger -- weftctl tasks list >/dev/null 2>&1; s=$?; [ $s = 4 ] || echo "exit status $s")"
exposure=$(systemd-analyze security --no-pager weftd | sed -n 's/.*exposure level for weftd.service: \([0-9.]*\).*/\1/p')
result "systemd-analyze security: exposure of ${exposure:-?}, 2.0 at most" \
        "$(awk -v x="${exposure:-10}" 'BEGIN { exit !(x <= 2.0) }' || echo "$exposure")"
result "systemctl stop weftd" "$(quiet systemctl stop weftd)"
result "nothing is left in the cgroup" "$(systemctl show -P TasksCurrent weftd | grep -vE '^(0|\[not set\])$')"
result "nothing at level error in the journal" "$(errors)"

cat >/etc/weft/conf.d/load.conf <<END
workload burst { command = { "/weft-test/burst", "10000", "/var/lib/weft/count" } }
workload echo { command = { "weft-echo", "--listen", "127.0.0.1:7007" } }
END
result "it starts again, with a load of 10 000 tasks a second" "$(quiet systemctl start weftd)$(until_true has_tasks burst)"
answers() { echo ping >&3 && read -r -t 5 line <&3 && [ "$line" = ping ]; }
connected() { exec 3<>/dev/tcp/127.0.0.1/7007; }
result "a worker may serve TCP under the unit's restrictions" "$(until_true connected; connected; answers || echo "no answer")"
exec 3>&-
until_true counted 10000
before=$(main_pid)
result "kill -9 of weftd under load: systemd starts it again" "$(quiet kill -9 "$before")$(until_true is_new_main "$before")"
result "weftctl works" "$(until_true has_tasks naps)$(until_true has_tasks burst)"
killed=$(main_pid)
until_true counted $(($(count) + 10000))
result "systemctl restart weftd" "$(quiet systemctl restart weftd)"
result "after which weftctl works" "$([ "$(main_pid)" != "$killed" ] || echo "the same process")$(until_true has_tasks burst)"
result "systemctl stop weftd" "$(quiet systemctl stop weftd)"
# The one that had counted itself and was killed before it was recorded.
total=$(count) recorded=$(sql "$finished")
result "every task that finished is in the history, those before the kill too" \
        "$([ "$recorded" -le "$total" ] && [ "$recorded" -ge $((total - 1)) ] || echo "$recorded of $total")"
result "and none twice" "$([ "$(sql "$twice")" = 0 ] || sql "$twice")"
result "nothing at level error in the journal but what the kill is due" "$(errors)"
exit $failed
