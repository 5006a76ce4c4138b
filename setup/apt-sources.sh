# shellcheck shell=bash
# Sourced by scripts that run apt with lists of their own, so that the machine's configuration stays as it is.

# Writes a Debian suite's entries of this machine's apt sources, in both of apt's formats, to machine.list and
# machine.sources in a folder: apt_sources FOLDER TYPE SUITE [INSTEAD]. TYPE is deb or deb-src. SUITE's -updates
# and -security come along; with INSTEAD the entries of SUITE itself are written, as ones of INSTEAD. Fails
# if there is none.
apt_sources() {
    local folder=$1 type=$2 suite=$3 instead=${4:-} wanted file
    wanted="$suite"
    [[ -n $instead ]] || wanted+="(-updates|-security)?"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -r $file ]] && awk -v type="$type" -v wanted="^$wanted\$" -v instead="$instead" '
            $1 == "deb" {
                at = 2; if ($2 ~ /^\[/) { while ($at !~ /\]$/ && at < NF) at++; at++ }
                if ($(at + 1) ~ wanted && / main( |$)/) {
                    $1 = type; if (instead != "") $(at + 1) = instead; print
                }
            }' "$file"
    done >"$folder/machine.list"
    for file in /etc/apt/sources.list.d/*.sources; do
        # A stanza is a paragraph; an inline key keeps its continuation lines.
        [[ -r $file ]] && awk -v RS='' -v ORS='\n\n' -v type="$type" -v instead="$instead" \
            -v suites="(^|\n)Suites:([^\n]*[ \t])?$wanted([ \t\n]|\$)" '
            tolower($0) !~ /(^|\n)enabled: *no/ && /(^|\n)Types:[^\n]*deb/ && $0 ~ suites &&
            /(^|\n)Components:[^\n]*main/ {
                sub(/(^|\n)Types:[^\n]*/, "\nTypes: " type)
                if (instead != "") sub(/(^|\n)Suites:[^\n]*/, "\nSuites: " instead)
                sub(/^\n/, ""); print
            }' "$file"
    done >"$folder/machine.sources"
    [[ -s $folder/machine.list || -s $folder/machine.sources ]]
}
