#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The examples of docs/examples print what the files next to them say. Directories are left out of the comparison, and
# so are the milliseconds of a duration, which are looked at apart.
set -u
: "${srcdir:?}" "${builddir:?}"

. "$srcdir/tests/tap.sh"
wrapper=${WEFT_TEST_WRAPPER-} # what the examples are run by: Valgrind

plain() {
        sed -E 's,(at )[^ ]*/([^ /]*:[0-9]+),\1\2,g; s/(took [0-9]+\.)[0-9]{3} seconds/\1nnn seconds/'
}

# What the example NAME prints on stderr, against EXPECTED; the environment is as it stands.
compare() { # NAME EXPECTED
        local said status=0
        said=$($wrapper "$builddir/docs/examples/$1" 2>&1 >/dev/null) || status=$?
        [ "$status" = 0 ] || echo "exit status $status"
        diff <(plain <<<"$2") <(plain <<<"$said")
}

unset WEFT_DEBUG WEFT_LOG WEFT_BLACKBOX_DIR
echo 1..6
(cd "$srcdir/docs/examples" && cat sleep.expected sleep-debug.expected blocking.expected) >/dev/null || exit 1
examples=$srcdir/docs/examples

result "sleep tells the selector, and nothing else" "$(compare sleep "$(<"$examples/sleep.expected")")"
result "sleep-debug tells the close of its loop too" "$(compare sleep-debug "$(<"$examples/sleep-debug.expected")")"
export WEFT_DEBUG=1 WEFT_LOG=debug
result "blocking with WEFT_DEBUG=1 names the task that blocked, where it was defined and created" \
        "$(compare blocking "$(<"$examples/blocking.expected")")"
said=$($wrapper "$builddir/docs/examples/blocking" 2>&1)
result "and for how long: 2.0 seconds" \
        "$(grep -qE ' took 2\.0[0-9]{2} seconds$' <<<"$said" || echo "it says: $said")"
unset WEFT_DEBUG
result "blocking without WEFT_DEBUG tells nothing of it" "$(compare blocking "$(head -n 1 "$examples/blocking.expected")")"
export WEFT_DEBUG=0
result "WEFT_DEBUG=0 is off" "$(compare blocking "$(head -n 1 "$examples/blocking.expected")")"
exit $failed
