"""What writes and embeds: model sources, the embedder, the masked language model, and engines."""
