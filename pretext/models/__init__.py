"""Models that write, embed and fill masks. All of torch is here."""
