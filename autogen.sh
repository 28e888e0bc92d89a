#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes configure from configure.ac. Needed in a clone only; a release's tarball brings configure along.
set -eu
cd "$(dirname "$0")"
for tool in autoreconf libtoolize pkg-config; do
        command -v "$tool" >/dev/null || {
                echo "autogen.sh: $tool is missing: apt-get install autoconf automake libtool pkg-config" >&2
                exit 1
        }
done
mkdir -p m4
exec autoreconf --force --install "$@"
