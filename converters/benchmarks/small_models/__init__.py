"""Text classifiers that are far smaller than a transformer, on the same boards.

TF-IDF of words and pairs of words, and the mean of static embeddings of them, each with a linear
model, in int8. They are here to be measured beside EmbBERT, so that nobody takes a transformer
where less would do. Their C is in tflm_app/small_models.
"""
