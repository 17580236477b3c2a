"""What locks and images hold: report, SBOM, audit."""
