"""couplet, the seeds' ways and the lower bound on the same work, in one run: `nox -s bench`."""
