"""`python -m mien`: the same as `mien`."""

from mien.apps.main import main

if __name__ == "__main__":
    main()
