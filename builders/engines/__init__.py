"""Model engines: vLLM, OpenAI-compatible servers, transformers; all of them distilabel LLMs."""
