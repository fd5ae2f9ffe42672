"""`python -m samvideo`."""

from samvideo.cli.main import main

main()
