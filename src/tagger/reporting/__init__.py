"""Renders what the other rooms compute: pages, tables, figures."""
