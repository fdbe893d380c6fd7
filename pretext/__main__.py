"""`python -m pretext` is `pretext`."""

from pretext.cli import main

main()
