"""From files to batches: examples, tokenizer, token ids, soft labels."""
