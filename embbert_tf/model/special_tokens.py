"""Ids and names of the special tokens, the same in every vocabulary."""

PAD, UNK, CLS, MASK, SEP = range(5)
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[MASK]", "[SEP]"]
