#!/usr/bin/env bash
# Puts the program into a folder, compiled ahead of time where the compiler for that can be had: it then starts in half the time.
set -euo pipefail
out=${1:?folder}
dotnet=${DOTNET:-dotnet}

if ! log=$("$dotnet" publish src/TraceProbe.Cli -c Release -o "$out" -v q -p:TraceProbeReadyToRun=true 2>&1); then
    if ! grep -q 'NU110[0-9]' <<<"$log"; then
        printf '%s\n' "$log" >&2
        exit 1
    fi
    echo "The ahead-of-time compiler is not to be had here; the program starts a little more slowly without it."
    "$dotnet" publish src/TraceProbe.Cli -c Release -o "$out" -v q
fi
