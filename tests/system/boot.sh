#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Boots a real systemd as PID 1 in a container that is thrown away, and runs a command in it.
#
#   boot.sh [-t SECONDS] [-v] FILES COMMAND [ARGUMENT...]
#
# FILES is a tree that is laid over the container's root. COMMAND runs as root once the boot is done; what it prints is
# printed here, and its exit status is ours. 124: the time limit (default 60 s) has passed. -v prints the console too.
#
# The root is this machine's, read through an overlay whose upper layer is a tmpfs: nothing is ever written to it. The
# network is a loopback of its own. All mounts live in a mount namespace that goes with this script.
# Needs root, overlayfs and systemd-nspawn.
set -euo pipefail

usage() {
        echo "usage: ${0##*/} [-t SECONDS] [-v] FILES COMMAND [ARGUMENT...]" >&2
        exit 2
}

limit=60 verbose=0
while getopts t:v option; do
        case $option in
        t) limit=$OPTARG ;;
        v) verbose=1 ;;
        *) usage ;;
        esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || usage

# Waits for a child to its end, also when a signal for us cuts a wait short.
await() { # PID
        local status=0
        wait "$1" || status=$?
        while kill -0 "$1" 2>/dev/null; do
                status=0
                wait "$1" || status=$?
        done
        return $status
}

# The outer half makes a cgroup and a mount namespace, in which this script runs once more: the inner half.
outer() {
        local group=weft-boot-$$ hierarchies=() directory status=0
        for directory in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do # v2; hybrid; v1
                [ ! -w "$directory/cgroup.procs" ] || hierarchies+=("$directory/$group")
        done
        mkdir "${hierarchies[@]}"
        (
                for directory in "${hierarchies[@]}"; do echo $BASHPID >"$directory/cgroup.procs"; done
                WEFT_BOOT_GROUP=$group exec unshare --mount --propagation private -- "$0" "$@"
        ) &
        local child=$!
        trap 'kill $child' TERM INT HUP
        await $child || status=$?
        for directory in "${hierarchies[@]}"; do
                find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null || :
        done
        exit $status
}

# No services but systemd's own, the fewer the better: the boot takes a second.
make_blank() { # ROOT
        local root=$1 unit
        rm -rf "$root"/etc/systemd/system/*.{wants,requires} "$root"/etc/fstab "$root"/var/log/journal \
                "$root"/etc/.updated "$root"/var/.updated "$root"/usr/sbin/policy-rc.d
        systemd-id128 new >"$root/etc/machine-id" # an empty one would be a first boot, which enables presets
        for unit in getty.target console-getty.service e2scrub_reap.service remote-fs.target \
                systemd-{logind,networkd,resolved,timesyncd,hwdb-update,binfmt}.service \
                systemd-{journal-catalog-update,update-utmp,update-utmp-runlevel}.service \
                systemd-{user-sessions,udevd,udev-trigger}.service \
                systemd-ask-password-{wall,console}.path; do
                ln -sf /dev/null "$root/etc/systemd/system/$unit"
        done
}

# PID 1, and so nspawn, ends with the command's exit status.
make_unit() { # ROOT
        mkdir -p "$1/etc/systemd/system/multi-user.target.wants"
        cat >"$1/etc/systemd/system/boot-command.service" <<-END
		[Unit]
		After=multi-user.target
		SuccessAction=exit-force
		FailureAction=exit-force
		[Service]
		Type=exec
		ExecStart=/boot-command/run
		StandardOutput=append:/boot-command/output
		StandardError=append:/boot-command/output
		END
        ln -s ../boot-command.service "$1/etc/systemd/system/multi-user.target.wants/"
}

inner() { # FILES COMMAND...
        local files root=/mnt/root io=/mnt/io console=/mnt/console follower nspawn status=0
        files=$(realpath -- "$1")
        shift
        mount -t tmpfs -o mode=0755,size=2G weft-boot /mnt
        mkdir /mnt/{upper,work} $root $io
        mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work weft-boot $root
        mkdir -p /run/systemd/nspawn
        mount -t tmpfs weft-boot /run/systemd/nspawn
        make_blank $root
        # (a directory /lib there goes into what the link /lib here points to)
        tar -C "$files" -c . | tar -C $root -x --no-same-owner --no-overwrite-dir --keep-directory-symlink
        make_unit $root
        { echo '#!/bin/bash'; printf 'exec'; printf ' %q' "$@"; echo; } >$io/run
        chmod 755 $io/run
        : >$io/output

        tail -f -s 0.05 -n +1 $io/output &
        follower=$!
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout -k 5 "$limit" systemd-nspawn --quiet --boot --directory=$root \
                --machine="$WEFT_BOOT_GROUP" --register=no --keep-unit --private-network --link-journal=no \
                --resolv-conf=off --timezone=off --console=pipe --bind=$io:/boot-command \
                systemd.show_status=$verbose </dev/null >$console 2>&1 &
        nspawn=$!
        trap 'kill $nspawn' TERM INT HUP
        await $nspawn || status=$?
        sleep 0.1 # the follower's period, twice
        kill $follower
        wait $follower 2>/dev/null || :
        if [ $verbose = 1 ] || [ $status = 124 ] || { [ $status != 0 ] && [ ! -s $io/output ]; }; then
                { echo "--- console (exit status $status)"; cat $console; } >&2
        fi
        exit $status
}

if [ -z "${WEFT_BOOT_GROUP:-}" ]; then
        options=(-t "$limit")
        [ $verbose = 0 ] || options+=(-v)
        outer "${options[@]}" -- "$@"
else
        inner "$@"
fi
