"""A profile: counts of public features of the clients' texts, and what follows from them."""
