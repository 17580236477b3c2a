"""Bring a repository that has conda, Poetry or both already under the template: what is read, and what is written."""
