"""`python -m conformance` is `bnconf`."""

from conformance.cli.main import main

main(prog_name="bnconf")
