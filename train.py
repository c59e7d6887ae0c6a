"""Fine-tune a classifier as configs/ says: `python train.py --help`."""

from tagger.scripts import train as main

if __name__ == "__main__":
    main()
