"""Every approach to tagging, behind one interface: `base.Classifier`."""
