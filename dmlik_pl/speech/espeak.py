"""Speech from espeak-ng, as the package ``espeakng-loader`` carries it: the same text gives the same samples, always.

The library keeps state from one utterance to the next, such as the phase of the pitch's flutter. So each utterance
loads and unloads it, 5 ms in all: none depends on those before it, or on other processes.

References:
    espeak-ng, https://github.com/espeak-ng/espeak-ng (speak_lib.h)
"""

import _ctypes
import ctypes
import os
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.extras import load

__all__ = ["Espeak"]

SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, and the call returns after the last
DO_NOT_EXIT = 0x8000  # an unreadable data folder is to be a return value, not the end of the process
UTF8 = 1
WORDS_PER_MINUTE, PITCH = 1, 3  # espeak_PARAMETER
SLOWEST, FASTEST = 80, 450

SAMPLES_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

_one_at_a_time = Lock()  # a second load of the library in one process would share the state of the first


class Espeak:
    """A synthesiser; one of rules and formants, not of recordings."""

    rate = 22_050

    def speak(self, text: str, voice: str = "en-us", words_per_minute: int = 175, pitch: int = 50) -> Tensor:
        """Speak a text.

        Args:
            text: The text to speak.
            voice: A language and, after a plus sign, a variant: ``en-us``, ``en-us+f2``, ``en-gb-scotland+m3``.
            words_per_minute: Speed, 80 to 450.
            pitch: Height of the voice, 0 to 100; 50 is the voice's own.

        Returns:
            The wave at 22 050 Hz, float32 [N] in [-1, 1); it begins and ends with the pauses that espeak-ng makes.

        Raises:
            ModuleNotFoundError: If ``espeakng-loader`` is not installed.
            ValueError: If the voice is unknown, a setting out of range, or nothing is spoken.
            RuntimeError: If the library cannot be loaded or fails.
        """
        if not SLOWEST <= words_per_minute <= FASTEST:
            raise ValueError(f"words_per_minute must be {SLOWEST} to {FASTEST}, got {words_per_minute}")
        if not 0 <= pitch <= 100:
            raise ValueError(f"pitch must be 0 to 100, got {pitch}")
        with _one_at_a_time:
            samples = _synthesise(text, voice, words_per_minute, pitch)
        if not samples.any():
            raise ValueError(f"the voice {voice!r} is silent for {text!r}")
        return torch.from_numpy(samples.astype(np.float32) / 32768)


def _synthesise(text: str, voice: str, words_per_minute: int, pitch: int) -> np.ndarray:
    """Return the samples of a text, int16 [N], from a library in its first state."""
    loader = load("espeakng_loader", "espeak-ng's speech")
    path = loader.get_library_path()
    if hasattr(os, "RTLD_NOLOAD") and _is_loaded(path):
        raise RuntimeError(
            f"{path} is in use by another part of this process, whose state would be heard in the speech"
        )
    chunks: list[np.ndarray] = []

    @SAMPLES_CALLBACK
    def keep(samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library = ctypes.CDLL(path)
    try:
        rate = library.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(loader.get_data_path()), DO_NOT_EXIT)
        if rate != Espeak.rate:
            raise RuntimeError(f"espeak-ng in {path} does not start (it answers {rate}): reinstall espeakng-loader")
        library.espeak_SetSynthCallback(keep)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng knows no voice {voice!r}; en-us, en-us+f2 and en-gb-x-rp are examples")
        library.espeak_SetParameter(WORDS_PER_MINUTE, words_per_minute, 0)
        library.espeak_SetParameter(PITCH, pitch, 0)
        said = text.encode()
        status = library.espeak_Synth(said, ctypes.c_size_t(len(said) + 1), 0, 1, 0, UTF8, None, None)
        library.espeak_Synchronize()
        library.espeak_Terminate()
    finally:
        _unload(library)
    if status != 0:
        raise RuntimeError(f"espeak-ng fails on {text!r} (status {status})")
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16)


def _is_loaded(path: str) -> bool:
    """Whether this process holds the library already."""
    try:
        handle = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return False
    _unload(handle)
    return True


def _unload(library: ctypes.CDLL) -> None:
    """Unload a library, and with it its memory of what was spoken."""
    if hasattr(_ctypes, "dlclose"):
        _ctypes.dlclose(library._handle)
    else:
        _ctypes.FreeLibrary(library._handle)  # type: ignore[attr-defined]
