"""Reference outputs of the official Grad-TTS, see goldens/README.md."""

import json
from functools import cache
from pathlib import Path

from safetensors.torch import load_file

from dmlik_pl.models import GradTTS

GOLDENS = Path(__file__).parent / "goldens"
INDEX = json.loads((GOLDENS / "grad_tts.json").read_text())
STRIDE = 16


def state_file(name):
    """The weights of a model, `single` or `multi`."""
    return GOLDENS / f"grad_tts_{name}.state.safetensors"


@cache
def load(name):
    """The tensors of a file."""
    return load_file(GOLDENS / f"{name}.safetensors")


def network(name):
    """A model with its weights, in evaluation mode."""
    model = GradTTS(**INDEX["grad_tts"][name]["constructor_args"])
    model.load_state_dict(load_file(state_file(name)))
    return model.eval()
