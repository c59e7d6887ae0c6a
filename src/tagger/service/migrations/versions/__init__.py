"""One file for each schema version of stores."""
