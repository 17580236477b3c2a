"""What locks and images hold: report, SBOM, audit, and whether the two fit."""
