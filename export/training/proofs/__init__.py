"""Experiments of the papers, repeated on data that everybody has."""
