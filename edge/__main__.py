"""`python -m edge` and the `tankgate` script. Shell."""

from edge.cli import main

if __name__ == "__main__":
    main()
