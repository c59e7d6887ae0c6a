"""Search for the best config within a budget: `python optimize.py --help`."""

from tagger.scripts import optimize as main

if __name__ == "__main__":  # workers import this file too
    main()
