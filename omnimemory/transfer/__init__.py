"""A memory carried elsewhere: exported as text, imported again, backed up while it is used."""
