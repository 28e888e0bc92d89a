# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For the tests that are shell scripts: one TAP line a test. A test's problem is what was printed about it; no word, no problem.

n=0 failed=0
result() { # DESCRIPTION PROBLEM
        n=$((n + 1))
        if [ -z "$2" ]; then
                echo "ok $n - $1"
        else
                echo "not ok $n - $1"
                sed 's/^/# /' <<<"$2"
                failed=1
        fi
}
