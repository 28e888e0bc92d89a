#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs a unit test. cmocka's TAP says "not ok 3 # SKIP" of a test that was skipped, which to everybody else is one that failed.
set -o pipefail
"$@" | sed -u -E 's/^not (ok [0-9]+ # SKIP)/\1/'
