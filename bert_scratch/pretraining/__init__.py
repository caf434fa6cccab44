"""The main job: prepare a corpus, pretrain on it, evaluate."""
