"""A pretrained model learns a task: a reader, a head and a metric each, and training's loop."""
