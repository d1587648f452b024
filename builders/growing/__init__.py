"""New prompts from the policy's own clauses and worked examples."""
