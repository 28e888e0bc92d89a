#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The examples of docs/from-asyncio.md: each port prints what the asyncio program next to it prints, and both print what
# the third file says. And the page names every one of them, and no other file that is not there.
set -uo pipefail
: "${srcdir:?}" "${builddir:?}"

. "$srcdir/tests/tap.sh"

examples=$srcdir/docs/examples/ported
page=$srcdir/docs/from-asyncio.md
unset WEFT_DEBUG WEFT_LOG WEFT_BLACKBOX_DIR PYTHONASYNCIODEBUG
export LC_ALL=C.UTF-8
wrapper=${WEFT_TEST_WRAPPER-} # what the ports are run by: Valgrind

# What COMMAND prints on stdout, against the file EXPECTED; and that it prints nothing on stderr, and exits with 0.
compare() { # EXPECTED COMMAND…
        local expected=$1 said status=0
        shift
        said=$("$@" 2>&1 | sed '/^--[0-9]*-- /d') || status=$? # (Valgrind says so of system calls that it has not)
        [ "$status" = 0 ] || echo "exit status $status"
        diff "$expected" - <<<"$said"
}

# The files of DIRECTORY that the page should link to, and those that it does.
files() {
        (cd "$srcdir/docs" && ls examples/*.c examples/ported/*.c examples/ported/*.py)
}
links() {
        grep -oE '\]\(examples/[^)]*\)' "$page" | sed 's/^](\(.*\))$/\1/'
}

names=$(cd "$examples" && ls -- *.c)
echo "1..$((2 * $(wc -w <<<"$names") + 4))"
for name in $names; do
        name=${name%.c}
        result "$name" "$(compare "$examples/$name.expected" $wrapper "$builddir/docs/examples/ported/$name" </dev/null)"
        result "$name's original" "$(compare "$examples/$name.expected" /usr/bin/python3 -I "$examples/$name.py" </dev/null)"
done
result "each example has its original and its expected output, and there are no others" \
        "$(diff <(cd "$examples" && printf '%s\n' *.py *.expected | sort) \
                <(for name in $names; do printf '%s\n' "${name%.c}.expected" "${name%.c}.py"; done | sort))"
result "the page links to no file that is not there" "$(comm -13 <(files | sort) <(links | sort -u))"
result "the page links to each port and its original" "$(comm -23 <(files | grep ported | sort) <(links | sort -u))"
unknown() {
        local name
        for name in $(cd "$srcdir/docs" &&
                grep -ohE '\<(weft|WEFT)_[[:alnum:]_]+' from-asyncio.md weft.3.scd weft_context.3.scd | sort -u); do
                grep -qrw "$name" "$srcdir/lib/include/weft" || case $name in
                weft_context | weft_http | weft_main | WEFT_DEBUG | WEFT_LOG | WEFT_BLACKBOX_DIR | WEFT_CRASH_FILE) ;;
                *) echo "$name" ;;
                esac
        done
}
result "the page and the manual name nothing that is in no header" "$(unknown)"
exit $failed
