"""Attacks on the program itself: a lower bound on epsilon to stand beside the claim. Only invented clients are used."""
