"""couplet, the seeds' ways and the floor on the same work, in one run: `nox -s bench`."""
