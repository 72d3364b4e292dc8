"""`python -m evsync` is `evsync`."""

from evsync.cli import main

if __name__ == "__main__":
    main()
