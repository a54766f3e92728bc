"""Makes the tables of the redaction rules anew; ``python -m tools.redaction_table --help`` says how."""
