"""The environment inside of a base image of Saturn Cloud."""
