"""A closed network that behaves like the open one: engine, base images, conda channel.

``python -m tests.mirror up`` makes everything ready; README.md says what each stand-in is and is not.
"""
