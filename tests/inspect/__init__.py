"""Report, SBOM, audit and doctor: what is known of locks, images and the template's own files."""
