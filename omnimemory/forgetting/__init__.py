"""Forgetting: what is chosen goes from the catalog in one commit, and then from every file that may hold its bytes."""
