"""The machinery of couplet: locks, the environment, the image, and what is known of them.

    lock/      environment.yml and pyproject.toml -> lock files
    install/   lock files -> an environment, verified
    image/     an environment -> an image that is active however it is entered
    inspect/   report, SBOM and audit of locks and images
    formats/   what locks, packages and records look like: each format is known in one place

`python -m couplet VERB --help` is the command line. This folder is the template's: `make update` replaces it whole.
"""
