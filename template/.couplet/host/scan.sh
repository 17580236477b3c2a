#!/bin/sh
# Hand the SBOM to the first scanner there is, whose exit code counts. SCANNER=trivy takes that one.
set -eu

sbom=report/sbom.cdx.json
for scanner in ${SCANNER:-grype trivy osv-scanner}; do
    command -v "$scanner" > /dev/null || continue
    case "$scanner" in
        # advisories on C libraries go by CPE, which it makes of names and versions
        grype) exec grype --add-cpes-if-none "sbom:$sbom" ;;
        trivy) exec trivy sbom "$sbom" ;;
        osv-scanner) exec osv-scanner "--sbom=$sbom" ;;
    esac
done
echo "There is no scanner: one of grype, trivy and osv-scanner has to be on PATH. (make audit needs none; the template's docs/supply-chain.md#with-a-scanner-of-your-own)" >&2
exit 69
