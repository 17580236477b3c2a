"""What locks, packages, records and platforms look like. Plain data in and out; no module here starts a program."""
