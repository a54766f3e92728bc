"""Looking after a store: saying what is wrong with it, mending what is derived, and keeping it small."""
