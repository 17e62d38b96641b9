"""`python -m lets`: the command line."""

from lets.cli import main

main()
