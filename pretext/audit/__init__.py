"""Attacks on ourselves, and the statistics that judge them."""
