"""The model by hand: layers, attention, encoder, heads, and its Hugging Face names and folders."""
