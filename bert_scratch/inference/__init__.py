"""What a trained model answers: hidden words, next sentences; and conversion of old folders."""
