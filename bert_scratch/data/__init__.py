"""Raw text to batches: documents, sentences, tokens, store, pairs, masks."""
