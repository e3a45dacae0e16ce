"""Speech: text to token ids, waves to log-mel spectrograms, and files of waves; models and data sets are elsewhere."""
