"""A real Kubernetes for development and tests, with or without Docker: `python -m devcluster up`.

Where things are: `cli` reads the command line, `provider` chooses who makes the cluster
(`current`, `kind` or `native`), `binaries` and `tools` build what runs, `components` and
`documents` say with which arguments and files, `images` builds container images.
"""
