"""`python -m conformance` is `bnconf`."""

from conformance.cli import main

main(prog_name="bnconf")
