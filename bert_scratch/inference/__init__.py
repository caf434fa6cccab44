"""What a trained model answers: hidden words, vectors, scores, text; old folders converted."""
