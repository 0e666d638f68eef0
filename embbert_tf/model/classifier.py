"""EmbBERT with a classification or regression head."""

import numbers
import os
import pathlib
from typing import Any

from tensorflow import keras

from embbert_tf import errors
from embbert_tf.model import backbone as backbone_lib
from embbert_tf.model.config import PRESETS, EmbBertConfig


def checked_num_labels(num_labels: Any) -> int:
    """Returns the number of logits as an int: of NumPy's integers JSON knows nothing.

    Raises:
        OptionError: It is not a positive integer.
    """
    integer = isinstance(num_labels, numbers.Integral) and not isinstance(num_labels, bool)
    if not integer or num_labels < 1:
        raise errors.OptionError(f"num_labels must be a positive integer, not {num_labels!r}")
    return int(num_labels)


@keras.utils.register_keras_serializable(package="embbert_tf")
class EmbBertClassifier(keras.Model):
    """Backbone and one dense layer on the `[CLS]` row (arXiv 2502.10001, section 5).

    Example:
    ```python
    import numpy as np
    import embbert_tf
    from tensorflow import keras

    model = embbert_tf.EmbBertClassifier(embbert_tf.PRESETS["test"], num_labels=3)
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    ids = np.array([[2, 7, 9, 0], [2, 7, 11, 40], [2, 50, 9, 6]], np.int32)
    model.fit(ids, np.array([0, 1, 2]), verbose=0)
    ```

    Args:
        config: An `EmbBertConfig`, or the dictionary of one.
        num_labels: Number of logits, L; 1 for regression.
        dropout: Probability of dropping an input of the head while training.
        **kwargs: Of `keras.Model`.

    Call arguments:
        ids: int32 (batch, n), n <= max_length, `[PAD]` = 0 at the end; of a pair of texts the
            second one begins at the first `[SEP]`.

    Returns:
        float32 (batch, num_labels), logits.

    Raises:
        OptionError: `num_labels` is not a positive integer.
    """

    def __init__(
        self, config: EmbBertConfig | dict, num_labels: int, dropout: float = 0.1, **kwargs: Any
    ):
        num_labels = checked_num_labels(num_labels)
        if isinstance(config, dict):
            config = EmbBertConfig.from_dict(config)
        backbone = backbone_lib.EmbBertBackbone(config, first_row_only=True, name="backbone")
        drop = keras.layers.Dropout(dropout, name="drop")
        head = keras.layers.Dense(num_labels, name="head")

        ids = keras.Input(shape=(None,), dtype="int32", name="ids")
        logits = head(drop(backbone(ids)[:, 0]))

        super().__init__(inputs=ids, outputs=logits, **kwargs)
        self.config = config
        self.num_labels = num_labels
        self.dropout = dropout
        self.backbone = backbone
        self.head = head

    @classmethod
    def from_preset(
        cls, preset: str | os.PathLike, num_labels: int, dropout: float = 0.1, **kwargs: Any
    ) -> "EmbBertClassifier":
        """Builds a classifier with a new head on pre-trained weights.

        Example:
        ```python
        import embbert_tf

        classifier = embbert_tf.EmbBertClassifier.from_preset("test", num_labels=7)
        ```

        Args:
            preset: A backbone folder such as `zoo/backbone`; a run folder, of which the backbone is
                taken and the head is not; or a name of `PRESETS`, whose weights are random. Write
                `./nano` for a folder of such a name.
            num_labels: As for the constructor.
            dropout: Likewise.
            **kwargs: Likewise.

        Raises:
            OptionError: There is neither a folder nor a preset of that name.
            RunError: The folder is not a backbone or a finished run, or is damaged.
        """
        if preset in PRESETS:
            return cls(PRESETS[preset], num_labels, dropout, **kwargs)
        path = pathlib.Path(preset)
        if path.is_file():
            raise errors.OptionError(
                f"{path}: a file; give the folder of a backbone or run, or read a classifier with "
                "keras.models.load_model"
            )
        if not path.is_dir():
            raise errors.OptionError(
                f"{path}: no such folder; give the folder of a backbone or run, or one of "
                f"{', '.join(PRESETS)} for random weights"
            )
        # The one place where the model knows how it is stored: nothing else loads with it.
        from embbert_tf.storage import backbone_folder

        start: Any = backbone_folder.load_embbert(path)
        model = cls(start.config, num_labels, dropout, **kwargs)
        model.backbone.set_weights(start.model.get_weights())
        return model

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "config": self.config.to_dict(),
            "num_labels": self.num_labels,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "EmbBertClassifier":
        """Builds the model from `get_config`'s dictionary."""
        del custom_objects
        return cls(**config)
