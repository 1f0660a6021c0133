#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Compiles traceprobe.bpf.c. Usage: compile.sh OUTPUT.o
# CLANG names a compiler; otherwise the newest one found is taken.
set -eu

here=$(dirname "$0")
output=$1

clang=${CLANG:-}
for candidate in clang clang-21 clang-20 clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 clang-13; do
    [ -n "$clang" ] && break
    command -v "$candidate" >/dev/null 2>&1 && clang=$candidate
done
if [ -z "$clang" ]; then
    echo "compile.sh: error TPBPF1: clang is needed to compile the BPF programs; on Debian: apt-get install clang" >&2
    exit 1
fi
if ! echo '#include <bpf/bpf_core_read.h>' | "$clang" -target bpf -E - >/dev/null 2>&1; then
    echo "compile.sh: error TPBPF2: libbpf's headers are needed to compile the BPF programs; on Debian: apt-get install libbpf-dev" >&2
    exit 1
fi

# v3 is what every kernel with a ring buffer runs (5.8), and its 32-bit jumps keep the verifier's work small.
mkdir -p "$(dirname "$output")"
"$clang" -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter \
    -fdebug-prefix-map="$here"=bpf -fdebug-compilation-dir=. \
    -c "$here/traceprobe.bpf.c" -o "$output.tmp"

# Types (BTF) stay, DWARF goes; without llvm-strip the object is merely larger.
case $clang in
*clang-*) strip=llvm-strip-${clang##*clang-} ;;
*) strip=llvm-strip ;;
esac
if command -v "$strip" >/dev/null 2>&1; then
    "$strip" -g "$output.tmp"
fi
mv "$output.tmp" "$output"
