#!/usr/bin/env bash
# Breaks a lab in every way that there is, in each mode of kube-proxy that this machine has, asks in every way that makes sense, and applies the mend that each
# verdict names. What came of it goes into matrix.tsv beside this file, with the commit that it was seen at, and from there as tables into the README.
# FAULTS, MODES (IptablesNft IptablesLegacy Nftables Userspace) and COLUMNS (own udp ipv4 ipv6 node same-node hairpin) have only some of it tried: the other
# cells stay as they are. With CELLS=FILE nothing is run; the cells are taken from there.
set -uo pipefail
cd "$(dirname "$0")/.."
result=0
cells=${CELLS:-}
if [ -z "$cells" ]; then
    TRACEPROBE_MATRIX=$(mktemp -d)
    export TRACEPROBE_MATRIX TRACEPROBE_MATRIX_FAULTS=${FAULTS:-} TRACEPROBE_MATRIX_MODES=${MODES:-} TRACEPROBE_MATRIX_COLUMNS=${COLUMNS_OF_MATRIX:-}
    filter='FullyQualifiedName~EachFault'
    [ -n "${FAULTS:-}${COLUMNS_OF_MATRIX:-}" ] || filter="$filter|FullyQualifiedName~HealthySetUps"
    "${DOTNET:-dotnet}" test tests/TraceProbe.Scenarios.Tests -c "${CONFIGURATION:-Release}" --no-build --nologo --filter "$filter" --logger 'console;verbosity=minimal'
    result=$?
    echo "The recordings of all requests are in $TRACEPROBE_MATRIX." >&2
    cells=$TRACEPROBE_MATRIX/cells.tsv
fi

# mode, way, fault, variant, verdict, mended, sentence, mend: right is a class that is named, and what mends it was seen to mend it where it is a command. What has
# a command that was not tried only shows where to look (or needs jq, which the lab has not); the others have none.
awk -F'\t' -v OFS='\t' -v commit="${COMMIT:-$(git rev-parse --short HEAD)}" '
    FNR == 1 { file++ }
    { key = $1 OFS $2 OFS $3 OFS $4; if (!(key in cell)) keys[++n] = key }
    file == 1 { cell[key] = $5; seen[key] = $6; next }
    { cell[key] = $5 == "n/a" ? "– " $7 : $5 == "undetermined" ? "undetermined" : $5 != $3 ? "✗ " $5 : $6 == "" ? ($8 ~ /^\(/ ? "named" : $8 ~ /\| jq / ? "named, not tried" : "named, shown") : $6 == "healthy" || $6 == "slower-than-baseline" ? "named, mended" : "named, ✗ mend"; seen[key] = commit }
    END { for (i = 1; i <= n; i++) print keys[i], cell[keys[i]], seen[keys[i]] }' tests/matrix.tsv "$cells" | LC_ALL=C sort >tests/matrix.tsv.new && mv tests/matrix.tsv.new tests/matrix.tsv

modes=$(awk -F'\t' '
    BEGIN { split("IptablesNft IptablesLegacy Nftables Userspace", modes, " ") }
    $2 == "own" { row = $3 ($4 == "" ? "" : " (" $4 ")"); if (!(row in known)) { known[row] = 1; rows[++n] = row }; cell[row, $1] = $5 }
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
            print line " |" | "LC_ALL=C sort"
        }
        close("LC_ALL=C sort")
        line = "| **in all**"
        for (m = 1; m <= 4; m++) line = line " | **" right[m] " of " all[m] ", " mended[m] " mended**"
        print line " |"
    }' tests/matrix.tsv)

# Of each way of asking the cells of both modes that it is tried in; where these differ, both. Faults that no way but their own can meet have no row.
ways=$(awk -F'\t' '
    BEGIN { split("udp ipv4 ipv6 node same-node hairpin", ways, " ") }
    $2 == "own" { next }
    {
        row = $3 ($4 == "" ? "" : " (" $4 ")")
        if ($5 ~ /^– /) {
            why = substr($5, length("– ") + 1)
            if (why == "it ends at the lookup, whatever is asked for then" || why == "it is about a Service, or an address, of its own kind") next
            if (!(why in number)) { number[why] = ++reasons; reason[reasons] = why }
            cell[row, $2] = "– (" number[why] ")"
        } else {
            right = $5 ~ /^named/ && $5 !~ /✗/
            all[$2]++; rights[$2] += right; mended[$2] += $5 == "named, mended"
            other = (row, $2) in cell && cell[row, $2] != $5
            cell[row, $2] = other ? cell[row, $2] "; " ($1 == "Nftables" ? "nftables: " : "") $5 : $5
        }
        if (!(row in known)) { known[row] = 1; rows[++n] = row }
    }
    END {
        print "| fault | UDP | IPv4 | IPv6 | from the node | same node | hairpin |"
        print "|---|---|---|---|---|---|---|"
        for (i = 1; i <= n; i++) {
            line = "| " rows[i]
            for (w = 1; w <= 6; w++) line = line " | " ((rows[i], ways[w]) in cell ? cell[rows[i], ways[w]] : "not run")
            print line " |" | "LC_ALL=C sort"
        }
        close("LC_ALL=C sort")
        line = "| **in all**"
        for (w = 1; w <= 6; w++) line = line " | **" rights[ways[w]] + 0 " of " all[ways[w]] + 0 ", " mended[ways[w]] + 0 " mended**"
        print line " |"
        print ""
        for (i = 1; i <= reasons; i++) printf "%s(%d) %s", i == 1 ? "Not to be met so: " : "; ", i, reason[i]
        print "."
    }' tests/matrix.tsv)
awk -v modes="$modes" -v ways="$ways" '
    /<!-- matrix -->/ { print; print modes; skip = 1; next }
    /<!-- ways -->/ { print; print ways; skip = 1; next }
    /<!-- \/(matrix|ways) -->/ { skip = 0 }
    !skip' README.md >README.md.new && mv README.md.new README.md
exit $result
