#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Who may include whom, and what libweft exports. One TAP line a rule; a rule that found nothing to look at fails,
# since it would otherwise hold for ever.
set -u
cd "${srcdir:?}" || exit 1
builddir=${builddir:?}

. "${srcdir:?}/tests/tap.sh"

# FILE:LINE:HEADER for every include in the sources under the directories; system headers as <HEADER>.
includes() { # DIRECTORY...
        local found
        found=$(find "$@" -name '*.[chS]' -exec grep -nHE '^[[:space:]]*#[[:space:]]*include' {} + | LC_ALL=C sort |
                sed -E 's/^([^:]*:[0-9]+:).*include[[:space:]]+("([^"]*)"|(<[^>]*>)).*/\1\3\4/')
        echo "${found:-there is no include at all in $*}"
}

# The includes under $1 of what belongs to $2: by a path through it, or by the name of a header that only $2 has.
reaching_into() { # DIRECTORY OTHER
        local file line header
        while IFS=: read -r file line header; do
                header=${header#<} header=${header%>}
                case $header in
                "") echo "$file" ;;
                */include/*) ;;
                "$2"/* | */"$2"/*) echo "$file:$line: $header" ;;
                *) [ -n "$(find "$1" lib -name "${header##*/}")" ] || [ -z "$(find "$2" -name "${header##*/}")" ] ||
                        echo "$file:$line: $header" ;;
                esac
        done < <(includes "$1")
}

# The includes of a kind of header, but for those in the files that may; none at all is a problem where one is due.
only_in() { # HEADERS-REGEX FILES-REGEX DIRECTORY...
        local headers=$1 files=$2
        shift 2
        includes "$@" | grep -E "(:$headers|no include)" | grep -vE "^($files):"
}

echo 1..11
result "ctl/ includes nothing from daemon/" "$(reaching_into ctl daemon)"
result "lib/ includes nothing from daemon/" "$(reaching_into lib daemon)"
result "lib/ includes nothing from ctl/" "$(reaching_into lib ctl)"
result "the demo workloads include libweft's public headers only" \
        "$(includes daemon/workloads | grep -vE ':(<.*>|options\.h)$')"
result "<sqlite3.h> is for the store and for weftctl's history only" \
        "$(only_in '<sqlite3' 'daemon/store[^/:]*|ctl/[^/:]*(history|database|store)[^/:]*' lib daemon ctl)"
result "<elfutils/...> is for the unwinder and lib/symbols*.c only" \
        "$(only_in '<(elfutils/|dwarf|libelf|gelf)' 'daemon/unwind[^/:]*|lib/symbols[^/:]*' lib daemon ctl)"
result "<event2/...> in lib/ is for the loop's and the waits' files only" \
        "$(only_in '<event2?[/.]' 'lib/(attach|fd|io|loop|poll|signal|wait)[^/:]*' lib)"

result "http/ includes libweft's public headers, evhttp and jansson, and nothing of lib/, daemon/ or ctl/" \
        "$(includes http | grep -E ':(".*"|<(weft/|event2?[/.]|jansson|sqlite3|elfutils/|dwarf|systemd/|.*weftd).*>)$' |
                grep -vE ':("internal\.h"|<weft/(base|http|weft)\.h>|<event2/[a-z_]+\.h>|<jansson\.h>)$'
                reaching_into http daemon; reaching_into http ctl)"
result "nothing but the demo workloads is built on http/" "$(includes lib ctl daemon | grep -E ':<weft/http' | grep -v '^daemon/workloads/')"

http=$builddir/.libs/libweft-http.so
if [ -f "$http" ]; then
        exported=$(${NM:-nm} -D --defined-only --format=posix "$http" | awk '{ print $1 }')
        bad=$(grep -vE '^(weft_http_[a-z]|__(asan|odr_asan|ubsan|tsan|sancov|start|stop)_)' <<<"$exported")
        grep -q '^weft_http_serve$' <<<"$exported" || bad+=" weft_http_serve is missing"
else
        bad="$http is not there"
fi
result "libweft-http exports weft_http_* only" "$bad"

library=$builddir/.libs/libweft.so
if [ -f "$library" ]; then
        exported=$(${NM:-nm} -D --defined-only --format=posix "$library" | awk '{ print $1 }')
        # (what a sanitizer's or the coverage's runtime adds is not ours)
        bad=$(grep -vE '^(weft_[a-z]|__(asan|odr_asan|ubsan|tsan|sancov|start|stop)_)' <<<"$exported")
        grep -q '^weft_run_at$' <<<"$exported" || bad+=" weft_run_at is missing"
else
        bad="$library is not there"
fi
result "libweft exports weft_* only" "$bad"
exit $failed
