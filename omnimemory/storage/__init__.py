"""Where things are kept: the SQLite catalog (the truth), the vector cache, exact search and the Chroma index."""
