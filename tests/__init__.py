"""Tests of the template, and what they need (harness, mirror)."""
