"""Clean, decontaminated prompts: what leaves the pool, and why."""
