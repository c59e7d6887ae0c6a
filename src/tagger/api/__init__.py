"""What programs import: `tagger.load` and `tagger.TextTagger`."""
