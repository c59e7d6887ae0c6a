"""Audits of labelled or unlabelled files; see `tagger.audit.run_audit`."""
