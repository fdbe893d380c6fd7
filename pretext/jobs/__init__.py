"""Wiring: a configuration goes in, a finished folder comes out."""
