"""From a labelled file to the best run for this machine: what other rooms make, put in a row."""
