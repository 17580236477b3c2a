"""environment.yml and pyproject.toml -> lock files."""
