#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What `make install` puts where, and that it works from there: a first coroutine, the one of the README, is compiled
# against it by pkg-config and run under the installed weftd, next to a module.
set -u
: "${srcdir:?}" "${builddir:?}"

. "$srcdir/tests/tap.sh"
wrapper=${WEFT_TEST_WRAPPER-} # what is installed is run by: Valgrind

weftd=
work=$(mktemp -d /tmp/weft-XXXXXX) || exit 1
clean() {
        [ -z "$weftd" ] || { kill "$weftd"; wait "$weftd"; } 2>/dev/null
        rm -rf "$work"
}
trap clean EXIT

echo 1..10
for name in ASAN TSAN UBSAN; do
        declare -x ${name}_OPTIONS="$(printenv ${name}_OPTIONS):log_path=$work/report"
done
root=$work/root
# (a make of its own, not one of the make that runs the tests)
install() { # TARGET
        local said
        said=$(env -u MAKEFLAGS -u MFLAGS make -s -C "$builddir" "$1" DESTDIR="$root" 2>&1) || echo "$said"
}
problem=$(install install)
setting() { sed -n "s/^$1 = //p" "$builddir/Makefile"; }
prefix=$(setting prefix)
missing() { # FILE...
        local file
        for file; do [ -e "$root$file" ] || echo "$file is missing"; done
}
result "make install puts programs, library, modules and headers under the prefix" \
        "$problem$(missing "$prefix"/{sbin/weftd,bin/weftctl,bin/weft-host,bin/weft-naps,bin/weft-blocking,bin/weft-echo,bin/weft-http-demo} \
                "$prefix"/lib/{libweft.so.0,libweft-http.so.0,pkgconfig/weft.pc,pkgconfig/weft-http.pc} \
                "$prefix"/lib/weft/{naps.so,blocking.so,echo.so,http-demo.so} \
                "$prefix"/include/weft/{weft.h,http.h})"
sysconfdir=$(setting sysconfdir)
sysconfdir=${sysconfdir//\$\{prefix\}/$prefix}
units=$(setting systemdsystemunitdir)
wanted=("$sysconfdir/weft/weftd.conf")
[ "$units" = no ] || wanted+=("$units/weftd.service" "$units/weftd.socket")
result "configuration and units are where they belong" "$(missing "${wanted[@]}")"
result "no .la file lies among the modules" "$(find "$root$prefix/lib/weft" -name '*.la')"

echo '# mine' >"$root$sysconfdir/weft/weftd.conf"
result "an administrator's configuration survives another make install" \
        "$(install install-data; grep -q '^# mine$' "$root$sysconfdir/weft/weftd.conf" || echo "it was overwritten")"

# The README's first coroutine: what stands between the fences after "first.c".
awk '/^```c$/ && seen { inside = 1; next } /first\.c/ { seen = 1 } /^```/ { if (inside) exit } inside' \
        "$srcdir/README.md" >"$work/first.c"
export PKG_CONFIG_PATH=$root$prefix/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
sanitize=$(setting SANITIZE)
# shellcheck disable=SC2046,SC2086 # (words are meant to be split)
problem=$( { ${CC:-$(setting CC)} -Wall -Wextra -Werror -g $sanitize -o "$work/first" "$work/first.c" $(pkg-config --cflags --libs weft) \
        -Wl,-rpath,"$root$prefix/lib"; } 2>&1)
result "the README's first coroutine compiles with what pkg-config says" "$problem"
result "and runs" "$(WEFT_DEBUG=1 $wrapper "$work/first" 2>&1 >/dev/null | grep -v '^WARNING:weft:Executing')"

export LD_LIBRARY_PATH=$root$prefix/lib
export PATH=$root$prefix/bin:$root$prefix/sbin:$PATH
cat >"$work/weftd.conf" <<END
workload naps { command = { "weft-naps", "--nap", "0.1" } }
workload hosted { command = { "weft-host", "$root$prefix/lib/weft/naps.so", "--nap", "0.1" } }
workload first { command = { "$work/first" }  restart = no }
END
$wrapper weftd -c "$work/weftd.conf" --runtime-dir "$work/run" --state-dir "$work/state" >"$work/log" 2>&1 &
weftd=$!
until_true() { # COMMAND...
        local end=$((SECONDS + 20))
        until "$@"; do
                [ $SECONDS -lt $end ] || return 1
                sleep 0.05
        done
}
has_tasks() { [ -n "$($wrapper weftctl -s "$work/run/control.sock" tasks list -w "$1" --json 2>/dev/null)" ]; }
result "the installed weftd finds an installed workload by its name" "$(until_true has_tasks naps || cat "$work/log")"
result "and the installed weft-host runs an installed module" "$(until_true has_tasks hosted || cat "$work/log")"
recorded() {
        [ "$($wrapper weftctl -s "$work/run/control.sock" history tasks --json 2>/dev/null | grep -c '"workload": *"first"')" -ge 2 ]
}
result "the first coroutine's tasks are in the history" "$(until_true recorded || cat "$work/log")"
kill "$weftd"
wait "$weftd" || failed=1
weftd=
result "no sanitizer has found anything in them" "$(cat "$work"/report.* 2>/dev/null)"
exit $failed
