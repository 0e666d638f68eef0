"""Published accuracies of the compared models, beside which ours stand.

From the result files of the authors of arXiv 2502.10001 (github.com/RiccardoBravin/tiny-LLM): fp32,
in per cent, mean and standard deviation of one to five runs. Of NLU they split their rows anew in
each run; MAMBA's Emotion holds one run that diverged (30.6; the others 87.9 to 90.4).
"""

_TASKS = ("snips", "nlu", "emotion", "sst2")
_EMBBERT = ((97.7, 0.4), (88.2, 0.4), (89.6, 0.3), (79.3, 1.3))  # Pre-trained.
# By what a row is called, in the order of _TASKS.
_ACCURACIES = {
    "EmbBERT": _EMBBERT,
    "EmbBERT, pre-trained": _EMBBERT,
    "EmbBERT, from scratch": ((95.2, 0.6), (76.8, 2.2), (68.5, 5.6), (78.5, 0.6)),
    "BERT 2 MB": ((96.6, 0.2), (85.6, 0.6), (83.3, 0.9), (75.2, 1.5)),
    "BERT 2 MB, pre-trained": ((97.0, 0.4), (86.1, 0.4), (77.3, 0.9), (71.3, 0.8)),
    "NanoBERT": ((96.7, 0.2), (84.1, 1.0), (78.3, 7.1), (77.3, 0.5)),
    "BERT + EA": ((97.5, 0.3), (87.2, 0.2), (85.9, 0.6), (76.3, 1.1)),
    "BERT + NE + EA, pre-trained": ((97.8, 0.0), (88.9, 0.0), (88.7, 0.0), (77.3, 0.0)),
    "MAMBA 2 MB": ((97.3, 0.2), (87.6, 0.4), (77.4, 23.4), (80.6, 0.6)),
    "MAMBA + NE": ((96.5, 0.2), (84.4, 0.8), (90.4, 0.6), (81.4, 1.3)),
    "embedder alone": ((97.9, 0.2), (89.5, 0.4), (89.4, 0.3), (78.9, 0.5)),
    "embedder, convolution": ((97.8, 0.3), (89.3, 0.2), (89.5, 0.6), (79.1, 0.4)),
}


def accuracy(task: str, model: str) -> tuple[float, float] | None:
    """Returns the mean and the standard deviation; None where nothing was published.

    Args:
        task: Of zoo/recipes.
        model: What its row is called; where it runs makes no difference.
    """
    known = _ACCURACIES.get(model.removesuffix(", on TFLM"))
    return known[_TASKS.index(task)] if known and task in _TASKS else None
