#!/usr/bin/env bash
# Breaks a lab in every way that there is, in each mode of kube-proxy that this machine has, applies the mend that each verdict names, and writes what
# came of it as a table into the README, between the two marks. TRACEPROBE_MATRIX_MODES and TRACEPROBE_MATRIX_FAULTS have only some of it tried (by
# running the tests as below; this writes the table of all).
set -uo pipefail
cd "$(dirname "$0")/.."
TRACEPROBE_MATRIX=$(mktemp -d)
export TRACEPROBE_MATRIX
"${DOTNET:-dotnet}" test tests/TraceProbe.Scenarios.Tests -c "${CONFIGURATION:-Release}" --no-build --nologo --filter 'FullyQualifiedName~EachFault|FullyQualifiedName~HealthySetUps' --logger 'console;verbosity=minimal'
result=$?
echo "The recordings of all requests are in $TRACEPROBE_MATRIX." >&2
table=$(awk -F'\t' '
    BEGIN { split("IptablesNft IptablesLegacy Nftables Userspace", modes, " ") }
    { row = $2 ($3 == "" ? "" : " (" $3 ")"); if (!(row in seen)) { seen[row] = 1; rows[++n] = row }
      # right: the class is named, and what mends it was seen to mend it where it is a command
      # what has a command that was not tried only shows where to look (or needs jq, which the lab has not); the others have none
      cell[row, $1] = $4 == "undetermined" ? "undetermined" : $4 != $2 ? "✗ " $4 : $5 == "" ? ($7 ~ /^\(/ ? "named" : $7 ~ /\| jq / ? "named, not tried" : "named, shown") : $5 == "healthy" || $5 == "slower-than-baseline" ? "named, mended" : "named, ✗ mend" }
    END {
        print "| fault | iptables-nft | iptables-legacy | nftables | userspace |"
        print "|---|---|---|---|---|"
        for (i = 1; i <= n; i++) {
            line = "| " rows[i]
            for (m = 1; m <= 4; m++) {
                here = (rows[i], modes[m]) in cell ? cell[rows[i], modes[m]] : "–"
                line = line " | " here
                all[m] += here != "–"
                right[m] += here ~ /^named/ && here !~ /✗/
                mended[m] += here == "named, mended"
            }
            print line " |" | "sort"
        }
        close("sort")
        line = "| **in all**"
        for (m = 1; m <= 4; m++) line = line " | **" right[m] " of " all[m] ", " mended[m] " mended**"
        print line " |"
    }' "$TRACEPROBE_MATRIX/cells.tsv")
awk -v table="$table" '/<!-- matrix -->/ { print; print table; skip = 1; next } /<!-- \/matrix -->/ { skip = 0 } !skip' README.md >README.md.new && mv README.md.new README.md
exit $result
