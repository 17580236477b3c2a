#!/bin/sh
# Known vulnerabilities of what the locks hold, conda's and Poetry's: prints them, and writes report/audit.txt and
# report/audit.json. Ends with 0: nothing known; 1: something found; 64: [tool.couplet.audit] in pyproject.toml is
# wrong; 69: there was no answer. (make itself ends with 2 whatever went wrong.)
#
#   OSV_URL    another service with OSV's API, such as https://osv.example.com (PIP_AUDIT_OSV_URL too)
set -eu

rm -f report/audit.txt report/audit.json report/audit.exit
set -- --file .couplet/tasks.Dockerfile --target audit --output type=local,dest=report --build-arg "REQUEST=$(date +%s)-$$"
# a secret, since it may hold a password
OSV_URL=${OSV_URL:-${PIP_AUDIT_OSV_URL-}}
export OSV_URL
[ -z "$OSV_URL" ] || set -- --secret id=osv_url,env=OSV_URL "$@"
if ! "${0%/*}/docker-build.sh" "$@" || ! [ -s report/audit.exit ]; then
    echo "The audit failed: the reason is above." >&2
    exit 69
fi
code=$(cat report/audit.exit)
rm -f report/audit.exit
[ "$code" -le 1 ] || exec >&2
cat report/audit.txt
exit "$code"
