"""The Keras model: one public class a file, from the embedder to the classifier."""
