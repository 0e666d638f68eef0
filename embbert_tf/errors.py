"""Every error that a user can mend; commands print its message as one line."""


class EmbBertError(ValueError):
    """What a user gave cannot be used; the message says what, where and how to mend it.

    Every error of this project that is not a bug of ours derives from it, so that one `except`
    catches them all and our own bugs keep their traceback.
    """


class OptionError(EmbBertError):
    """An option has a value that it must not have, or does not go with another one."""


class FileError(EmbBertError):
    """A file that cannot be opened, read or written."""


class DataError(EmbBertError):
    """Labelled text that cannot be used; the message names file and line."""


class CorpusError(EmbBertError):
    """Plain text that cannot be used; the message names the file."""


class TokenizerError(EmbBertError):
    """A tokenizer file that is missing, unreadable or not one of this project's."""


class RunError(EmbBertError):
    """A run folder that cannot be used."""


class PackedWeightsError(EmbBertError):
    """A file of packed weights that cannot be used."""


class CheckpointError(EmbBertError):
    """A published checkpoint that cannot be imported."""


class EncoderError(EmbBertError):
    """A sentence encoder, or a file of its embeddings, that cannot be used."""


def first_line(error: BaseException) -> str:
    """Returns the first line of what another library says, or the name of a silent error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class EmbBertWarning(UserWarning):
    """Something that will probably not do what the user expects; commands print it as one line."""
