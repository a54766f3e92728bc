"""May this batch run now? Memory is measured, promised under a lease, and every decision is a record."""
