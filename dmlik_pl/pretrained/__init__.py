"""The one loader of what diffusers and transformers have written: a component is what it is taken for, or refused."""

from dmlik_pl.pretrained.hub import from_hub, is_hub_id
from dmlik_pl.pretrained.networks import load_model
from dmlik_pl.pretrained.processors import load_processor, load_with_processor

__all__ = ["from_hub", "is_hub_id", "load_model", "load_processor", "load_with_processor"]
