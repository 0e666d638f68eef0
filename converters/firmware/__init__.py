"""What the firmware is generated from: model image, tokenizer tables, C files."""
