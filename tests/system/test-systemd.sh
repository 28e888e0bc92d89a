#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What `make install DESTDIR=` gives, in a booted systemd: systemd-inside.sh says what is tested.
set -u
: "${srcdir:?}" "${builddir:?}"

setting() { sed -n "s/^$1 = //p" "$builddir/Makefile"; }
skip() {
        echo "1..0 # SKIP $*"
        exit 0
}
[ "$(id -u)" = 0 ] || skip "only root can boot a container"
command -v systemd-nspawn >/dev/null || skip "systemd-nspawn is not installed"
[ "$(setting systemdsystemunitdir)" != no ] || skip "configured without units"
case $(setting systemdsystemunitdir) in
/lib/systemd/* | /usr/lib/systemd/*) ;;
*) skip "units are in $(setting systemdsystemunitdir), where systemd does not look" ;;
esac

work=$(mktemp -d /tmp/weft-XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT
root=$work/root
prefix=$(setting prefix)
env -u MAKEFLAGS -u MFLAGS make -s -C "$builddir" install DESTDIR="$root" >"$work/log" 2>&1 || {
        sed 's/^/# /' "$work/log"
        echo "Bail out! make install has failed"
        exit 1
}
# (a container needs no debug information, and its root is memory)
find "$root" -type f \( -perm /111 -o -name '*.so*' \) -exec strip --strip-debug {} + 2>/dev/null
rm -f "$root$prefix"/lib/*.a
mkdir -p "$root/weft-test"
cp "$srcdir/tests/tap.sh" "$srcdir/tests/system/systemd-inside.sh" "$builddir/tests/system/burst" "$root/weft-test/"
"$srcdir/tests/system/boot.sh" -t 120 "$work/root" env PATH="$prefix/sbin:$prefix/bin:$PATH" bash /weft-test/systemd-inside.sh
