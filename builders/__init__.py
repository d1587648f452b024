"""Prompts, candidates, judgments, selection, audit: the only home of distilabel and Argilla."""
