"""Several models of one form trained as one: every tensor leads with S, the models of the stack."""
