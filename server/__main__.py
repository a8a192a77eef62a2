"""`python -m virtbackupd.server`: the same as the console script."""

from virtbackupd.server.cli import main

main()
