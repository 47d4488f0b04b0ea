"""`python -m infra.cli`."""

from infra.cli.app import main

main()
