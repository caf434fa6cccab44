"""Fine-tuning: a reader, a head and a metric for each task, and the loop that trains it."""
