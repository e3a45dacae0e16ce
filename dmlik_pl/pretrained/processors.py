"""Tokenizers and processors of transformers, with or without the model whose inputs they prepare."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from dmlik_pl.pretrained.files import first_line, quiet, read_json
from dmlik_pl.pretrained.hub import transformers_folder
from dmlik_pl.pretrained.networks import load_model

__all__ = ["load_processor", "load_with_processor"]


class _Parts(NamedTuple):
    """What a folder may name for a processor, and the files of which one set must be there."""

    names: set[str]
    files: tuple[tuple[str, ...], ...]


# Without these files transformers makes up a vocabulary of the special tokens alone.
_BYTE_PAIRS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_CLIP_TOKENIZERS = {"CLIPTokenizer", "CLIPTokenizerFast"}
_CLIP_IMAGES = {"CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor"}
_WHISPER = {"WhisperProcessor", "WhisperTokenizer", "WhisperTokenizerFast", "WhisperFeatureExtractor"}
_WAV2VEC2 = {"Wav2Vec2Processor", "Wav2Vec2ProcessorWithLM", "Wav2Vec2CTCTokenizer", "Wav2Vec2FeatureExtractor"}
_PROCESSORS = {
    "CLIPTokenizer": _Parts(_CLIP_TOKENIZERS | {"CLIPProcessor"}, _BYTE_PAIRS),
    "CLIPProcessor": _Parts(_CLIP_TOKENIZERS | _CLIP_IMAGES | {"CLIPProcessor"}, _BYTE_PAIRS),
    "WhisperProcessor": _Parts(_WHISPER, _BYTE_PAIRS),
    "Wav2Vec2Processor": _Parts(_WAV2VEC2, (("vocab.json",),)),
    "Wav2Vec2FeatureExtractor": _Parts(_WAV2VEC2, (("preprocessor_config.json",), ("processor_config.json",))),
}
# Of any other tokenizer; those of SentencePiece need their library.
_SENTENCEPIECE = ("spiece.model", "tokenizer.model")
_TOKENIZER = (*_BYTE_PAIRS, *((file,) for file in _SENTENCEPIECE), ("vocab.txt",))
_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_KEYS = ("processor_class", "tokenizer_class", "image_processor_type", "feature_extractor_type")


def load_processor(kind: Any, folder: Path, named: Sequence[str] = ()) -> Any:
    """A tokenizer or processor from a local folder, of the class that is asked for.

    Args:
        kind: Its class, of transformers.
        folder: The folder.
        named: Classes by which the folder around this one calls it.

    Raises:
        FileNotFoundError: If its files are not there.
        ValueError: If the folder names another class, or a file is damaged.
    """
    plain = kind.__name__.removesuffix("Fast")
    accepted, alternatives = _PROCESSORS.get(plain, _Parts({plain, f"{plain}Fast"}, _TOKENIZER))
    if not any(all((folder / file).is_file() for file in files) for files in alternatives):
        wanted = ", or ".join(" with ".join(files) for files in alternatives)
        raise FileNotFoundError(f"no {kind.__name__} in {folder}: it needs {wanted}")
    stated = {*named}.union(*(_values(read_json(folder / name)) for name in _FILES if (folder / name).is_file()))
    if others := sorted(stated - accepted):
        raise ValueError(f"{folder} holds a {', '.join(others)}, but a {kind.__name__} is wanted")
    try:
        with quiet():
            return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever the library makes of a file that is not what it expects
        reason = first_line(error)
        if _of_sentencepiece(folder) and find_spec("sentencepiece") is None:
            reason = "its vocabulary is a model of SentencePiece, which is not installed: pip install sentencepiece"
        raise ValueError(f"cannot read a {kind.__name__} from {folder}: {reason}") from error


def _of_sentencepiece(folder: Path) -> bool:
    """Whether a tokenizer has its vocabulary in no other form."""
    named = any((folder / file).is_file() for file in _SENTENCEPIECE)
    return named and not any((folder / file).is_file() for files in (*_BYTE_PAIRS, ("vocab.txt",)) for file in files)


def load_with_processor(
    model: Any,
    processor: Any,
    name_or_path: str | Path,
    *,
    what: str,
    example: str,
    local_files_only: bool,
    revision: str | None = None,
) -> tuple[Any, Any]:
    """A model of transformers and what prepares its inputs, from one folder.

    Args:
        model: The model's class, or an `AutoModelFor...`.
        processor: The class of its processor.
        name_or_path: A folder, the name of a shipped model, or a hub id.
        what: What is wanted, for messages: "Whisper model".
        example: A hub model of this kind, for messages.
        local_files_only: Never download; a hub model must then be in the local cache.
        revision: Branch, tag or commit on the hub.

    Raises:
        FileNotFoundError: If there is no such model at hand; the message says how to get one.
        ValueError: If it is another model, or is damaged.
    """
    try:
        folder = transformers_folder(name_or_path, revision, local_files_only)
        return load_model(model, folder), load_processor(processor, folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no {what} at {str(name_or_path)!r} ({error}). Get one with `hf download {example} --local-dir FOLDER` "
            "and give FOLDER, or give a hub id and allow the download with local_files_only: false"
        ) from error


def _values(tree: Any) -> Iterator[str]:
    """Names of classes in nested JSON."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in _KEYS and isinstance(value, str):
                yield value
            yield from _values(value)
