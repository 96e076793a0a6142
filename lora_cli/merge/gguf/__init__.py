"""A merged checkpoint, or an adapter → GGUF, the one file that llama.cpp and Ollama read."""
